-- What dashboards and people ask for, by plain names. Each adds up the newest revisions, posted lines among them.
-- For single lines see `current_lines`, for what was collected `coverage`, for reworks `rework_differences`.
CREATE OR REPLACE VIEW cost_by_hour AS
SELECT scope_id, toStartOfHour(period_begin) AS hour, metric, unit, sum(qty) AS qty, sum(price) AS price, sum(n) AS line_count
FROM totals
GROUP BY scope_id, hour, metric, unit;

CREATE OR REPLACE VIEW cost_by_day AS
SELECT scope_id, toDate(period_begin, 'UTC') AS day, metric, unit, sum(qty) AS qty, sum(price) AS price, sum(n) AS line_count
FROM totals
GROUP BY scope_id, day, metric, unit;

CREATE OR REPLACE VIEW cost_by_month AS
SELECT scope_id, toStartOfMonth(period_begin) AS month, metric, unit, sum(qty) AS qty, sum(price) AS price, sum(n) AS line_count
FROM totals
GROUP BY scope_id, month, metric, unit;

-- Metrics that were used and for which nothing is charged: no rule matched, or the price is 0.
CREATE OR REPLACE VIEW unrated_usage AS
SELECT scope_id, period_begin, period_end, metric, unit, qty, n AS line_count, rule_version
FROM totals
WHERE qty != 0 AND price = 0;

-- Frames without the columns that are JSON. `delay_seconds` is from the end of the period to its closing; `reworked` says
-- whether the revision was asked for.
CREATE OR REPLACE VIEW current_frames AS
SELECT
    scope_id, period_begin, period_end, revision, status, closed_by, weak, rule_version, closed_at, inserted_at, line_count,
    gap_count, quarantined_count, failure, rework_id, rework_id != '' AS reworked,
    toInt64(toUnixTimestamp(closed_at)) - toInt64(toUnixTimestamp(period_end)) AS delay_seconds,
    arraySum(totals.price) AS price
FROM frames FINAL;

-- All gaps, each `open`, `accepted` or `resolved`.
CREATE OR REPLACE VIEW gap_states AS
SELECT
    gaps.scope_id AS scope_id, gaps.period_begin AS period_begin, gaps.metric AS metric, gaps.source AS source,
    gaps.gap_begin AS gap_begin, gaps.gap_end AS gap_end,
    toInt64(toUnixTimestamp(gaps.gap_end)) - toInt64(toUnixTimestamp(gaps.gap_begin)) AS seconds,
    multiIf(NOT gaps.is_open, 'resolved', accepted.author != '' OR accepted.accepted_at > 0, 'accepted', 'open') AS state,
    gaps.reason AS reason, gaps.opened_at AS opened_at, gaps.resolved_at AS resolved_at,
    accepted.author AS accepted_by, accepted.reason AS accepted_for, lower(hex(gaps.gap_id)) AS gap_id
FROM gaps FINAL
LEFT JOIN (SELECT scope_id, period_begin, gap_id, accepted_at, author, reason FROM accepted_gaps FINAL) AS accepted
USING (scope_id, period_begin, gap_id);

-- What was posted with its price, and by whom.
CREATE OR REPLACE VIEW posts AS
SELECT
    scope_id, lower(hex(post_id)) AS post_id, author, metric, unit, min(period_begin) AS first_begin,
    max(period_end) AS last_end, sum(qty) AS qty, sum(price) AS price, count() AS line_count
FROM posted FINAL
GROUP BY scope_id, post_id, author, metric, unit;
