"""A mapped file that becomes shorter while it is read, as when it is downloaded again meanwhile.

Whoever touches a mapped page behind the end of its file gets SIGBUS, which ends the process without
a word. Here the page is replaced by one of zeros, the work goes on, and ends in an error of ours.
systemd reads its journals so (basic/sigbus.c).
"""

import ctypes
import errno
import mmap
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from neuronc.errors import InputError, NeuroncError

_SA_SIGINFO = 0x4
_BUS_ADRERR = 2  # siginfo's code for an address that nothing is behind
_MAP_FIXED = 0x10

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _SigInfo(ctypes.Structure):
    """The beginning of ``siginfo_t`` on 64 bits."""

    _fields_ = (
        ("number", ctypes.c_int), ("errno", ctypes.c_int), ("code", ctypes.c_int),
        ("padding", ctypes.c_int), ("address", ctypes.c_size_t),
    )  # fmt: skip


class _SigAction(ctypes.Structure):
    """``struct sigaction`` of glibc and musl."""

    _fields_ = (
        ("handler", _Handler), ("mask", ctypes.c_uint8 * 128), ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )  # fmt: skip


@contextmanager
def shrinking_files_noticed(what: object) -> Iterator[None]:
    """Within, reading behind the end of a mapped file gives zeros; the block then ends in an error.

    Does nothing where signals are laid out otherwise.

    Args:
        what: Is read, for the message.

    Raises:
        InputError: a file that was read became shorter.
    """
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    guard = _Guard(libc)
    action, before = _SigAction(handler=guard.handler, flags=_SA_SIGINFO), _SigAction()
    libc.sigaction(signal.SIGBUS, ctypes.byref(action), ctypes.byref(before))
    try:
        yield
    except (OSError, NeuroncError) as error:
        if guard.has_shrunk or _is_bad_address(error):
            raise _shrunk(what) from error
        raise
    finally:
        libc.sigaction(signal.SIGBUS, ctypes.byref(before), None)
    if guard.has_shrunk:
        raise _shrunk(what)


class _Guard:
    """What was noticed; `handler` must live as long as it may be called."""

    def __init__(self, libc: Any) -> None:
        libc.mmap.restype = ctypes.c_size_t
        libc.mmap.argtypes = (
            ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
        )  # fmt: skip
        self._libc = libc
        self.has_shrunk = False
        self.handler = _Handler(self._handle)

    def _handle(self, _number: int, info: int, _context: int) -> None:
        found = _SigInfo.from_address(info)
        page = found.address & -mmap.PAGESIZE
        kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
        access = mmap.PROT_READ | mmap.PROT_WRITE
        self.has_shrunk = True
        if (
            found.code != _BUS_ADRERR
            or self._libc.mmap(page, mmap.PAGESIZE, access, kind, -1, 0) != page
        ):  # broken memory, say: the access is repeated, and ends the process as it would have
            self._libc.signal(signal.SIGBUS, 0)


def _is_bad_address(error: BaseException | None) -> bool:
    """Whether the system was given such a page, which it says instead of a signal."""
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.EFAULT:
            return True
        error = error.__cause__ or error.__context__
    return False


def _shrunk(what: object) -> InputError:
    message = f"{what} changed while it was read: a file became shorter"
    return InputError(message, hint="leave it alone while it is used, and start again")
