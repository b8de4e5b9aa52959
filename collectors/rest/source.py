"""The source REST: any JSON or CSV endpoint, by configuration alone. What its answers prove, the settings name."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any, NamedTuple

import msgspec

from collectors.bounded import remembered
from collectors.checking import Advance, Code, Finding, MetricFacts, SourceFacts, retention_findings, start_remarks
from collectors.errors import SettingsError
from collectors.metrics_yml import Metric
from collectors.rest.answer import Expression, Page
from collectors.rest.api import RestApi, aside, origin
from collectors.rest.items import ItemReader, Read
from collectors.rest.proof import Proof
from collectors.rest.settings import RestSettings, expression_faults
from collectors.rest.template import Asked, body_faults, names, url_faults
from collectors.settings import EvidenceSettings
from collectors.source import Answer, PeriodSession, Source, SourceContext
from rater.model.document import Node, Problems, plain
from rater.model.interval import Interval

__all__ = ["Factory", "RestArgs", "RestSource"]

_KEY = "collect.rest"
_EXPRESSIONS = ("items", "only", "quantity", "time", "until")
_MAX_EXPRESSION = 2000
_MAX_URL = 4000


class RestArgs(msgspec.Struct, frozen=True):
    """`extra_args` of a metric that is collected by REST: each in place of the setting of that name."""

    url: str = ""
    body: Any = None
    items: str = ""
    only: str = ""
    quantity: str = ""
    time: str = ""
    until: str = ""
    labels: dict[str, str] = {}


class _Question(NamedTuple):
    """What is asked for one metric, and how its answer is read."""

    url: str
    body: Any
    items: Expression
    reader: ItemReader

    def key(self, metric: Metric) -> tuple[str, str, str, str]:
        """What two questions have in common that one answer serves, within a period and without a scope."""
        named = metric.metric if "metric" in names(self.url, self.body) else ""
        return self.url, json.dumps(self.body, sort_keys=True), self.items.text, named


class RestSource:
    """One REST endpoint, or several of one server."""

    def __init__(self, context: SourceContext) -> None:
        """Raises SettingsError if a setting is missing, or a file cannot be used."""
        self._settings = context.settings.rest
        self._scope_key = context.settings.scope_key
        self._numbers = context.settings.numbers
        self._evidence = context.settings.completeness.metrics
        self.api = RestApi(self._settings, _KEY, context.settings.concurrency)
        self.proof = Proof(self._settings.proof, self._settings.time_format, f"{_KEY}.proof")
        self._questions = {metric.name: self._question(metric) for metric in context.metrics}

    async def close(self) -> None:
        """Close the connections."""
        await self.api.close()

    @property
    def queries(self) -> int:
        """Requests sent so far."""
        return self.api.queries

    async def check(self, now: int, reach_seconds: int) -> list[str]:
        """Whether we are let in and the source keeps usage long enough, as far as the settings say.

        Returns remarks. Raises UnfitSourceError, SourceError if it cannot be asked.
        """
        facts = await self.examine(now, reach_seconds, lambda _done, _total: None, deep=False)
        return start_remarks(("", finding) for finding in facts.findings)

    async def examine(self, now: int, reach_seconds: int, advance: Advance, *, deep: bool) -> SourceFacts:
        """What the settings say; usage itself is known only by a sample. An `ExaminedSource`.

        Raises SourceError if we are not let in.
        """
        await self.api.log_in()
        settings = self._settings
        findings = self._kept(reach_seconds)
        if settings.proof.is_none:
            what = f"{_KEY}.proof is not set: nothing proves that answers are complete, so all coverage is weak"
            findings.append(Finding(Code.WEAK, "warn", what))
        if settings.insecure:
            what = f"{_KEY}.insecure is set: whoever answers is believed to be the server"
            findings.append(Finding(Code.SOURCE, "warn", what))
        metrics = {name: MetricFacts(granularity=self._declared(name)) for name in self._questions}
        return SourceFacts(origin(settings.url), metrics, settings.retention or None, findings=tuple(findings))

    def _kept(self, reach_seconds: int) -> list[Finding]:
        if not self._settings.retention:
            what = f"{_KEY}.retention is not set: for how long the source keeps usage is not known"
            todo = f"see that it is {reach_seconds} s at least, and set it"
            return [Finding(Code.RETENTION_UNKNOWN, "warn", what, todo)]
        todo = "lower engine.wait_periods or engine.late_horizon_periods"
        return retention_findings(f"{_KEY}.retention", self._settings.retention, reach_seconds, "is", todo)

    def _declared(self, name: str) -> float | None:
        """Seconds between two samples at the source, if the settings say so."""
        interval = self._evidence.get(name, EvidenceSettings()).interval
        return None if interval is None else float(interval)

    async def oldest(self, now: int) -> int:
        """The instant from which on the source keeps usage; 0 if the settings do not say."""
        retention = self._settings.retention
        return max(0, now - retention) if retention else 0

    def session(self, period: Interval, now: int) -> PeriodSession:
        """A session for a period that is over."""
        return _Session(self, period)

    def question(self, metric: Metric) -> _Question:
        """What is asked for a metric. Raises SettingsError."""
        return self._questions.get(metric.name) or self._question(metric)

    def _question(self, metric: Metric) -> _Question:
        settings, args = self._settings, metric.extra_args
        assert isinstance(args, RestArgs), "metrics.yml was read for REST"
        key = f"extra_args of metric {metric.name!r}"
        if args.url and origin(args.url) != origin(settings.url):
            raise SettingsError(f"{key}: url leads to another server than {_KEY}.url, which has other credentials")
        if args.body is not None and settings.method != "POST":
            raise SettingsError(f"{key}: body belongs to {_KEY}.method POST")
        if (args.until or settings.until) and not (args.time or settings.time):
            raise SettingsError(f"{key}: until needs time, the begin of that stretch")
        url, body = args.url or settings.url, args.body if args.body is not None else settings.body
        found = {name: _expression(settings, args, name) for name in _EXPRESSIONS}
        items, amount = found["items"], found["quantity"]
        assert items is not None, "it has a default"
        assert amount is not None, "the settings were checked"
        labels = {name: Expression(f"labels.{name}", text) for name, text in {**settings.labels, **args.labels}.items()}
        reader = ItemReader(
            metric,
            self._scope_key,
            self._numbers,
            settings.time_format,
            amount,
            found["only"],
            found["time"],
            found["until"],
            labels,
            "scope" in names(url, body),
        )
        return _Question(url, body, items, reader)


class _Session:
    """One period. What is asked without a scope is asked once for all of them, and for all metrics it does not name."""

    def __init__(self, source: RestSource, period: Interval) -> None:
        self._source = source
        self._period = period
        self._shares: dict[str, dict[str, list[Any]]] = {}
        self._shared: dict[tuple[str, str, str, str], asyncio.Future[list[Page]]] = {}

    async def collect(self, scope_id: str, metric: Metric) -> Answer:
        """All items of the scope, and what of the period they prove. Raises SourceError."""
        question = self._source.question(metric)
        pages = await self._pages(question, scope_id, metric)
        verdict = self._source.proof.of(self._period, pages)
        read = await aside(_size(pages), partial(self._read, question, pages, scope_id, metric))
        note = "; ".join(filter(None, [verdict.note, _outside(read)]))
        return Answer(verdict.covers, verdict.proof, read.series, read.samples, read.quarantined, note)

    def _read(self, question: _Question, pages: list[Page], scope_id: str, metric: Metric) -> Read:
        """The items of a scope. Of an answer that many scopes share, each metric is divided up once."""
        shares = self._shares.get(metric.name)
        if shares is None:
            shares = question.reader.shares(item for page in pages for item in page.items)
            if not question.reader.is_scoped:
                self._shares[metric.name] = shares
        return question.reader.read(shares, scope_id, self._period)

    async def _pages(self, question: _Question, scope_id: str, metric: Metric) -> list[Page]:
        asked = Asked(self._period.begin, self._period.end, scope_id, metric.metric)
        ask = partial(self._source.api.pages, question.url, question.body, asked, question.items)
        if question.reader.is_scoped:
            return await ask()
        key = question.key(metric)
        if key not in self._shared:
            self._shared[key] = remembered(ask())
        return await asyncio.shield(self._shared[key])


def _size(pages: list[Page]) -> int:
    return sum(len(page.items) for page in pages)


def _outside(read: Read) -> str:
    return f"{read.outside} items of other periods were passed over" if read.outside else ""


def _expression(settings: RestSettings, args: RestArgs, name: str) -> Expression | None:
    own, general = getattr(args, name), getattr(settings, name)
    if own:
        return Expression(f"extra_args.{name}", own)
    return Expression(f"{_KEY}.{name}", general) if general else None


class Factory:
    """The entry point `rest` of group `rater.sources`."""

    @staticmethod
    def read_extra_args(problems: Problems, node: Node | None) -> object:
        """The `extra_args` of a metric: settings of `collect.rest` that differ for it."""
        if node is None or node.kind == "null":
            return RestArgs()
        members = problems.members(node, RestArgs.__struct_fields__)
        read: dict[str, Any] = {}
        for name in ("url", *_EXPRESSIONS):
            if name in members:
                read[name] = _text(problems, members[name], name)
        if "body" in members:
            read["body"] = plain(members["body"])
            _note(problems, members["body"], body_faults(read["body"]))
        if "labels" in members:
            read["labels"] = _labels(problems, members["labels"])
        return RestArgs(**read)

    @staticmethod
    def build(context: SourceContext) -> Source:
        """The source. Raises SettingsError."""
        return RestSource(context)


def _text(problems: Problems, node: Node, name: str) -> str:
    """A URL or an expression of `extra_args`; '' after a fault."""
    text = problems.text(node, _MAX_URL if name == "url" else _MAX_EXPRESSION)
    if text is None:
        return ""
    if name != "url":
        _note(problems, node, expression_faults(name, text))
    elif not text.startswith(("http://", "https://")) or "@" in text or any(one.isspace() for one in text):
        problems.add(node, "expected a URL that begins with http:// or https://, without credentials and blanks")
    else:
        _note(problems, node, url_faults(text))
    return text


def _labels(problems: Problems, node: Node) -> dict[str, str]:
    if node.kind != "map":
        problems.add(node, "expected a mapping from labels to expressions")
        return {}
    return {key.text: _text(problems, value, f"labels.{key.text}") for key, value in node.entries}


def _note(problems: Problems, node: Node, faults: list[str]) -> None:
    for fault in faults:
        problems.add(node, fault)
