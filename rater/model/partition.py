"""Which partition a key belongs to: the murmur2 partitioner of Kafka's own clients.

A scope whose records lie in two partitions would have two frames for one period, so the engine refuses records that
another partitioner put elsewhere.
"""

from __future__ import annotations

__all__ = ["partition_of"]

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def _murmur2(data: bytes) -> int:
    """32-bit murmur2 as org.apache.kafka.common.utils.Utils computes it."""
    length = len(data)
    h = _SEED ^ length
    whole = length - length % 4
    for start in range(0, whole, 4):
        k = int.from_bytes(data[start : start + 4], "little") * _M & _MASK
        k ^= k >> 24
        h = (h * _M & _MASK) ^ (k * _M & _MASK)
    tail = data[whole:]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _MASK
    h ^= h >> 13
    h = h * _M & _MASK
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """The partition number of `key` among `partitions`."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions
