"""Writes the dashboards: `python -m deploy.grafana`."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import DASHBOARDS

PLACE = Path(__file__).resolve().parents[1] / "helm" / "rater" / "files" / "dashboards"


def main() -> None:
    """Each into its file."""
    PLACE.mkdir(parents=True, exist_ok=True)
    for name, make in DASHBOARDS.items():
        text = json.dumps(make().build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
        (PLACE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
