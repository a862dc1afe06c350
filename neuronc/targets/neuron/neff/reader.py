"""Reading NEFF files: a header of 1024 bytes, then a tar archive.

Layout: Neuron SDK, "Working with NEFF files"; the header is a C struct with natural alignment.
Byte order is not documented; little-endian is what x86-64 hosts write.
"""

import lzma
import struct
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from neuronc.checkpoint.paths import reading
from neuronc.errors import InputError

HEADER_BYTES = 1024
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
        hash: Hex, 32 bytes; sha256 or md5 of the data (then zero-padded), by package version.
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


def list_neff(path: Path) -> dict[str, int]:
    """Names and sizes in bytes of the files in ``path``'s archive; unpacks nothing.

    Raises:
        InputError: not a NEFF, or an archive that cannot be read.
    """
    with _archive(path) as archive:
        return {member.name: member.size for member in archive if member.isfile()}


def read_neff_file(path: Path, name: str) -> bytes:
    """The file ``name`` of ``path``'s archive; the whole of it in memory.

    Raises:
        InputError: not a NEFF, an archive that cannot be read, or no such file in it.
    """
    with _archive(path) as archive:
        for member in archive:
            if member.name == name and (file := archive.extractfile(member)):
                return file.read()
    raise _broken(path, f"has no file {name!r} in its archive")


@contextmanager
def _archive(path: Path) -> Iterator[tarfile.TarFile]:
    read_neff_header(path)
    try:
        with reading(path), path.open("rb") as file:
            file.seek(HEADER_BYTES)
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                yield archive
    except (tarfile.TarError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise _broken(path, f"has an archive that cannot be read: {error}") from error


def _text(raw: bytes) -> str:
    return raw.split(b"\0", maxsplit=1)[0].decode("utf-8", errors="replace")


def _broken(path: Path, what: str) -> InputError:
    return InputError(f"{path} {what}", hint="it is not a NEFF, or damaged: compile it again")
