-- One row per frame: the commit record of its newest revision and its totals at once, written after its lines.
-- `line_count` is what a reader of `lines` must find for this revision.
-- `coverage`, `gaps` and `quarantined` are JSON arrays of MetricCoverage, Gap and QuarantinedPoint, as topic `rated`
-- has them: a tenth of the cost of nested columns to write, and the view `coverage` opens them for SQL.
CREATE TABLE IF NOT EXISTS frames (
    scope_id LowCardinality(String),
    period_begin DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    period_end DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    revision UInt32 CODEC(ZSTD(1)),
    status LowCardinality(String),
    closed_by LowCardinality(String),
    weak Bool,
    rule_version UInt32 CODEC(ZSTD(1)),
    closed_at DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    -- Until when usage of the scope is expected; the last second that fits, in 2106, stands for no end.
    expected_until DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    line_count UInt32 CODEC(ZSTD(1)),
    gap_count UInt32 CODEC(ZSTD(1)),
    quarantined_count UInt32 CODEC(ZSTD(1)),
    totals Nested(
        metric LowCardinality(String),
        unit LowCardinality(String),
        qty Decimal(76, 38),
        price Decimal(76, 38),
        n UInt32
    ),
    coverage String CODEC(ZSTD(3)),
    gaps String CODEC(ZSTD(3)),
    quarantined String CODEC(ZSTD(3)),
    inserted_at DateTime('UTC') DEFAULT now() CODEC(Delta(4), ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(period_begin)
ORDER BY (scope_id, period_begin)
SETTINGS
    index_granularity = 1024,
    non_replicated_deduplication_window = 1000,
    vertical_merge_algorithm_min_rows_to_activate = 1,
    vertical_merge_algorithm_min_columns_to_activate = 1;

-- What month summaries and dashboards read: one row per frame and metric.
CREATE OR REPLACE VIEW totals AS
SELECT
    scope_id, period_begin, period_end, revision, status, rule_version,
    totals.metric AS metric, totals.unit AS unit, totals.qty AS qty, totals.price AS price, totals.n AS n
FROM frames FINAL
ARRAY JOIN totals.metric, totals.unit, totals.qty, totals.price, totals.n;

-- What was expected of each source for each metric, what it proved, and by which collections.
CREATE OR REPLACE VIEW coverage AS
SELECT
    scope_id, period_begin, period_end, revision, status,
    JSONExtractString(entry, 'metric') AS metric,
    JSONExtractString(entry, 'source') AS source,
    JSONExtractString(entry, 'proof') AS proof,
    JSONExtract(entry, 'expected', 'Array(Tuple(begin UInt32, end UInt32))') AS expected,
    JSONExtract(entry, 'covered', 'Array(Tuple(begin UInt32, end UInt32))') AS covered,
    arrayMap(x -> JSONExtractString(x, 'collection_id'), JSONExtractArrayRaw(entry, 'collections')) AS collection_ids
FROM frames FINAL
ARRAY JOIN JSONExtractArrayRaw(frames.coverage) AS entry;

-- The lines of the revisions that count, for looking at them. Reports and exports do not read this view: one statement
-- reads `lines` and `frames` at two moments, so that a frame may be absent while a new revision of it is written.
CREATE OR REPLACE VIEW current_lines AS
SELECT * FROM lines FINAL
WHERE (scope_id, period_begin, revision) IN (SELECT scope_id, period_begin, revision FROM frames FINAL);
