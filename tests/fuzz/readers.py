"""Coverage-guided fuzzing of the file readers, by hand: ``pip install atheris`` first.

    python -m tests.fuzz.readers TARGET [-max_total_time=300] [more options of libFuzzer]

TARGET is one of `TARGETS`. Only `NeuroncError` may come out of a reader. Whatever else does, and
whatever takes longer than `SLOW_SECONDS`, is kept as a file in ``fuzz-findings/TARGET`` of the
current folder, one for each place in the code that it came from; the run goes on, and says stderr
what it found. To replay a file: put its name in the place of the options.
"""

import hashlib
import importlib
import struct
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.fuzz.seeds import (
    edited,
    journal_seeds,
    safetensors_seeds,
    seeds_of,
    split_seeds,
    torch_archive,
)

SLOW_SECONDS = 2.0
_FINDINGS = Path("fuzz-findings")
_WORDS = ("NaN", "-1", "1e999", "9223372036854775808", "[[[[", "GGUF", "data_offsets", "shape")
Reader = Callable[[bytes, Path], object]


def _safetensors(data: bytes, folder: Path) -> object:
    from neuronc.checkpoint.safetensors_header import parse_safetensors_header

    data = _with_header_length(edited(data, safetensors_seeds(), after=8))
    return parse_safetensors_header("x", len(data), lambda start, stop: data[start:stop])


def _gguf(data: bytes, folder: Path) -> object:
    from neuronc.checkpoint.gguf_header import read_gguf_header

    return read_gguf_header(_written(data, folder / "x.gguf"))


def _split_json(data: bytes, folder: Path) -> object:
    from neuronc.parallel.split_manifest import read_split_manifest

    _written(edited(data, split_seeds()), folder / "split.json")
    return read_split_manifest(folder).stored


def _neff(data: bytes, folder: Path) -> object:
    from neuronc.targets.neuron.neff.reader import list_neff, read_neff_files

    path = _written(_with_neff_sizes(data), folder / "x.neff")
    return list_neff(path), read_neff_files(path, "def.json", most_bytes=2**20)


def _torch(data: bytes, folder: Path) -> object:
    from neuronc.checkpoint.folder import open_torch

    # The bytes are the pickle inside of an archive as torch.save makes it, not the archive.
    infos, reader = open_torch(folder, {_written(torch_archive(data), folder / "x.bin"): None})
    return [(info, reader.read(name)) for name, info in infos.items()]


def _torch_archive_bytes(data: bytes, folder: Path) -> object:
    from neuronc.checkpoint.folder import open_torch

    infos, reader = open_torch(folder, {_written(data, folder / "x.bin"): None})
    return [(info, reader.read(name)) for name, info in infos.items()]


def _journal(data: bytes, folder: Path) -> object:
    from neuronc.parallel.split_journal import Journal
    from neuronc.progress import SILENT

    _written(edited(data, journal_seeds()), folder / "journal.jsonl")
    _written(b"abc", folder / "rank-0.safetensors")
    journal = Journal(folder, {})
    try:
        return journal.restore(SILENT, lambda _: {"rank-0.safetensors"})
    finally:
        journal.close()


TARGETS: Mapping[str, Reader] = {
    "safetensors": _safetensors,
    "gguf": _gguf,
    "split_json": _split_json,
    "neff": _neff,
    "torch": _torch,
    "torch_archive": _torch_archive_bytes,
    "journal": _journal,
}


def _written(data: bytes, path: Path) -> Path:
    path.write_bytes(data)
    return path


def _with_header_length(data: bytes) -> bytes:
    """The length of a safetensors header put right, as long as there is an end of one."""
    length = data.rfind(b"}") - 7
    return struct.pack("<Q", length) + data[8:] if length > 0 else data


def _with_neff_sizes(data: bytes) -> bytes:
    """The two sizes in the header put right: no mutation would find them."""
    if len(data) < 1024:
        return data
    return data[:8] + struct.pack("<QQ", 1024, len(data) - 1024) + data[24:]


class _Findings:
    """Runs a reader, and keeps what it may not do."""

    def __init__(self, target: str, folder: Path) -> None:
        self.target, self.folder = target, folder
        self.runs, self.accepted = 0, 0
        self.found: dict[str, str] = {}

    def run(self, data: bytes) -> None:
        from neuronc.errors import NeuroncError

        self.runs += 1
        begun = time.monotonic()
        try:
            TARGETS[self.target](data, self.folder)
            self.accepted += 1
        except NeuroncError as error:
            str(error)
        except Exception as error:  # noqa: BLE001  (what is looked for)
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
            self._keep(where, f"{where}: {str(error)[:200]}", data)
        if (seconds := time.monotonic() - begun) > SLOW_SECONDS:
            self._keep("slow", f"took {seconds:.1f} s", data)

    def _keep(self, where: str, told: str, data: bytes) -> None:
        if where in self.found:
            return
        self.found[where] = told
        folder = _FINDINGS / self.target
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / hashlib.sha256(data).hexdigest()[:16]
        path.write_bytes(data)
        print(f"FOUND {told} -> {path}", file=sys.stderr, flush=True)

    def told(self) -> str:
        return (
            f"{self.target}: {self.runs} runs, {self.accepted} accepted, {len(self.found)} findings"
        )


def _fuzz(findings: _Findings, options: list[str]) -> None:
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    modules = ["neuronc", "torch._weights_only_unpickler", "tarfile"]
    with atheris.instrument_imports(include=modules):
        importlib.reload(tarfile)  # imported before, and where the bytes go
        for seed in seeds_of(findings.target):
            findings.run(seed)
    corpus = findings.folder.with_name("corpus")
    corpus.mkdir()
    for number, seed in enumerate([*seeds_of(findings.target), bytes(9), b"\1" * 9, b"\2" * 9]):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = findings.folder.with_name("words")
    words.write_text("".join(f'"{word}"\n' for word in _WORDS))
    atheris.Setup([sys.argv[0], f"-dict={words}", *options, str(corpus)], findings.run)
    atheris.Fuzz()


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] not in TARGETS:
        sys.exit(f"expected one of {', '.join(TARGETS)}")
    target, *options = arguments
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        work.mkdir()
        findings = _Findings(target, work)
        files = [Path(option) for option in options if not option.startswith("-")]
        if files:
            for file in files:
                findings.run(file.read_bytes())
            print(findings.told())
        else:
            _fuzz(findings, options)


if __name__ == "__main__":
    main(sys.argv[1:])
