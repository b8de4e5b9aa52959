"""CloudKitty's REST API, versions 1 and 2, as far as it reads: for its client, dashboard and scripts as they are."""

from __future__ import annotations
