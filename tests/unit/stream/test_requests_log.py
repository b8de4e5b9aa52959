"""What is said of a request of many scopes fits into messages, whatever there is to be told of each."""

from __future__ import annotations

from rater.kafka import MAX_MESSAGE_BYTES
from rater.model.codec import encode_json
from rater.model.requests import MAX_SCOPES, FramesAsked, ScopeOutcome
from rater.rework import RequestBook
from rater.stream.requests_log import records_over


def test_the_end_of_a_request_of_many_scopes_fits_into_messages() -> None:
    names = tuple(f"{number:04}".ljust(255, "\N{GRINNING FACE}") for number in range(MAX_SCOPES))
    asked = FramesAsked("r" * 255, "reset", names, 0, 1, "ann", "why", 0)
    told = "\x01" * 2000  # six bytes each
    records = list(records_over(asked.request_id, (ScopeOutcome(name, left=9, told=told) for name in names), 1))

    assert max(len(encode_json(record)) for record in (asked, *records)) < MAX_MESSAGE_BYTES - 1000
    book = RequestBook()
    book.take(asked, 0)
    for record in records[:-1]:
        book.take(record, 1)
    assert 0 < len(book.open_tasks()) <= 250, "who is killed between them leaves the rest to be done"
    book.take(records[-1], 1)
    assert book.open_tasks() == []
