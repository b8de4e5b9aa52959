"""The schemas of releases, `schemas/released/VERSION/`, and what has changed since the last of them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from rater.contracts.compatibility import ContractError, Parties, unread

__all__ = ["ACCEPTED", "Verdict", "judge", "latest", "release"]

ACCEPTED = "accepted.yaml"
"""Beside the releases: findings that are accepted, each with the reason."""

_SENT = frozenset({"rated", "alerts", "rejected-headers"})
"""Documents of what rater sends: whoever reads it may be older. What is sent to rater is read by the newest (the order
of an upgrade), and files are read by it alone."""
_OPEN = ("type", "Alert.kind")
"""Kinds that readers pass over if they do not know them."""
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([a-z0-9.]+))?")


class Verdict(NamedTuple):
    """What was compared with what, and each fault in a sentence. None left: compatible."""

    version: str
    documents: int
    findings: list[str]
    accepted: int


def judge(directory: Path) -> Verdict:
    """Compares the schemas in `directory` with those of the last release below it.

    Raises ContractError if there is none, or if what is accepted is no list of findings with reasons.
    """
    version = latest(directory / "released")
    old, new = _schemas(directory / "released" / version), _schemas(directory)
    found = [f"{name}: the document is gone" for name in old.keys() - new.keys()]
    for name in sorted(old.keys() & new.keys()):
        backward = Parties(f"records of {version}", "programs of today")
        found += [f"{name}: {fault}" for fault in unread(old[name], new[name], backward)]
        if name in _SENT:
            forward = Parties("records of today", f"programs made for {version}", _OPEN)
            found += [f"{name}: {fault}" for fault in unread(new[name], old[name], forward)]
        found += [f"{name}: {fault}" for fault in _removed(old[name], new[name])]
    accepted = _accepted(directory / "released" / ACCEPTED)
    found += [f"{ACCEPTED}: this is found no more, take it out: {text}" for text in accepted if text not in found]
    return Verdict(version, len(old), [text for text in found if text not in accepted], len(accepted))


def latest(released: Path) -> str:
    """The name of the highest version below `released`. Raises ContractError if there is none."""
    names = [path.name for path in released.iterdir() if path.is_dir()] if released.is_dir() else []
    odd = [name for name in names if not _VERSION.fullmatch(name)]
    if odd or not names:
        raise ContractError(f"{released}: {'no release is here' if not names else f'{odd[0]} is no version'}")
    return max(names, key=_rank)


def release(directory: Path, version: str) -> Path:
    """Copies the schemas as those of a release; the directory. What was accepted since the last one is forgotten.

    Raises ContractError if `version` is none, or was released before.
    """
    if not _VERSION.fullmatch(version):
        raise ContractError(f"{version!r} is no version: it must be like 1.2.0 or 1.2.0-rc1")
    target = directory / "released" / version
    if target.exists():
        raise ContractError(f"{target} is there already: what was released does not change")
    target.mkdir(parents=True)
    for name in _schemas(directory):
        shutil.copyfile(directory / f"{name}.json", target / f"{name}.json")
    (directory / "released" / ACCEPTED).write_text("[]\n", encoding="utf-8")
    return target


def _rank(version: str) -> tuple[int, int, int, bool, str]:
    found = _VERSION.fullmatch(version)
    assert found is not None, "only versions come here"
    major, minor, patch, before = found.groups()
    return int(major), int(minor), int(patch), before is None, before or ""


def _schemas(directory: Path) -> dict[str, Mapping[str, Any]]:
    """Those of records and files by name; the HTTP service's document is none of them."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(directory.glob("*.json"))}
    return {name: schema for name, schema in found.items() if "$id" in schema}


def _removed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Fields of structs that are there no more. Readers take such a field as left out, and go on with a wrong value."""
    return [
        f"{struct}.{field}: the field is gone, and programs that read it take its default"
        for struct, schema in old["$defs"].items()
        for field in schema.get("properties", {})
        if struct in new["$defs"]
        and field not in schema.get("required", ())
        and field not in new["$defs"][struct].get("properties", {})
    ]


def _accepted(path: Path) -> dict[str, str]:
    """Finding and reason."""
    if not path.exists():
        return {}
    read = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    try:
        found = {str(entry["finding"]): str(entry["reason"]).strip() for entry in read}
    except (TypeError, KeyError):
        found = {"": ""}
    if not all(found.values()):
        raise ContractError(f"{path}: must be a list of entries with `finding` (its sentence, whole) and `reason`")
    return found
