"""The header by which a span is named: what is taken, and what is passed over."""

from __future__ import annotations

import pytest

from rater.tracing.header import Place, read_place, sampled_header, written

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_what_is_written_is_read_again() -> None:
    assert read_place(written(1, 2)) == Place(1, 2, is_sampled=True)
    assert read_place(f"00-{TRACE}-{SPAN}-00") == Place(int(TRACE, 16), int(SPAN, 16), is_sampled=False)


def test_a_later_version_may_say_more() -> None:
    assert read_place(f"cc-{TRACE}-{SPAN}-01-what-comes") == Place(int(TRACE, 16), int(SPAN, 16), is_sampled=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "what",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{'٣' * 32}-{SPAN}-01",
    ],
)
def test_no_header_of_this_kind(text: str) -> None:
    assert read_place(text) is None
    assert sampled_header([("traceparent", text.encode())]) == ""


def test_only_a_recorded_span_is_followed() -> None:
    sampled = f"00-{TRACE}-{SPAN}-01"
    assert sampled_header([("content-type", b"x"), ("Traceparent", sampled.encode())]) == sampled
    assert sampled_header([("traceparent", sampled[:-1].encode() + b"0")]) == ""
    assert sampled_header([("traceparent", b"\xff" * 55)]) == ""
    assert sampled_header([("traceparent", f"cc-{TRACE}-{SPAN}-01-{'x' * 10_000}".encode())]) == ""
    assert sampled_header([]) == ""
