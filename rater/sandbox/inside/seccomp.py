"""The filter of system calls in a process that runs scripts: a list of what a computing Python needs, all else refused.

What is refused fails with EPERM, so that a script gets an OSError at its line. A filter can never be taken off again.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

__all__ = ["PROT_EXEC", "UnavailableError", "install", "program"]

PROT_EXEC = 0x4
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_ERRNO_EPERM = 0x00050000 | 1
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_THIRD_ARGUMENT = 0, 4, 32  # of struct seccomp_data; low word: little endian
_X32 = 0x40000000
_MAP_CALLS = ("mmap", "mprotect")

# number by name; the most frequent first
_X86_64 = {
    "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "madvise": 28, "mremap": 25, "write": 1, "futex": 202,
    "read": 0, "close": 3, "fstat": 5, "lseek": 8, "rt_sigreturn": 15, "sched_yield": 24, "nanosleep": 35,
    "getpid": 39, "exit": 60, "gettimeofday": 96, "getrusage": 98, "getuid": 102, "getgid": 104, "geteuid": 107,
    "getegid": 108, "getppid": 110, "gettid": 186, "time": 201, "restart_syscall": 219, "clock_gettime": 228,
    "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "getrandom": 318,
}  # fmt: skip
_AARCH64 = {
    "mmap": 222, "mprotect": 226, "munmap": 215, "brk": 214, "madvise": 233, "mremap": 216, "write": 64, "futex": 98,
    "read": 63, "close": 57, "fstat": 80, "lseek": 62, "rt_sigreturn": 139, "sched_yield": 124, "nanosleep": 101,
    "getpid": 172, "exit": 93, "gettimeofday": 169, "getrusage": 165, "getuid": 174, "getgid": 176, "geteuid": 175,
    "getegid": 177, "getppid": 173, "gettid": 178, "restart_syscall": 128, "clock_gettime": 113,
    "clock_getres": 114, "clock_nanosleep": 115, "exit_group": 94, "getrandom": 278,
}  # fmt: skip
_LIBC = ctypes.CDLL(None, use_errno=True)  # once: to look it up takes longer than to fork
_MACHINES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}


class UnavailableError(Exception):
    """This system has no filter of system calls, or none that is known here."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def program(machine: str) -> bytes:
    """The filter for a machine (`platform.machine()`) as instructions of classic BPF. Raises UnavailableError."""
    if machine not in _MACHINES:
        known = ", ".join(_MACHINES)
        raise UnavailableError(f"system calls of {machine or 'this machine'} are not known: only those of {known}")
    architecture, numbers = _MACHINES[machine]
    steps = [
        (_LOAD, 0, 0, _OFFSET_ARCH),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _OFFSET_NUMBER),
        (_AT_LEAST, 0, 1, _X32),  # the x32 calls of x86-64; no machine has others of that number
        (_RETURN, 0, 0, _ERRNO_EPERM),
    ]
    for name, number in numbers.items():
        if name in _MAP_CALLS:  # no memory that can be executed: no code beside what is loaded
            steps += [
                (_EQUAL, 0, 4, number),
                (_LOAD, 0, 0, _OFFSET_THIRD_ARGUMENT),
                (_ANY_BIT, 0, 1, PROT_EXEC),
                (_RETURN, 0, 0, _ERRNO_EPERM),
                (_RETURN, 0, 0, _ALLOW),
            ]
        else:
            steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    steps.append((_RETURN, 0, 0, _ERRNO_EPERM))
    return b"".join(struct.pack("<HBBI", *step) for step in steps)


def install(instructions: bytes | None = None) -> None:
    """Filters all further system calls of this thread and its children, for ever. Raises UnavailableError."""
    if not sys.platform.startswith("linux"):
        raise UnavailableError(f"{sys.platform} has no seccomp")
    instructions = program(platform.machine()) if instructions is None else instructions
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    filter_ = _Program(len(instructions) // 8, ctypes.addressof(buffer))
    if _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))):
        raise UnavailableError(f"no_new_privs: {os.strerror(ctypes.get_errno())}")
    if _LIBC.prctl(_PR_SET_SECCOMP, *map(ctypes.c_ulong, (_MODE_FILTER, ctypes.addressof(filter_), 0, 0))):
        raise UnavailableError(f"seccomp: {os.strerror(ctypes.get_errno())}")
