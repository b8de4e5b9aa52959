"""Where usage comes from: sources, scope fetchers, metrics.yml, replay of files, and the publisher behind them all."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collectors.checking import CheckReport
    from collectors.errors import (
        CollectorError,
        NotSettledError,
        OversizedError,
        PublishError,
        ReplayError,
        SettingsError,
        SourceAwayError,
        SourceError,
        UnfitSourceError,
    )
    from collectors.metrics_yml import Metric, MetricsFile
    from collectors.parts import CollectionDraft
    from collectors.publisher import Publisher, UsageLog
    from collectors.replay.intake import LineFault
    from collectors.replay.run import replay_file, replay_files
    from collectors.replay.words import ReplayOptions, ReplayProgress, ReplayReport
    from collectors.service import check_source, run_collector
    from collectors.settings import CollectorSettings
    from collectors.source import Answer, PeriodSession, ScopeFetcher, Source, SourceContext
    from collectors.status import CollectorStatus

_HOMES = {
    "collectors.checking": ("CheckReport",),
    "collectors.errors": (
        "CollectorError",
        "NotSettledError",
        "OversizedError",
        "PublishError",
        "ReplayError",
        "SettingsError",
        "SourceAwayError",
        "SourceError",
        "UnfitSourceError",
    ),
    "collectors.replay.intake": ("LineFault",),
    "collectors.metrics_yml": ("Metric", "MetricsFile"),
    "collectors.parts": ("CollectionDraft",),
    "collectors.publisher": ("Publisher", "UsageLog"),
    "collectors.replay.run": ("replay_file", "replay_files"),
    "collectors.replay.words": ("ReplayOptions", "ReplayProgress", "ReplayReport"),
    "collectors.status": ("CollectorStatus",),
    "collectors.service": ("check_source", "run_collector"),
    "collectors.settings": ("CollectorSettings",),
    "collectors.source": ("Answer", "PeriodSession", "ScopeFetcher", "Source", "SourceContext"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Answer",
    "CheckReport",
    "CollectionDraft",
    "CollectorError",
    "CollectorSettings",
    "CollectorStatus",
    "LineFault",
    "Metric",
    "MetricsFile",
    "NotSettledError",
    "OversizedError",
    "PeriodSession",
    "PublishError",
    "Publisher",
    "ReplayError",
    "ReplayOptions",
    "ReplayProgress",
    "ReplayReport",
    "ScopeFetcher",
    "SettingsError",
    "Source",
    "SourceAwayError",
    "SourceContext",
    "SourceError",
    "UnfitSourceError",
    "UsageLog",
    "check_source",
    "replay_file",
    "replay_files",
    "run_collector",
]


def __getattr__(name: str) -> Any:
    """Loads what is asked for when it is asked for: rater.yaml is read with `collectors.settings` alone, which needs
    neither aiohttp nor pyarrow, 0.3 s of every command of the CLI."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'collectors' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
