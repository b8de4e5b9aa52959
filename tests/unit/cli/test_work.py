"""How commands run coroutines: errors as they are, and Ctrl-C that ends them, at once if it is said twice."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from rater.cli import work
from rater.cli.work import run


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


async def stubborn(seconds: float, *, twice: bool) -> None:
    """Work whose end takes its time."""
    interrupt()
    try:
        await asyncio.sleep(60)
    finally:
        if twice:
            asyncio.get_running_loop().call_later(0.05, interrupt)
        await asyncio.sleep(seconds)


@pytest.mark.parametrize(("seconds", "twice"), [(0.3, False), (60, True)])
def test_ctrl_c_says_how_it_ends_at_once(
    seconds: float, twice: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # given
    monkeypatch.setattr(work, "ENDING_SECONDS", 0.01)
    began, before = time.monotonic(), signal.getsignal(signal.SIGINT)
    # when
    with pytest.raises(KeyboardInterrupt):
        run(stubborn(seconds, twice=twice))
    # then
    assert time.monotonic() - began < 10
    assert capfd.readouterr().err == "ending what is under way; Ctrl-C again ends it at once\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_an_end_that_is_quick_needs_no_word(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(stubborn(0, twice=False))

    assert capfd.readouterr().err == ""


def test_work_that_ends_by_itself_leaves_the_handler_as_it_was() -> None:
    async def answer() -> int:
        return 7

    before = signal.getsignal(signal.SIGINT)

    assert run(answer()) == 7
    assert signal.getsignal(signal.SIGINT) is before
