"""Usage files in S3-compatible stores, read through the client that comes with pyarrow.

Credentials and the store's address come from where every S3 tool takes them: the variables AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, and the files in ~/.aws.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any, BinaryIO, cast

from pyarrow import ArrowException, fs

from collectors.errors import ReplayError
from collectors.replay.usage_inputs import Inputs, UsageInput, inputs_of

__all__ = ["s3_inputs"]

_CONNECT_SECONDS = 10
_ANSWER_SECONDS = 60


def s3_inputs(address: str) -> Inputs:
    """The object of that name, else all usage files whose names begin with it. Raises ReplayError."""
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    if not bucket:
        raise ReplayError(f"{address} names no bucket: write s3://bucket/prefix")
    try:
        store = _store()
        if prefix and not prefix.endswith("/"):
            named = store.get_file_info(f"{bucket}/{prefix}")
            if named.type == fs.FileType.File:
                return Inputs([_input(store, named)], [])
        found = {f"s3://{info.path}": info for info in _below(store, bucket, prefix)}
    except (OSError, ArrowException) as fault:
        raise ReplayError(
            f"{address} cannot be read: {fault}. Look at AWS_ENDPOINT_URL, AWS_REGION and the credentials"
        ) from fault
    return inputs_of(address, found, lambda name: _input(store, found[name]))


def _below(store: Any, bucket: str, prefix: str) -> list[Any]:
    """All objects whose names begin with the prefix, which need not end at a slash."""
    folder = prefix.rpartition("/")[0]
    selector = fs.FileSelector(f"{bucket}/{folder}".rstrip("/"), recursive=True, allow_not_found=bool(folder))
    return [
        info
        for info in store.get_file_info(selector)
        if info.type == fs.FileType.File and info.path.startswith(f"{bucket}/{prefix}")
    ]


@cache
def _store() -> Any:
    # of what stands in the environment, pyarrow's client does not read the address by itself
    return fs.S3FileSystem(
        endpoint_override=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"),
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_ANSWER_SECONDS,
    )


def _input(store: Any, info: Any) -> UsageInput:
    def mark() -> object:
        now = store.get_file_info(info.path)
        return now.type, now.size, now.mtime_ns

    def opened() -> BinaryIO:
        return cast(BinaryIO, store.open_input_file(info.path))

    return UsageInput(f"s3://{info.path}", info.size, opened, mark)
