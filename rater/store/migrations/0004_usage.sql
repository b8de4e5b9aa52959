-- Every sample as it was collected: the audit trail, one row per (part of a collection, series).
--
-- A part without samples has one row with `n` = 0 and an empty `series`, since an empty answer is knowledge too.
-- `series` is the canonical JSON array [groupby, metadata] that line_id is made of, with the types of the labels;
-- `qty` is the decimal text as it was sent, which may have more decimals than a number column keeps.
-- `covers` is a JSON array of [begin, end) in seconds since the epoch, `quarantined` one of QuarantinedItem; both stand
-- in the first row of each part.
CREATE TABLE IF NOT EXISTS usage (
    scope_id LowCardinality(String),
    metric LowCardinality(String),
    source LowCardinality(String),
    range_begin DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    range_end DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    attempt UInt64 CODEC(ZSTD(1)),
    collection_id String CODEC(ZSTD(1)),
    part UInt32 CODEC(ZSTD(1)),
    parts UInt32 CODEC(ZSTD(1)),
    n UInt32 CODEC(ZSTD(1)),
    producer_id LowCardinality(String),
    sequence UInt64 CODEC(ZSTD(1)),
    unit LowCardinality(String),
    proof LowCardinality(String),
    covers String CODEC(ZSTD(1)),
    note String CODEC(ZSTD(1)),
    quarantined String CODEC(ZSTD(1)),
    series String CODEC(ZSTD(1)),
    sample_begin Array(DateTime('UTC')) CODEC(Delta(4), ZSTD(1)),
    sample_end Array(DateTime('UTC')) CODEC(Delta(4), ZSTD(1)),
    qty Array(String) CODEC(ZSTD(1)),
    groupby Map(String, String) ALIAS JSONExtract(series, 1, 'Map(String, String)'),
    metadata Map(String, String) ALIAS JSONExtract(series, 2, 'Map(String, String)')
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(range_begin)
ORDER BY (scope_id, metric, source, range_begin, range_end, attempt, collection_id, part, n)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000;
