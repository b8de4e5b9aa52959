"""How a child's end is put in words."""

from __future__ import annotations

import msgspec
import pytest

from rater.rating.frame import Failed
from rater.sandbox.endings import by_chance, ended
from rater.sandbox.settings import SandboxSettings
from rater.sandbox.wire import Ending, Parting

SETTINGS = SandboxSettings()
STACK = b'Stack (most recent call first):\n  File "<script a>", line 3 in f\n  File "<script a>", line 7 in <module>\n'
PARTING = Parting(0, 0, 0.1, 0.1, late=False, overflow=False, mute=False, trace=0, printed=0, result=-1)
END = Ending(PARTING, b"", b"", None)


@pytest.mark.parametrize(
    ("changed", "script", "line", "reason", "again"),
    [
        ({"status": 3}, "a", 0, "ends the process with status 3 before it gives back anything", False),
        ({"status": -9, "cpu": 5.2}, "a", 0, "takes more than 5 s of processor time (scripts.cpu_seconds)", True),
        (
            {"status": -9, "cpu": 4.99, "trace": STACK},
            "a",
            3,
            "takes more than 5 s of processor time (scripts.cpu_seconds)",
            True,
        ),
        (
            {"status": -9, "late": True, "trace": STACK, "script": 1},
            "b",
            0,
            "takes longer than 10 s (scripts.wall_seconds), of which 0.1 s of processor time",
            True,
        ),
        ({"status": -9, "overflow": True}, "a", 0, "gives back more than 32 MiB (scripts.result_mib)", False),
        ({"status": -9, "mute": True, "script": -1}, "", 0, "closes the descriptors of its process and goes on", False),
        ({"status": -9, "script": 2}, "", 0, "ended by force (SIGKILL): the machine may be out of memory", True),
        ({"status": -11}, "a", 0, "crashes the process (SIGSEGV)", False),
        ({"status": -99}, "a", 0, "crashes the process (99)", False),
        (
            {"status": -6, "printed": b"x\nFatal Python error: f: no\n\n" + STACK},
            "a",
            3,
            "crashes Python: f: no",
            False,
        ),
    ],
)
def test_an_end_says_script_line_and_reason(
    changed: dict[str, object], script: str, line: int, reason: str, again: bool
) -> None:
    said = {name: changed.pop(name) for name in ("trace", "printed") if name in changed}
    ending = msgspec.structs.replace(END, parting=msgspec.structs.replace(PARTING, **changed), **said)

    assert ended(["a", "b"], ending, SETTINGS) == Failed("pyscripts", script, line, reason)
    assert by_chance(ending, SETTINGS) is again


def test_the_line_is_of_the_script_that_ran() -> None:
    trace = STACK.replace(b"script a", b"script other", 1)

    assert ended(["a"], msgspec.structs.replace(END, trace=trace), SETTINGS).line == 7
