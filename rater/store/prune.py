"""Removes the lines of revisions that a newer one replaced, after the time that readers of them need."""

from __future__ import annotations

from rater.store.client import Store

__all__ = ["delete_superseded"]

BATCH_REVISIONS = 500  # in one DELETE: its parameters travel in a URL, of which a server takes 1 MiB

_SUPERSEDED = """
SELECT toYYYYMM(period_begin) AS month, groupUniqArray((scope_id, toUInt32(period_begin), revision))
FROM lines
INNER JOIN (
    SELECT scope_id, period_begin, revision AS newest FROM frames FINAL
    WHERE revision > 0 AND inserted_at < now() - {older_than:UInt32}
) AS replaced USING (scope_id, period_begin)
WHERE revision < newest
    AND (scope_id, period_begin) IN (
        SELECT scope_id, period_begin FROM frames WHERE revision > 0 AND inserted_at < now() - {older_than:UInt32}
    )
GROUP BY month
ORDER BY month
"""
_DELETE = """
DELETE FROM {lines} IN PARTITION {{month:UInt32}}
WHERE (scope_id, period_begin, revision) IN {{keys:Array(Tuple(String, UInt32, UInt32))}}
"""


def delete_superseded(store: Store, older_than_seconds: int = 3600) -> int:
    """Deletes the lines of every revision that was replaced longer ago than this; how many revisions.

    Readers that fetched the frames before that time find their lines; slower ones repeat. Raises StoreError.
    """
    deleted = 0
    for month, keys in store.rows(_SUPERSEDED, {"older_than": older_than_seconds}):
        for start in range(0, len(keys), BATCH_REVISIONS):
            batch = keys[start : start + BATCH_REVISIONS]
            store.command(_DELETE.format(lines=store.changing("lines")), {"month": month, "keys": batch})
            deleted += len(batch)
    return deleted
