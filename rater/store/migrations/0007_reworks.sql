-- What a revision says, as a digest, and the rework that made it: a frame is rated again from what is said here, long
-- after the engine has forgotten it. Both are empty for revisions from before this migration.
ALTER TABLE frames ADD COLUMN IF NOT EXISTS digest String DEFAULT '' CODEC(ZSTD(1)) AFTER failure;
ALTER TABLE frames ADD COLUMN IF NOT EXISTS rework_id String DEFAULT '' CODEC(ZSTD(1)) AFTER digest;

-- One row per frame of a rework: who wanted it rated again, why, and what came of it. Read it with FINAL.
--
-- Made of the alerts rework_done, rework_refused and rework_abandoned, in whatever order and however often they arrive.
-- A frame of a rework has one of them; should a repeated request have been refused as well, the row with the greatest
-- `rank` stays: done or unchanged (3) before abandoned (2) before refused (1).
-- `revision` is that of the base where nothing was changed. Totals are those of the base and of the new revision.
CREATE TABLE IF NOT EXISTS reworks (
    scope_id LowCardinality(String),
    period_begin DateTime('UTC'),
    rework_id String,
    kind LowCardinality(String),
    author LowCardinality(String),
    requested String CODEC(ZSTD(1)),
    outcome LowCardinality(String),
    base_revision UInt32,
    revision UInt32,
    rule_version_before UInt32,
    rule_version_after UInt32,
    before Nested(
        metric LowCardinality(String),
        unit LowCardinality(String),
        qty Decimal(76, 38),
        price Decimal(76, 38),
        n UInt32
    ),
    after Nested(
        metric LowCardinality(String),
        unit LowCardinality(String),
        qty Decimal(76, 38),
        price Decimal(76, 38),
        n UInt32
    ),
    raised_at DateTime('UTC'),
    reason String CODEC(ZSTD(1)),
    rank UInt8
)
ENGINE = ReplacingMergeTree(rank)
ORDER BY (scope_id, period_begin, rework_id)
SETTINGS non_replicated_deduplication_window = 1000;

-- What each rework changed, per frame, metric and unit: only what was done.
CREATE OR REPLACE VIEW rework_differences AS
SELECT
    scope_id, period_begin, rework_id, author, requested, base_revision, revision, raised_at,
    entry.1 AS metric, entry.2 AS unit,
    sum(entry.4) AS qty_difference, sum(entry.5) AS price_difference
FROM (
    SELECT *, arrayJoin(arrayConcat(
        arrayMap((m, u, q, p) -> (m, u, 'after', q, p), after.metric, after.unit, after.qty, after.price),
        arrayMap((m, u, q, p) -> (m, u, 'before', -q, -p), before.metric, before.unit, before.qty, before.price)
    )) AS entry
    FROM reworks FINAL
    WHERE outcome = 'done'
)
GROUP BY scope_id, period_begin, rework_id, author, requested, base_revision, revision, raised_at, metric, unit;
