"""Lines: pages from a place on, and exports as files that are made while they are sent."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from rater.api.v3.operations import (
    CSV,
    MAX_EXPORTS,
    NDJSON,
    Asked,
    Backend,
    Operation,
    Reply,
    has_frames,
    unknown_scope,
)
from rater.api.v3.values import (
    Amount,
    CursorText,
    Limit,
    MetricName,
    ScopeId,
    Time,
    check_range,
    cursor_of,
    moment,
    own_scopes,
    read_cursor,
    refused,
)
from rater.reports import (
    Attribute,
    Choice,
    Condition,
    ExportForm,
    Kind,
    LineKey,
    LinePage,
    LinePageRequest,
    LineRow,
    ListedLine,
    line_chunks,
    plain_text,
)

__all__ = ["OPERATIONS"]

PARQUET = "application/vnd.apache.parquet"
FORMS: dict[str, ExportForm] = {NDJSON: "jsonl", CSV: "csv", PARQUET: "parquet"}
EXPORT_PAGE = 10_000  # lines, about 10 MB
MAX_LABELS = 20
_GZIP = 31  # zlib's number for its own window and gzip's head

Label = Annotated[str, Meta(min_length=1, max_length=1000, description="`name=value`", examples=["flavor=m1.tiny"])]


class ChooseLines(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines."""

    scope_id: ScopeId | None = None
    begin: Annotated[Time, Meta(description="lines that begin then or later")] | None = None
    end: Annotated[Time, Meta(description="and before that")] | None = None
    metric: list[MetricName] = []
    label: list[Label] = []
    """Values of one name are alternatives; of several names each has to fit. Looked for in `groupby` and `metadata`."""


class ListLines(ChooseLines, frozen=True, kw_only=True):
    """Which lines, and how many of them."""

    limit: Limit = 100
    cursor: CursorText = ""


class ExportLines(ChooseLines, frozen=True, kw_only=True):
    """Which lines, and whether they are compressed."""

    accept_encoding: Annotated[
        str, Meta(extra={"in": "header"}, max_length=1000, description="`gzip` compresses it")
    ] = msgspec.field(default="", name="Accept-Encoding")


class Line(msgspec.Struct, frozen=True):
    """One resource in one period, rated; in the newest revision of its frame."""

    scope_id: str
    begin: datetime
    end: datetime
    revision: int
    metric: str
    line_id: str
    """The same in every period and revision."""
    qty: Amount
    price: Amount
    unit: str
    groupby: dict[str, str]
    metadata: dict[str, str]
    rule_version: int
    posted: bool
    """It brought its price: it is of no frame, and its times are its own."""


class LinesPage(msgspec.Struct, frozen=True):
    """Lines by scope, begin, metric and line id."""

    items: list[Line]
    next: str = ""
    """The cursor of what follows; empty at the end."""


async def list_lines(backend: Backend, asked: Asked[ListLines, None]) -> Reply:
    """GET /v3/lines."""
    after = read_cursor(asked.parameters.cursor, LineKey)
    request = _request(backend, asked, asked.parameters.limit, after)
    page: LinePage = await backend.read(lambda: backend.view.line_page(request))
    if not page.rows:
        await _check_scope(backend, asked)
    return Reply(LinesPage([_line(row) for row in page.rows], cursor_of(page.next) if page.next else ""))


async def export_lines(backend: Backend, asked: Asked[ExportLines, None]) -> Reply:
    """GET /v3/lines/export."""
    request = _request(backend, asked, EXPORT_PAGE, None)
    await _check_scope(backend, asked)
    is_gzip = _takes_gzip(asked.parameters.accept_encoding)
    headers = {"Vary": "Accept, Accept-Encoding", **({"Content-Encoding": "gzip"} if is_gzip else {})}
    return Reply(chunks=_Export(backend, request, FORMS[asked.form], is_gzip), headers=headers)


def _request(
    backend: Backend, asked: Asked[ListLines, None] | Asked[ExportLines, None], limit: int, after: LineKey | None
) -> LinePageRequest:
    """Raises RefusalError: 403, 404 for a scope of somebody else's, 422."""
    chosen = asked.parameters
    begin, end = check_range(chosen.begin, chosen.end)
    conditions = _conditions(chosen)
    scopes = backend.seen(asked)
    if chosen.scope_id is not None:
        if scopes is not None and chosen.scope_id not in scopes:
            raise unknown_scope(chosen.scope_id)
        scopes = (chosen.scope_id,)
    return LinePageRequest(Choice(begin, end, conditions), limit, own_scopes(scopes), after)


async def _check_scope(backend: Backend, asked: Asked[ListLines, None] | Asked[ExportLines, None]) -> None:
    """Raises RefusalError 404 for a scope of which there is nothing at all."""
    scope_id = asked.parameters.scope_id
    if scope_id is None:
        return
    anything = LinePageRequest(Choice(0, 2**32 - 1), 1, (scope_id,))
    if not await backend.read(
        lambda: has_frames(backend.view, scope_id) or backend.view.line_page(anything).rows  # posted ones
    ):
        raise unknown_scope(scope_id)


def _conditions(chosen: ChooseLines) -> tuple[Condition, ...]:
    labels: dict[str, list[str]] = {}
    for number, label in enumerate(chosen.label):
        name, separator, value = label.partition("=")
        if not separator or not name:
            raise refused(f"query.label[{number}]", "has no name before a =")
        labels.setdefault(name, []).append(value)
    if len(labels) > MAX_LABELS:
        raise refused("query.label", f"names {len(labels)} labels, at most {MAX_LABELS} are taken")
    metrics = (Condition(Attribute(Kind.METRIC), tuple(chosen.metric)),) if chosen.metric else ()
    return (*metrics, *(Condition(Attribute(Kind.LABEL, name), tuple(values)) for name, values in labels.items()))


def _line(row: ListedLine) -> Line:
    line = row.line
    return Line(
        scope_id=line.scope_id,
        begin=moment(line.period_begin),
        end=moment(row.period_end),
        revision=line.revision,
        metric=line.metric,
        line_id=line.line_id,
        qty=plain_text(line.qty),
        price=plain_text(line.price),
        unit=line.unit,
        groupby=line.groupby,
        metadata=line.metadata,
        rule_version=line.rule_version,
        posted=row.posted,
    )


class _Export(Iterator[bytes]):
    """The bytes of an export, page by page: a slow reader keeps no answer of the store open."""

    def __init__(self, backend: Backend, request: LinePageRequest, form: ExportForm, is_gzip: bool) -> None:
        """Raises RefusalError 429."""
        backend.exports.take()
        self._exports, self._is_open = backend.exports, True
        chunks = line_chunks(form, _pages(backend, request))
        self._chunks = _gzipped(chunks) if is_gzip else chunks

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """Makes room for another one."""
        if self._is_open:
            self._is_open = False
            self._exports.give()


def _pages(backend: Backend, request: LinePageRequest) -> Iterator[list[LineRow]]:
    """Raises StoreError."""
    while True:
        page = backend.view.line_page(request)
        yield [row.line for row in page.rows]
        if page.next is None:
            return
        request = msgspec.structs.replace(request, after=page.next)


def _gzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    stream = zlib.compressobj(level=1, wbits=_GZIP)  # a higher one takes longer than the store
    for chunk in chunks:
        if part := stream.compress(chunk):
            yield part
    yield stream.flush()


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.lower().split(","):
        coding, _, parameter = part.partition(";")
        if coding.strip() == "gzip":
            return parameter.replace(" ", "").rstrip("0").rstrip(".") != "q="
    return False


_LIMITS = (
    "Cursors stay where they are while lines arrive and frames are rated again. Where few lines are chosen among many, "
    "an answer may have less than `limit`, even none, and a `next` all the same."
)
OPERATIONS = (
    Operation(
        "GET",
        "lines",
        "listLines",
        "Rated and posted lines, by scope, begin, metric and line id",
        list_lines,
        "v3:get_lines",
        ListLines,
        result=LinesPage,
        description=f"Of all scopes that you may see, or of one. {_LIMITS}",
        refusals=(404,),
    ),
    Operation(
        "GET",
        "lines/export",
        "exportLines",
        "Lines as a file, in the form of `rater export lines`",
        export_lines,
        "v3:get_lines",
        ExportLines,
        result=Line,
        forms=tuple(FORMS),
        answers="A stream; an answer that ends without the end of its chunks is not whole.",
        description="What is rated meanwhile may be in it or not. An export that breaks off cannot be resumed: ask for "
        f"parts of the time, or use pages. At most {MAX_EXPORTS} are made at the same time.",
        refusals=(404,),
    ),
)
