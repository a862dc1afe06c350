"""A strict stand-in for the neuronx-cc executable.

Takes the documented arguments only, reads HLO with the older schema only, refuses what it knows the
compiler to refuse, leaves the same litter, and packs the HLO into a NEFF container. It never gets
the caller's environment, so it is told how to behave by ``behaviour.json`` beside the executable,
and writes down how it was called in ``calls.jsonl`` there.

Contract: Neuron SDK 2.32, compiler reference page. What it makes has ``+double`` in every version.
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

VERSION = "2.27.5334.0+double"
_TARGETS = {"inf2": (1,), "trn1": (1,), "trn1n": (1,), "trn2": (1, 2), "trn3": (1, 2)}
_FAILED = 70


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        fail("ERROR", "NCC_EARG002", f"illegal arguments: {message}")


def fail(kind: str, code: str, text: str, exit_code: int = _FAILED) -> NoReturn:
    print(f"2026-08-17T09:00:00Z {kind} {os.getpid()} [neuronx-cc]: [{kind}] [{code}] {text}")
    sys.exit(exit_code)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="neuronx-cc compile", allow_abbrev=False)
    parser.add_argument("model")
    parser.add_argument("--framework", choices=["XLA"], required=True)
    parser.add_argument("--target", choices=list(_TARGETS), required=True)
    parser.add_argument("--model-type", choices=["generic", "transformer", "unet-inference"])
    parser.add_argument("--auto-cast", choices=["none", "matmult", "all"])
    parser.add_argument("--auto-cast-type", choices=["bf16", "fp16", "tf32", "fp8_e4m3"])
    parser.add_argument("--native-int64", choices=["default", "enabled", "disabled"])
    parser.add_argument("--implicit-integer-downcast", default="default")
    parser.add_argument("--distribution-strategy", choices=["llm-training"])
    parser.add_argument("--logical-nc-config", "-lnc", "--lnc", type=int)
    parser.add_argument("--optlevel", "-O", choices=["1", "2", "3"])
    for flag in (
        "--enable-mixed-precision-accumulation", "--disable-mixed-precision-accumulation",
        "--enable-saturate-infinity", "--enable-fast-context-switch",
        "--enable-fast-loading-neuron-binaries",
    ):  # fmt: skip
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--verbose", choices=["debug", "info", "warning", "error", "critical"])
    parser.add_argument("--logfile", default="log-neuron-cc.txt")
    parser.add_argument("--output", default="file.neff")
    # Not on the reference page, but passed by AWS's own libraries:
    for option in ("--tensorizer-options", "--internal-hlo2tensorizer-options"):
        parser.add_argument(option)
    return parser.parse_args(argv)


def leave_litter(logfile: str) -> None:
    """What the compiler leaves in its current folder."""
    scratch = Path(f"neuronxcc-{os.getpid():08x}")
    scratch.mkdir()
    Path("global_metric_store.json").write_text("{}")
    stamp = "2026-08-17T09:00:00Z USER 1 [neuronxcc.driver.CommandDriver]:"
    Path(logfile).write_text(f"{stamp} Artifacts stored in: {scratch.resolve()}\n")


def check(options: argparse.Namespace) -> None:
    if (options.logical_nc_config or _TARGETS[options.target][-1]) not in _TARGETS[options.target]:
        text = f"lnc {options.logical_nc_config} is not supported on {options.target}"
        fail("ERROR", "NCC_EARG001", text)
    for name in os.environ:
        if name.startswith(("XLA_", "NEURON_", "JAX_")):
            fail("INTERNAL_ERROR", "NCC_INLA001", f"ambient {name} reached the compiler")


def behave(folder: Path, program: str) -> None:
    """Do what ``behaviour.json`` says for this program, if anything."""
    path = folder / "behaviour.json"
    todo = json.loads(path.read_text()) if path.exists() else {}
    if todo.get("program") not in (None, program):
        return
    mode = todo.get("mode")
    if todo.get("once"):
        path.unlink()
    if mode == "crash":
        print("[F139] neuronx-cc terminated abnormally", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    elif mode == "kill":
        hoard = bytearray(64 * 2**20)
        time.sleep(0.6)
        os.kill(os.getpid(), signal.SIGKILL)
        del hoard
    elif mode == "slow":
        hoard = bytearray(64 * 2**20)
        time.sleep(2.2)
        del hoard
    elif mode == "hang":
        time.sleep(600)
    elif mode == "busy":
        print("OSError: [Errno 11] Resource temporarily unavailable")
        sys.exit(1)
    elif mode == "error":
        fail("ERROR", todo["code"], todo.get("text", "refused as told"))
    elif mode in ("silent", "garbage"):
        if mode == "garbage":
            Path(f"{program}.neff").write_bytes(b"not a NEFF")
        sys.exit(0)


def list_operators(argv: list[str]) -> int:
    from tests.doubles.documented_codes import OPERATORS

    parser = _Parser(prog="neuronx-cc list-operators", allow_abbrev=False)
    parser.add_argument("--framework", choices=["XLA"], required=True)
    parser.parse_args(argv)
    print("\n".join(OPERATORS))
    return 0


def read_model(raw: bytes, target: str, lnc: int, args: str) -> Any:
    """The module; what the compiler refuses ends this process with its code."""
    from tests.doubles.documented_codes import refuse_documented
    from tests.doubles.strict_hlo import read_strictly

    try:
        module = read_strictly(raw, target=target)
        refuse_documented(raw, target=target, lnc=lnc, args=args)
    except ValueError as error:
        code, _, text = str(error).partition(" ")
        fail("ERROR", code, text)
    return module


def main(argv: list[str], folder: Path) -> int:
    with (folder / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps({"argv": argv, "cwd": str(Path.cwd())}) + "\n")
    if argv == ["--version"]:
        print(f"NeuronX Compiler version {VERSION}\n\nPython version 3.11\nNumPy version 2.4.6")
        return 0
    if argv[:1] == ["list-operators"]:
        return list_operators(argv[1:])
    if not argv or argv[0] != "compile":
        fail("ERROR", "NCC_EARG002", f"expected the command compile, found {argv[:1]}")
    options = parse(argv[1:])
    check(options)
    leave_litter(options.logfile)
    program = Path(options.model).name.removesuffix(".hlo.pb")
    behave(folder, program)
    lnc = options.logical_nc_config or _TARGETS[options.target][-1]
    module = read_model(Path(options.model).read_bytes(), options.target, lnc, " ".join(argv))
    from tests.doubles.neff_writer import write_neff

    write_neff(Path(options.output), module, lnc=lnc, version=VERSION)
    print("Compiler status PASS")
    return 0
