"""What stored usage would cost by other rules: jobs that are started, looked at and cancelled."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from rater.api.faults import RefusalError
from rater.api.v3.jobs import MAX_JOBS, MAX_SECONDS, Job, JobState, Progress, Wanted
from rater.api.v3.operations import JSON, YAML, Asked, Backend, Operation, RawBody, Reply, author_of
from rater.api.v3.rules import parsed_rules
from rater.api.v3.values import Amount, Limit, ScopeId, Time, check_range, moment
from rater.rating import Chain, RuleBook, RuleDocument, plan
from rater.rating.explanation import number_of
from rater.trial import Comparison, Difference, StoredFrames, WhatIf

__all__ = ["OPERATIONS"]

MAX_OFFSET = 10**6


class StartWhatIf(msgspec.Struct, frozen=True):
    """Of which usage."""

    begin: Annotated[Time, Meta(description="periods that begin then or later")]
    end: Annotated[Time, Meta(description="and before that")]
    scope_id: ScopeId | None = None
    """Default: all."""


class OneJob(msgspec.Struct, frozen=True):
    """Which job."""

    job_id: Annotated[str, Meta(min_length=1, max_length=100)]


class ReadJob(OneJob, frozen=True):
    """Which job, and which part of what came of it."""

    limit: Limit = 100
    offset: Annotated[int, Meta(ge=0, le=MAX_OFFSET, description="differences to leave out")] = 0


class PriceDifference(msgspec.Struct, frozen=True):
    """What would change of a scope and metric."""

    scope_id: str
    metric: str
    lines: int
    """Before or after."""
    changed: int
    old_price: Amount
    new_price: Amount
    difference: Amount
    newly_without_price: int
    newly_with_price: int


class WhatIfJob(msgspec.Struct, frozen=True):
    """A job, and once it is done what came of it."""

    job_id: str
    state: JobState
    scope_id: str | None
    begin: datetime
    end: datetime
    created_at: datetime
    frames: int
    """That were looked at."""
    all_frames: int
    """That there may be; 0 while it waits."""
    reason: str
    """Why it failed."""
    unknown_frames: int | None = None
    """Whose usage cannot be read any more; null for who does not see all scopes, as the next two."""
    failed_frames: int | None = None
    """That would fail."""
    faults: list[str] = []
    """Why, for the first of both."""
    differences: list[PriceDifference] = []
    """The biggest first; of the scopes that you may see."""
    more: int = 0
    """Differences after these."""


async def start_whatif(backend: Backend, asked: Asked[StartWhatIf, bytes]) -> Reply:
    """POST /v3/whatif."""
    backend.policy.authorize(asked.identity, asked.action)
    chosen = asked.parameters
    begin, end = check_range(chosen.begin, chosen.end)
    if chosen.scope_id is not None:
        await backend.scope(asked, chosen.scope_id)
    document = await asyncio.to_thread(parsed_rules, asked.body, backend.rules.modules)
    book = await asyncio.to_thread(_book_of, document)
    wanted = Wanted(author_of(asked), chosen.scope_id, begin, end)
    job = backend.jobs.add(wanted, lambda found, progress: _compare(backend, book, wanted, found, progress))
    headers = {"Location": f"/v3/whatif/{job.id}"}
    return Reply(_told(job, None, 100, 0), headers=headers, after={"job_id": job.id})


async def get_whatif(backend: Backend, asked: Asked[ReadJob, None]) -> Reply:
    """GET /v3/whatif/{job_id}."""
    scopes = backend.seen(asked)
    job = _job(backend, asked.parameters.job_id)
    own = job.wanted.scope_id
    if scopes is not None and own is not None and own not in scopes:
        raise _unknown(asked.parameters.job_id)
    chosen = asked.parameters
    return Reply(await asyncio.to_thread(_told, job, scopes, chosen.limit, chosen.offset))


async def cancel_whatif(backend: Backend, asked: Asked[OneJob, None]) -> Reply:
    """DELETE /v3/whatif/{job_id}."""
    backend.policy.authorize(asked.identity, asked.action)
    job = _job(backend, asked.parameters.job_id)
    backend.jobs.forget(job.id)
    return Reply(before={"job_id": job.id, "state": job.state})


def _job(backend: Backend, job_id: str) -> Job:
    job = backend.jobs.get(job_id)
    if job is None:
        raise _unknown(job_id)
    return job


def _unknown(job_id: str) -> RefusalError:
    return RefusalError(404, f"no job {job_id!r} is known here: jobs live in the process that began them")


def _book_of(document: RuleDocument) -> RuleBook:
    """The rules of a document as the book of a new installation."""
    changes = plan(RuleBook.empty(), document)
    if not changes:
        return RuleBook.empty()
    book, outcome = RuleBook.empty().apply(changes.event("what-if", "", 0))
    assert book.version == 1, outcome
    return book


def _compare(backend: Backend, book: RuleBook, wanted: Wanted, found: Comparison, progress: Progress) -> None:
    """Raises StoreError, SandboxError, and whatever ends the job."""
    trials, view = backend.trials, backend.view
    chain = Chain(book, trials.modules(book))
    spans = [
        (scope.scope_id, max(wanted.begin, scope.begin), min(wanted.end, scope.end))
        for scope in view.scopes()
        if wanted.scope_id in (None, scope.scope_id)
    ]
    spans = [(scope_id, begin, end) for scope_id, begin, end in spans if begin < end]
    done, total = 0, sum(-(-(end - begin) // backend.period) for _, begin, end in spans)
    progress(done, total)
    with trials.scripts(book) as scripts:
        # samples are read, and not lines: those of a version of the rules would have to be known
        work = WhatIf(StoredFrames(view, trials.context, lambda _: False), chain, scripts)
        work.found = found
        for scope_id, begin, end in spans:
            for one in work.scope(scope_id, begin, end):
                done += one
                progress(done, total)


def _told(job: Job, scopes: tuple[str, ...] | None, limit: int, offset: int) -> WhatIfJob:
    wanted, found = job.wanted, job.found
    entries = [] if found is None else found.biggest_first()
    seen = [entry for entry in entries if scopes is None or entry.scope_id in scopes]
    sees_all = found is not None and (scopes is None or wanted.scope_id is not None)
    return WhatIfJob(
        job_id=job.id,
        state=job.state,
        scope_id=wanted.scope_id,
        begin=moment(wanted.begin),
        end=moment(wanted.end),
        created_at=job.created_at,
        frames=job.done_frames,
        all_frames=job.all_frames,
        reason=job.reason if scopes is None else "",
        unknown_frames=found.unknown if found is not None and sees_all else None,
        failed_frames=found.failed if found is not None and sees_all else None,
        faults=list(found.faults) if found is not None and sees_all else [],
        differences=[_difference(entry) for entry in seen[offset : offset + limit]],
        more=max(0, len(seen) - offset - limit),
    )


def _difference(entry: Difference) -> PriceDifference:
    return PriceDifference(
        entry.scope_id,
        entry.metric,
        entry.lines,
        entry.changed,
        number_of(entry.old),
        number_of(entry.new),
        number_of(entry.difference),
        entry.newly_unrated,
        entry.newly_rated,
    )


OPERATIONS = (
    Operation(
        "POST",
        "whatif",
        "startWhatIf",
        "Begins to rate stored usage by other rules; nothing of it is kept",
        start_whatif,
        "v3:start_whatif",
        StartWhatIf,
        RawBody,
        WhatIfJob,
        body_forms=(YAML, JSON),
        status=202,
        refusals=(404,),
        answers="The job; header Location says where to look.",
        description=f"The body is a rule document. One job runs at a time, for {MAX_SECONDS:g} s at most; {MAX_JOBS} "
        "run or wait. Jobs live in the process that was asked and are lost with it.",
    ),
    Operation(
        "GET",
        "whatif/{job_id}",
        "getWhatIf",
        "How far a job is, and once it is done what would change",
        get_whatif,
        "v3:get_whatif",
        ReadJob,
        result=WhatIfJob,
    ),
    Operation(
        "DELETE",
        "whatif/{job_id}",
        "cancelWhatIf",
        "Cancels a job, or forgets one that has ended",
        cancel_whatif,
        "v3:cancel_whatif",
        OneJob,
        status=204,
        answers="It is gone.",
    ),
)
