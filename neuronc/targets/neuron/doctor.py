"""What this machine has of what Neuron needs. Reads and asks; changes and loads nothing."""

import ctypes.util
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuronc.errors import ToolchainError
from neuronc.targets.neuron.compiler.command import ENV_FLAGS
from neuronc.targets.neuron.compiler.toolchain import (
    PLACEHOLDERS,
    find_compiler,
    install_hint,
    installed_version,
    is_placeholder,
)

_LIBRARY = "libnrt.so.1"
_LIBRARY_DIRS = ("/opt/aws/neuron/lib",)
_DEVICE = re.compile(r"neuron\d+")
_LS = ("neuron-ls", "--json-output")
_LS_TIMEOUT_S = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked for.

    Attributes:
        name: Of the thing.
        ok: Whether it is there and of use.
        found: What was found, in words.
        hint: How to get it, where it is missing.
    """

    name: str
    ok: bool
    found: str
    hint: str = ""


def check_machine() -> tuple[Check, ...]:
    """Compiler, runtime, library, devices; then every placeholder package and telling variables."""
    return (
        _compiler(),
        _package("nrtpy"),
        _library(),
        _devices(),
        *_placeholders(),
        *_environment(),
    )


def check_runtime() -> tuple[Check, ...]:
    """What running NEFFs takes: nrtpy, libnrt, devices. Starts nothing but neuron-ls."""
    return (_package("nrtpy"), _library(), _devices())


def abilities(checks: tuple[Check, ...]) -> dict[str, bool]:
    """What neuronc can do here."""
    ok = {check.name: check.ok for check in checks}
    runs = ok["nrtpy"] and ok["libnrt"] and ok["Neuron devices"]
    return {
        "lower for Neuron": True,
        "compile NEFFs": ok["neuronx-cc"],
        "run NEFFs": runs,
    }


def _compiler() -> Check:
    try:
        compiler = find_compiler()
    except ToolchainError as error:
        return Check(name="neuronx-cc", ok=False, found=error.message, hint=error.hint)
    return Check(name="neuronx-cc", ok=True, found=f"{compiler.version} at {compiler.path}")


def _package(name: str) -> Check:
    version = installed_version(name)
    if version is None:
        return Check(name=name, ok=False, found="not installed", hint=install_hint(name))
    if is_placeholder(name):
        found = f"{version} is PyPI's empty placeholder"
        return Check(name=name, ok=False, found=found, hint=install_hint(name))
    return Check(name=name, ok=True, found=version)


def _library() -> Check:
    folders = [*os.environ.get("LD_LIBRARY_PATH", "").split(":"), *_LIBRARY_DIRS]
    for folder in filter(None, folders):
        if (Path(folder) / _LIBRARY).is_file():
            return Check(name="libnrt", ok=True, found=str(Path(folder) / _LIBRARY))
    known = ctypes.util.find_library("nrt")
    if known is not None:
        return Check(name="libnrt", ok=True, found=known)
    hint = "install aws-neuronx-runtime-lib and put /opt/aws/neuron/lib on LD_LIBRARY_PATH"
    return Check(name="libnrt", ok=False, found=f"no {_LIBRARY}", hint=hint)


def _devices() -> Check:
    dev = Path("/dev")
    devices = sorted(p.name for p in dev.iterdir() if _DEVICE.fullmatch(p.name))
    if not devices:
        hint = "devices are on inf2 and trn instances, with the aws-neuronx-dkms driver"
        return Check(name="Neuron devices", ok=False, found="none", hint=hint)
    cores = num_cores()
    told = "neuron-ls does not say how many cores" if cores is None else f"{cores} cores"
    return Check(name="Neuron devices", ok=True, found=f"{len(devices)}, {told}")


def num_cores() -> int | None:
    """Cores over all devices, as AWS's neuron-ls counts them."""
    tool = shutil.which(_LS[0])
    if tool is None:
        return None
    try:
        told = subprocess.run(
            [tool, *_LS[1:]],
            capture_output=True,
            text=True,
            timeout=_LS_TIMEOUT_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        devices: Any = json.loads(told.stdout)
        return sum(int(device["nc_count"]) for device in devices)
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None


def _placeholders() -> tuple[Check, ...]:
    found = [name for name in PLACEHOLDERS if name != "nrtpy" and is_placeholder(name)]
    return tuple(
        Check(
            name=name,
            ok=False,
            found=f"{PLACEHOLDERS[name]} is PyPI's empty placeholder",
            hint=f"pip uninstall {name}; {install_hint(name)}",
        )
        for name in found
    )


def _environment() -> tuple[Check, ...]:
    if not os.environ.get(ENV_FLAGS):
        return ()
    hint = f"unset {ENV_FLAGS} and use --cc-arg, or pass --allow-env-flags"
    found = f"set to {os.environ[ENV_FLAGS]!r}: compiling for Neuron targets refuses it"
    return (Check(name=ENV_FLAGS, ok=False, found=found, hint=hint),)
