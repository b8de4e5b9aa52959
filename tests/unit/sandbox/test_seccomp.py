"""The filter of system calls, run by a small machine: what it lets through and what not."""

from __future__ import annotations

import struct

import pytest

from rater.sandbox.inside.seccomp import PROT_EXEC, UnavailableError, program

ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000
X86_64, AARCH64 = 0xC000003E, 0xC00000B7


def verdict(instructions: bytes, architecture: int, number: int, third: int = 0) -> int:
    """Runs classic BPF over `struct seccomp_data` of one call."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, 0, 0, third, 0, 0, 0)
    steps = list(struct.iter_unpack("<HBBI", instructions))
    at = accumulator = 0
    while True:
        code, if_true, if_false, constant = steps[at]
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, constant)
            case 0x15:
                at += if_true if accumulator == constant else if_false
            case 0x35:
                at += if_true if accumulator >= constant else if_false
            case 0x45:
                at += if_true if accumulator & constant else if_false
            case 0x06:
                return int(constant)
            case _:
                raise AssertionError(f"no such instruction: {code}")


def numbers(text: str) -> dict[str, int]:
    """`write 1, brk 12` as a dict."""
    return {name: int(number) for name, number in (pair.split() for pair in text.split(","))}


REFUSED_X86_64 = """open 2, openat 257, socket 41, fork 57, clone 56, clone3 435, execve 59, kill 62, ptrace 101,
rt_sigaction 13, setitimer 38, prctl 157, io_uring_setup 425, newfstatat 262, dup2 33, sendmsg 46, memfd_create 319,
tgkill 234"""
REFUSED_AARCH64 = """openat 56, socket 198, clone 220, clone3 435, execve 221, kill 129, ptrace 117,
rt_sigaction 134, setitimer 103, prctl 167, io_uring_setup 425, newfstatat 79, dup3 24, sendmsg 211, memfd_create 279,
tgkill 131"""


@pytest.mark.parametrize(
    ("machine", "architecture", "allowed", "refused"),
    [
        ("x86_64", X86_64, "write 1, brk 12, exit_group 231", REFUSED_X86_64),
        ("aarch64", AARCH64, "write 64, brk 214, exit_group 94", REFUSED_AARCH64),
    ],
)
def test_calls_are_let_through_by_a_list(machine: str, architecture: int, allowed: str, refused: str) -> None:
    filter_ = program(machine)

    for text, answer in ((allowed, ALLOW), (refused, REFUSE)):
        for name, number in numbers(text).items():
            assert verdict(filter_, architecture, number) == answer, name


@pytest.mark.parametrize(
    ("machine", "architecture", "calls"), [("x86_64", X86_64, (9, 10)), ("aarch64", AARCH64, (222, 226))]
)
def test_memory_is_given_but_none_to_execute(machine: str, architecture: int, calls: tuple[int, int]) -> None:
    filter_ = program(machine)

    for number in calls:
        assert verdict(filter_, architecture, number, 3) == ALLOW
        assert verdict(filter_, architecture, number, 3 | PROT_EXEC) == REFUSE


def test_calls_of_another_architecture_end_the_process() -> None:
    assert verdict(program("x86_64"), 0x40000003, 1) == KILL  # i386, by int 0x80
    assert verdict(program("aarch64"), X86_64, 64) == KILL


def test_calls_of_x32_are_refused() -> None:
    assert verdict(program("x86_64"), X86_64, 0x40000000 | 1) == REFUSE


def test_few_calls_are_let_through() -> None:
    """All else is refused: a new one must be argued for."""
    filter_ = program("x86_64")

    assert sum(verdict(filter_, X86_64, number) == ALLOW for number in range(1000)) == 32


def test_an_unknown_machine_has_no_filter() -> None:
    with pytest.raises(UnavailableError, match="system calls of riscv64 are not known: only those of x86_64, aarch64"):
        program("riscv64")
