"""The spool: whatever memory it has, the same groups come out, in order, and memory is what it was told."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.replay.runs import Key, Run, Runs
from collectors.replay.spool import Spool

P = 3600
ROWS = st.lists(
    st.tuples(st.integers(0, 5 * P), st.sampled_from(["p1", "p2", "ä"]), st.sampled_from("ab"), st.integers(0, 3)),
    max_size=80,
)


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, memory=st.sampled_from([1, 9, 40, 10_000]), fan_in=st.sampled_from([2, 3, 32]))
def test_any_memory_gives_the_same_groups_in_order(
    rows: list[tuple[int, str, str, int]], memory: int, fan_in: int
) -> None:
    expected: dict[Key, list[tuple[bytes, int]]] = defaultdict(list)
    with Spool(P, memory, fan_in) as spool:
        for begin, scope_id, metric, series in rows:
            spool.add(scope_id, metric, b"s%d" % series, begin, begin, Decimal(1))
            expected[Key(begin - begin % P, scope_id, metric)].append((b"s%d" % series, begin))
        spool.finish()
        groups = list(spool.groups())

    assert [key for key, _ in groups] == sorted(expected)
    for key, group in groups:
        assert sorted((group.series[s.series], s.begin) for s in group.samples) == sorted(expected[key])
        assert group.series == list(dict.fromkeys(series for series, _ in expected[key]))
        assert group.samples == sorted(group.samples, key=lambda s: (s.series, s.begin))


def test_the_digest_is_that_of_the_samples_and_their_order() -> None:
    def digest(*begins: int) -> bytes:
        with Spool(P) as spool:
            for begin in begins:
                spool.add("p", "m", b"s", begin, begin, Decimal(1))
            return spool.finish()

    assert digest(1, 2) == digest(1, 2)
    assert len({digest(1, 2), digest(2, 1), digest(1), digest(1, 2, P)}) == 4


def test_runs_become_larger_ones_and_keep_their_order() -> None:
    """Given 30 runs of which three at a time are merged; then few files are open, and equal keys stay in order."""
    runs = Runs(fan_in=3)
    for number in range(30):
        run = Run()
        run.write((Key(0, "p", "m"), b"%d" % number))
        runs.add(run)

    assert sum(len(level) for level in runs._levels) <= 6
    assert [int(chunk) for _, chunk in runs.entries()] == list(range(30))
    runs.close()
