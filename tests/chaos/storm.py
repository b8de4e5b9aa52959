"""The middle of a chaos run: faults drawn by one generator, injected together, healed, and how long recovery takes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.faults import Decks, Fault
from tests.chaos.offsets import SINK, SINK_USAGE, WORKER
from tests.chaos.town import Town

RECOVERY_SECONDS = 300.0
"""Who has not caught up by then is stuck: a finding, and the next faults would only hide it."""
STEP_SECONDS = 900.0
"""For faults to strike and end: more, and the run itself is stuck."""
TOGETHER = (1, 1, 1, 2, 2, 3)
"""How many faults strike at once."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """Faults that struck together. Recovery in seconds after they were healed; None: not within the limit."""

    names: tuple[str, ...]
    workers: float | None
    """Restore and replay: until the workers had committed all that was in `usage`."""
    sinks: float | None
    """Until the sinks had committed all that was in their topics then."""


@dataclass
class Storm:
    """What happened. `missed`: faults that found nobody at their point."""

    steps: list[Step] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    @property
    def stuck(self) -> list[str]:
        """Steps after which somebody did not recover."""
        return [", ".join(step.names) for step in self.steps if step.workers is None or step.sinks is None]


async def rage(town: Town, seed: int, minutes: float, say: Say) -> Storm:
    """Faults for so many minutes, one group after the other; the next when all have caught up after the last."""
    rng = random.Random(seed)
    decks = Decks(rng)
    storm = Storm()
    ends_at = time.monotonic() + minutes * 60
    ready = Step(("start",), *await recovery(town))
    if None in (ready.workers, ready.sinks):
        storm.steps.append(ready)
    while time.monotonic() < ends_at and not storm.stuck:
        faults = decks.draw(rng.choice(TOGETHER))
        dice = [random.Random(rng.random()) for _ in faults]  # so that what is drawn next does not depend on timing
        say(f"chaos: {', '.join(fault.name for fault in faults)}")
        async with asyncio.timeout(STEP_SECONDS):
            happened = await asyncio.gather(*(_strike(town, one, die) for one, die in zip(faults, dice, strict=True)))
            for fault in faults:
                await fault.heal(town)
        names = tuple(one.name for one, yes in zip(faults, happened, strict=True) if yes)
        storm.missed += [one.name for one, yes in zip(faults, happened, strict=True) if not yes]
        step = Step(names, *await recovery(town))
        say(f"chaos:   workers {_seconds(step.workers)}, sinks {_seconds(step.sinks)} after it was healed")
        if names:
            storm.steps.append(step)
        await asyncio.sleep(rng.uniform(0.5, 3))
    await town.all_done()
    return storm


async def _strike(town: Town, fault: Fault, rng: random.Random) -> bool:
    """A fault begins a little after the others, and lasts."""
    await asyncio.sleep(rng.uniform(0, 2))
    happened = await fault.inject(town, rng)
    await asyncio.sleep(rng.uniform(*town.sizes.hold) if happened else 0)
    return happened


async def recovery(town: Town) -> tuple[float | None, float | None]:
    """Seconds until the workers, and until the sinks too, have caught up with what there is now."""
    began = time.monotonic()
    workers = await town.groups.caught_up(WORKER, RECOVERY_SECONDS)
    sinks = [await town.groups.caught_up(group, RECOVERY_SECONDS) for group in (SINK, SINK_USAGE)]
    return workers, None if None in sinks else time.monotonic() - began


def _seconds(amount: float | None) -> str:
    return "never" if amount is None else f"{amount:.1f} s"


__all__ = ["Step", "Storm", "rage"]
