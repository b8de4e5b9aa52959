"""Section `scripts` of rater.yaml: what a rating script may take, and what must hold it.

Each limit is for one frame: all scripts that run over it share it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = ["SandboxSettings"]


class SandboxSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What scripts may take of the machine, per frame."""

    cpu_seconds: Annotated[int, Meta(ge=1, le=3600)] = 5
    """Processor time. What goes beyond fails the frame, with the line."""
    wall_seconds: Annotated[float, Meta(gt=0, le=7200)] = 10.0
    """Time on the clock, waiting included."""
    memory_mib: Annotated[int, Meta(ge=16, le=65536)] = 256
    """Address space beside what Python, its modules and the frame's points take themselves."""
    output_kib: Annotated[int, Meta(ge=1, le=65536)] = 64
    """What scripts may print."""
    result_mib: Annotated[int, Meta(ge=1, le=1024)] = 32
    """Size of what they give back. A worker needs about ten times as much to read a result that is made to harm."""
    processes: Annotated[int, Meta(ge=1, le=256)] = 1
    """How many frames are worked at once by a worker."""
    modules: list[Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$")]] = []
    """Python modules beside the standard library that scripts may import. They are loaded before any script is."""
    containment: Literal["required", "best_effort"] = "required"
    """`required`: no script runs where the kernel cannot confine it (seccomp, Linux on x86-64 and arm64);
    `best_effort`: it runs there with limits alone."""
