"""Runs commands of CloudKitty's client, and of OpenStack's, in one process: starting each by itself takes seconds.

Runs in the venv that `make tools` makes of client.lock. One JSON array of words per line of stdin, the first of them
`cloudkitty` or `openstack`; for each a line with what the command ended with, wrote and complained about.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import sys
from typing import TextIO

SHELLS = {"cloudkitty": "cloudkittyclient.shell", "openstack": "openstackclient.shell"}


def run(words: list[str]) -> dict[str, object]:
    """What a shell would show of the command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = importlib.import_module(SHELLS[words[0]]).main(words[1:])
        except SystemExit as ended:
            status = ended.code
    logging.getLogger().handlers.clear()  # each run adds one, to a stderr that is gone
    return {"status": status, "out": out.getvalue(), "err": err.getvalue()}


def main(answers: TextIO) -> None:
    """Until the end of stdin."""
    for line in sys.stdin:
        answers.write(json.dumps(run(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.stdout)
