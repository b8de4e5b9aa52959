"""What tests of the sandbox share: small frames, jobs, and a script that must always work."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from rater.model.rules import Script
from rater.rating.frame import Failed, RatingFrame, RatingPoint, ScriptDone, ScriptJob
from rater.sandbox import Sandbox

BEGIN = 1767225600  # 2026-01-01T00:00:00Z
GOOD = "for points in data['usage'].values():\n    for point in points:\n        point['rating']['price'] += 1\n"


def point(number: int, metric: str = "instance", **changed: object) -> RatingPoint:
    fields: dict[str, object] = {
        "metric": metric,
        "unit": "GiB",
        "qty": Decimal("1.5"),
        "price": Decimal("0.25"),
        "groupby": {"project_id": "p", "resource_id": f"i-{number}"},
        "metadata": {"flavor": "m1.tiny", "vcpus": 2, "ratio": 0.5, "public": True, "image": None},
        "origin": number,
    }
    return RatingPoint(**{**fields, **changed})  # type: ignore[arg-type]  # fields of a test, each of its type


def script(text: str, name: str = "bad") -> Script:
    return Script("00000000-0000-4000-8000-000000000000", name, text)


def job(*texts: str, points: Sequence[RatingPoint] = (), names: Sequence[str] = ()) -> ScriptJob:
    """A job of these scripts, named bad, bad2, bad3 unless `names` says otherwise."""
    names = names or ["bad", *(f"bad{number}" for number in range(2, len(texts) + 1))]
    scripts = tuple(script(text, name) for text, name in zip(texts, names, strict=True))
    chosen = tuple(points) or (point(0), point(1, "volume"), point(2))
    return ScriptJob(scripts, RatingFrame("a", BEGIN, BEGIN + 3600, chosen))


def done(sandbox: Sandbox, *texts: str, points: Sequence[RatingPoint] = ()) -> ScriptDone:
    result = sandbox.run(job(*texts, points=points))
    assert isinstance(result, ScriptDone), result
    return result


def failed(sandbox: Sandbox, *texts: str, points: Sequence[RatingPoint] = ()) -> Failed:
    result = sandbox.run(job(*texts, points=points))
    assert isinstance(result, Failed), result
    return result


def assert_works(sandbox: Sandbox) -> None:
    """A good frame is rated right."""
    assert [point.price for point in done(sandbox, GOOD).points] == [Decimal("1.25")] * 3
