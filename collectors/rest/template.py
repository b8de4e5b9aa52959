"""URL and body of a request with places for what is asked: `{scope}`, `{metric}`, `{begin}`, `{end}`.

Times have a format after a colon, `{begin:seconds}`; alone they stand for RFC 3339. Other braces stay as they are, so a
GraphQL query can stand in a body.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

__all__ = ["TIME_FORMATS", "Asked", "body_faults", "fill_body", "fill_url", "names", "url_faults"]

TIME_FORMATS = ("rfc3339", "utc", "seconds", "milliseconds")
"""`2026-01-01T00:00:00Z`, the same without an offset, and time since the epoch in two units."""
_PLACEHOLDER = re.compile(r"\{(\w+)(?::(\w+))?\}")
_TEXTS = ("scope", "metric")
_TIMES = ("begin", "end")


class Asked(msgspec.Struct, frozen=True):
    """What one request asks for; times in seconds since the epoch. `metric` is what metrics.yml calls it."""

    begin: int
    end: int
    scope_id: str = ""
    metric: str = ""


def names(*templates: Any) -> set[str]:
    """The names of all placeholders in URLs and bodies."""
    return {match.group(1) for text in templates for one in _texts(text) for match in _PLACEHOLDER.finditer(one)}


def url_faults(template: str, known: tuple[str, ...] = (*_TEXTS, *_TIMES)) -> list[str]:
    """What is wrong with the template of a URL, in words."""
    faults = _faults(template, known)
    plain = _PLACEHOLDER.sub("", template)
    try:
        host = urlsplit(template).netloc
        _ = urlsplit(plain).port
    except ValueError as fault:
        return [*faults, f"is no URL: {fault}"]
    if "{" in plain or "}" in plain:
        faults.append("has a brace that belongs to no placeholder: write it as %7B or %7D")
    if template and ("{" in host or not host):
        faults.append("needs a fixed host: placeholders may stand in path and query")
    if "#" in template:
        faults.append("has a fragment (#), which is never sent")
    return faults


def body_faults(template: Any, known: tuple[str, ...] = (*_TEXTS, *_TIMES)) -> list[str]:
    """What is wrong with the template of a body, in words."""
    return [fault for text in _texts(template) for fault in _faults(text, known)]


def fill_url(template: str, asked: Asked) -> str:
    """The URL, with every value percent-encoded. Raises ValueError for a scope that a path cannot name."""
    path, _, _ = template.partition("?")
    for name, value in (("scope", asked.scope_id), ("metric", asked.metric)):
        if f"{{{name}}}" in path and value in ("", ".", ".."):
            raise ValueError(f"{name} {value!r} cannot stand in the path of a URL")
    return _PLACEHOLDER.sub(lambda match: quote(str(_value(match, asked)), safe=""), template)


def fill_body(template: Any, asked: Asked) -> Any:
    """The body. A text that is nothing but a placeholder for seconds or milliseconds becomes a number."""
    if isinstance(template, dict):
        return {key: fill_body(value, asked) for key, value in template.items()}
    if isinstance(template, list):
        return [fill_body(value, asked) for value in template]
    if not isinstance(template, str):
        return template
    whole = _PLACEHOLDER.fullmatch(template)
    return _value(whole, asked) if whole else _PLACEHOLDER.sub(lambda match: str(_value(match, asked)), template)


def _value(match: re.Match[str], asked: Asked) -> str | int:
    name, form = match.group(1), match.group(2) or "rfc3339"
    if name in _TEXTS:
        return asked.scope_id if name == "scope" else asked.metric
    instant = asked.begin if name == "begin" else asked.end
    match form:
        case "seconds":
            return instant
        case "milliseconds":
            return instant * 1000
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%S" + ("Z" if form == "rfc3339" else ""))


def _faults(text: str, known: tuple[str, ...]) -> list[str]:
    faults = []
    for match in _PLACEHOLDER.finditer(text):
        name, form = match.groups()
        if name not in known:
            use = ", ".join(f"{{{one}}}" for one in known) or "none here"
            faults.append(f"{match.group()} is no placeholder: use {use}")
        elif form is not None and (name not in _TIMES or form not in TIME_FORMATS):
            faults.append(f"{match.group()} has no such format: times take {', '.join(TIME_FORMATS)}, others none")
    return faults


def _texts(template: Any) -> list[str]:
    """Every text of a template, but not the names of its members."""
    if isinstance(template, dict):
        template = list(template.values())
    if isinstance(template, list):
        return [text for value in template for text in _texts(value)]
    return [template] if isinstance(template, str) else []
