"""The made-up cloud: the same from the same seed, and with everything in it that the demonstration is about."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import pytest

from collectors.metrics_yml import read
from rater.demo import cloud
from rater.demo.stage import DemoError, fresh_directory
from rater.rating import parse

HOUR = 3600


@pytest.fixture(scope="module")
def samples() -> list[cloud.Sample]:
    return list(cloud.samples())


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    # given / when
    written = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        found = cloud.write_usage(tmp_path / name, seed)
        written.append((found.main.read_bytes(), found.missing.read_bytes()))
    # then
    assert written[0] == written[1]
    assert written[0] != written[2]


def test_it_is_as_large_as_promised(samples: list[cloud.Sample]) -> None:
    assert 95_000 <= len(samples) <= 110_000
    assert {sample.scope_id for sample in samples} == set(cloud.PROJECTS)
    assert {sample.metric for sample in samples} == set(cloud.METRICS)
    steps = [sample.begin // cloud.STEP for sample in samples]
    assert steps == sorted(steps)


def test_no_sample_reaches_into_two_periods_and_no_resource_has_two_at_once(samples: list[cloud.Sample]) -> None:
    until: dict[tuple[str, str], int] = {}
    for sample in samples:
        assert sample.begin < sample.end
        assert sample.begin // HOUR == (sample.end - 1) // HOUR
        key = (sample.metric, sample.groupby["resource_id"])
        assert until.get(key, 0) <= sample.begin
        until[key] = sample.end
        assert sample.qty >= 0


def test_instances_are_resized_created_and_deleted_inside_a_period(samples: list[cloud.Sample]) -> None:
    # given
    flavors: dict[tuple[str, int], set[str]] = defaultdict(set)
    minutes: dict[tuple[str, int], Decimal] = defaultdict(Decimal)
    for sample in samples:
        if sample.metric == "instance":
            key = (sample.groupby["resource_id"], sample.begin // HOUR)
            flavors[key].add(sample.metadata["flavor"])
            minutes[key] += sample.qty
    # then
    assert sum(len(seen) == 2 for seen in flavors.values()) >= 6
    assert sum(0 < total < 60 for total in minutes.values()) >= 14
    assert max(minutes.values()) == 60


def test_one_project_is_silent_and_another_truly_idle(tmp_path: Path, samples: list[cloud.Sample]) -> None:
    # given
    found = cloud.write_usage(tmp_path)
    entries = {
        path: [json.loads(text) for text in path.read_text().splitlines()] for path in (found.main, found.missing)
    }
    # then the silent window is in the second file only, samples and coverage
    begin, end = (cloud._text(instant) for instant in cloud.SILENCE)
    main = [entry for entry in entries[found.main] if entry.get("scope_id") == cloud.SILENT_PROJECT]
    assert not [entry for entry in main if begin <= entry["begin"] < end]
    assert all(begin <= entry["begin"] < end for entry in entries[found.missing] if "qty" in entry)
    covers = [entry["covers"] for entry in entries[found.main] if "covers" in entry]
    silent = [(c["begin"], c["end"]) for c in covers if c["scope_id"] == cloud.SILENT_PROJECT]
    assert silent == [(cloud._text(cloud.BEGIN), begin), (end, cloud._text(cloud.END))]
    assert (found.main_samples, found.missing_samples) == (len(samples) - found.missing_samples, 385)
    # and the idle window is covered and empty
    assert not [s for s in samples if s.scope_id == cloud.IDLE_PROJECT and cloud.IDLE.begin <= s.begin < cloud.IDLE.end]
    assert [c["end"] for c in covers if c["scope_id"] == cloud.IDLE_PROJECT] == [cloud._text(cloud.END)]


def test_metrics_and_prices_fit_the_samples(samples: list[cloud.Sample]) -> None:
    # given
    data = files("rater.demo").joinpath("data")
    specs = {s.name: s for s in read(data.joinpath("metrics.yml").read_text(), "metrics.yml").specs()}
    document = parse(data.joinpath("rules.yaml").read_text(), "rules.yaml")
    # then
    assert set(specs) == set(cloud.METRICS)
    assert {(s.metric, s.unit) for s in samples} == {(spec.name, spec.unit) for spec in specs.values()}
    assert {service.name for service in document.hashmap.services} < set(cloud.METRICS)
    labels = {name for s in samples for name in (*s.groupby, *s.metadata)}
    assert {field.name for service in document.hashmap.services for field in service.fields} <= labels


def test_a_directory_of_the_demonstration_is_used_again_and_no_other(tmp_path: Path) -> None:
    # given
    directory = tmp_path / "demo"
    with fresh_directory(directory):
        assert (directory / "rules.yaml").exists()
        (directory / "old").mkdir()
        (directory / "old" / "file").touch()
        # when / then it is in use
        with pytest.raises(DemoError, match="another demonstration runs"), fresh_directory(directory):
            pass
    with fresh_directory(directory):
        assert not (directory / "old").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(DemoError, match="was not made by"), fresh_directory(tmp_path / "other"):
        pass
    with pytest.raises(DemoError, match="was not made by"), fresh_directory(tmp_path / "other" / "file"):
        pass
