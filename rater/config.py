"""The settings of an installation: one file `rater.yaml`, each key overridable by an environment variable.

`kafka.bootstrap` is overridden by `RATER_KAFKA__BOOTSTRAP`: `RATER_`, the key in capitals, `__` for each dot. Text is
taken as it is, everything else is read as YAML, so lists and mappings are given in one line (`{a: 1}`). Relative paths
are relative to the directory of rater.yaml, or to the working directory if there is no file. Every fault of the file,
the variables and metrics.yml is reported at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from collectors.settings import CollectorSettings
from rater._settings_reader import ConfigError, Fault, SettingsReader, without_secrets
from rater.api.settings import ApiSettings
from rater.audit.settings import AuditSettings
from rater.engine import EngineContext, EngineSettings
from rater.kafka import KafkaSettings
from rater.model.document import DocumentError, Node, load
from rater.model.metric import Aggregation, Catalog, Coverage, MetricSpec
from rater.rework.settings import ReworkSettings
from rater.sandbox import SandboxSettings
from rater.store.settings import StoreSettings
from rater.stream.settings import WorkerSettings
from rater.stream.sink import SinkSettings
from rater.tracing import TracingSettings

__all__ = [
    "DEFAULT_FILE",
    "ENVIRONMENT_PREFIX",
    "FILE_VARIABLE",
    "Config",
    "ConfigError",
    "Fault",
    "MetricProperties",
    "ObserveSettings",
    "Settings",
    "load_config",
    "shown",
]

DEFAULT_FILE = "rater.yaml"
FILE_VARIABLE = "RATER_CONFIG"
ENVIRONMENT_PREFIX = "RATER_"

T = TypeVar("T", bound=msgspec.Struct)


class MetricProperties(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `metrics.NAME` may say of a metric; what is null keeps the value of metrics.yml, or the default."""

    unit: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    aggregation: Aggregation | None = None
    proof: Coverage | None = None
    resolution: Annotated[int, Meta(ge=1)] | None = None
    description: str | None = None


class ObserveSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `observe` of rater.yaml: logs, and the health endpoint of every service."""

    listen: Annotated[str, Meta(pattern=r"^\S*:\d{1,5}$")] = "127.0.0.1:0"
    """host:port of /healthz, /readyz and /metrics. Port 0 takes a free one, which the service logs."""
    listen_beyond_loopback: bool = False
    """Must be true for a listen address that other machines can reach; the endpoint has no authentication."""
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    tracing: TracingSettings | None = None
    """Null: nothing is traced."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of rater.yaml. Each section belongs to the package that reads it."""

    kafka: KafkaSettings = KafkaSettings()
    store: StoreSettings = StoreSettings()
    engine: EngineSettings = EngineSettings()
    scripts: SandboxSettings = SandboxSettings()
    worker: WorkerSettings = WorkerSettings()
    sink: SinkSettings = SinkSettings()
    collect: CollectorSettings | None = None
    """Null: `rater up` runs no collector."""
    api: ApiSettings | None = None
    """Null: `rater up` takes no usage over HTTP; `rater api` does, by the defaults."""
    rework: ReworkSettings = ReworkSettings()
    audit: AuditSettings = AuditSettings()
    observe: ObserveSettings = ObserveSettings()
    metrics_conf: str = ""
    """Path of CloudKitty's metrics.yml."""
    metrics: dict[str, MetricProperties] = {}
    """By public name (`alt_name`)."""


class Config(msgspec.Struct, frozen=True):
    """Settings that were found faultless, and what follows from them."""

    settings: Settings
    catalog: Catalog
    path: Path | None
    """The file that was read; None if there was none."""

    def engine_context(self) -> EngineContext:
        """What a worker needs to know beside its partitions."""
        return EngineContext(self.settings.engine, self.catalog)


def load_config(path: Path | str | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """Reads `path`, or the file that RATER_CONFIG names, or ./rater.yaml if it is there; then the variables.

    Raises ConfigError with every fault.
    """
    environment = os.environ if environment is None else environment
    chosen = path or environment.get(FILE_VARIABLE) or None
    file = Path(chosen) if chosen else Path(DEFAULT_FILE)
    if not chosen and not file.is_file():
        return _read(None, None, DEFAULT_FILE, environment)
    return _read(file, _tree(file), str(file), environment)


def _tree(file: Path) -> Node:
    try:
        return load(file.read_text(encoding="utf-8"), str(file))
    except OSError as fault:
        raise ConfigError([Fault(str(file), "", f"cannot be read: {fault.strerror}")]) from fault
    except UnicodeDecodeError as fault:
        raise ConfigError([Fault(str(file), "", f"is not text in UTF-8: {fault.reason}")]) from fault
    except DocumentError as fault:
        raise ConfigError(_faults_of(fault)) from fault


def _faults_of(fault: DocumentError) -> list[Fault]:
    return [Fault(f"{fault.name}:{problem.line}", problem.path, problem.message) for problem in fault.problems]


def _read(file: Path | None, tree: Node | None, name: str, environment: Mapping[str, str]) -> Config:
    reader = SettingsReader(name, environment, ENVIRONMENT_PREFIX)
    settings = reader.struct(Settings, tree)
    assert settings is not None, "every setting has a default"
    faults = reader.faults
    faults += [Fault(variable, "", "overrides no setting: see `rater config show`") for variable in reader.unused()]
    base = file.parent if file is not None else Path()
    specs: list[MetricSpec] = []
    if settings.metrics_conf:
        try:
            specs = _metrics_yml(base / settings.metrics_conf)
        except DocumentError as fault:
            faults += _faults_of(fault)
    if faults:
        raise ConfigError(faults)
    settings = _anchored(settings, base)
    return Config(settings, _catalog(specs, settings.metrics), file)


def _metrics_yml(path: Path) -> list[MetricSpec]:
    from collectors.metrics_yml import load as load_metrics  # here, so that settings without it cost no collectors

    return load_metrics(path).specs()


def _catalog(specs: list[MetricSpec], own: Mapping[str, MetricProperties]) -> Catalog:
    """The metrics of metrics.yml with what `metrics` says of them, and those that only `metrics` knows."""
    known = {spec.name: spec for spec in specs}
    for name, properties in own.items():
        stated = {key: value for key, value in msgspec.structs.asdict(properties).items() if value is not None}
        known[name] = msgspec.structs.replace(known.get(name) or MetricSpec(name), **stated)
    return Catalog(known.values())


def _anchored(settings: Settings, base: Path) -> Settings:
    """The same settings with every relative path made relative to the working directory, by way of `base`."""
    anchored = _anchored_files(settings, base)
    return msgspec.structs.replace(
        anchored,
        store=msgspec.structs.replace(anchored.store, dsn=_dsn(base, settings.store.dsn)),
        metrics_conf=_path(base, settings.metrics_conf),
    )


def _anchored_files(section: T, base: Path) -> T:
    """The same section with every `…_file` of it and its sections anchored."""
    changed: dict[str, Any] = {}
    for name in section.__struct_fields__:
        value = getattr(section, name)
        if isinstance(value, msgspec.Struct):
            changed[name] = _anchored_files(value, base)
        elif name.endswith("_file") and isinstance(value, str):
            changed[name] = _path(base, value)
    return msgspec.structs.replace(section, **changed)


def _dsn(base: Path, dsn: str) -> str:
    """A DSN of the embedded engine with its directory anchored; any other as it is."""
    scheme, separator, rest = dsn.partition("://")
    if scheme != "chdb" or not separator or not rest or rest in (":memory:", "memory"):
        return dsn
    return f"chdb://{_path(base, rest)}"


def _path(base: Path, path: str) -> str:
    return str(base / path) if path else path


def shown(settings: Settings) -> dict[str, Any]:
    """The settings as plain values for people to read. Secrets are left out, also those inside a DSN."""
    plain = msgspec.to_builtins(settings)
    assert isinstance(plain, dict), "a struct becomes a mapping"
    return {key: _without_secrets(key, value) for key, value in plain.items()}


def _without_secrets(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_secrets(f"{key}.{name}", member) for name, member in value.items()}
    if isinstance(value, list):
        return [_without_secrets(key, member) for member in value]
    return without_secrets(key, value) if isinstance(value, str) else value
