"""The language of oslo.policy: `role:reader and project_id:%(project_id)s`, made into checks. Pure.

Why not the library: it takes a fault in a file for `nobody may`, says so in a log at the first request, and lets a
name that nobody asks for pass; it looks at the file within each request; `http:` checks would hold up all others; and
it brings a dozen packages. A test holds the answers of both side by side.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from rater.model.errors import RaterError

__all__ = ["Check", "Facts", "PolicyError", "Rule", "parse_rule"]

_MAX_DEPTH = 50
_MAX_WORDS = 1000
_PLACE = re.compile(r"%\(([^()%\s]+)\)s")
_REMOTE = ("http", "https")


class PolicyError(RaterError):
    """A rule that cannot be read."""


class Facts(msgspec.Struct, frozen=True):
    """What a rule is asked about."""

    who: Mapping[str, Any]
    """Who asks; `roles` in small letters."""
    target: Mapping[str, Any]
    """What about."""
    rules: Mapping[str, Rule]
    """What `rule:…` refers to."""


Check: TypeAlias = Callable[[Facts], bool]


class Rule(msgspec.Struct, frozen=True):
    """A rule that can be asked, and the names of the rules that it refers to."""

    check: Check
    refers_to: frozenset[str] = frozenset()


def parse_rule(rule: object) -> Rule:
    """A rule as text, or in the old form as a list (one of) of lists (all of). Raises PolicyError."""
    if isinstance(rule, str):
        return _Parser(rule).rule()
    if not isinstance(rule, list):
        raise PolicyError("give a rule as text, such as role:admin; an empty text allows everybody")
    if not rule:
        return _ALWAYS
    # an empty list in a list says nothing; a list of such says that nobody may
    alternatives = [[one] if isinstance(one, str) else one for one in rule if one]
    if not all(isinstance(one, list) and all(isinstance(word, str) for word in one) for one in alternatives):
        raise PolicyError("a rule in the form of a list has texts in it, or lists of texts")
    return _any_of([_all_of([_word(word) for word in one]) for one in alternatives])


_ALWAYS = Rule(lambda facts: True)
_NEVER = Rule(lambda facts: False)


def _all_of(rules: Sequence[Rule]) -> Rule:
    if len(rules) == 1:
        return rules[0]
    checks = [rule.check for rule in rules]
    return Rule(lambda facts: all(check(facts) for check in checks), _names(rules))


def _any_of(rules: Sequence[Rule]) -> Rule:
    if len(rules) == 1:
        return rules[0]
    checks = [rule.check for rule in rules]
    return Rule(lambda facts: any(check(facts) for check in checks), _names(rules))


def _names(rules: Sequence[Rule]) -> frozenset[str]:
    return frozenset[str]().union(*(rule.refers_to for rule in rules))


class _Parser:
    """or < and < not < (…), word. A word ends at a blank; parentheses count at its begin and end only."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words = list(_words(text))
        if len(self._words) > _MAX_WORDS:
            raise PolicyError(f"has more than {_MAX_WORDS} words")
        self._at = 0
        self._depth = 0

    def rule(self) -> Rule:
        if not self._text:
            return _ALWAYS
        found = self._either()
        if self._at < len(self._words):
            raise PolicyError(f"and, or or the end belongs {self._here()}")
        return found

    def _either(self) -> Rule:
        found = [self._both()]
        while self._taken("or"):
            found.append(self._both())
        return _any_of(found)

    def _both(self) -> Rule:
        found = [self._one()]
        while self._taken("and"):
            found.append(self._one())
        return _all_of(found)

    def _one(self) -> Rule:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise PolicyError(f"is nested deeper than {_MAX_DEPTH} times")
        try:
            return self._taken_one()
        finally:
            self._depth -= 1

    def _taken_one(self) -> Rule:
        if self._taken("not"):
            inner = self._one()
            check = inner.check
            return Rule(lambda facts: not check(facts), inner.refers_to)
        if self._taken("("):
            found = self._either()
            if not self._taken(")"):
                raise PolicyError(f"a closing parenthesis belongs {self._here()}")
            return found
        if self._at == len(self._words) or self._words[self._at].lower() in ("and", "or", ")"):
            raise PolicyError(f"a check, such as role:admin, belongs {self._here()}")
        self._at += 1
        return _word(self._words[self._at - 1])

    def _taken(self, word: str) -> bool:
        is_next = self._at < len(self._words) and self._words[self._at].lower() == word
        self._at += is_next
        return is_next

    def _here(self) -> str:
        return f"in place of {self._words[self._at]!r}" if self._at < len(self._words) else "at the end"


def _words(text: str) -> Iterator[str]:
    for part in text.split():
        inner = part.lstrip("(")
        yield from "(" * (len(part) - len(inner))
        word = inner.rstrip(")")
        if word:
            yield word
        yield from ")" * (len(inner) - len(word))


def _word(word: str) -> Rule:
    """One check. Raises PolicyError."""
    if word in ("@", "!"):
        return _ALWAYS if word == "@" else _NEVER
    kind, colon, match = word.partition(":")
    if not colon or not kind:
        raise PolicyError(f"{word!r} is no check: give kind:value, such as role:admin")
    if kind == "rule":
        return Rule(lambda facts: facts.rules[match].check(facts), frozenset({match}))
    if kind in _REMOTE:
        raise PolicyError(f"{word!r}: no other server is asked what is allowed")
    wanted = _template(word, match)
    if kind == "role":
        return Rule(lambda facts: (text := wanted(facts)) is not None and text.lower() in facts.who["roles"])
    literal = _literal(word, kind)
    if literal is not None:
        return Rule(lambda facts: wanted(facts) == literal)
    path = kind.split(".")
    return Rule(lambda facts: (text := wanted(facts)) is not None and _is_in(facts.who, path, text))


def _template(word: str, match: str) -> Callable[[Facts], str | None]:
    """What `%(name)s` of the target make of it; None if the target has no such member."""
    if "%" in _PLACE.sub("", match):
        raise PolicyError(f"{word!r}: % stands for %(name)s and for nothing else")

    def filled(facts: Facts) -> str | None:
        try:
            return _PLACE.sub(lambda place: str(facts.target[place[1]]), match)
        except KeyError:
            return None

    return filled


def _literal(word: str, kind: str) -> str | None:
    """A value such as True or 'Member' in place of a name; None for a name."""
    try:
        return str(ast.literal_eval(kind))
    except ValueError:
        return None
    except (SyntaxError, MemoryError, RecursionError):
        raise PolicyError(f"{word!r}: {kind!r} is neither a name nor a value") from None


def _is_in(value: Any, path: Sequence[str], text: str) -> bool:
    """Whether the member that the path leads to is that text; of a list, whether one of its items is."""
    for number, name in enumerate(path):
        if not isinstance(value, Mapping) or name not in value:
            return False
        value = value[name]
        if isinstance(value, list | tuple):
            return any(_is_in(item, path[number + 1 :], text) for item in value)
    return str(value) == text
