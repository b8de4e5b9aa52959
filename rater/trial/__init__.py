"""Trying rules and looking into prices, without touching anything: price a file, explain a line, compare two books."""

from rater.trial.pricing import Measured, Priced, Pricer, UnorderedUsageError, UnprovenPriceError
from rater.trial.usage import FileTotals, Refused, TotalKey, price_file

__all__ = [
    "FileTotals",
    "Measured",
    "Priced",
    "Pricer",
    "Refused",
    "TotalKey",
    "UnorderedUsageError",
    "UnprovenPriceError",
    "price_file",
]
