"""`rater demo`: the whole of it on a small cloud, in a minute."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rater.cli.output import progress
from rater.cli.report import print_report
from rater.cli.work import until_signal

if TYPE_CHECKING:
    from rater.reports import Report

__all__ = ["demo"]


class _Teller:
    """Tells the story on stdout; progress goes to stderr."""

    def __init__(self) -> None:
        self._step = 0

    def heading(self, text: str) -> None:
        """A numbered step."""
        self._step += 1
        click.secho(f"\n{self._step}. {text}", bold=True)

    def say(self, text: str) -> None:
        """Text of the story."""
        click.echo(text)

    def report(self, report: Report) -> None:
        """As `rater report` prints it."""
        print_report(report, tell=click.echo)

    def progress(self, what: str, unit: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """A bar on a terminal, else a line now and then."""
        return progress(what, unit)


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    default=Path("var") / "demo",
    show_default=True,
    help="Where everything goes. An earlier demonstration there is removed first.",
)
@click.option("--seed", default=1, show_default=True, help="Another number makes up another cloud.")
@click.option("--keep", is_flag=True, help="Go on running at the end, until Ctrl-C.")
def demo(directory: Path, seed: int, keep: bool) -> None:
    """Replay three days of a small cloud and show what happens to a hole in them.

    Starts a Kafka, a worker, the sink and the embedded ClickHouse, all on this machine and in one directory. Shows a
    report, the alert of a missing window, the report that is refused for it, and how it is mended.

    \b
    Examples:
      rater demo
      rater demo --keep
    """
    until_signal(lambda stop: _demo(directory, seed, keep, stop))


async def _demo(directory: Path, seed: int, keep: bool, stop: asyncio.Event) -> None:
    """The story, which Ctrl-C breaks off; once it is told and kept running, Ctrl-C ends it in order."""
    told = asyncio.Event()
    story = asyncio.ensure_future(_tell(directory, seed, stop if keep else None, told))
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait({story, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not story.done() and not told.is_set():
        story.cancel()
        await asyncio.wait({story})
        raise click.Abort
    await story


async def _tell(directory: Path, seed: int, until: asyncio.Event | None, told: asyncio.Event) -> None:
    from rater.demo.run import run_demo
    from rater.demo.story import ending

    python, rater = _commands()
    teller = _Teller()
    async with run_demo(directory, teller, seed):
        teller.heading("What next")
        if until is not None:
            teller.say(ending(str(directory), python, rater, running=True))
            told.set()
            await until.wait()
            return
    teller.say(ending(str(directory), python, rater, running=False))


def _commands() -> tuple[str, str]:
    """How this Python and this `rater` are called, from the working directory."""
    python = _from_here(Path(sys.executable))
    return python, _from_here(Path(sys.argv[0])) if Path(sys.argv[0]).name == "rater" else f"{python} -m rater"


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
