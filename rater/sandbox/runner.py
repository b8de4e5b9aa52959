"""Runs the scripts of a frame and says what became of it: `Sandbox`, which waits for the result.

The process inside is started when it is first needed, again when a script needs a module more than it holds, and
again when it broke off.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from types import TracebackType
from typing import NamedTuple

import msgspec

from rater.model.errors import RejectedError
from rater.model.labels import Labels, check_labels
from rater.model.rules import Script
from rater.rating.frame import Failed, RatingFrame, RatingPoint, ScriptDone, ScriptJob
from rater.rating.pyscripts import imported_modules
from rater.sandbox.endings import by_chance, ended, failure
from rater.sandbox.errors import SandboxError
from rater.sandbox.process import Zygote
from rater.sandbox.settings import SandboxSettings
from rater.sandbox.wire import MAX_JOB, MAX_LABELS, MAX_POINTS, Done, Ending, Fault, OutPoint, Result

__all__ = [
    "NOT_TEXT",
    "Attempt",
    "Change",
    "Changes",
    "Sandbox",
    "check_scripts",
    "encode_job",
    "placed",
    "sort_points",
]

_MAX_EXPONENT = 1000
_TRIES = 2  # of a process that breaks off: another one is started
# They open windows, browsers or terminals, print or install as they are imported.
_DENIED = """
antigravity curses ensurepip idlelib lib2to3 pip pty readline rlcompleter site test this tkinter turtle turtledemo venv
webbrowser
"""
_STANDARD = sys.stdlib_module_names - set(_DENIED.split())
_encode = msgspec.msgpack.Encoder(decimal_format="string").encode
_decode = msgspec.msgpack.Decoder(Result).decode


class Change(msgspec.Struct, frozen=True, gc=False):
    """What became of the point at `index` of the sorted points. None is unchanged."""

    index: int
    metric: str
    unit: str | None
    qty: Decimal | None
    price: Decimal | None
    groupby: Labels | None
    metadata: Labels | None


class Changes(msgspec.Struct, frozen=True):
    """What scripts did to a frame. It holds nothing of that frame: equal jobs have equal changes, whoever asks."""

    rows: list[Change | RatingPoint]
    """A whole point is one that a script added."""
    printed: str = ""


class Attempt(NamedTuple):
    """The outcome of one run."""

    outcome: Changes | Failed
    by_chance: bool
    """It failed by what may be otherwise another time: a limit of time on a machine under load, a broken process."""


NOT_TEXT = failure("", 0, "a script or a label holds half of a surrogate pair, which is no character")


def _refused(reason: str) -> Attempt:
    return Attempt(failure("", 0, reason), by_chance=False)


class Sandbox:
    """Runs scripts one frame at a time and waits for the result; for use by several threads, which then take turns."""

    def __init__(self, settings: SandboxSettings | None = None) -> None:
        self._settings = settings or SandboxSettings()
        self._lock = threading.Lock()
        self._zygote: Zygote | None = None
        self._modules: set[str] = set(self._settings.modules)
        self._seen: dict[str, frozenset[str]] = {}
        self._closed = False

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process inside, and a job that runs. Later jobs fail."""
        self._closed = True
        zygote = self._zygote
        if zygote is not None:
            zygote.interrupt()
        with self._lock:
            self._end()

    def run(self, job: ScriptJob) -> ScriptDone | Failed:
        """What became of the job. It takes at most the wall time of the settings, and a start of the process."""
        sources = sort_points(job.frame)
        try:
            message = encode_job(job, sources)
        except UnicodeEncodeError:
            return NOT_TEXT
        return placed(self.attempt(job.scripts, len(sources), message).outcome, sources)

    def attempt(self, scripts: Sequence[Script], count: int, message: bytes) -> Attempt:
        """`run` of a job of so many points that was sorted and encoded before; `placed` makes points of it."""
        ending = self._ending(scripts, message)
        if isinstance(ending, Attempt):
            return ending
        outcome = _judged(scripts, count, ending, self._settings)
        return Attempt(outcome, by_chance=ending.result is None and by_chance(ending, self._settings))

    def check(self, scripts: Iterable[Script]) -> list[Failed]:
        """The scripts that do not compile. Compiled inside, where one that is made to harm the compiler does none."""
        found = []
        for script in scripts:
            try:
                message = _encode((((script.name, script.data),), 0, 0, None))
            except UnicodeEncodeError:
                found.append(NOT_TEXT)
                continue
            outcome = self.attempt((script,), 0, message).outcome
            if isinstance(outcome, Failed):
                found.append(outcome)
        return found

    def layers(self) -> list[str]:
        """What holds scripts on this machine, in words. Raises SandboxError if the process does not start."""
        with self._lock:
            return list(self._started(frozenset()).ready.layers)

    def process_id(self) -> int:
        """Of the process inside; 0 if there is none. For measurements."""
        zygote = self._zygote
        return zygote.process_id if zygote is not None else 0

    def _ending(self, scripts: Sequence[Script], message: bytes) -> Ending | Attempt:
        if len(message) > MAX_JOB:
            return _refused(f"the frame has {len(message)} bytes: scripts take {MAX_JOB}")
        fault = ""
        with self._lock:
            needed = self._needed(scripts)
            for _ in range(_TRIES):
                if self._closed:
                    return _refused("the sandbox is closed")
                try:
                    zygote = self._started(needed)
                    if zygote.ready.fault:
                        return _refused(_uncontained(zygote.ready.fault))
                    return zygote.run(message)
                except (SandboxError, OSError) as broken:
                    fault = str(broken)
                    self._end()
        return Attempt(failure("", 0, fault), by_chance=True)

    def _needed(self, scripts: Sequence[Script]) -> frozenset[str]:
        """Modules of the standard library that the scripts import."""
        if len(self._seen) > len(scripts) + 1000:
            self._seen.clear()
        for script in scripts:
            if script.data not in self._seen:
                self._seen[script.data] = frozenset(
                    name for name in imported_modules(script.data) if name.split(".")[0] in _STANDARD
                )
        return frozenset().union(*(self._seen[script.data] for script in scripts))

    def _started(self, needed: frozenset[str]) -> Zygote:
        if self._zygote is not None and not needed <= self._modules:
            self._end()
        self._modules |= needed
        if self._zygote is None:
            self._zygote = Zygote(self._settings, sorted(self._modules))
        return self._zygote

    def _end(self) -> None:
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None


def check_scripts(scripts: Iterable[Script], settings: SandboxSettings | None = None) -> list[Failed]:
    """The scripts that do not compile, each with its line; a sandbox is started for that and ended."""
    with Sandbox(settings) as sandbox:
        return sandbox.check(scripts)


def sort_points(frame: RatingFrame) -> list[RatingPoint]:
    """The points by metric, as scripts see them; within a metric in their order."""
    return sorted(frame.points, key=lambda point: point.metric)


def encode_job(job: ScriptJob, sources: Sequence[RatingPoint]) -> bytes:
    """The job as the process inside is given it; equal jobs are equal bytes. Raises UnicodeEncodeError."""
    usage: dict[str, list[object]] = {}
    for number, point in enumerate(sources):
        row = (number, point.unit, point.qty, point.price, (point.groupby, point.metadata))
        try:
            usage[point.metric].append(row)
        except KeyError:
            usage[point.metric] = [row]
    scripts = [(script.name, script.data) for script in job.scripts]
    return _encode((scripts, job.frame.period_begin, job.frame.period_end, list(usage.items())))


def placed(outcome: Changes | Failed, sources: Sequence[RatingPoint]) -> ScriptDone | Failed:
    """The outcome for the frame of these sorted points: what did not change is theirs, the objects and the origins."""
    if isinstance(outcome, Failed):
        return outcome
    points: list[RatingPoint] = []
    for row in outcome.rows:
        if isinstance(row, RatingPoint):
            points.append(row)
            continue
        source, unit, qty, price = sources[row.index], row.unit, row.qty, row.price
        groupby, metadata = row.groupby, row.metadata
        points.append(
            RatingPoint(
                row.metric,
                source.unit if unit is None else unit,
                source.qty if qty is None else qty,
                source.price if price is None else price,
                source.groupby if groupby is None else groupby,
                source.metadata if metadata is None else metadata,
                source.origin,
            )
        )
    return ScriptDone(points, outcome.printed)


def _uncontained(fault: str) -> str:
    return (
        f"this system cannot contain scripts: {fault}. None is run; set scripts.containment to best_effort "
        "in rater.yaml to run them with limits alone"
    )


def _judged(scripts: Sequence[Script], count: int, ending: Ending, settings: SandboxSettings) -> Changes | Failed:
    names = [script.name for script in scripts]
    if ending.result is None:
        return ended(names, ending, settings)
    try:
        result = _decode(ending.result)
        if isinstance(result, Fault):
            name = names[result.script] if 0 <= result.script < len(names) else ""
            return failure(name, result.line, result.reason)
        rows = _rows(count, result)
    except (msgspec.DecodeError, RejectedError, InvalidOperation, RecursionError, _NonsenseError) as fault:
        last = names[ending.parting.script] if 0 <= ending.parting.script < len(names) else ""
        return failure(last, 0, f"gives back nonsense: {fault}")
    return Changes(rows, ending.printed.decode(errors="replace"))


class _NonsenseError(Exception):
    """A result that the process inside does not write unless a script made it."""


def _rows(count: int, result: Done) -> list[Change | RatingPoint]:
    """The rows of a result for a job of so many points, each checked."""
    rows: list[Change | RatingPoint] = []
    taken = bytearray(count)
    for metric, points in result.usage:
        if len(rows) + len(points) > MAX_POINTS:
            raise _NonsenseError(f"more than {MAX_POINTS} points")
        for place, point in enumerate(points, 1):
            index = point.index
            if index < 0:
                rows.append(_added(metric, place, point))
                continue
            if index >= count or taken[index]:
                raise _NonsenseError(f"point {index} that was not in the frame, or is there twice")
            taken[index] = 1
            qty, price, labels = point.qty, point.price, point.labels
            groupby, metadata = (None, None) if labels is None else _labels(metric, place, labels)
            rows.append(
                Change(
                    index,
                    metric,
                    point.unit,
                    None if qty is None else _number(qty),
                    None if price is None else _number(price),
                    groupby,
                    metadata,
                )
            )
    return rows


def _added(metric: str, place: int, point: OutPoint) -> RatingPoint:
    if point.unit is None or point.qty is None or point.price is None or point.labels is None:
        raise _NonsenseError("an added point that is not whole")
    groupby, metadata = _labels(metric, place, point.labels)
    return RatingPoint(metric, point.unit, _number(point.qty), _number(point.price), groupby, metadata, -1)


def _labels(metric: str, place: int, labels: tuple[Labels, Labels]) -> tuple[Labels, Labels]:
    """Checked, by the same limit as inside."""
    check_labels(labels[0])
    check_labels(labels[1])
    size = len(_encode(labels))
    if size > MAX_LABELS:
        raise _NonsenseError(f"metric {metric!r}, point {place}: its labels have {size} bytes, more than {MAX_LABELS}")
    return labels


def _number(text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite() or not -_MAX_EXPONENT < number.adjusted() < _MAX_EXPONENT:
        raise _NonsenseError(f"the number {text}")
    return number
