"""Runs a command that writes generated files, and fails if it changed any: what is committed must be up to date.

The new content stays in place, so after a failure there is nothing to do but look at it and commit it.
"""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path

_LONGEST_DIFF = 60  # lines shown per file


def main() -> int:
    """`unchanged.py DIRECTORY COMMAND…`, or a file: the command's own exit code, 1 if a file changed, 2 for usage."""
    if len(sys.argv) < 3:
        sys.stderr.write("usage: unchanged.py DIRECTORY COMMAND...\n")
        return 2
    directory, command = Path(sys.argv[1]), sys.argv[2:]
    before = _content(directory)
    code = subprocess.run(command, check=False).returncode
    if code:
        return code
    after = _content(directory)
    changed = [path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
    for path in changed:
        _show(path, before.get(path), after.get(path))
    if changed:
        sys.stderr.write(
            f"error: {len(changed)} files in {directory} were not what `{' '.join(command)}` writes; now they are: "
            "look at them and commit them\n"
        )
    return 1 if changed else 0


def _content(directory: Path) -> dict[Path, str]:
    paths = [directory] if directory.is_file() else directory.rglob("*")
    return {path: path.read_text() for path in paths if path.is_file()}


def _show(path: Path, before: str | None, after: str | None) -> None:
    old, new = ((text or "").splitlines(keepends=True) for text in (before, after))
    diff = list(difflib.unified_diff(old, new, f"{path} (committed)", f"{path} (generated)"))
    sys.stderr.writelines(diff[:_LONGEST_DIFF])


if __name__ == "__main__":
    sys.exit(main())
