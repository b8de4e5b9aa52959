"""Copies a month of CloudKitty's data frames to rater, with the prices that they have: docs/migrate-from-cloudkitty.md.

    CLOUDKITTY=http://controller:8889 RATER=http://127.0.0.1:8890 python examples/copy_frames.py 2025-12

Needs nothing but Python. Tokens, where they are asked for, come from CLOUDKITTY_TOKEN and RATER_TOKEN. Started again it
copies nothing twice: what is posted has a key and an order that are the same each time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

MOST_POINTS = 100_000  # of one answer of CloudKitty
BATCH_POINTS = 1000  # of one post: about 500 kB
SECONDS = 300  # for one answer


def main() -> None:
    """Copies frame by frame, in order of time; ends with the reason if one of the two refuses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("month", help="2025-12, UTC")
    parser.add_argument("--hours", type=int, default=1, help="asked for at once: as many as one answer can hold")
    options = parser.parse_args()
    begin = datetime.strptime(options.month, "%Y-%m").replace(tzinfo=UTC)
    end = (begin + timedelta(days=31)).replace(day=1)
    copied = 0
    while begin < end:
        until = min(begin + timedelta(hours=options.hours), end)
        for key, batch in batches(points_of(begin, until)):
            ask("RATER", "/v2/dataframes", {"dataframes": batch}, key)
            copied += len(batch)
        begin = until
    print(f"{copied} points copied")


def points_of(begin: datetime, end: datetime) -> list[dict[str, Any]]:
    """The points of the periods that begin from `begin` on and before `end`, each as a frame of its own, sorted."""
    query = urllib.parse.urlencode({"begin": begin.isoformat(), "end": end.isoformat(), "limit": MOST_POINTS})
    found = ask("CLOUDKITTY", f"/v2/dataframes?{query}") or {"total": 0, "dataframes": []}
    points = [
        {"period": frame["period"], "usage": {metric: [point]}}
        for frame in found["dataframes"]
        for metric, of_metric in frame["usage"].items()
        for point in of_metric
    ]
    if len(points) != found["total"]:
        sys.exit(f"{begin}: CloudKitty gave {len(points)} of {found['total']} points: ask for fewer --hours at once")
    return sorted(points, key=lambda point: (point["period"]["begin"], json.dumps(point, sort_keys=True)))


def batches(points: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The posts of each period with their keys, the same however many hours were asked for at once."""
    for period, of_period in groupby(points, key=lambda point: point["period"]["begin"]):
        listed = list(of_period)
        for number, begin in enumerate(range(0, len(listed), BATCH_POINTS)):
            yield f"copied-{period}-{number}", listed[begin : begin + BATCH_POINTS]


def ask(side: str, path: str, body: Any = None, key: str = "") -> Any:
    """What the service whose URL is in variable `side` answers; None if it has nothing of that time."""
    headers = {"Content-Type": "application/json", "X-Auth-Token": os.environ.get(f"{side}_TOKEN", "")}
    if key:
        headers["Idempotency-Key"] = key
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ[side].rstrip("/") + path, data, headers)  # noqa: S310 - our own URLs
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310 - the same
            text = answer.read()
    except urllib.error.HTTPError as refused:
        if refused.code == 404 and body is None:
            return None
        sys.exit(f"{side}: {path}: status {refused.code}: {refused.read(500).decode(errors='replace')}")
    return json.loads(text) if text else None


if __name__ == "__main__":
    main()
