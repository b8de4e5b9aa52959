"""Seeds that once failed, each with what was wrong. They are run with the steps they failed with."""

from __future__ import annotations

import pytest

from tests.sim.world import run


@pytest.mark.parametrize(
    ("seed", "steps", "what"),
    [
        (
            7,
            120,
            "an assignment that was told twice was kept by two keepers under one membership: revisions said twice",
        ),
        (75, 120, "a fault of the membership beside another one was logged as never retrieved"),
        (28, 120, "simulator: a worker that joined twice while it restored held partitions that nobody read"),
        (37, 120, "simulator: a request to join that arrived after its sender had left kept its partitions"),
        (459, 120, "simulator: whoever was thrown out while he waited for his group to form was never answered"),
        (4317, 120, "a plan that came after its frame had left the state opened no gap in it, and nobody was told"),
    ],
)
def test_seed_that_failed(seed: int, steps: int, what: str) -> None:
    assert run(seed, steps).violations == [], what
