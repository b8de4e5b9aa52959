"""Replay from a store that speaks S3: moto's server as a process of its own."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from collectors.errors import ReplayError
from collectors.replay.run import replay_files
from collectors.replay.usage_inputs import usage_inputs
from collectors.replay.usage_reader import open_input
from collectors.replay.usage_s3 import _store
from collectors.replay.words import ReplayOptions
from deploy.local.kafka import LaptopKafka
from rater.kafka import KafkaSettings, Topic, create_topics
from rater.model.interval import Interval
from rater.model.usage import Collection
from tests.integration.judged import records, usage
from tests.integration.s3.server import s3_server

T = 1_767_225_600  # 2026-01-01T00:00:00Z
P = 3600
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of an empty store."""
    with s3_server() as address:
        yield address


@pytest.fixture
def store(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket, and an environment that leads to it."""
    for name, value in (
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "somebody"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)
    _store.cache_clear()
    client = fs.S3FileSystem(
        endpoint_override=endpoint, access_key="a", secret_key="b", region="us-east-1", allow_bucket_creation=True,
        allow_bucket_deletion=True,
    )  # fmt: skip
    client.create_dir("usage")
    yield client
    client.delete_dir("usage")
    _store.cache_clear()


def _put(client: Any, name: str, content: bytes) -> None:
    with client.open_output_stream(f"usage/{name}", compression=None) as stream:
        stream.write(content)


def _lines(scope_id: str, hours: range) -> bytes:
    lines = (
        {"scope_id": scope_id, "metric": "cpu", "begin": f"2026-01-01T{hour:02}:00:00Z", "qty": "1"} for hour in hours
    )
    return "\n".join(map(json.dumps, lines)).encode()


async def test_a_prefix_is_replayed(store: Any, kafka: LaptopKafka) -> None:
    """Given packed and plain objects under a prefix and others beside it; then the usage of the prefix is there."""
    settings = KafkaSettings(bootstrap=kafka.bootstrap, prefix="from-s3.", partitions=2)
    await create_topics(settings)
    _put(store, "2026-01/a.jsonl.gz", gzip.compress(_lines("p1", range(12))))
    _put(store, "2026-01/deep/b.csv", b"scope_id,metric,begin,qty\np2,cpu,2026-01-01T05:00:00Z,7\n")
    _put(store, "2026-01/_SUCCESS", b"")
    _put(store, "2026-02/c.jsonl", _lines("p3", range(1)))
    options = ReplayOptions(covers=(Interval(T, T + 24 * P),))

    report = await replay_files(["s3://usage/2026-01/"], settings, options)

    assert (report.files, report.samples, report.scopes) == (2, 13, ("p1", "p2"))
    assert report.remarks == ("s3://usage/2026-01/: left out, no usage file by its name: s3://usage/2026-01/_SUCCESS",)
    found = [read for read in await usage(settings) if isinstance(read, Collection)]
    assert sum(len(part.samples) for part in found) == 13
    assert len(found) == 2 * 24
    assert await records(settings, Topic.REJECTED) == []


def test_an_object_a_prefix_and_part_of_a_name(store: Any) -> None:
    for name in ("x/a1.jsonl", "x/a2.jsonl", "x/b.jsonl", "y.jsonl"):
        _put(store, name, _lines("p1", range(3)))

    def names(address: str) -> list[str]:
        return [file.name.removeprefix("s3://usage/") for file in usage_inputs([address]).files]

    assert names("s3://usage/x/a1.jsonl") == ["x/a1.jsonl"]
    assert names("s3://usage/x/a") == ["x/a1.jsonl", "x/a2.jsonl"]
    assert names("s3://usage/x") == ["x/a1.jsonl", "x/a2.jsonl", "x/b.jsonl"]
    assert names("s3://usage") == ["x/a1.jsonl", "x/a2.jsonl", "x/b.jsonl", "y.jsonl"]
    with pytest.raises(ReplayError, match=r"x/a1\.jsonl is named twice"):
        names("s3://usage/x/a1.jsonl") and usage_inputs(["s3://usage/x/a1.jsonl", "s3://usage/x"])


def test_what_is_not_there_is_an_error_that_says_where_to_look(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReplayError, match="s3://usage/none holds no usage file"):
        usage_inputs(["s3://usage/none"])
    with pytest.raises(ReplayError, match=r"s3://nobody cannot be read: .*NO_SUCH_BUCKET.*Look at AWS_ENDPOINT_URL"):
        usage_inputs(["s3://nobody"])
    with pytest.raises(ReplayError, match="s3:// names no bucket"):
        usage_inputs(["s3://"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    _store.cache_clear()
    with pytest.raises(ReplayError, match=r"s3://usage/x cannot be read: .*NETWORK_CONNECTION"):
        usage_inputs(["s3://usage/x"])


def test_an_object_that_changes_while_it_is_read_is_an_error(store: Any) -> None:
    _put(store, "a.jsonl", _lines("p1", range(3)))
    (source,) = usage_inputs(["s3://usage/a.jsonl"]).files

    with open_input(source) as file:
        lines = file.lines()
        next(lines)
        _put(store, "a.jsonl", _lines("p1", range(4)))
        with pytest.raises(ReplayError, match=r"s3://usage/a\.jsonl changed while it was read"):
            list(lines)


def test_credentials_of_a_file(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given no credentials in the environment but a file of them; then the store is read with those."""
    _put(store, "a.jsonl", _lines("p1", range(3)))
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    held = tmp_path / "credentials"
    held.write_text("[other]\naws_access_key_id = somebody\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(held))
    monkeypatch.setenv("AWS_PROFILE", "other")
    _store.cache_clear()

    with open_input(usage_inputs(["s3://usage/a.jsonl"]).files[0]) as file:
        assert len(list(file.lines())) == 3
