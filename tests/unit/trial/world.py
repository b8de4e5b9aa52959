"""A partition's engine with a store behind it, in memory: what is taken is rated and stored, as worker and sink do."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from rater.model.labels import Labels
from rater.model.rated import RatedFrame
from rater.model.usage import Collection, Sample, Series, UsageRecord
from rater.rating import BUILT_IN, Chain, NoScripts, RuleBook, ScriptRunner, parse, plan
from rater.reports import StoreView
from rater.store import Batch, Store, migrate, write
from rater.trial import Explainer, FrameExplained, StoredFrames, WhatIf, keeps_points
from tests.unit.engine.builders import HOUR, Bench, T, collection
from tests.unit.store.builders import memory_store

__all__ = ["HOUR", "T", "World", "a_world", "book_from", "measured"]


def book_from(document: str) -> RuleBook:
    """The book of a rule document."""
    modules = (*BUILT_IN, "tidy")
    changes = plan(RuleBook.empty(), parse(document, "rules.yaml", modules=modules))
    book, _ = RuleBook.empty().apply(changes.event("test", "", 0))
    assert book.version == 1
    return book


def measured(metric: str, *quantities: str, begin: int = T, end: int = 0, **changes: Any) -> Collection:
    """A complete collection of one resource with its quantities, ten minutes apart."""
    groupby: Labels = changes.pop("groupby", {"id": "r1"})
    metadata: Labels = changes.pop("metadata", {})
    samples = [Sample(0, begin + 600 * n, begin + 600 * n + 600, Decimal(q)) for n, q in enumerate(quantities)]
    name = changes.pop("collection_id", f"{metric}-{begin}")
    return collection(
        begin,
        end or begin + HOUR,
        metric=metric,
        collection_id=name,
        series=[Series(groupby, metadata)] if samples else [],
        samples=samples,
        **changes,
    )


class World:
    """Engine and store of one partition."""

    def __init__(
        self, store: Store, book: RuleBook, scripts: ScriptRunner | None = None, *, usage: bool = True, **settings: Any
    ) -> None:
        migrate(store)
        self.store = store
        self.view = StoreView(store)
        self.book = book
        self.scripts = scripts or NoScripts()
        self.bench = Bench(Chain(book), **settings)
        self.context = self.bench.context = msgspec.structs.replace(self.bench.context, scripts=self.scripts)
        self._usage = usage

    def take(self, *records: UsageRecord, at: int | None = None) -> None:
        """Into the engine and, if it is stored, into table usage."""
        self.bench.take(*records, at=at)
        batch = Batch()
        for record in records:
            if isinstance(record, Collection) and self._usage:
                batch.add_collection(record)
        write(self.store, batch)
        assert self.bench.rejected() == []

    def close(self, now: int) -> list[RatedFrame]:
        """Closes what is due and stores it."""
        frames = self.bench.decide(now)
        self.keep(frames)
        return frames

    def keep(self, frames: Iterable[RatedFrame]) -> None:
        batch = Batch()
        for frame in frames:
            count = sum(total.n for total in frame.totals)
            batch.add_lines(frame, count)
            batch.add_frame(frame, count)
        write(self.store, batch)

    def frames(self, *, samples: bool = False, view: Any = None) -> StoredFrames:
        return StoredFrames(view or self.view, self.context, lambda _: keeps_points(self.book), samples=samples)

    def explained(self, *, view: Any = None, book: RuleBook | None = None) -> list[FrameExplained]:
        """All frames, proven."""
        explainer = Explainer(view or self.view, self.context, lambda _: book or self.book, self.scripts, {})
        return [
            explainer.explain(stored)
            for scope in (view or self.view).scopes()
            for stored in self.frames(samples=True, view=view).read(scope.scope_id, scope.begin, scope.end)
        ]

    def what_if(self, book: RuleBook, begin: int = 0, *, usage: bool = False) -> WhatIf:
        """All frames from `begin` on under another book; `usage`: never by lines."""
        frames = StoredFrames(self.view, self.context, lambda _: not usage and keeps_points(self.book))
        work = WhatIf(frames, Chain(book), self.scripts)
        for scope in self.view.scopes():
            for _ in work.scope(scope.scope_id, max(begin, scope.begin), scope.end):
                pass
        return work


def a_world(book: RuleBook, **more: Any) -> World:
    return World(memory_store(), book, **more)
