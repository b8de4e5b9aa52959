"""Section `collect` of rater.yaml: which source is asked for which scopes, and what counts as proof that it saw all."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from collectors.gnocchi.settings import GnocchiFetcherSettings, GnocchiSettings, StateSettings
from collectors.quantity import Numbers
from collectors.rest.settings import RestFetcherSettings, RestKeystone, RestSettings
from collectors.scopes.keystone_settings import KeystoneFetcherSettings
from collectors.scopes.kubernetes_settings import KubernetesFetcherSettings
from collectors.skip_expression import skip_fault

__all__ = [
    "CollectorSettings",
    "CompletenessSettings",
    "EvidenceSettings",
    "PrometheusFetcherSettings",
    "PrometheusKeystone",
    "PrometheusSettings",
    "StaticFetcherSettings",
]

Label: TypeAlias = Annotated[str, Meta(pattern="^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=255)]
MetricName: TypeAlias = Annotated[str, Meta(pattern="^[a-zA-Z_:][a-zA-Z0-9_:]*$", max_length=255)]
ServerUrl: TypeAlias = Annotated[str, Meta(pattern=r"^https?://[^\s@]+$", max_length=2000)]
Seconds: TypeAlias = Annotated[int, Meta(ge=1, le=366 * 86400)]


class PrometheusKeystone(RestKeystone, frozen=True, forbid_unknown_fields=True):
    """OpenStack's Aetos, a Prometheus behind Keystone: it stands in the catalogue as service `metric-storage`."""

    interface: Literal["public", "internal", "admin"] = "public"
    """Which of its endpoints is asked, where `url` names none."""
    region: str = ""
    """Of the endpoint; needed where there are several."""


class PrometheusSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How Prometheus, or what speaks its API, is reached."""

    url: Annotated[str, Meta(pattern=r"^(https?://[^\s@]+)?$", max_length=2000)] = ""
    """Up to and with `/api/v1`, as CloudKitty's `prometheus_url`. No credentials in it."""
    urls: Annotated[list[ServerUrl], Meta(max_length=10)] = []
    """In place of `url`: the replicas of an HA pair, which scrape the same targets. The other settings hold for all."""
    username: str = ""
    password_file: str = ""
    bearer_file: str = ""
    """A file with the token of a bearer authorization; read again when it is refused."""
    keystone: PrometheusKeystone | None = None
    ca_file: str = ""
    timeout: Annotated[float, Meta(ge=0.1, le=3600)] = 60.0
    """Seconds for one question."""
    max_answer_bytes: Annotated[int, Meta(ge=1024)] = 64 * 1024 * 1024
    headers: dict[str, str] = {}
    """Sent with each question, such as `X-Scope-OrgID`. They are shown with the settings: nothing secret here."""
    parameters: dict[str, str] = {}
    """Added to each question, such as Thanos' `dedup: "true"`, `partial_response: "false"`."""

    def __post_init__(self) -> None:
        if bool(self.username) != bool(self.password_file):
            raise ValueError("username and password_file go together: give both or none")
        if ":" in self.username:
            raise ValueError("username has a colon, which HTTP does not allow in it")
        if self.username and self.bearer_file:
            raise ValueError("username and bearer_file exclude each other: give one of them")
        if self.keystone is not None and (self.username or self.bearer_file or self.parameters):
            raise ValueError("keystone excludes username, bearer_file and parameters: Aetos takes none of them")
        if self.url and self.urls:
            raise ValueError("url and urls exclude each other: name one server under url, or each replica under urls")
        if len({url.rstrip("/") for url in self.urls}) < len(self.urls):
            raise ValueError("urls names a server twice: each replica is named once")

    @property
    def servers(self) -> list[str]:
        """Every server that can be asked; all of them scrape the same."""
        return self.urls or [self.url]


class EvidenceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What proves the coverage of one metric, where the scrapes of its targets do not."""

    evidence: str = ""
    """PromQL: each step of the period at which it has a result is known time. In place of targets and `up`. Of source
    `gnocchi` the name of another metric of the same resources, whose points prove in place of its own."""
    also: list[MetricName] | None = None
    """Metrics that the query joins; default: those that query_prefix and query_suffix name."""
    interval: Seconds | None = None
    """Seconds between two samples of the metric, where it is not the scrape interval."""
    state: StateSettings | None = None
    """Of source `gnocchi`: what says that a resource is off, so that nothing of it is missed."""
    expected: bool = True
    """False: the metric is collected, but no gap is opened where it is missing."""


class CompletenessSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When an answer of Prometheus covers its period (collectors/EVIDENCE.md)."""

    mode: Literal["strict", "off"] = "strict"
    """off: every whole answer covers its period, without proof, which marks all frames as weak."""
    lookback: Seconds = 86400
    """How long a target stays known after it last showed a metric."""
    slack: Annotated[float, Meta(ge=1.1, le=100)] = 2.5
    """Two successful scrapes may be this many intervals apart."""
    settle: Seconds | None = None
    """Seconds after the end of a period before it is asked for; default two scrape intervals, at least two minutes."""
    scrape_interval: Seconds | None = None
    """Default: the median distance of the `up` samples of each target."""
    target_labels: Annotated[list[Label], Meta(min_length=1, max_length=5)] = msgspec.field(
        default_factory=lambda: ["job", "instance"]
    )
    """What names a target, on the metrics and on `up` alike."""
    up: MetricName = "up"
    max_lost_scrapes: Annotated[int, Meta(ge=0)] = 1
    """More single lost scrapes of one target mark the coverage of metrics that are summed or counted as weak."""
    metrics: dict[str, EvidenceSettings] = {}
    """By public name (`alt_name`)."""


class StaticFetcherSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fixed list of scopes."""

    scopes: list[Annotated[str, Meta(min_length=1, max_length=255)]] = []


class PrometheusFetcherSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scopes are the values of a label of a metric; asked at `collect.prometheus`."""

    metric: MetricName | None = None
    scope_attribute: Label | None = None
    """Default: `collect.scope_key`."""
    filters: dict[Label, str] = {}


class CollectorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `collect` of rater.yaml."""

    source: str = "prometheus"
    """An entry point of group `rater.sources`."""
    name: Annotated[str, Meta(max_length=255)] = ""
    """What the source is called in records and gaps; default: `source`."""
    fetcher: str = "static"
    """An entry point of group `rater.fetchers`."""
    scope_key: Label = "project_id"
    numbers: Numbers = "exact"
    """exact: what the source said; cloudkitty: its arithmetic for this source, to the last digit, for whoever brings a
    metrics.yml from there and compares bills."""
    skip_datapoints_expression: str = ""
    """Of metrics that have none in metrics.yml, as CloudKitty's option of that name; default: nothing is left out."""
    since: Annotated[str, Meta(pattern=r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d))?$")] = ""
    """From when on is collected at the first start; default: from the period of that start. Later a new scope is
    collected from when this collector last saw that it was not there."""
    gone_after: Seconds = 86400
    """A scope that the fetcher has not named for so long is no longer expected."""
    silent_after: Seconds | None = None
    """A source that has proven nothing for so long, though it was asked, is told as silent; default: one period and 15
    minutes."""
    concurrency: Annotated[int, Meta(ge=1, le=256)] = 4
    """Questions to the source at the same time."""
    prometheus: PrometheusSettings = PrometheusSettings()
    static: StaticFetcherSettings = StaticFetcherSettings()
    prometheus_fetcher: PrometheusFetcherSettings = PrometheusFetcherSettings()
    rest: RestSettings = RestSettings()
    rest_fetcher: RestFetcherSettings = RestFetcherSettings()
    gnocchi: GnocchiSettings = GnocchiSettings()
    gnocchi_fetcher: GnocchiFetcherSettings = GnocchiFetcherSettings()
    keystone_fetcher: KeystoneFetcherSettings = KeystoneFetcherSettings()
    kubernetes_fetcher: KubernetesFetcherSettings = KubernetesFetcherSettings()
    completeness: CompletenessSettings = CompletenessSettings()
    options: dict[str, str] = {}
    """For sources and fetchers that others provide."""

    def __post_init__(self) -> None:
        fault = skip_fault(self.skip_datapoints_expression) if self.skip_datapoints_expression else ""
        if fault:
            raise ValueError(f"skip_datapoints_expression {fault}")
        if self.since:
            try:
                _ = self.since_instant
            except ValueError as fault:
                raise ValueError(f"since {self.since!r} is no time ({fault}): write 2026-01-01T00:00:00Z") from None

    @property
    def since_instant(self) -> int:
        """`since` in seconds since the epoch."""
        return int(datetime.fromisoformat(self.since).timestamp())

    @property
    def source_name(self) -> str:
        """The name that stands in records and gaps."""
        return self.name or self.source
