"""A policy file: rules by the names of actions, as YAML or JSON, with the line of every fault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rater.api.policy_language import PolicyError, Rule, parse_rule
from rater.model.document import DocumentError, Node, load, plain
from rater.model.errors import RaterError

__all__ = ["PolicyFileError", "read_policy"]

_MAX_BYTES = 1024 * 1024


class PolicyFileError(RaterError):
    """A policy file that cannot be used: one `file:line: name: what is wrong` per line of the message."""


def read_policy(path: str, defaults: Mapping[str, Rule]) -> Mapping[str, Rule]:
    """`defaults`, with what the file at that path says in their place. Raises PolicyFileError.

    A name with a colon is that of an action, and has to be one in `defaults`. Any other name is for rules that refer to
    it, and at least one has to.
    """
    tree = _tree(path)
    if tree.kind == "null":  # nothing but comments, as the generator of samples writes it
        return defaults
    if tree.kind != "map":
        raise PolicyFileError(f"{path}:{tree.line}: a mapping of names to rules belongs here")
    faults: list[str] = []
    rules, lines = dict(defaults), dict[str, int]()
    for key, value in tree.entries:
        lines[key.text] = key.line
        try:
            rules[key.text] = parse_rule(plain(value))
        except PolicyError as fault:
            faults.append(f"{path}:{value.line}: {key.text}: {fault}")
    for name, said in _lost(rules, defaults, lines):
        faults.append(f"{path}:{lines[name]}: {name}: {said}")
    if faults:
        raise PolicyFileError("\n".join(faults))
    return rules


def _tree(path: str) -> Node:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise PolicyFileError(f"api.policy_file {path} has more than {_MAX_BYTES} bytes")
        return load(content.decode(), path)
    except OSError as fault:
        raise PolicyFileError(f"api.policy_file {path} cannot be read: {fault.strerror}") from fault
    except UnicodeDecodeError:
        raise PolicyFileError(f"api.policy_file {path} is not text in UTF-8") from None
    except DocumentError as fault:
        said = "\n".join(f"{path}:{problem.line}: {problem.message}" for problem in fault.problems)
        raise PolicyFileError(said) from None


def _lost(
    rules: Mapping[str, Rule], defaults: Mapping[str, Rule], lines: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    """Names in the file that lead nowhere."""
    used = frozenset[str]().union(*(rule.refers_to for rule in rules.values()))
    for name in lines:
        if name not in defaults and ":" in name:
            yield name, "there is no such action"
        elif name not in defaults and name not in used:
            yield name, "is no action, and no rule refers to it"
        for other in sorted(rules[name].refers_to - rules.keys() if name in rules else ()):
            yield name, f"refers to rule {other!r}, which is not there"
        if name in rules and name in _reached(name, rules):
            yield name, "refers to itself"


def _reached(name: str, rules: Mapping[str, Rule]) -> set[str]:
    """Every rule that it refers to, by others as well."""
    found: set[str] = set()
    waiting = list(rules[name].refers_to)
    while waiting:
        one = waiting.pop()
        if one not in found and one in rules:
            found.add(one)
            waiting += rules[one].refers_to
    return found
