"""The command `rater`: its options, its commands (loaded when they are called), and how it ends.

Every error that rater raises on purpose becomes one message on stderr and an exit status, never a traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rater.cli import exits

if TYPE_CHECKING:
    from rater.config import Config
    from rater.model.errors import RaterError

__all__ = ["COMMANDS", "Session", "cli", "hint", "main", "session"]

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("rater.cli.up:up", "Run worker, sink and collector in one process."),
    "worker": ("rater.cli.services:worker", "Run a worker: window, rate, find gaps."),
    "sink": ("rater.cli.services:sink", "Run the sink: rated frames into ClickHouse."),
    "api": ("rater.cli.services:api", "Take usage over HTTP."),
    "collect": ("rater.cli.collect:collect", "Fetch usage, or replay it from files."),
    "topics": ("rater.cli.setup:topics", "Create and list the Kafka topics."),
    "migrate": ("rater.cli.setup:migrate", "Create or update the tables in ClickHouse."),
    "rules": ("rater.cli.rules:rules", "Apply, export, check, compare rating rules."),
    "rate": ("rater.cli.rate:rate", "Price a usage file, without any server."),
    "explain": ("rater.cli.explain:explain", "Why a line costs what it costs, from samples to price."),
    "whatif": ("rater.cli.whatif:whatif", "What stored usage would cost by other rules."),
    "frames": ("rater.cli.frames:frames", "List frames, compare two revisions, close one."),
    "gaps": ("rater.cli.frames:gaps", "List gaps: what is missing, to the minute."),
    "rerate": ("rater.cli.rerate:rerate", "Rate closed frames again, from stored usage."),
    "reprocess": ("rater.cli.reprocess:reprocess", "Collect closed frames again, and rate them."),
    "rework": ("rater.cli.rework:rework", "What was rated again, why, and what it changed."),
    "audit": ("rater.cli.audit:audit", "Check what is stored against what must hold."),
    "compare-cloudkitty": (
        "rater.cli.compare_cloudkitty:compare_cloudkitty",
        "Compare totals with a running CloudKitty.",
    ),
    "report": ("rater.cli.report:report", "A scope's month: totals by metric, or why not."),
    "export": ("rater.cli.export:export", "Write lines, frames or gaps to a file."),
    "config": ("rater.cli.settings:config", "Check or show the settings."),
    "token": ("rater.cli.token:token", "Make tokens for the HTTP service."),
    "doctor": ("rater.cli.doctor:doctor", "Check everything, and say what to do."),
    "selftest": ("rater.cli.selftest:selftest", "Prove that usage is rated and a gap is found."),
    "recover": ("rater.cli.recover:recover", "Show and repair what a worker refuses to start from."),
    "demo": ("rater.cli.demo:demo", "Show the whole of it on a small cloud, in a minute."),
}
"""Name to (module:function, help). The help stands here so that `rater --help` imports nothing; a test compares."""


class Session:
    """What the commands share: the settings, read when first asked for."""

    def __init__(self, config_file: Path | None) -> None:
        self._config_file = config_file
        self._config: Config | None = None

    @property
    def config(self) -> Config:
        """The settings. Raises ConfigError with every fault."""
        if self._config is None:
            from rater.config import load_config

            self._config = load_config(self._config_file)
        return self._config


def session(context: click.Context) -> Session:
    """The session of a command's context."""
    found = context.find_object(Session)
    assert found is not None, "the group makes one"
    return found


class _Lazy(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), function)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=exits.TEXT,
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Settings file. Default: what RATER_CONFIG names, else ./rater.yaml if it is there.",
)
@click.version_option(package_name="rater")
@click.pass_context
def cli(context: click.Context, config_file: Path | None) -> None:
    """Rating and chargeback of metered usage: no silent hole, no double count, exact prices.

    \b
    Start here:
      rater demo                                    see it work
      rater up --with-kafka                         run everything on this machine
      rater rules apply rules.yaml                  set prices
      rater collect replay usage.jsonl              send usage
      rater report --scope projA --month 2026-01    the result
    """
    context.obj = Session(config_file)


def main(arguments: list[str] | None = None) -> None:
    """Runs `rater` and ends the process with one of the exit statuses of `rater.cli.exits`."""
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    from rater.model.errors import RaterError

    try:
        status: Any = cli.main(arguments, prog_name="rater", standalone_mode=False)
    except click.exceptions.Abort:
        return _end("interrupted", exits.INTERRUPTED)
    except KeyboardInterrupt:
        return _end("interrupted", exits.INTERRUPTED)
    except click.ClickException as fault:
        fault.show()
        return fault.exit_code
    except SystemExit:  # all that click makes of a broken pipe: whoever read us has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    except RaterError as fault:
        return _end(f"error: {fault}{hint(fault)}", getattr(fault, "exit_status", exits.FAILED))
    return status if isinstance(status, int) else exits.OK


def hint(fault: RaterError) -> str:
    """What to do where the error, which services log as well, says only what happened."""
    if str(fault).startswith("Kafka at "):
        return "; is Kafka running (`make kafka`, `rater up --with-kafka`), and is kafka.bootstrap right?"
    return ""


def _end(message: str, status: int) -> int:
    from rater.cli.output import printable

    sys.stderr.write("".join(f"{printable(line)}\n" for line in message.split("\n")))
    return status
