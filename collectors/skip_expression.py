"""`skip_datapoints_expression` of metrics.yml: Python that says of one `datapoint` whether it is left out.

CloudKitty gives it to `eval`. Here it is checked against a list of what is allowed when metrics.yml is read, and
simpleeval walks it: text, numbers, comparisons and arithmetic with bounds, some harmless methods, and nothing else.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec
from simpleeval import EvalWithCompoundTypes, InvalidExpression, safe_add

__all__ = ["MAX_LENGTH", "Skip", "SkipError", "skip_fault"]

MAX_LENGTH = 2000
_MAX_DEPTH = 40  # of nesting: each level costs simpleeval three frames of Python's 1 000
_MAX_BASE, _MAX_EXPONENT = 10**6, 32
_MAX_ROUNDING = 100
_CONTEXT = Context(prec=28, rounding=ROUND_HALF_EVEN)  # Python's default, in which CloudKitty's expressions compute

Datapoint: TypeAlias = dict[str, dict[str, Any]]

_NUMBERS = (int, float, Decimal)
_PARTS = ("vol", "groupby", "metadata")
_VOLUME = ("qty", "unit")
_PLACEHOLDER = "datapoint"

_SYNTAX = (
    ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd, ast.BinOp, ast.Add, ast.Sub, ast.Mult,
    ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In,
    ast.NotIn, ast.Is, ast.IsNot, ast.IfExp, ast.Call, ast.keyword, ast.Attribute, ast.Subscript, ast.Slice, ast.Name,
    ast.Load, ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict,
)  # fmt: skip
_CONSTANTS = (str, int, float, bool, type(None))
_METHODS = {
    dict: {"get", "keys", "values", "items"},
    str: {
        "startswith", "endswith", "lower", "upper", "casefold", "strip", "lstrip", "rstrip", "removeprefix",
        "removesuffix", "split", "partition", "find", "count", "isdigit", "isnumeric", "isalpha", "isalnum",
    },
    Decimal: {"is_zero", "is_signed", "to_integral_value"},
}  # fmt: skip
_METHOD_NAMES = sorted(set[str]().union(*_METHODS.values()))


class SkipError(ValueError):
    """An expression that failed for one point; the message says how."""


class Skip(msgspec.Struct, frozen=True):
    """An expression that `skip_fault` found nothing wrong with."""

    text: str

    def skips(
        self, unit: str, qty: Decimal, groupby: Mapping[str, Any], metadata: Mapping[str, Any], period_begin: int
    ) -> bool:
        """Whether the point is left out, as Python would decide of whatever the expression gives.

        `period_begin`: seconds since the epoch, from which CloudKitty's four calendar labels are made, in UTC. Raises
        SkipError if the expression fails.
        """
        point = _datapoint(unit, qty, groupby, metadata, period_begin)
        walker = EvalWithCompoundTypes(_OPERATORS, dict(_FUNCTIONS), {_PLACEHOLDER: point}, _METHODS)
        try:
            with localcontext(_CONTEXT):
                return bool(walker.eval(self.text, _parsed(self.text)))
        except (InvalidExpression, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as fault:
            raise SkipError(f"{type(fault).__name__}: {fault}"[:500]) from fault


def skip_fault(text: str) -> str:
    """What is wrong with an expression, all of it, as the end of a sentence; empty if nothing is."""
    if len(text) > MAX_LENGTH:
        return f"has {len(text)} characters: at most {MAX_LENGTH} are taken"
    try:
        parsed = _parsed(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as fault:  # the parser's, of what nests too deeply
        said = fault.msg if isinstance(fault, SyntaxError) else str(fault) or type(fault).__name__
        return f"is no expression of Python: {said}"
    if _depth(parsed) > _MAX_DEPTH:
        return f"is nested more than {_MAX_DEPTH} deep: take a simpler one"
    strange = next((node for node in ast.walk(parsed) if not isinstance(node, _SYNTAX)), None)
    if strange is not None:
        return f"uses {type(strange).__name__}, which is not allowed: compare parts of datapoint, with and, or, not"
    return "; ".join(dict.fromkeys(_faults(parsed)))


@lru_cache(maxsize=256)
def _parsed(text: str) -> ast.expr:
    return ast.parse(text.strip(), mode="eval").body


def _datapoint(
    unit: str, qty: Decimal, groupby: Mapping[str, Any], metadata: Mapping[str, Any], period_begin: int
) -> Datapoint:
    """What CloudKitty shows to an expression, without the price: that is not known yet."""
    begin = datetime.fromtimestamp(period_begin, UTC)
    calendar = {
        "week_of_the_year": f"{begin:%U}",
        "day_of_the_year": str(begin.timetuple().tm_yday),
        "month": str(begin.month),
        "year": f"{begin:%Y}",
    }
    return {"vol": {"unit": unit, "qty": qty}, "groupby": {**groupby, **calendar}, "metadata": dict(metadata)}


# --- what is allowed


def _depth(root: ast.AST) -> int:
    depth, level = 0, [root]
    while level and depth <= _MAX_DEPTH:
        depth, level = depth + 1, [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


def _faults(root: ast.expr) -> Iterator[str]:
    """Each thing that must not stand in an expression of allowed syntax."""
    parents = {child: node for node in ast.walk(root) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(root):
        if isinstance(node, ast.Constant) and not isinstance(node.value, _CONSTANTS):
            yield f"holds {node.value!r:.50}: only text, numbers, True, False and None are allowed"
        elif isinstance(node, ast.Name):
            yield from _faults_of_name(node, parents)
        elif isinstance(node, ast.Attribute):
            yield from _faults_of_attribute(node, parents.get(node))
        elif isinstance(node, ast.Call) and not isinstance(node.func, ast.Name | ast.Attribute):
            yield "calls something that has no name"
        elif (isinstance(node, ast.keyword) and not node.arg) or (isinstance(node, ast.Dict) and None in node.keys):
            yield "unpacks a mapping with **, which is not allowed"


def _faults_of_name(node: ast.Name, parents: Mapping[ast.AST, ast.AST]) -> Iterator[str]:
    parent = parents.get(node)
    if isinstance(parent, ast.Call) and parent.func is node:
        if node.id not in _FUNCTIONS:
            yield f"calls {node.id}(), which is unknown: use {', '.join(_FUNCTIONS)}"
        return
    if node.id != _PLACEHOLDER:
        yield f"names {node.id!r}, which is unknown: only {_PLACEHOLDER} is known"
        return
    part, access = _accessed(node, parents)
    if part in ("rating", "price"):
        yield "asks for the price, which is not known when usage is collected"
    elif part not in _PARTS:
        yield f"has to ask {_PLACEHOLDER} for one of {', '.join(_PARTS)}, by ['…'] or .get('…')"
    elif part == "vol":
        key, _ = _accessed(access, parents)
        if key not in _VOLUME:
            yield f"has to ask {_PLACEHOLDER}['vol'] for one of {', '.join(_VOLUME)}"


def _accessed(node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> tuple[object, ast.AST]:
    """The constant key that a mapping is asked for by `[…]` or `.get(…)`, and the node of the whole access."""
    parent = parents.get(node)
    if isinstance(parent, ast.Subscript) and parent.value is node:
        return _constant(parent.slice), parent
    if isinstance(parent, ast.Attribute) and parent.attr == "get":
        call = parents.get(parent)
        if isinstance(call, ast.Call) and call.func is parent and call.args:
            return _constant(call.args[0]), call
    return None, node


def _constant(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def _faults_of_attribute(node: ast.Attribute, parent: ast.AST | None) -> Iterator[str]:
    if node.attr not in _METHOD_NAMES:
        yield f"uses .{node.attr}, which is not allowed: there are {', '.join(_METHOD_NAMES)}"
    elif not isinstance(parent, ast.Call) or parent.func is not node:
        yield f"uses .{node.attr} without calling it"


# --- what is computed, with bounds


def _numbers(left: Any, right: Any, what: str) -> None:
    if not isinstance(left, _NUMBERS) or not isinstance(right, _NUMBERS):
        raise TypeError(f"{what} is for two numbers, not {type(left).__name__} and {type(right).__name__}")


def _multiply(left: Any, right: Any) -> Any:
    _numbers(left, right, "*")
    return left * right


def _remainder(left: Any, right: Any) -> Any:
    _numbers(left, right, "%")
    return left % right


def _power(left: Any, right: Any) -> Any:
    _numbers(left, right, "**")
    if abs(left) > _MAX_BASE or abs(right) > _MAX_EXPONENT:
        raise ValueError(f"** takes numbers up to {_MAX_BASE} and exponents up to {_MAX_EXPONENT}")
    return left**right


def _rounded(number: Any, digits: Any = None) -> Any:
    if digits is not None and not (isinstance(digits, int) and abs(digits) <= _MAX_ROUNDING):
        raise ValueError(f"round takes up to {_MAX_ROUNDING} digits")
    return round(number, digits)


_FUNCTIONS = {
    "abs": abs, "bool": bool, "float": float, "int": int, "len": len, "max": max, "min": min, "round": _rounded,
    "str": str,
}  # fmt: skip
_OPERATORS = {
    ast.Add: safe_add, ast.Sub: operator.sub, ast.Mult: _multiply, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: _remainder, ast.Pow: _power,
    ast.Not: operator.not_, ast.USub: operator.neg, ast.UAdd: operator.pos,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda item, container: item in container, ast.NotIn: lambda item, container: item not in container,
}  # fmt: skip
