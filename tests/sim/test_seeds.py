"""200 seeds of the simulator: nothing lost, doubled, said twice in different words, or missing without a name."""

from __future__ import annotations

import os

import pytest

from tests.sim.many import outcomes
from tests.sim.world import STEPS, Outcome

SEEDS = range(1, 201)


@pytest.fixture(scope="module")
def done() -> dict[int, Outcome]:
    """All seeds, over the processors that there are."""
    return {outcome.seed: outcome for outcome in outcomes(SEEDS, STEPS, os.cpu_count() or 1)}


@pytest.mark.parametrize("seed", SEEDS)
def test_seed(done: dict[int, Outcome], seed: int) -> None:
    assert not done[seed].violations, f"make sim SEED={seed}\n" + "\n".join(done[seed].violations)


def test_the_faults_did_happen(done: dict[int, Outcome]) -> None:
    # given all seeds, then each kind of fault was met many times, and frames were compared
    met = {fault for outcome in done.values() for fault in outcome.counts}

    assert not FAULTS - met
    assert sum(outcome.frames for outcome in done.values()) > 10_000
    assert sum(outcome.revisions for outcome in done.values()) > 15_000


FAULTS = {
    "all killed", "bad network", "broker down", "chunk: answer lost", "clock set", "clock wrong",
    "cloud scope came or went", "collected again", "commit: answer lost", "commit: request lost", "forced",
    "frozen", "frozen at before_commit", "idle partition", "in pieces", "insert applied, answer lost",
    "insert refused", "killed", "killed at after insert into lines", "killed at before insert into frames",
    "killed at before_commit", "killed at before_publish", "killed at chunks_written", "killed at committed",
    "killed at cut", "killed at published", "killed at restore", "killed at restored", "killed at sink-inserted",
    "late past close", "late past the horizon", "never collected", "publish: answer lost", "record sent twice",
    "records fetched twice", "rules changed", "scope appeared", "scope gone", "sink commit: answer lost",
    "source away", "source partial", "source slow", "store down", "switched off", "switched on",
    "thrown out of its group",
}  # fmt: skip
