-- One row per line of one revision of a frame, as topic `rated` carries it.
--
-- `revision` stands in the key, so that the lines of a revision that is being written never replace those of the
-- committed one. Which revision counts is said by `frames`; the sink deletes superseded ones an hour later.
-- `line_id` leaves the period out: the same resource has the same id in every period, which compresses to 0.1 byte.
CREATE TABLE IF NOT EXISTS lines (
    scope_id LowCardinality(String),
    period_begin DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    revision UInt32 CODEC(ZSTD(1)),
    metric LowCardinality(String),
    line_id FixedString(16) CODEC(ZSTD(1)),
    qty Decimal(76, 38) CODEC(ZSTD(1)),
    price Decimal(76, 38) CODEC(ZSTD(1)),
    unit LowCardinality(String),
    groupby Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    metadata Map(LowCardinality(String), LowCardinality(String)) CODEC(ZSTD(1)),
    rule_version UInt32 CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(period_begin)
ORDER BY (scope_id, period_begin, revision, metric, line_id)
SETTINGS
    non_replicated_deduplication_window = 1000,
    -- column by column from the first row on: 1.0 instead of 4.2 us a row merged, most of it for the maps
    vertical_merge_algorithm_min_rows_to_activate = 1,
    vertical_merge_algorithm_min_columns_to_activate = 1;
