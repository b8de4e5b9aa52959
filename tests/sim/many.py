"""Many seeds over several processes."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Iterable, Iterator
from functools import partial

from tests.sim.world import Outcome, run


def one(steps: int, seed: int) -> Outcome:
    """The outcome of a seed without its trace; whatever breaks the simulation itself is a violation, too."""
    try:
        outcome = run(seed, steps)
    except Exception:  # noqa: BLE001  a seed that cannot be simulated must not hide behind the others
        return Outcome(seed, steps, violations=[traceback.format_exc()[-2000:]])
    outcome.trace.clear()
    return outcome


def outcomes(seeds: Iterable[int], steps: int, processes: int) -> Iterator[Outcome]:
    """The outcomes, in the order in which they come."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(partial(one, steps), seeds, chunksize=4)
