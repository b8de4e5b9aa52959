"""The pointer to a snapshot as the text that travels in the metadata of an OffsetCommit."""

from __future__ import annotations

from rater.stream.interfaces import Pointer, RestoreRefusedError

__all__ = ["decode_pointer", "encode_pointer", "genesis"]

_FORMAT = "1"


def genesis(partitions: int) -> Pointer:
    """The pointer of a partition that nothing was applied from: it stands before any chunk is written.

    Without it, chunks whose first commit never came could not be told from a pointer that was lost.
    """
    return Pointer("genesis", 0, 0, 0, partitions)


def encode_pointer(pointer: Pointer) -> str:
    """About 60 characters of the 4 096 that the broker takes."""
    return ",".join([_FORMAT, *(str(field) for field in pointer)])


def decode_pointer(text: str) -> Pointer:
    """Raises RestoreRefusedError for anything that `encode_pointer` did not write."""
    fields = text.split(",")
    try:
        form, snapshot_id, *numbers = fields
        first_offset, chunks, crc32, partitions = (int(number) for number in numbers)
    except ValueError:
        form = ""
    if form != _FORMAT:
        raise RestoreRefusedError(
            f"the committed offset carries {text!r} and no pointer to a snapshot: something else has committed in "
            "rater's consumer group. See `rater recover`"
        )
    return Pointer(snapshot_id, first_offset, chunks, crc32, partitions)
