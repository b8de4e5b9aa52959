"""Reports over closed frames: what a scope's month adds up to, or which holes forbid to add it up."""

from rater.reports.months import MonthError, month_interval
from rater.reports.statement import (
    FrameFacts,
    Hole,
    MetricRow,
    NoFramesError,
    Report,
    ReportRefusedError,
    compute,
    holes_of,
)

__all__ = [
    "FrameFacts",
    "Hole",
    "MetricRow",
    "MonthError",
    "NoFramesError",
    "Report",
    "ReportRefusedError",
    "compute",
    "holes_of",
    "month_interval",
]
