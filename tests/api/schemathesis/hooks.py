"""What Schemathesis is told beside its configuration. Runs in the venv that `make tools` makes of client.lock."""

from __future__ import annotations

from zlib import crc32

import requests
import schemathesis

LONGEST = 8_000
"""Bytes of path and query. A line of more than 8190 is refused by aiohttp's parser, in plain text, before our code."""
RULES = {
    "modules": {"hashmap": {"enabled": True, "priority": 1}},
    "hashmap": {"services": [{"name": "cpu", "mappings": [{"cost": "0.25", "type": "flat"}]}]},
}
COLLECTION = {
    "scope_id": "A",
    "metric": "cpu",
    "begin": "2026-01-01T05:00:00Z",
    "end": "2026-01-01T06:00:00Z",
    "attempt": 1,
    "covers": [["2026-01-01T05:00:00Z", "2026-01-01T06:00:00Z"]],
    "samples": [{"begin": "2026-01-01T05:00:00Z", "qty": "1.5", "groupby": {"id": "vm"}}],
}
SOUND = {"putRules": RULES, "startWhatIf": RULES, "pushUsage": {"source": "meter", "collections": [COLLECTION]}}


@schemathesis.hook
def map_case(context: schemathesis.HookContext, case: schemathesis.Case) -> schemathesis.Case:
    """Gives half of the sound requests with a large body one that makes sense: what is made up never does."""
    body = SOUND.get(case.operation.definition.raw.get("operationId"))
    made_up = repr((case.query, case.headers, case.body))
    if body is not None and case.meta.generation.mode.is_positive and crc32(made_up.encode()) % 2:
        case.body = body
        case.headers.pop("Content-Encoding", None)  # no codings are made, only their names
        if body is RULES:
            case.headers["If-Match"] = "*"
    return case


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """Leaves out what never comes as far as our code."""
    sent = case.as_transport_kwargs(base_url="http://rater")
    url = requests.Request(sent["method"], sent["url"], params=sent.get("params")).prepare().path_url
    return len(url) <= LONGEST
