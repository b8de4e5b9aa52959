"""Takes from a process what it does not need: once in the zygote, for all it forks, and once more in each child.

Every layer is taken if the kernel gives it; seccomp alone is what a script must not run without.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys

from rater.sandbox.inside import seccomp

__all__ = ["confine_zygote", "die_with", "limit", "limit_memory", "memory", "probe"]

NOBODY = 65534
_NEW_USER, _NEW_NET, _NEW_IPC, _NEW_UTS, _NEW_MOUNT = 0x10000000, 0x40000000, 0x08000000, 0x04000000, 0x00020000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CAPABILITY_VERSION_3 = 0x20080522
_STACK = 8 * 2**20

_LIBC = ctypes.CDLL(None, use_errno=True)  # once: to look it up takes longer than to fork
_LINUX = sys.platform.startswith("linux")


def confine_zygote(directory: str) -> list[str]:
    """Goes into the empty directory and gives up what can be given up. Returns what was, in words."""
    os.chdir(directory)
    layers = ["resource limits", "no environment, no descriptors, an empty working directory"]
    if not _LINUX:
        return layers
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:  # noqa: PTH123 - pathlib would have to be loaded
        score.write("1000")  # if memory runs out, this process is to be ended before the service
    namespaces = _namespaces()
    if namespaces:
        layers.append(namespaces)
    with contextlib.suppress(OSError):
        os.chroot(".")
        os.chdir("/")
        layers.append("no file system (chroot)")
    with contextlib.suppress(OSError):
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            layers.append(f"user {NOBODY}")
    if _drop_capabilities():
        layers.append("no capabilities")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    return layers


def _namespaces() -> str:
    """Namespaces of its own, without a network in them. Not in each child: there they would cost a millisecond."""
    wanted = _NEW_NET | _NEW_IPC | _NEW_UTS | _NEW_MOUNT
    if _LIBC.unshare(wanted) == 0:
        return "namespaces: network, ipc, uts, mount"
    if _LIBC.unshare(wanted | _NEW_USER) == 0:
        return "namespaces: user, network, ipc, uts, mount"
    return ""


def _drop_capabilities() -> bool:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    return bool(_LIBC.capset(header, none) == 0)


def _prctl(option: int, value: int) -> None:
    _LIBC.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0)))


def die_with(parent: int) -> None:
    """Ends this process when `parent` ends, of which it was forked."""
    if _LINUX:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before
            os._exit(1)


def limit(cpu_seconds: int, output_bytes: int) -> None:
    """Sets this process's limits for good: processor time, the size of files, and all that no script needs."""
    limits = {
        resource.RLIMIT_CPU: (cpu_seconds, cpu_seconds + 1),  # SIGXCPU, then SIGKILL
        resource.RLIMIT_FSIZE: (output_bytes, output_bytes),
        resource.RLIMIT_STACK: (_STACK, _STACK),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_NOFILE: (8, 8),
        resource.RLIMIT_NPROC: (0, 0),
    }
    for which, (soft, hard) in limits.items():
        _limit(which, soft, hard)


def limit_memory(address_space: int) -> None:
    """Sets this process's limit of address space, in bytes, for good."""
    _limit(resource.RLIMIT_AS, address_space, address_space)


def _limit(which: int, soft: int, hard: int) -> None:
    _, ceiling = resource.getrlimit(which)
    if ceiling != resource.RLIM_INFINITY:
        hard = min(hard, ceiling)
    resource.setrlimit(which, (min(soft, hard), hard))


def memory(descriptor: int | None) -> int | None:
    """Bytes of address space in use, read from an open /proc/self/statm; None where there is none."""
    if descriptor is None:
        return None
    return int(os.pread(descriptor, 64, 0).split()[0]) * resource.getpagesize()


def probe() -> str:
    """Whether the filter of system calls holds here, tried in a child: empty, or why it does not."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, _probe().encode() or b"\0")
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 500)
    os.close(reader)
    _, status = os.waitpid(child, 0)
    if status or not said:
        return f"the filter of system calls ended its own trial with status {os.waitstatus_to_exitcode(status)}"
    return said.strip(b"\0").decode()


def _probe() -> str:
    try:
        seccomp.install()
    except seccomp.UnavailableError as fault:
        return str(fault)
    try:
        os.open("/", os.O_RDONLY)
    except PermissionError:
        return ""
    except OSError as fault:
        return f"seccomp lets open through: {fault.strerror}"
    return "seccomp lets open through"
