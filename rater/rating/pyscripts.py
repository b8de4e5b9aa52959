"""What can be said of a rating script without running it: whether it compiles, and which modules it imports.

Scripts run in `rater.sandbox`; here they are text. Another version of Python may judge otherwise.
"""

from __future__ import annotations

import ast
import warnings

from rater.model.rules import MAX_SCRIPT

__all__ = ["check_script", "imported_modules"]


def check_script(name: str, data: str) -> list[tuple[int, str]]:
    """The faults that keep a script from being stored, as (line, what); line 0 is the whole; empty if it has none."""
    if len(data) > MAX_SCRIPT:
        return [(0, f"has {len(data)} characters: at most {MAX_SCRIPT} are taken")]
    if "\0" in data:
        return [(data.count("\n", 0, data.index("\0")) + 1, "holds a null character")]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a doubtful script is no wrong one
            compile(data, f"<script {name}>", "exec", dont_inherit=True)
    except SyntaxError as fault:
        return [(fault.lineno or 0, fault.msg)]
    except (RecursionError, MemoryError):
        return [(0, "is nested too deeply")]
    except (ValueError, OverflowError) as fault:
        return [(0, f"cannot be compiled: {fault}")]
    return []


def imported_modules(data: str) -> list[str]:
    """Full names of the modules that a script may import, sorted, without repetition.

    `from a import b` names `a` and `a.b`, which may be a module. Of `__import__` and `import_module` only those with
    a name written out are seen. Nothing for a script that does not compile.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data)
        nodes = list(ast.walk(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return []
    return sorted({name for node in nodes for name in _names(node)})


def _names(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(module), names=names, level=0):
            return [module, *(f"{module}.{alias.name}" for alias in names if alias.name != "*")]
        case ast.Call(
            func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            return [name]
    return []
