-- What `store.focus` says, for the view below; the newest row counts. Written by `rater migrate` and by sinks that start.
CREATE TABLE IF NOT EXISTS focus_settings (
    said_at DateTime64(6, 'UTC') DEFAULT now64(6),
    billing_currency String,
    provider String,
    publisher String,
    invoice_issuer String,
    service_categories Map(String, String),
    resource_label String
)
ENGINE = MergeTree
ORDER BY said_at
SETTINGS non_replicated_deduplication_window = 1000;

-- One row per line of a newest revision, and per posted line, in the columns of FOCUS: those that 1.0 requires and the
-- mandatory ones of 1.2. Whom we bill (a scope) is FOCUS' billing account; a metric is its service. All four costs are the
-- price: discounts and commitments are not told apart. Columns that begin with x_ are ours. A period that is missing has no
-- row: ask `rater export focus`, which refuses, for a whole month.
CREATE OR REPLACE VIEW focus_cost_usage AS
WITH
    (SELECT argMax(billing_currency, said_at) FROM focus_settings) AS currency,
    (SELECT argMax(provider, said_at) FROM focus_settings) AS provider,
    (SELECT argMax(publisher, said_at) FROM focus_settings) AS publisher,
    (SELECT argMax(invoice_issuer, said_at) FROM focus_settings) AS issuer,
    (SELECT argMax(service_categories, said_at) FROM focus_settings) AS categories,
    (SELECT argMax(resource_label, said_at) FROM focus_settings) AS resource_label
SELECT
    CAST(NULL AS Nullable(String)) AS AvailabilityZone,
    price AS BilledCost,
    toString(scope_id) AS BillingAccountId,
    CAST(NULL AS Nullable(String)) AS BillingAccountName,
    if(currency = '', 'XXX', currency) AS BillingCurrency,
    toDateTime(toStartOfMonth(period_begin) + INTERVAL 1 MONTH, 'UTC') AS BillingPeriodEnd,
    toDateTime(toStartOfMonth(period_begin), 'UTC') AS BillingPeriodStart,
    'Usage' AS ChargeCategory,
    CAST(NULL AS Nullable(String)) AS ChargeClass,
    if(ResourceId IS NULL, toString(metric), concat(metric, ' of ', ResourceId)) AS ChargeDescription,
    'Usage-Based' AS ChargeFrequency,
    period_end AS ChargePeriodEnd,
    period_begin AS ChargePeriodStart,
    CAST(NULL AS Nullable(String)) AS CommitmentDiscountCategory,
    CAST(NULL AS Nullable(String)) AS CommitmentDiscountId,
    CAST(NULL AS Nullable(String)) AS CommitmentDiscountName,
    CAST(NULL AS Nullable(String)) AS CommitmentDiscountStatus,
    CAST(NULL AS Nullable(String)) AS CommitmentDiscountType,
    qty AS ConsumedQuantity,
    toString(unit) AS ConsumedUnit,
    price AS ContractedCost,
    CAST(NULL AS Nullable(Decimal(76, 38))) AS ContractedUnitPrice,
    price AS EffectiveCost,
    coalesce(nullIf(issuer, ''), nullIf(provider, ''), 'rater') AS InvoiceIssuerName,
    price AS ListCost,
    CAST(NULL AS Nullable(Decimal(76, 38))) AS ListUnitPrice,
    'Standard' AS PricingCategory,
    qty AS PricingQuantity,
    toString(unit) AS PricingUnit,
    if(provider = '', 'rater', provider) AS ProviderName,
    coalesce(nullIf(publisher, ''), nullIf(provider, ''), 'rater') AS PublisherName,
    nullIf(toString(labels['region']), '') AS RegionId,
    RegionId AS RegionName,
    nullIf(toString(labels[if(resource_label = '', 'id', resource_label)]), '') AS ResourceId,
    nullIf(toString(labels['name']), '') AS ResourceName,
    if(ResourceId IS NULL, NULL, toString(metric)) AS ResourceType,
    if(categories[toString(metric)] = '', 'Other', categories[toString(metric)]) AS ServiceCategory,
    toString(metric) AS ServiceName,
    toString(metric) AS SkuId,
    CAST(NULL AS Nullable(String)) AS SkuPriceId,
    CAST(NULL AS Nullable(String)) AS SubAccountId,
    CAST(NULL AS Nullable(String)) AS SubAccountName,
    toJSONString(mapSort(labels)) AS Tags,
    status AS x_FrameStatus,
    line AS x_LineId,
    revision AS x_Revision,
    rule_version AS x_RuleVersion
FROM (
    SELECT
        scope_id, period_begin, period_end, revision, toString(status) AS status, metric, lower(hex(line_id)) AS line, qty,
        price, unit, mapUpdate(metadata, groupby) AS labels, rule_version
    FROM lines FINAL
    INNER JOIN (SELECT scope_id, period_begin, period_end, revision, status FROM frames FINAL) AS committed
    USING (scope_id, period_begin, revision)
    UNION ALL
    SELECT
        scope_id, period_begin, period_end, toUInt32(0), 'posted', metric, lower(hex(line_id)), qty, price, unit,
        mapUpdate(metadata, groupby), toUInt32(0)
    FROM posted FINAL
);
