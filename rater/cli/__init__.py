"""The command line of rater: one module for each group of commands, loaded when it is called."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Entry point of the command `rater`."""
    from rater.cli.app import main as run

    run()
