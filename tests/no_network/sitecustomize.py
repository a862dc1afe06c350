"""On PYTHONPATH this forbids the network to every Python process, and to the children it starts.

Python code that makes an internet socket or looks up a name gets an error, and the file that
NO_NETWORK_LOG names tells about it, for a library may well swallow the error. Code that is no
Python is killed by the kernel where it makes such a socket. Unix sockets are free.
"""

import ctypes
import os
import platform
import socket
import struct
import sys
import traceback
from typing import Any

_INTERNET = (int(socket.AF_INET), int(socket.AF_INET6))
_LOOK_UPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_SOCKET_CALLS = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""Name of the architecture as the kernel's audit has it, and the number of socket(2)."""


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    is_internet = event == "socket.__new__" and args[1] in _INTERNET
    if not is_internet and event not in _LOOK_UPS:
        return
    with open(os.environ["NO_NETWORK_LOG"], "a", encoding="utf-8") as log:  # noqa: PTH123
        log.write(f"{event} {args}\n{''.join(traceback.format_stack()[-8:-1])}\n")
    message = "this test forbids the network"
    raise PermissionError(message)


def _kill_whoever_makes_an_internet_socket() -> None:
    architecture, number = _SOCKET_CALLS[platform.machine()]
    load, equal, answer = 0x20, 0x15, 0x06
    steps = [
        (load, 0, 0, 4),
        (equal, 0, 5, architecture),
        (load, 0, 0, 0),
        (equal, 0, 3, number),
        (load, 0, 0, 16),  # the address family
        (equal, 2, 0, _INTERNET[0]),
        (equal, 1, 0, _INTERNET[1]),
        (answer, 0, 0, _ALLOW),
        (answer, 0, 0, _KILL),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _MODE_FILTER, ctypes.create_string_buffer(program), 0, 0),
    ):
        if libc.prctl(*call) != 0:
            message = f"the kernel takes no filter: {os.strerror(ctypes.get_errno())}"
            raise OSError(message)


socket.has_ipv6 = False  # or urllib3 makes a socket, only to see whether it can
sys.addaudithook(_refuse)
_kill_whoever_makes_an_internet_socket()
