"""Becomes the command given to it, after asking the kernel to kill it when its parent ends.

Run as a script: `python _die_with_parent.py PARENT_PID PROGRAM ARGUMENT…`. A script and not a `preexec_fn`, which is
unsafe in a process with threads. Only Linux can do this; elsewhere the command runs without that protection.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Replaces this process by the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
            sys.exit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
        if os.getppid() != parent:  # it ended before the call above
            sys.exit("the process that wanted to start Kafka is gone")
    os.execv(command[0], command)  # noqa: S606 - the command comes from launch.py, its only caller


if __name__ == "__main__":
    main()
