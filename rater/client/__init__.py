"""Pushes usage to rater over HTTP."""

from __future__ import annotations
