"""Runs commands of CloudKitty's client, and of OpenStack's: each in a fork of this process, which has them loaded.

Starting each by itself takes seconds, and in one process the second command would use the first one's token. Runs in
the venv that `make tools` makes of client.lock. One JSON array of words per line of stdin, the first of them
`cloudkitty` or `openstack`; for each a line with what the command ended with, wrote and complained about.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
from typing import TextIO

SHELLS = {name: importlib.import_module(f"{name}client.shell").main for name in ("cloudkitty", "openstack")}

HELP = ("module list", "summary get", "hashmap mapping list", "dataframes get", "pyscript list", "info metric list")
WARMING = [
    *(
        ["cloudkitty", "--os-rating-api-version", version, *words.split(), "--help"]
        for words in HELP
        for version in "12"
    ),
    ["openstack", "rating", "module", "list", "--help"],
]
"""Loads what commands need before any is forked off, and connects to nobody: a fork then costs 50 ms."""


def run(words: list[str]) -> dict[str, object]:
    """What a shell would show of the command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = SHELLS[words[0]](words[1:])
        except SystemExit as ended:
            status = ended.code
    return {"status": status, "out": out.getvalue(), "err": err.getvalue()}


def in_a_fork(words: list[str]) -> str:
    """The same by a process of its own, as JSON; empty if that died."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with os.fdopen(writing, "w") as answer:
            json.dump(run(words), answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        found = answer.read()
    os.waitpid(child, 0)
    return found


def main(answers: TextIO) -> None:
    """Until the end of stdin."""
    for words in WARMING:
        run(words)
    for line in sys.stdin:
        answers.write(in_a_fork(json.loads(line)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.stdout)
