"""The statements of `queries`, whole: what is asked for comes as parameters, never as text.

Their common range: `first_scope` and `last_scope` (empty: no bound), `begin <= period_begin < end`.
Times leave as integers, numbers as the engine's plain text: exact, and read by Decimal in C.
"""

FRAMES = """
SELECT scope_id, toUInt32(period_begin), toUInt32(period_end), revision, status, closed_by, weak,
    rule_version, toUInt32(closed_at), toUInt32(expected_until), line_count, totals.metric, totals.unit,
    arrayMap(x -> toString(x), totals.qty),
    arrayMap(x -> toString(x), totals.price), totals.n, coverage, gaps, quarantined, failure,
    digest, rework_id
FROM frames FINAL
WHERE scope_id >= {first_scope:String} AND ({last_scope:String} = '' OR scope_id <= {last_scope:String})
    AND period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}
    AND status IN {status:Array(String)}
ORDER BY scope_id, period_begin
"""

HEADS = """
SELECT scope_id, toUInt32(period_begin), revision, line_count
FROM frames FINAL
WHERE scope_id >= {first_scope:String} AND ({last_scope:String} = '' OR scope_id <= {last_scope:String})
    AND period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}
ORDER BY scope_id, period_begin
"""

HEADS_OF = """
SELECT scope_id, toUInt32(period_begin), revision, line_count
FROM frames FINAL
WHERE (scope_id, period_begin) IN {keys:Array(Tuple(String, UInt32))}
ORDER BY scope_id, period_begin
"""

LINES_OF = """
SELECT scope_id, toUInt32(period_begin), revision, metric, lower(hex(line_id)), toString(qty), toString(price), unit,
    groupby, metadata, rule_version
FROM lines
WHERE (scope_id, period_begin, revision) IN {keys:Array(Tuple(String, UInt32, UInt32))}
ORDER BY scope_id, period_begin, metric, line_id
LIMIT 1 BY scope_id, period_begin, revision, metric, line_id
"""
# LIMIT BY instead of FINAL: 3.9 instead of 13.7 us a row. Rows of one key are equal to the last byte.

GAPS = """
SELECT scope_id, toUInt32(period_begin), metric, source, toUInt32(gap_begin), toUInt32(gap_end), lower(hex(gap_id)),
    is_open, opened_revision, toUInt32(opened_at), reason, resolved_revision, toUInt32(resolved_at), resolution
FROM gaps FINAL
WHERE scope_id >= {first_scope:String} AND ({last_scope:String} = '' OR scope_id <= {last_scope:String})
    AND period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}
    AND (is_open OR NOT {open_only:Bool})
ORDER BY scope_id, period_begin, metric, source, gap_begin, gap_end, gap_id
"""

USAGE = """
SELECT scope_id, metric, source, toUInt32(range_begin), toUInt32(range_end), attempt, collection_id, part, parts,
    series, arrayMap(x -> toUInt32(x), sample_begin), arrayMap(x -> toUInt32(x), sample_end), qty,
    unit, producer_id, sequence, proof, n = 0, covers, note, quarantined
FROM usage
WHERE scope_id = {scope_id:String} AND range_begin < {end:UInt32} AND range_end > {begin:UInt32}
ORDER BY scope_id, metric, source, range_begin, range_end, attempt, collection_id, part, n
LIMIT 1 BY scope_id, metric, source, range_begin, range_end, attempt, collection_id, part, n
"""
# Rows of one key are equal, as those of LINES_OF are.

REUSED_NUMBERS = """
SELECT producer_id, sequence
FROM usage
WHERE scope_id = {scope_id:String}
GROUP BY producer_id, sequence
HAVING uniqExact(metric, source, range_begin, range_end, attempt, collection_id, part) > 1
ORDER BY producer_id, sequence
"""

FRAMES_AT = """
SELECT scope_id, toUInt32(period_begin), toUInt32(period_end), revision, status, closed_by, weak,
    rule_version, toUInt32(closed_at), toUInt32(expected_until), line_count, totals.metric, totals.unit,
    arrayMap(x -> toString(x), totals.qty),
    arrayMap(x -> toString(x), totals.price), totals.n, coverage, gaps, quarantined, failure,
    digest, rework_id
FROM frames
WHERE scope_id = {scope_id:String} AND period_begin = {period_begin:UInt32} AND revision = {revision:UInt32}
LIMIT 1
"""
# Without FINAL: the row of a replaced revision is there until its part is merged, which may be at once or never.

REWORKS = """
SELECT scope_id, toUInt32(period_begin), rework_id, kind, author, requested, outcome, base_revision, revision,
    rule_version_before, rule_version_after,
    before.metric, before.unit, arrayMap(x -> toString(x), before.qty), arrayMap(x -> toString(x), before.price),
    before.n,
    after.metric, after.unit, arrayMap(x -> toString(x), after.qty), arrayMap(x -> toString(x), after.price), after.n,
    toUInt32(raised_at), reason
FROM reworks FINAL
WHERE scope_id >= {first_scope:String} AND ({last_scope:String} = '' OR scope_id <= {last_scope:String})
    AND period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}
    AND ({rework_id:String} = '' OR rework_id = {rework_id:String})
ORDER BY scope_id, period_begin, raised_at, rework_id
"""

REWORKS_PER_MONTH = """
SELECT scope_id, toUInt32(toDateTime(toStartOfMonth(period_begin), 'UTC')) AS month_begin, count()
FROM reworks
WHERE scope_id >= {first_scope:String} AND ({last_scope:String} = '' OR scope_id <= {last_scope:String})
    AND period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}
GROUP BY scope_id, month_begin
ORDER BY scope_id, month_begin
"""

TOTALS = """
SELECT metric, unit, toString(sum(qty)), toString(sum(price)), sum(n)
FROM totals
WHERE scope_id >= {first_scope:String} AND ({last_scope:String} = '' OR scope_id <= {last_scope:String})
    AND period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}
GROUP BY metric, unit
ORDER BY metric, unit
"""

COUNTS = """
SELECT count(), sum(line_count)
FROM frames FINAL
WHERE scope_id >= {first_scope:String} AND ({last_scope:String} = '' OR scope_id <= {last_scope:String})
    AND period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}
"""

FRAMES_PER_MONTH = """
SELECT scope_id, toUInt32(toDateTime(toStartOfMonth(period_begin), 'UTC')) AS month_begin, count()
FROM frames
WHERE scope_id >= {first_scope:String} AND ({last_scope:String} = '' OR scope_id <= {last_scope:String})
    AND period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}
GROUP BY scope_id, month_begin
ORDER BY scope_id, month_begin
"""

GAPS_PER_MONTH = """
SELECT scope_id, toUInt32(toDateTime(toStartOfMonth(period_begin), 'UTC')) AS month_begin, count()
FROM gaps
WHERE scope_id >= {first_scope:String} AND ({last_scope:String} = '' OR scope_id <= {last_scope:String})
    AND period_begin >= {begin:UInt32} AND period_begin < {end:UInt32}
GROUP BY scope_id, month_begin
ORDER BY scope_id, month_begin
"""

SCOPES = """
SELECT scope_id, toUInt32(min(period_begin)), toUInt32(max(period_end)), uniqExact(period_begin)
FROM frames
GROUP BY scope_id
ORDER BY scope_id
"""

REVISION = """
SELECT max(revision)
FROM frames
WHERE scope_id = {scope_id:String} AND period_begin = {period_begin:UInt32}
HAVING count() > 0
"""
