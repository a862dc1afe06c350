"""What a split has done so far, so that the same command goes on after it was killed.

``journal.jsonl`` lies in the unfinished folder. Its first line says what is asked for; each further
line what is done: how many tensors, their digests, and of every file its size and the sha256 of
that beginning. A line is written when the bytes it speaks of were handed to the system, which keeps
them when the process dies. When the machine dies as well they may be lost: so before going on, the
beginnings are read again and compared, and a split that does not compare begins anew.
"""

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from neuronc.checkpoint.digest import FileDigest
from neuronc.checkpoint.paths import check_listed_paths, reading, writing
from neuronc.errors import UsageError
from neuronc.parallel.split_manifest import SPLIT_FILE
from neuronc.progress import Progress

if TYPE_CHECKING:
    from hashlib import _Hash

JOURNAL_FORMAT = 1
JOURNAL_FILE = "journal.jsonl"
STEP_BYTES = 1 << 30
"""About so many bytes of the checkpoint lie between two lines: what has to be done again at most."""

_READ_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """How far a split has come.

    Attributes:
        num_tensors: Tensors that are in the files whole.
        digests: The digest of each of them, by name.
        files: Size and sha256 of each file's beginning.
        begun: The same digests by path, to go on with; empty until they were compared.
    """

    num_tensors: int = 0
    digests: Mapping[str, str] = field(default_factory=dict)
    files: tuple[FileDigest, ...] = ()
    begun: Mapping[str, "_Hash"] = field(default_factory=dict)


class Journal:
    """The journal of one folder, locked while it is open."""

    def __init__(self, folder: Path, request: Mapping[str, Any]) -> None:
        """Open or begin it; what an earlier run left for another request is deleted.

        Raises:
            UsageError: another process splits into this folder now, it cannot be written, or holds
                files that are not of a split.
        """
        self._folder = folder
        self._first = {"journal_format": JOURNAL_FORMAT, "request": dict(request)}
        path = folder / JOURNAL_FILE
        with writing(path, needed_bytes=0):
            _check_ours(folder)
            self._file: IO[str] = os.fdopen(_open_no_link(path), "a+", encoding="utf-8")
        self._lock()
        found = self._read()
        self.done = found or Done()
        if found is None:
            self._begin()

    @property
    def has_lines(self) -> bool:
        """Whether there is anything to go on with."""
        return self.done.num_tensors > 0

    def restore(
        self, progress: Progress, paths_after: Callable[[int], AbstractSet[str] | None]
    ) -> Done:
        """How far an earlier run came, its files cut back to that; nothing where they differ.

        Args:
            progress: Told of what is read.
            paths_after: The files that are begun or done after so many tensors; None where there
                are not so many.
        """
        done = self.done
        if not done.num_tensors or {f.path for f in done.files} != paths_after(done.num_tensors):
            self._begin()
            return Done()
        begun = {}
        total = sum(file.size_bytes for file in done.files)
        with progress.stage("reading what is there already", total=total, unit="bytes") as stage:
            for file in done.files:
                found = self._digest_of(file)
                if found is None or found.hexdigest() != file.sha256:
                    self._begin()
                    return Done()
                begun[file.path] = found
                stage.advance(file.size_bytes, note=file.path)
        self._delete_all_but({JOURNAL_FILE, *begun, *(f"{path}.part" for path in begun)})
        return replace(done, begun=begun)

    def note(
        self, num_tensors: int, digests: Mapping[str, str], files: Sequence[FileDigest]
    ) -> None:
        """Add a line; ``digests`` are those that no line before has."""
        self.done = replace(self.done, num_tensors=num_tensors)
        self._write(
            {
                "num_tensors": num_tensors,
                "digests": dict(digests),
                "files": [asdict(file) for file in files],
            }
        )

    def delete(self) -> None:
        """Remove the journal: the split is whole."""
        (self._folder / JOURNAL_FILE).unlink()

    def forget(self) -> None:
        """Remove everything: nothing that was written is of use."""
        self._delete_all_but({JOURNAL_FILE})
        self.delete()

    def close(self) -> None:
        """Let go of the folder."""
        self._file.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            message = f"another process is writing {self._folder} at this moment"
            raise UsageError(
                message, hint="wait for it, or choose another output folder"
            ) from error

    def _begin(self) -> None:
        """Forget everything; the lock is on this file, so it is emptied and not replaced."""
        self._delete_all_but({JOURNAL_FILE})
        self._file.truncate(0)
        self.done = Done()
        self._write(self._first)

    def _delete_all_but(self, kept: AbstractSet[str]) -> None:
        """Delete what is in the folder; of a link the link alone, whatever its name."""
        with writing(self._folder, needed_bytes=0):
            for place, folders, files in os.walk(self._folder, topdown=False):  # follows no link
                for path in (Path(place, name) for name in (*files, *folders)):
                    if path.is_dir() and not path.is_symlink():
                        if not any(path.iterdir()):
                            path.rmdir()
                    elif path.is_symlink() or self._name(path) not in kept:
                        path.unlink()

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _write(self, line: Mapping[str, Any]) -> None:
        text = json.dumps(line)
        with writing(self._folder / JOURNAL_FILE, needed_bytes=len(text)):
            self._file.write(f"{text}\n")
            self._file.flush()

    def _read(self) -> Done | None:
        """What the lines say; None where they are for another request or make no sense."""
        self._file.seek(0)
        try:
            lines = self._file.read().split("\n")[:-1]  # a line without an end was cut off
            first, *rest = [json.loads(line) for line in lines]
            if first != json.loads(json.dumps(self._first)):
                return None
            digests: dict[str, str] = {}
            for line in rest:
                digests.update(line["digests"])
            if not rest:
                return Done()
            files = tuple(FileDigest(**file) for file in rest[-1]["files"])
            done = Done(num_tensors=rest[-1]["num_tensors"], digests=digests, files=files)
            return done if _makes_sense(done) else None
        except (ValueError, KeyError, TypeError, RecursionError):
            return None

    def _digest_of(self, file: FileDigest) -> "_Hash | None":
        """The sha256 of a file's beginning, or None where it is shorter."""
        path, part = self._folder / file.path, self._folder / f"{file.path}.part"
        path = path if path.is_file() else part
        # a link may lead out of the folder, and what is begun will be written to
        if path.resolve() != self._folder.resolve() / self._name(path) or not path.is_file():
            return None
        if path.stat().st_size < file.size_bytes:
            return None
        digest, left = hashlib.sha256(), file.size_bytes
        with reading(path), path.open("rb") as stream:
            while left and (data := stream.read(min(left, _READ_BYTES))):
                digest.update(data)
                left -= len(data)
        return digest


def _check_ours(folder: Path) -> None:
    """Refuse a folder with files that no split wrote: they would be deleted."""
    names = {path.name for path in folder.iterdir()}
    path = folder / JOURNAL_FILE
    is_journal = os.path.lexists(path) and stat.S_ISREG(path.lstat().st_mode)
    # a split that is whole but for its name has no journal any more
    if names and not (is_journal or (JOURNAL_FILE not in names and SPLIT_FILE in names)):
        message = f"{folder} is in the way: it holds {min(names)!r}, and no journal of a split"
        raise UsageError(message, hint="delete it, or choose another -o")


def _open_no_link(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)


def _makes_sense(done: Done) -> bool:
    """Whether the fields are what `Journal.note` writes.

    Raises:
        ValueError: a path leads out of the folder.
    """
    numbers = [done.num_tensors, *(file.size_bytes for file in done.files)]
    texts = [*done.digests.values()]
    texts += [text for file in done.files for text in (file.path, file.sha256)]
    if not all(isinstance(text, str) for text in texts):
        return False
    check_listed_paths([file.path for file in done.files])
    return all(type(number) is int and number >= 0 for number in numbers)
