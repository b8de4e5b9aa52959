"""CloudEvents attributes (1.0, Kafka binding, binary mode) of the records in `rated` and `alerts`, as record headers.

They are made of the record alone, so a record that is published again has the same ones. The event's data is the
record's value; its `datacontenttype` is the header `content-type` that every record of ours has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b

from rater.model.codec import CONTENT_TYPE, JSON, Headers
from rater.model.posted import PostedLines
from rater.model.rated import Alert, AlertKind, RatedFrame
from rater.model.version import FORMAT_VERSION

__all__ = ["EVENT_SOURCE", "EVENT_TYPES", "event_headers", "with_source"]

EVENT_SOURCE = "ce_source"
_HEAD: Headers = ((CONTENT_TYPE, JSON.encode()), ("ce_specversion", b"1.0"))
_NO_CHARACTERS = "".join(chr(plane * 0x10000 + last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
_NEVER = re.compile(rf"[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef{_NO_CHARACTERS}]")
"""Control characters and non-characters of Unicode: no attribute may have one."""
_YEAR_10000 = 253_402_300_800


def _named(name: str) -> bytes:
    return f"rater.{name}.v{FORMAT_VERSION}".encode()


_FRAME, _POSTED = _named("rated_frame"), _named("posted_lines")
_ALERTS: Mapping[AlertKind, bytes] = {kind: _named(f"alert.{kind.value}") for kind in AlertKind}
EVENT_TYPES = tuple(name.decode() for name in (_FRAME, _POSTED, *_ALERTS.values()))
"""All values of `ce_type`. A new format of records would be of new types."""


def _type(record: RatedFrame | PostedLines | Alert) -> bytes:
    if isinstance(record, Alert):
        return _ALERTS[record.kind]
    return _FRAME if isinstance(record, RatedFrame) else _POSTED


def event_headers(record: RatedFrame | PostedLines | Alert, key: bytes, value: bytes) -> Headers:
    """All headers of a record with its content type, but `ce_source`, which `with_source` adds where it is published.

    `ce_id` is a hash of `value`, the record's bytes: what is told again has the same id, anything else another one.
    `ce_subject` is the key as text, left out if it has characters that an attribute may not have; `ce_time` says when
    the frame was closed or the alert raised. Posted lines have no such time.
    """
    headers = [
        *_HEAD,
        ("ce_id", blake2b(value, digest_size=16).hexdigest().encode()),
        ("ce_type", _type(record)),
    ]
    if key and not _NEVER.search(key.decode()):
        headers.append(("ce_subject", key))
    if not isinstance(record, PostedLines):
        happened_at = record.raised_at if isinstance(record, Alert) else record.closed_at
        if 0 <= happened_at < _YEAR_10000:
            headers.append(("ce_time", _time(happened_at)))
    return tuple(headers)


@lru_cache(maxsize=1024)
def _time(second: int) -> bytes:
    """As RFC 3339. All that is decided at one checkpoint has the same."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()


def with_source(headers: Headers, topic: str) -> Headers:
    """Headers of a record as they go to a topic: with `ce_source`, `/` and the topic's whole name, if it is an event.

    Two installations on one broker have other topics, so (source, id) is unique. What a release without events left in
    its outbox stays as it was.
    """
    is_event = any(name == "ce_id" for name, _ in headers)
    return (*headers, (EVENT_SOURCE, f"/{topic}".encode())) if is_event else headers
