"""What the processes of a sandbox say to each other: msgpack, each message with its length before it.

    worker  --Setup, jobs-->  zygote  --fork-->  child (one frame)
    worker  <--Ready, Parting + result--  zygote  <--result--  child

What a child says is bytes to the zygote; the worker alone decodes it, into the typed structs below.
"""

from __future__ import annotations

import struct
from decimal import Decimal
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

__all__ = [
    "HEADER",
    "MAX_JOB",
    "MAX_LABELS",
    "MAX_NAME",
    "MAX_NUMBER",
    "MAX_POINTS",
    "MAX_REASON",
    "Done",
    "Ending",
    "Fault",
    "JobPoint",
    "Labels",
    "OutPoint",
    "Parting",
    "Ready",
    "Result",
    "Setup",
    "WireJob",
    "script_file",
]

HEADER = struct.Struct("<I")
MAX_JOB = 256 * 2**20  # bytes
MAX_LABELS = 64 * 2**10  # bytes of one point's encoded labels that a script made: a record must hold it
MAX_POINTS = 1_000_000  # of a result: what a worker can hold
MAX_NUMBER = 1100  # characters of a price or a quantity
MAX_NAME = 255  # characters of a metric or a unit
MAX_REASON = 500  # characters

Labels: TypeAlias = dict[str, str | int | float | bool | None]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
Number: TypeAlias = Annotated[str, Meta(max_length=MAX_NUMBER)]


class Setup(msgspec.Struct, array_like=True, frozen=True):
    """First message to a zygote."""

    modules: list[str]
    cpu_seconds: int
    wall_seconds: float
    memory_bytes: int
    output_bytes: int
    result_bytes: int
    confine: bool
    """False: run with limits alone where the kernel cannot confine."""


class Ready(msgspec.Struct, array_like=True, frozen=True):
    """Answer to Setup."""

    layers: list[str]
    """What holds the scripts, in words."""
    fault: str = ""
    """Why no script can run; empty if they can."""


class JobPoint(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A point as a script is given it; `labels` is the encoded pair (groupby, metadata)."""

    number: int
    """Among the points of the job."""
    unit: str
    qty: Decimal
    price: Decimal
    labels: msgspec.Raw


class WireJob(msgspec.Struct, array_like=True, frozen=True):
    """One frame: scripts as (name, text), and points by metric, sorted. Not `usage`: only compile the scripts."""

    scripts: list[tuple[str, str]]
    period_begin: int
    period_end: int
    usage: list[tuple[str, list[JobPoint]]] | None


class OutPoint(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A point after the scripts: `index` among those of the job, -1 if it was added. None is unchanged."""

    index: int
    unit: Name | None
    qty: Number | None
    price: Number | None
    labels: tuple[Labels, Labels] | None


class Done(msgspec.Struct, array_like=True, frozen=True, tag="done", forbid_unknown_fields=True):
    """Points after all scripts, by metric, sorted."""

    usage: Annotated[
        list[tuple[Name, list[OutPoint]]],
        Meta(max_length=MAX_POINTS),
    ]


class Fault(msgspec.Struct, array_like=True, frozen=True, tag="fault", forbid_unknown_fields=True):
    """The script that failed, by index, its line (0: unknown), and why."""

    script: int
    line: Annotated[int, Meta(ge=0, le=2**31)]
    reason: str


Result: TypeAlias = Done | Fault


class Parting(msgspec.Struct, array_like=True, frozen=True):
    """How a child ended, as the zygote saw it; three runs of bytes follow it, of these lengths."""

    status: int
    """Of `os.waitstatus_to_exitcode`; 0 if there is a result."""
    script: int
    """Index of the script that ran last, -1 if none did."""
    cpu: float
    wall: float
    late: bool
    """It was ended for the wall time."""
    overflow: bool
    """It was ended for the size of its result."""
    mute: bool
    """It closed its result and went on."""
    trace: int
    printed: int
    result: int
    """-1: it ended without one."""


class Ending(msgspec.Struct, frozen=True):
    """A Parting with the bytes that follow it."""

    parting: Parting
    trace: bytes
    """What faulthandler wrote: its begin."""
    printed: bytes
    result: bytes | None


def script_file(name: str) -> str:
    """The file name under which a script is compiled, so that tracebacks name it."""
    return f"<script {name}>"
