"""Trying rules and looking into prices, without touching anything: price a file, explain a line, compare two books."""

from rater.trial.counted import CountUnknownError, versions_before
from rater.trial.explained import Explainer, FrameExplained, LineExplained, UsageUnknownError, WithoutPrice
from rater.trial.pricing import Measured, Priced, Pricer, UnorderedUsageError, UnprovenPriceError, keeps_points
from rater.trial.stored import Sampled, StoredFrame, StoredFrames, UsageMissingError
from rater.trial.usage import FileTotals, Refused, TotalKey, UsageFileError, price_file
from rater.trial.whatif import Comparison, Difference, WhatIf

__all__ = [
    "Comparison",
    "CountUnknownError",
    "Difference",
    "Explainer",
    "FileTotals",
    "FrameExplained",
    "LineExplained",
    "Measured",
    "Priced",
    "Pricer",
    "Refused",
    "Sampled",
    "StoredFrame",
    "StoredFrames",
    "TotalKey",
    "UnorderedUsageError",
    "UnprovenPriceError",
    "UsageFileError",
    "UsageMissingError",
    "UsageUnknownError",
    "WhatIf",
    "WithoutPrice",
    "keeps_points",
    "price_file",
    "versions_before",
]
