"""The public names of the package, and the examples that people start from."""

from __future__ import annotations

from pathlib import Path

import pytest

import collectors
from collectors.metrics_yml import load
from collectors.prometheus.source import Factory
from rater.config import load_config

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "prometheus"


def test_every_public_name_is_there_and_loaded_from_its_home() -> None:
    homes = {name: module for module, names in collectors._HOMES.items() for name in names}

    assert sorted(homes) == collectors.__all__
    for name, home in homes.items():
        assert getattr(collectors, name).__module__ == home
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = collectors.nothing


def test_the_example_is_faultless() -> None:
    metrics = load(EXAMPLES / "metrics.yml", Factory.read_extra_args).metrics
    config = load_config(EXAMPLES / "rater.yaml", {})

    assert config.catalog.names() == ["instance", "network.outgoing", "volume"]
    assert {metric.name for metric in metrics} >= set(config.settings.collect.completeness.metrics)
    assert config.settings.collect.source_name == "prometheus"
