"""What is refused of segments, what old snapshots become, and how little a checkpoint writes when little changes."""

from __future__ import annotations

import msgspec
import pytest

from rater.engine import (
    Assembly,
    Cut,
    EngineSettings,
    Ledger,
    PartitionState,
    Segment,
    SnapshotError,
    decode_manifest,
    decode_outbox,
    encode_entries,
    encode_manifest,
    encode_outbox,
    encode_root,
    encode_snapshot,
)
from rater.engine.pieces import decode_entries, encode_entry
from tests.unit.engine.builders import Bench, T, collection, full_bench

SETTINGS = EngineSettings()


def cut_of(state: PartitionState, ledger: Ledger, *touched: str) -> Cut:
    """A cut with all its steps done."""
    for scope_id in touched:
        ledger.touch(scope_id)
    cut = ledger.cut(state, T)
    for _ in cut.steps():
        pass
    return cut


def manifest_of(state: PartitionState, ledger: Ledger, scopes: int) -> bytes:
    segments = [Segment(n, T, 1, []) for n in ledger.still_needed()]
    return encode_manifest(encode_root(state), scopes, segments, [], ledger.next_number)


def restored(manifest: bytes, *payloads: tuple[int, bytes]) -> Assembly:
    assembly = Assembly(decode_manifest(manifest, 0, 1, SETTINGS))
    for number, payload in payloads:
        list(assembly.take(number, payload))
    list(assembly.finish())
    return assembly


def test_a_damaged_segment_is_refused() -> None:
    # given
    state, ledger = full_bench().state, Ledger()
    payload = encode_entries(cut_of(state, ledger, "A").entries)
    manifest = manifest_of(state, ledger, 1)
    assert restored(manifest, (0, payload)).state.scopes == state.scopes

    # then
    with pytest.raises(SnapshotError, match=r"segment 0: .*truncated.* See `rater recover`"):
        restored(manifest, (0, payload[:-1]))


def test_a_segment_without_the_scope_is_refused() -> None:
    state, ledger = full_bench().state, Ledger()
    cut_of(state, ledger, "A")
    manifest = manifest_of(state, ledger, 1)
    for entries in ([], [encode_entry("A", [], [], None)]):
        with pytest.raises(SnapshotError, match="0 of 1 scopes are there"):
            restored(manifest, (0, encode_entries(entries)))


@pytest.mark.parametrize("kind", ["frames", "blocks"])
def test_a_segment_without_a_piece_is_refused(kind: str) -> None:
    # given a segment whose entry has lost its frames or its series
    state, ledger = full_bench().state, Ledger()
    (entry,) = decode_entries(encode_entries(cut_of(state, ledger, "A").entries))
    frames = [(begin, bytes(raw)) for begin, raw in entry.frames]
    blocks = [(first, bytes(raw)) for first, raw in entry.blocks]
    torn = encode_entry("A", [] if kind == "frames" else frames, [] if kind == "blocks" else blocks, bytes(entry.head))

    # then
    with pytest.raises(SnapshotError, match="pieces of scope 'A' are missing"):
        restored(manifest_of(state, ledger, 1), (0, encode_entries([torn])))


@pytest.mark.parametrize("version", [1, 2])
def test_an_old_snapshot_is_read_and_the_next_checkpoint_writes_all_of_it(version: int) -> None:
    # given all of a state in one piece, as versions before wrote it
    state = full_bench().state
    assembly = restored(msgspec.msgpack.encode((version, state)))
    assert assembly.state == state

    # when
    cut = cut_of(assembly.state, assembly.ledger)

    # then
    manifest = manifest_of(assembly.state, assembly.ledger, 1)
    assert restored(manifest, (cut.number, encode_entries(cut.entries))).state.scopes == state.scopes


def test_a_whole_snapshot_of_today_is_read_too() -> None:
    state = full_bench().state
    assert restored(encode_snapshot(state)).state == state


def test_the_outbox_comes_back() -> None:
    outbox = full_bench().state.outbox
    assert outbox
    assert decode_outbox(encode_outbox(outbox)) == outbox


def test_one_more_resource_is_all_that_is_written_of_the_series() -> None:
    # given a scope of many resources, all of which are safe
    bench = Bench()
    series = [{"groupby": {"id": f"vm{n}"}, "metadata": {}} for n in range(1000)]
    bench.take(msgspec.structs.replace(collection(), series=msgspec.convert(series, list)))
    ledger = Ledger()
    first = cut_of(bench.state, ledger, "A")
    ledger.commit(first)

    # when one comes
    bench.take(collection(T + 3600, T + 7200))
    second = cut_of(bench.state, ledger, "A")

    # then
    assert first.size > 30_000
    assert second.size < 2_000


def test_what_changes_while_an_old_segment_is_renewed_is_written_by_the_next_checkpoint() -> None:
    # given a segment with two scopes that has become old
    bench, ledger = full_bench(), Ledger()
    bench.take(collection(scope_id="B"))
    first = cut_of(bench.state, ledger, "A", "B")
    ledger.commit(first)
    (old,) = ledger.still_needed()
    renewing = ledger.cut(bench.state, T + ledger.limits.renew_seconds)

    # when one of them changes after the cut
    renewing.before("B")
    ledger.touch("B")
    for _ in renewing.steps():
        pass
    ledger.commit(renewing)

    # then the old segment is needed for it until it was written, and no longer
    known = {
        scope_id: {place.segment for place in found.places()} for scope_id in "AB" if (found := ledger.known(scope_id))
    }
    assert known == {"A": {renewing.number}, "B": {old}}
    assert ledger.still_needed() == [old, renewing.number]
    last = ledger.cut(bench.state, T + ledger.limits.renew_seconds + 1)
    for _ in last.steps():
        pass
    ledger.commit(last)
    assert ledger.still_needed() == [renewing.number, last.number]
