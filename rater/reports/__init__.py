"""Reports over closed frames: what a scope's month adds up to, or which holes forbid to add it up."""

from rater.reports.months import MonthError, month_interval
from rater.reports.remote import RemoteView
from rater.reports.requests import (
    AuditRequest,
    ExportRequest,
    RevisionRequest,
    ReworkRequest,
    ScopeRequest,
    Selection,
    UsageRequest,
)
from rater.reports.statement import (
    Hole,
    MetricRow,
    NoFramesError,
    Report,
    ReportRefusedError,
    compute,
    holes_of,
)
from rater.reports.together import PERIODS_AT_ONCE, frames_together, with_lines
from rater.reports.view import StoreView, View, open_view, report_of, socket_of

__all__ = [
    "PERIODS_AT_ONCE",
    "AuditRequest",
    "ExportRequest",
    "Hole",
    "MetricRow",
    "MonthError",
    "NoFramesError",
    "RemoteView",
    "Report",
    "ReportRefusedError",
    "RevisionRequest",
    "ReworkRequest",
    "ScopeRequest",
    "Selection",
    "StoreView",
    "UsageRequest",
    "View",
    "compute",
    "frames_together",
    "holes_of",
    "month_interval",
    "open_view",
    "report_of",
    "socket_of",
    "with_lines",
]
