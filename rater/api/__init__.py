"""The HTTP service: usage pushed by whoever measures it, written to topic `usage` before it is answered."""

from __future__ import annotations
