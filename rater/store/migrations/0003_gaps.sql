-- One row per gap, made of its alerts, in whatever order and however often they arrive: read it with FINAL.
--
-- An alert says either that the gap opened or that it was resolved, and knows nothing of the other, so that a
-- ReplacingMergeTree would lose the half that came first. Here each kind has a column of its own, of which the greatest
-- text stays: ten digits of the revision, ten digits of the second it was raised at, the reason; empty where no such
-- alert has come. A gap that opens again in a later revision is open again. (A tuple would read better, but with FINAL
-- the engine merges the element that a query reads without the function: one of the rows, at random.) All other columns
-- follow from `gap_id`; they are in the key because what is neither key nor aggregate would be left to chance.
CREATE TABLE IF NOT EXISTS gaps (
    scope_id LowCardinality(String),
    period_begin DateTime('UTC'),
    metric LowCardinality(String),
    source LowCardinality(String),
    gap_begin DateTime('UTC'),
    gap_end DateTime('UTC'),
    gap_id FixedString(16),
    opened SimpleAggregateFunction(max, String),
    resolved SimpleAggregateFunction(max, String),
    is_open Bool ALIAS substring(opened, 1, 10) > substring(resolved, 1, 10),
    opened_revision Nullable(UInt32) ALIAS if(opened = '', NULL, toUInt32OrZero(substring(opened, 1, 10))),
    opened_at Nullable(DateTime('UTC')) ALIAS if(opened = '', NULL, toDateTime(toUInt32OrZero(substring(opened, 11, 10)), 'UTC')),
    reason String ALIAS substring(opened, 21),
    resolved_revision Nullable(UInt32) ALIAS if(is_open, NULL, toUInt32OrZero(substring(resolved, 1, 10))),
    resolved_at Nullable(DateTime('UTC')) ALIAS if(is_open, NULL, toDateTime(toUInt32OrZero(substring(resolved, 11, 10)), 'UTC')),
    resolution String ALIAS if(is_open, '', substring(resolved, 21))
)
ENGINE = AggregatingMergeTree
ORDER BY (scope_id, period_begin, metric, source, gap_begin, gap_end, gap_id)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE OR REPLACE VIEW open_gaps AS
SELECT scope_id, period_begin, metric, source, gap_begin, gap_end, opened_at, reason, lower(hex(gap_id)) AS gap_id
FROM gaps FINAL
WHERE is_open;
