-- One row per gap, made of its alerts, in whatever order and however often they arrive: read it with FINAL.
--
-- An alert says either that the gap opened or that it was resolved, and knows nothing of the other, so that a
-- ReplacingMergeTree would lose the half that came first. Here each kind has a column of its own, of which the greatest
-- tuple stays: (rank, raised_at, reason), rank = revision + 1, and 0 where no such alert has been seen. A gap that
-- opens again in a later revision is open again. All other columns follow from `gap_id`; they are in the key because
-- what is neither key nor aggregate would be left to chance.
CREATE TABLE IF NOT EXISTS gaps (
    scope_id LowCardinality(String),
    period_begin DateTime('UTC'),
    metric LowCardinality(String),
    source LowCardinality(String),
    gap_begin DateTime('UTC'),
    gap_end DateTime('UTC'),
    gap_id FixedString(16),
    opened SimpleAggregateFunction(max, Tuple(rank UInt32, raised_at DateTime('UTC'), reason String)),
    resolved SimpleAggregateFunction(max, Tuple(rank UInt32, raised_at DateTime('UTC'), reason String)),
    is_open Bool ALIAS opened.rank > resolved.rank,
    opened_revision Nullable(UInt32) ALIAS if(opened.rank = 0, NULL, opened.rank - 1),
    opened_at Nullable(DateTime('UTC')) ALIAS if(opened.rank = 0, NULL, opened.raised_at),
    reason String ALIAS opened.reason,
    resolved_revision Nullable(UInt32) ALIAS if(opened.rank >= resolved.rank, NULL, resolved.rank - 1),
    resolved_at Nullable(DateTime('UTC')) ALIAS if(opened.rank >= resolved.rank, NULL, resolved.raised_at),
    resolution String ALIAS if(opened.rank >= resolved.rank, '', resolved.reason)
)
ENGINE = AggregatingMergeTree
ORDER BY (scope_id, period_begin, metric, source, gap_begin, gap_end, gap_id)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE OR REPLACE VIEW open_gaps AS
SELECT scope_id, period_begin, metric, source, gap_begin, gap_end, opened_at, reason, lower(hex(gap_id)) AS gap_id
FROM gaps FINAL
WHERE is_open;
