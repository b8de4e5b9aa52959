"""Whatever is in the log, when it is cut, and what is abandoned, lost or merged: the segments hold the state.

Nothing tells the ledger what a change was; if it missed one, the state that comes back would differ.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from rater.engine import (
    Assembly,
    Cut,
    Ledger,
    Limits,
    PartitionState,
    Record,
    Segment,
    apply,
    deciding,
    decode_manifest,
    decode_snapshot,
    encode_entries,
    encode_manifest,
    encode_root,
    encode_snapshot,
)
from tests.property.engine_logs import CONTEXT, RULES, History, histories
from tests.unit.engine.builders import HOUR

LIMITS = Limits(
    segments=3, renew_seconds=3 * HOUR, renewed_bytes=600, merged_bytes=200, block_series=2, entry_bytes=300
)


class Turn(NamedTuple):
    """How one checkpoint goes."""

    meanwhile: list[int]
    """After which steps a record comes."""
    fate: Literal["commit", "commit", "abandon", "crash"]
    steps: int
    """After which it is abandoned, or everything is lost."""


turns = st.builds(
    Turn,
    meanwhile=st.lists(st.integers(0, 12), max_size=4),
    fate=st.sampled_from(["commit", "commit", "commit", "abandon", "crash"]),
    steps=st.integers(0, 12),
)


def copy_of(state: PartitionState) -> PartitionState:
    return decode_snapshot(encode_snapshot(state), 0, 1, CONTEXT.settings)


class Saved(NamedTuple):
    """What lies in the log of the checkpoints, and the newest pointer."""

    payloads: dict[int, list[bytes]]
    manifest: bytes


class Keeper:
    """The keeper's part in it, without awaits."""

    def __init__(self, log: list[Record]) -> None:
        self.log = log
        self.state = PartitionState(0, 1, HOUR, next_offset=0)
        self.ledger = Ledger(LIMITS)
        self.saved = Saved({}, encode_manifest(encode_root(self.state), 0, [], [], 0))
        self.cut: Cut | None = None

    def read(self, offset: int) -> None:
        for record in self.log[self.state.next_offset : offset]:
            scope_id = (record.key or b"").decode()
            if self.cut is not None:
                self.cut.before(scope_id)
            apply(self.state, record, CONTEXT)
            if scope_id in self.state.scopes:
                self.ledger.touch(scope_id)

    def decide(self, now: int) -> None:
        for step in deciding(self.state, now, RULES, CONTEXT):
            if step.scope_id is not None:
                self.ledger.touch(step.scope_id)

    def checkpoint(self, now: int, turn: Turn) -> None:
        self.decide(now)
        before, root, scopes = copy_of(self.state), encode_root(self.state), len(self.state.scopes)
        self.cut = cut = self.ledger.cut(self.state, now)
        for number, _ in enumerate(cut.steps()):
            if turn.fate != "commit" and number == turn.steps:
                break
            for _ in range(turn.meanwhile.count(number)):
                self.read(self.state.next_offset + 1)
        else:
            if turn.fate == "commit":
                self.commit(cut, root, scopes)
                self.compare(before)
                return
        if turn.fate == "abandon":
            self.ledger.abandon(cut)
            self.cut = None
        else:
            self.state, self.ledger = self.restored()
            self.cut = None

    def commit(self, cut: Cut, root: bytes, scopes: int) -> None:
        payloads = {**self.saved.payloads, cut.number: [encode_entries([entry]) for entry in cut.entries]}
        held = self.ledger.held
        needed = self.ledger.still_needed()
        segments = [Segment(n, held[n].written_at, held[n].size or cut.size, []) for n in needed]
        manifest = encode_manifest(root, scopes, segments, [], self.ledger.next_number)
        self.saved = Saved({n: payloads[n] for n in needed}, manifest)
        self.ledger.commit(cut)
        self.cut = None

    def restored(self) -> tuple[PartitionState, Ledger]:
        manifest = decode_manifest(self.saved.manifest, 0, 1, CONTEXT.settings)
        assembly = Assembly(manifest, LIMITS)
        for segment in reversed(manifest.segments):
            for payload in reversed(self.saved.payloads[segment.number]):
                list(assembly.take(segment.number, payload))
        list(assembly.finish())
        return assembly.state, assembly.ledger

    def compare(self, before: PartitionState) -> None:
        """What would be restored is what was there at the cut, and so is what is known of it."""
        state, ledger = self.restored()
        before.outbox.clear()  # lies elsewhere
        assert state == before
        assert encode_snapshot(state) == encode_snapshot(before)
        assert {s: ledger.known(s) for s in state.scopes} == {s: self.ledger.known(s) for s in state.scopes}
        assert ledger.next_number == self.ledger.next_number
        assert {n: (held.size, held.live) for n, held in ledger.held.items()} == {
            n: (held.size, held.live) for n, held in self.ledger.held.items()
        }
        assert all(held.live > 0 for held in ledger.held.values())
        for scope_id in state.scopes:
            known = self.ledger.known(scope_id)
            assert known is not None
            for place in known.places():
                assert scope_id in self.ledger.held[place.segment].scopes, "or it would not be merged"


@settings(max_examples=2 * settings().max_examples)
@given(histories(), st.lists(turns, min_size=1, max_size=6))
def test_the_segments_hold_the_state(history: History, some: list[Turn]) -> None:
    # given
    keeper = Keeper(history.log)

    # when
    for number, cut in enumerate(history.cuts * 2):  # the second round has old segments, and late decisions
        keeper.read(cut.offset)
        keeper.state.outbox.clear()
        keeper.checkpoint(max(cut.now, keeper.state.decided_at) + number * HOUR // 2, some[number % len(some)])

    # then all of it comes back, whatever happened before
    keeper.read(len(history.log))
    keeper.checkpoint(keeper.state.decided_at, Turn([], "commit", 0))


@given(histories())
def test_what_has_not_changed_is_not_written_again(history: History) -> None:
    # given
    keeper = Keeper(history.log)
    keeper.read(len(history.log))
    keeper.checkpoint(history.cuts[-1].now, Turn([], "commit", 0))
    segments = dict(keeper.saved.payloads)

    # when all scopes are looked at again
    for scope_id in keeper.state.scopes:
        keeper.ledger.touch(scope_id)
    keeper.checkpoint(keeper.state.decided_at, Turn([], "commit", 0))

    # then there is nothing new
    assert keeper.saved.payloads == segments


@given(histories())
def test_an_idle_partition_ends_with_few_young_segments(history: History) -> None:
    # given
    keeper = Keeper(history.log)
    for cut in history.cuts:
        keeper.read(cut.offset)
        keeper.checkpoint(max(cut.now, keeper.state.decided_at), Turn([], "commit", 0))

    # when nothing comes for long, and checkpoints are made as long as something ages
    now = keeper.state.decided_at + LIMITS.renew_seconds
    rounds = 0
    while keeper.ledger.is_ageing(now):
        keeper.checkpoint(now, Turn([], "commit", 0))
        rounds += 1
        assert rounds < 100

    # then it is all young, and comes back
    assert all(held.written_at == now for held in keeper.ledger.held.values())
