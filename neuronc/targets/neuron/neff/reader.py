"""Reading NEFF files: a header of 1024 bytes, then a tar archive.

Layout: Neuron SDK, "Working with NEFF files"; the header is a C struct with natural alignment.
Byte order is not documented; little-endian is what x86-64 hosts write.
"""

import bz2
import gzip
import hashlib
import lzma
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from neuronc.checkpoint.paths import reading
from neuronc.errors import InputError

HEADER_BYTES = 1024
_MOST_MEMBERS = 100_000
_MOST_UNPACKED = 200  # times the packed size; programs and tables pack to a tenth or so
_LEAST_LIMIT_BYTES = 16 * 2**20
_UNPACKERS: Mapping[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
_HEADER = struct.Struct("<QQQQQ128sI32s16s256sI64sQI468s")


@dataclass(frozen=True, kw_only=True, slots=True)
class NeffHeader:
    """What the header of a NEFF says.

    Attributes:
        package_version: Version of the container.
        data_bytes: Size of the archive after the header.
        version: Major and minor version of the NEFF.
        build_version: Of the compiler that wrote it.
        name: What the compiler was told to call it.
        uuid: Hex.
        hash: Hex, 32 bytes; sha256 or md5 of the package, by package version: see `hash_kind`.
        num_cores: Cores the program was compiled for.
        logical_core_size: Physical cores per logical core, 0 where the compiler wrote none.
        feature_bits: Features that the runtime has to know.
    """

    package_version: int
    data_bytes: int
    version: tuple[int, int]
    build_version: str
    name: str
    uuid: str
    hash: str
    num_cores: int
    logical_core_size: int
    feature_bits: int


def read_neff_header(path: Path) -> NeffHeader:
    """The header of ``path``; reads nothing else.

    Raises:
        InputError: not a NEFF, or a truncated one.
    """
    if path.exists() and not path.is_file():  # a pipe would make us wait without end
        raise _broken(path, "is not a file")
    with reading(path), path.open("rb") as file:
        raw = file.read(HEADER_BYTES)
        file_bytes = path.stat().st_size
    if len(raw) < HEADER_BYTES:
        raise _broken(path, f"has {len(raw)} bytes; a NEFF's header alone has {HEADER_BYTES}")
    (
        package_version, header_bytes, data_bytes, major, minor, build, num_cores, digest, uuid,
        name, _, _, feature_bits, logical_core_size, _,
    ) = _HEADER.unpack(raw)  # fmt: skip
    if header_bytes != HEADER_BYTES:
        what = f"says its header has {header_bytes} bytes; a NEFF's has {HEADER_BYTES}"
        raise _broken(path, what)
    if data_bytes != file_bytes - HEADER_BYTES:
        what = f"says {data_bytes} bytes follow its header, found {file_bytes - HEADER_BYTES}"
        raise _broken(path, what)
    return NeffHeader(
        package_version=package_version,
        data_bytes=data_bytes,
        version=(major, minor),
        build_version=_text(build),
        name=_text(name),
        uuid=uuid.hex(),
        hash=digest.hex(),
        num_cores=num_cores,
        logical_core_size=logical_core_size,
        feature_bits=feature_bits,
    )


def hash_kind(path: Path) -> str:
    """How the header's hash was taken of the archive: ``sha256``, ``md5``, or empty for neither.

    Neither is no error. AWS documents "hash of the package", but not which bytes those are, how 16
    of md5 lie in the 32, or which version takes which.

    Raises:
        InputError: not a NEFF, or a truncated one.
    """
    found = bytes.fromhex(read_neff_header(path).hash)
    with reading(path), path.open("rb") as file:
        for kind in ("sha256", "md5"):
            file.seek(HEADER_BYTES)
            hashed = hashlib.new(kind, usedforsecurity=False)
            while block := file.read(2**20):
                hashed.update(block)
            if hashed.digest() == found[: hashed.digest_size] and not any(
                found[hashed.digest_size :]
            ):
                return kind
    return ""


def list_neff(path: Path) -> dict[str, int]:
    """Names and sizes in bytes of the files in ``path``'s archive; unpacks nothing.

    Raises:
        InputError: not a NEFF, or an archive that cannot be read.
    """
    with _members(path) as (_, members):
        return {member.name: member.size for member in members}


def read_neff_files(path: Path, name: str, *, most_bytes: int) -> dict[str, bytes]:
    """The files of ``path``'s archive whose last part is ``name``, by their whole names.

    Nothing is given back where they have more than ``most_bytes`` together. The archive is read
    once, to its end.

    Raises:
        InputError: not a NEFF, or an archive that cannot be read.
    """
    found: dict[str, bytes] = {}
    total = 0
    with _members(path) as (archive, members):
        for member in members:
            if member.name.split("/")[-1] != name:
                continue
            total += member.size
            if total > most_bytes:
                return {}
            if file := archive.extractfile(member):
                found[member.name] = file.read()
    return found


def _files(archive: tarfile.TarFile, limit_bytes: int) -> Iterator[tarfile.TarInfo]:
    """The files of ``archive``; one that claims more than the archive can hold is refused."""
    for number, member in enumerate(archive):
        if number >= _MOST_MEMBERS or member.size > limit_bytes:
            message = f"member {number} ({member.size} bytes) is more than it can hold"
            raise tarfile.ReadError(message)
        if member.isfile():
            yield member


class _Bounded:
    """Unpacked bytes of an archive, as tarfile reads them, up to a limit."""

    def __init__(self, raw: IO[bytes], data_bytes: int) -> None:
        self.limit_bytes = _MOST_UNPACKED * data_bytes + _LEAST_LIMIT_BYTES
        self._left_bytes = self.limit_bytes
        start = raw.read(6)
        raw.seek(HEADER_BYTES)
        unpack = next((u for magic, u in _UNPACKERS.items() if start.startswith(magic)), None)
        self._unpacked: IO[bytes] = raw if unpack is None else unpack(raw)

    def read(self, size: int) -> bytes:
        found = self._unpacked.read(min(size, self._left_bytes + 1))
        self._left_bytes -= len(found)
        if self._left_bytes < 0:
            message = f"it unpacks to more than {self.limit_bytes} bytes"
            raise tarfile.ReadError(message)
        return found


@contextmanager
def _members(path: Path) -> Iterator[tuple[tarfile.TarFile, Iterator[tarfile.TarInfo]]]:
    """The archive of ``path`` and its files, to be taken in order."""
    data_bytes = read_neff_header(path).data_bytes
    with reading(path):
        file = path.open("rb")
    try:
        with file:
            file.seek(HEADER_BYTES)
            bounded = _Bounded(file, data_bytes)
            with tarfile.open(fileobj=cast("IO[bytes]", bounded), mode="r|") as archive:
                yield archive, _files(archive, bounded.limit_bytes)
            while bounded.read(2**20):  # checksums come last
                pass
    except (
        OSError, tarfile.TarError, EOFError, ValueError, RecursionError, zlib.error, lzma.LZMAError,
    ) as error:  # fmt: skip
        raise _broken(path, f"has an archive that cannot be read: {error}") from error


def _text(raw: bytes) -> str:
    return raw.split(b"\0", maxsplit=1)[0].decode("utf-8", errors="replace")


def _broken(path: Path, what: str) -> InputError:
    return InputError(f"{path} {what}", hint="it is not a NEFF, or damaged: compile it again")
