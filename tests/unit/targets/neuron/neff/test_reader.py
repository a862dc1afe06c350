import contextlib
import gzip
import io
import os
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuronc.errors import InputError
from neuronc.targets.neuron.neff.reader import (
    HEADER_BYTES,
    list_neff,
    read_neff_files,
    read_neff_header,
)
from tests.unit.checkpoint.hostile import damaged, refuse_or_accept


def neff(files: dict[str, bytes], *, compressed: bool = True) -> bytes:
    """A NEFF as the documented struct lays it out, field by field at its documented offset."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz" if compressed else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    header = bytearray(HEADER_BYTES)
    for offset, number in ((0, 2), (8, HEADER_BYTES), (16, len(data.getvalue())), (24, 1), (32, 3)):
        struct.pack_into("<Q", header, offset, number)
    header[40:51] = b"2.27.5334.0"
    struct.pack_into("<I", header, 168, 2)
    header[172:204] = bytes(range(32))
    header[204:220] = b"\xab" * 16
    header[220:224] = b"tiny"
    struct.pack_into("<Q", header, 544, 5)
    struct.pack_into("<I", header, 552, 1)
    return bytes(header) + data.getvalue()


def test_header_is_read_field_by_field(tmp_path: Path) -> None:
    path = tmp_path / "x.neff"
    path.write_bytes(neff({"neff.json": b"{}"}))
    header = read_neff_header(path)
    assert (header.package_version, header.version, header.num_cores) == (2, (1, 3), 2)
    assert (header.build_version, header.name) == ("2.27.5334.0", "tiny")
    assert (header.hash, header.uuid) == (bytes(range(32)).hex(), "ab" * 16)
    assert (header.feature_bits, header.logical_core_size) == (5, 1)
    assert header.data_bytes == path.stat().st_size - HEADER_BYTES


@pytest.mark.parametrize("compressed", [True, False])
def test_files_are_listed_without_unpacking(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "x.neff"
    files = {"neff.json": b"{}", "sg00/def.json": b'{"a": 1}', "../outside": b"no"}
    path.write_bytes(neff(files, compressed=compressed))
    assert list_neff(path) == {name: len(content) for name, content in files.items()}
    assert [p.name for p in tmp_path.iterdir()] == ["x.neff"]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda raw: raw[:100], "has 100 bytes; a NEFF's header alone has 1024"),
        (lambda raw: raw[:-1], "bytes follow its header, found"),
        (lambda raw: raw[:8] + bytes(8) + raw[16:], "says its header has 0 bytes"),
        (
            lambda raw: raw[:HEADER_BYTES] + bytes(len(raw) - HEADER_BYTES),
            "archive that cannot be read",
        ),
        (
            lambda raw: raw[:HEADER_BYTES] + b"\x1f\x8b" + raw[HEADER_BYTES + 40 :] + bytes(38),
            "archive that cannot be read",
        ),
    ],
)
def test_damaged_neff_is_refused_by_name(tmp_path: Path, damage: object, told: str) -> None:
    path = tmp_path / "x.neff"
    path.write_bytes(damage(neff({"neff.json": bytes(range(256))})))  # type: ignore[operator]
    with pytest.raises(InputError, match=rf"x\.neff .*{told}"):
        list_neff(path)


@given(st.data())
def test_any_changed_byte_reads_or_is_refused(tmp_path_factory: Any, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("neff") / "x.neff"
    raw = bytearray(neff({"neff.json": b"{}", "sg00/def.json": bytes(range(200))}))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw))
    with contextlib.suppress(InputError):
        list_neff(path)


def with_archive(data: bytes) -> bytes:
    """A NEFF whose header fits ``data``."""
    header = bytearray(neff({})[:HEADER_BYTES])
    struct.pack_into("<Q", header, 16, len(data))
    return bytes(header) + data


def claiming(size: int) -> bytes:
    """An archive with a member that says it has ``size`` bytes, and has none."""
    member = tarfile.TarInfo("neff.json")
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def chained(kind: bytes, count: int) -> bytes:
    """Headers that each announce another header."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = kind, 8
    return (member.tobuf(tarfile.GNU_FORMAT) + b"longname".ljust(512, b"\0")) * count


@pytest.mark.parametrize(
    "data",
    [
        claiming(2**62),
        claiming(2**80),
        gzip.compress(claiming(2**40)),
        gzip.compress(bytes(64 * 2**20)),
        chained(tarfile.GNUTYPE_LONGNAME, 3000),
        gzip.compress(neff({"a": b"x" * 5000}, compressed=False)[HEADER_BYTES:])[:-4] + b"\0\0\0\0",
    ],
    ids=["2^62", "2^80", "2^40 packed", "bomb", "chain", "length"],
)
def test_archive_that_promises_more_than_it_holds_is_refused_at_once(
    tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "x.neff"
    path.write_bytes(with_archive(data))
    with pytest.raises(InputError, match=r"x\.neff"):
        list_neff(path)


def test_changed_bytes_of_a_packed_archive_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.neff"
    raw = bytearray(neff({"a": bytes(range(256)) * 40}))
    raw[-5] ^= 1
    path.write_bytes(raw)
    with pytest.raises(InputError):
        list_neff(path)


def test_files_of_one_name_are_read_together_up_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "x.neff"
    path.write_bytes(neff({"sg00/def.json": b"one", "sg01/def.json": b"two", "other": b"3"}))
    found = read_neff_files(path, "def.json", most_bytes=6)
    assert found == {"sg00/def.json": b"one", "sg01/def.json": b"two"}
    assert read_neff_files(path, "def.json", most_bytes=5) == {}


def test_a_pipe_is_no_neff(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.neff")
    with pytest.raises(InputError, match="is not a file"):
        read_neff_header(tmp_path / "x.neff")


@settings(deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), compressed=st.booleans())
def test_a_neff_with_any_bytes_changed_ends_in_no_traceback(
    tmp_path: Path, data: st.DataObject, compressed: bool
) -> None:
    files = {"neff.json": b"{}", "sg00/def.json": b"{}", "long" * 40: b"x"}
    raw = damaged(data, neff(files, compressed=compressed)[HEADER_BYTES:])
    header = bytearray(neff({})[:HEADER_BYTES])
    struct.pack_into("<Q", header, 16, len(raw))
    (tmp_path / "x.neff").write_bytes(bytes(header) + raw)
    refuse_or_accept(lambda: list_neff(tmp_path / "x.neff"))
    refuse_or_accept(lambda: read_neff_files(tmp_path / "x.neff", "def.json", most_bytes=100))
