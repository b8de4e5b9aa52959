"""What an operator may choose about periods, waiting and late usage; it is the same for every partition."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import msgspec
from msgspec import Meta

from rater.model.metric import Catalog, MetricSpec
from rater.rating import NoScripts, ScriptRunner

__all__ = ["EngineContext", "EngineSettings", "Expect"]

Periods = Annotated[int, Meta(ge=0, le=100_000)]


class Expect(Enum):
    """From when on a source owes us answers for a scope."""

    PLANNED = "planned"  # only what its ScopePlans say
    SEEN = "seen"  # without a plan: whatever it has sent once, for ever


class EngineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `engine` of rater.yaml. `period` is fixed for the life of the checkpoints."""

    period: Annotated[int, Meta(ge=60, le=86_400)] = 3600
    """Seconds of a processing period; periods are aligned to the epoch."""
    wait_periods: Periods = 2
    """How many periods after its end a frame waits for what is missing."""
    settle: Annotated[int, Meta(ge=0, le=86_400)] = 300
    """Seconds of quiet after the last record of a frame, or a change of its plan, before it closes with gaps."""
    late_horizon_periods: Periods = 2
    """How many periods a closed frame without gaps stays in the state for late usage."""
    gap_horizon_periods: Periods = 744
    """The same for a frame with gaps: what is missing is expected late, and such frames are small."""
    expect: dict[str, Expect] = {}
    """Per source; a source that is not named has `seen`."""


class EngineContext(msgspec.Struct, frozen=True):
    """All that `apply` and `decide` need beside the state: chosen at start, never changed."""

    settings: EngineSettings
    catalog: Catalog
    scripts: ScriptRunner = NoScripts()
    """Who runs rating scripts. A frame whose scripts have not run yet is decided later."""

    def metric(self, name: str) -> MetricSpec:
        """The metric as declared; with defaults if it has left the catalog since its usage was accepted."""
        return self.catalog.get(name) or MetricSpec(name)

    def expects_seen(self, source: str) -> bool:
        """Whether a source without a plan owes us whatever it has sent once."""
        return self.settings.expect.get(source, Expect.SEEN) is Expect.SEEN
