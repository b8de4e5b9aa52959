"""Labels of a series and the identity of a line.

A series is one resource as its source describes it: `groupby` labels (what may be grouped by) and `metadata` labels
(what is only shown and priced by). The identity of a line is derived from them, so that the same resource has the same
`line_id` in every period, on every worker, after every restart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import TypeAlias

import msgspec

from rater.model.errors import RejectedError

__all__ = ["LabelValue", "Labels", "canonical_series", "check_labels", "label_text", "line_id", "series_labels"]

LabelValue: TypeAlias = str | int | float | bool | None
Labels: TypeAlias = dict[str, LabelValue]

LINE_ID_BYTES = 16
_LOW, _HIGH = -(2**63), 2**64 - 1  # of msgpack

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode_series = msgspec.json.Decoder(tuple[Labels, Labels]).decode


def label_text(value: LabelValue) -> str:
    """The text by which CloudKitty matches a label value: `str()` of it (`True`, `None`, `1.0`)."""
    return value if isinstance(value, str) else str(value)


def check_labels(labels: Mapping[str, LabelValue]) -> None:
    """Raises RejectedError for a number that not every format here can write: not finite, or beyond 64 bits."""
    for name, value in labels.items():
        if (type(value) is float and not math.isfinite(value)) or (type(value) is int and not _LOW <= value <= _HIGH):
            raise RejectedError(
                f"label {name!r} is {value}: a label must be a text, a finite number of 64 bits, a boolean or null"
            )


def canonical_series(groupby: Mapping[str, LabelValue], metadata: Mapping[str, LabelValue]) -> bytes:
    """One byte string per distinct series: a JSON array of both maps, keys sorted, no white space, UTF-8.

    Raises RejectedError as `check_labels` does.
    """
    check_labels(groupby)
    check_labels(metadata)
    return _encode((groupby, metadata))


def series_labels(series: bytes) -> tuple[Labels, Labels]:
    """`(groupby, metadata)` of a canonical series."""
    return _decode_series(series)


def line_id(scope_id: str, metric: str, series: bytes) -> bytes:
    """128-bit blake2b of the canonical JSON array `[scope_id, metric, groupby, metadata]`; hexadecimal on the wire."""
    head = _encode((scope_id, metric))
    return blake2b(head[:-1] + b"," + series[1:], digest_size=LINE_ID_BYTES).digest()
