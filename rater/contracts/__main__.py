"""`python -m rater.contracts write`, `check` and `release VERSION`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rater.contracts.asyncapi import text
from rater.contracts.compatibility import ContractError
from rater.contracts.examples import examples
from rater.contracts.released import judge, release


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Status 1 if something does not fit, with a sentence for each."""
    parser = argparse.ArgumentParser(prog="python -m rater.contracts", description="What programs outside rely on.")
    parser.add_argument("--directory", type=Path, default=Path("schemas"), help="where it lies (default: schemas)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("write", help="write asyncapi.yaml and the examples")
    commands.add_parser("check", help="compare the schemas with those of the last release")
    commands.add_parser("release", help="keep the schemas as those of a release").add_argument("version")
    options = parser.parse_args(arguments)
    try:
        if options.command == "write":
            _write(options.directory)
        elif options.command == "release":
            sys.stdout.write(f"written: {release(options.directory, options.version)}\n")
        else:
            return _check(options.directory)
    except ContractError as fault:
        sys.stderr.write(f"error: {fault}\n")
        return 1
    return 0


def _write(directory: Path) -> None:
    wanted = {directory / "asyncapi.yaml": text()}
    for example in examples():
        path = directory / "examples" / example.topic.value / f"{example.name}.json"
        wanted[path] = json.dumps(example.shown, indent=2, ensure_ascii=False) + "\n"
    for path in sorted((directory / "examples").rglob("*.json")):
        if path not in wanted:
            path.unlink()
            sys.stdout.write(f"removed: {path}\n")
    for path, content in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            sys.stdout.write(f"written: {path}\n")


def _check(directory: Path) -> int:
    verdict = judge(directory)
    compared = f"{verdict.documents} schemas compared with those of {verdict.version}"
    sys.stdout.write(f"{compared}: {len(verdict.findings)} faults, {verdict.accepted} accepted\n")
    sys.stderr.writelines(f"{finding}\n" for finding in verdict.findings)
    if verdict.findings:
        sys.stderr.write(
            "Programs made for the last release would fail. Take the change back, give the record a new version, or "
            "say in schemas/released/accepted.yaml why nobody is hit: `finding` and `reason`.\n"
        )
    return 1 if verdict.findings else 0


if __name__ == "__main__":
    sys.exit(main())
