"""Reads the text of a rule document with every check at once, so that all faults are named together.

Pure: files that the document names are read by a function of the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from decimal import Decimal
from typing import TypeAlias, TypeVar

import msgspec

from rater.model.document import Node, Problems, load
from rater.model.errors import RaterError
from rater.model.rulefile import (
    MAX_LABELS,
    MAX_STEPS,
    FileField,
    FileHashmap,
    FileMapping,
    FileModule,
    FilePyscripts,
    FileScript,
    FileService,
    FileServiceMapping,
    FileStep,
    FileThreshold,
    FileTiers,
    RuleFile,
    keys_of,
)
from rater.model.rules import MAX_SCRIPT, RuleType, cost_fault, level_fault, number_text
from rater.rating.chain import BUILT_IN
from rater.rating.pyscripts import check_script
from rater.rating.ruledoc import (
    SECTIONS,
    DocumentField,
    DocumentMapping,
    DocumentScript,
    DocumentService,
    DocumentStep,
    DocumentThreshold,
    DocumentTiers,
    HashmapSection,
    ModuleState,
    PlacedRule,
    PyscriptsSection,
    RuleDocument,
    clashes,
)

__all__ = ["CheckScript", "ReadFile", "ScriptFileError", "parse"]

MAX_FILE_NAME = 1000
RULES = ("mappings", "thresholds", "fields")  # what a service has that has no tiers

ReadFile: TypeAlias = Callable[[str], str]
CheckScript: TypeAlias = Callable[[str, str], Sequence[tuple[int, str]]]
T = TypeVar("T")


class ScriptFileError(RaterError):
    """A file that a rule document names and that cannot be read; its text is the fault of the document."""


def _no_files(_name: str) -> str:
    raise ScriptFileError("files are not read here: give the script itself as 'data'")


def parse(
    text: str,
    name: str,
    *,
    read_file: ReadFile = _no_files,
    modules: Collection[str] = BUILT_IN,
    check: CheckScript = check_script,
) -> RuleDocument:
    """The rules of a YAML or JSON text; `name` is the file name for messages.

    `read_file` gives the content of a file that the document names, relative to the document, or raises
    ScriptFileError. `modules` are the rating modules there are. `check` gives line and fault for each fault of a
    script's syntax, by its name and text. Raises DocumentError that lists every fault with line and path.
    """
    problems = Problems(name)
    document = _Reader(problems, read_file, modules, check).document(load(text, name))
    problems.refuse()
    return document


class _Reader:
    """Reads the nodes of one document; what has a fault is noted and left out."""

    def __init__(self, problems: Problems, read_file: ReadFile, modules: Collection[str], check: CheckScript) -> None:
        self._problems = problems
        self._read_file = read_file
        self._known_modules = sorted({*SECTIONS, *modules})
        self._check = check
        self._groups: dict[str, None] = {}
        self._placed: list[PlacedRule] = []

    def document(self, root: Node) -> RuleDocument:
        sections = self._members(root, RuleFile)
        modules = self._modules(sections)
        hashmap, pyscripts = _given(sections, "hashmap"), _given(sections, "pyscripts")
        services = () if hashmap is None else self._hashmap(hashmap)
        for later, first, reason in clashes(self._placed):
            place = f"{first.path} on line {first.line}"
            self._problems.add(Node("map", later.path, later.line), f"{reason}; see {place}")
        scripts = () if pyscripts is None else self._pyscripts(pyscripts)
        return RuleDocument(modules, HashmapSection(tuple(self._groups), services), PyscriptsSection(scripts))

    def _members(self, node: Node, kind: type[msgspec.Struct]) -> dict[str, Node]:
        return self._problems.members(node, *keys_of(kind))

    def _modules(self, sections: dict[str, Node]) -> dict[str, ModuleState]:
        given = _given(sections, "modules")
        missing = self._not_installed(given)
        nodes = {} if given is None else self._problems.members(given, [*self._known_modules, *missing])
        states = {}
        for name in (*SECTIONS, *(name for name in nodes if name not in SECTIONS)):
            of_section = name in SECTIONS
            node = _given(nodes, name) if of_section else nodes[name]
            enabled, priority = name in sections or name in missing, 1
            if node is not None:
                known, _ = keys_of(FileModule)
                keys = self._problems.members(node, known, () if of_section or name in missing else ("enabled",))
                if "enabled" in keys:
                    enabled = bool(self._problems.boolean(keys["enabled"]))
                if "priority" in keys:
                    priority = self._problems.integer(keys["priority"], 1, 1_000_000) or 1
            states[name] = ModuleState(enabled, priority)
            if enabled and name in missing:
                names = ", ".join(self._known_modules)
                self._problems.add(
                    missing[name],
                    f"no rating module {name!r} is installed here: install the package that offers it "
                    f"(entry point rater.rating), or correct the name: {names}",
                )
        return states

    def _not_installed(self, given: Node | None) -> dict[str, Node]:
        """The keys that may name a module, by name; one that is switched off need not be installed."""
        if given is None:
            return {}
        names = [key for key, _ in given.entries if key.kind == "str" and key.text not in self._known_modules]
        return {key.text: key for key in names if self._problems.text(key) is not None}

    def _hashmap(self, node: Node) -> tuple[DocumentService, ...]:
        keys = self._members(node, FileHashmap)
        for item in self._problems.items(keys.get("groups")):
            group = self._problems.text(item)
            if group in self._groups:
                self._problems.add(item, f"group {group!r} is listed twice")
            elif group is not None:
                self._groups[group] = None
        return self._named(keys.get("services"), "service", self._service)

    def _named(
        self,
        node: Node | None,
        what: str,
        read: Callable[[Node], tuple[Node | None, T]],
        mend: str = "put them together",
    ) -> tuple[T, ...]:
        """The services, fields or scripts of a list; a name that was given before is a fault."""
        first: dict[str, Node] = {}
        found = []
        for item in self._problems.items(node):
            name, value = read(item)
            if name is not None and name.text and first.setdefault(name.text, name) is not name:
                line = first[name.text].line
                self._problems.add(name, f"a second {what} named {name.text!r}: first on line {line}, {mend}")
            found.append(value)
        return tuple(found)

    def _service(self, node: Node) -> tuple[Node | None, DocumentService]:
        keys = self._members(node, FileService)
        service = DocumentService(
            self._name(keys),
            self._mappings(node, keys.get("mappings"), of_field=False),
            self._thresholds(node, keys.get("thresholds")),
            self._named(keys.get("fields"), "field", self._field),
            self._tiers(keys),
        )
        if service.tiers is not None and any(keys[key].items for key in RULES if key in keys):
            self._problems.add(
                keys["tiers"], "a service has tiers, or mappings, thresholds and fields: take one of the two out"
            )
        return keys.get("name"), service

    def _tiers(self, keys: dict[str, Node]) -> DocumentTiers | None:
        node = _given(keys, "tiers")
        if node is None or (node.kind == "map" and not node.entries):
            return None
        parts = self._problems.members(node, keys_of(FileTiers)[0], ("steps",))
        labels: list[str] = []
        for item in self._problems.items(parts.get("by")):
            label = self._problems.text(item)
            if label in labels:
                self._problems.add(item, f"label {label!r} is listed twice")
            elif label is not None:
                labels.append(label)
        if len(labels) > MAX_LABELS:
            self._problems.add(parts["by"], f"has {len(labels)} labels: at most {MAX_LABELS} are taken")
        return DocumentTiers(self._steps(parts["steps"]) if "steps" in parts else (), tuple(labels))

    def _steps(self, node: Node) -> tuple[DocumentStep, ...]:
        items = self._problems.items(node)
        if not items and node.kind in ("list", "null"):
            self._problems.add(node, "has no steps: give at least one")
        if len(items) > MAX_STEPS:
            self._problems.add(node, f"has {len(items)} steps: at most {MAX_STEPS} are taken")
        steps = []
        floor = Decimal(0)
        for number, item in enumerate(items, 1):
            keys = self._members(item, FileStep)
            step = DocumentStep(self._number(keys, "cost", cost_fault), self._bound(item, keys, number == len(items)))
            if step.up_to is not None:
                if step.up_to <= floor:
                    before = ", the bound of the step before" if floor else ""
                    self._problems.add(
                        keys["up_to"],
                        f"is {number_text(step.up_to)}: it must be more than {number_text(floor)}{before}",
                    )
                floor = max(floor, step.up_to)
            steps.append(step)
        return tuple(steps)

    def _bound(self, step: Node, keys: dict[str, Node], last: bool) -> Decimal | None:
        node = _given(keys, "up_to")
        if last and node is not None:
            self._problems.add(node, "the last step must be without bound: set up_to to null")
        elif node is not None:
            before = len(self._problems.found)
            bound = self._number(keys, "up_to", level_fault)
            return bound if len(self._problems.found) == before else None
        elif not last and step.kind == "map":
            self._problems.add(step, "only the last step is without bound: give up_to a number")
        return None

    def _field(self, node: Node) -> tuple[Node | None, DocumentField]:
        keys = self._members(node, FileField)
        return keys.get("name"), DocumentField(
            self._name(keys),
            self._mappings(node, keys.get("mappings"), of_field=True),
            self._thresholds(node, keys.get("thresholds")),
        )

    def _name(self, keys: dict[str, Node]) -> str:
        return self._problems.text(keys["name"]) or "" if "name" in keys else ""

    def _mappings(self, parent: Node, node: Node | None, *, of_field: bool) -> tuple[DocumentMapping, ...]:
        found = []
        for item in self._problems.items(node):
            rule = self._mapping(item, of_field=of_field)
            if rule is not None:
                self._placed.append(PlacedRule(parent.path, item.path, item.line, rule))
                found.append(rule)
        return tuple(found)

    def _mapping(self, node: Node, *, of_field: bool) -> DocumentMapping | None:
        before = len(self._problems.found)
        keys = self._members(node, FileMapping if of_field else FileServiceMapping)
        text, instant = self._problems.text, self._problems.instant
        value = _given(keys, "value")
        if value is not None and not of_field:
            self._problems.add(value, "a mapping of a service has no value: put it under a field, or drop the value")
        elif value is None and "value" in keys and of_field:
            self._problems.text(keys["value"])  # notes that it is null
        rule = DocumentMapping(
            self._number(keys, "cost", cost_fault),
            (text(value) or "") if value is not None and of_field else "",
            self._type(keys),
            self._group(keys),
            self._optional(keys, "tenant_id", text),
            self._optional(keys, "start", instant),
            self._optional(keys, "end", instant),
            self._optional(keys, "name", lambda name: text(name, 32)),
            self._optional(keys, "description", lambda description: text(description, 256, empty=True)),
        )
        self._check_dates(rule, keys)
        return rule if len(self._problems.found) == before else None

    def _thresholds(self, parent: Node, node: Node | None) -> tuple[DocumentThreshold, ...]:
        found = []
        for item in self._problems.items(node):
            before = len(self._problems.found)
            keys = self._members(item, FileThreshold)
            rule = DocumentThreshold(
                self._number(keys, "level", level_fault),
                self._number(keys, "cost", cost_fault),
                self._type(keys),
                self._group(keys),
                self._optional(keys, "tenant_id", self._problems.text),
            )
            if len(self._problems.found) == before:
                self._placed.append(PlacedRule(parent.path, item.path, item.line, rule))
                found.append(rule)
        return tuple(found)

    def _pyscripts(self, node: Node) -> tuple[DocumentScript, ...]:
        keys = self._members(node, FilePyscripts)
        return self._named(keys.get("scripts"), "script", self._script, "give each its own")

    def _script(self, node: Node) -> tuple[Node | None, DocumentScript]:
        keys = self._members(node, FileScript)
        text, instant = self._problems.text, self._problems.instant
        name = self._name(keys)
        script = DocumentScript(
            name,
            self._source(node, keys, name),
            self._optional(keys, "start", instant),
            self._optional(keys, "end", instant),
            self._optional(keys, "description", lambda description: text(description, 256, empty=True)),
        )
        self._check_dates(script, keys)
        return keys.get("name"), script

    def _source(self, script: Node, keys: dict[str, Node], name: str) -> str:
        """The text of a script, empty if it has a fault."""
        data, file = keys.get("data"), keys.get("file")
        if data is None and file is None:
            if script.kind == "map":
                self._problems.add(script, "'data' or 'file' is missing")
            return ""
        if data is not None and file is not None:
            self._problems.add(file, "a script has 'data' or 'file', not both: take one out")
            return ""
        if data is not None:
            source = self._problems.text(data, MAX_SCRIPT, empty=True)
            if source is not None:
                self._check_source(data, name, source, data.line + 1 if data.literal else None)
            return source or ""
        assert file is not None, "one of the two is there"
        return self._file(file, name)

    def _file(self, node: Node, name: str) -> str:
        path = self._problems.text(node, MAX_FILE_NAME)
        if path is None:
            return ""
        try:
            source = self._read_file(path)
        except ScriptFileError as fault:
            self._problems.add(node, str(fault))
            return ""
        if len(source) > MAX_SCRIPT:
            self._problems.add(node, f"{path} has {len(source)} characters: at most {MAX_SCRIPT} are taken")
            return ""
        self._check_source(node, name, source, None)
        return source

    def _check_source(self, node: Node, name: str, source: str, first_line: int | None) -> None:
        """`first_line` is where the script's first line stands in the document, if its lines stand in it."""
        for line, fault in self._check(name, source):
            at = node.line if first_line is None or not line else first_line + line - 1
            place = f"line {line} of the script" if line else "the script"
            self._problems.add(Node("str", node.path, at), f"{place}: {fault}")

    def _check_dates(self, rule: DocumentMapping | DocumentScript, keys: dict[str, Node]) -> None:
        if rule.start is not None and rule.end is not None and rule.end < rule.start:
            self._problems.add(keys["end"], "end is before start")

    def _number(self, keys: dict[str, Node], key: str, fault_of: Callable[[Decimal], str]) -> Decimal:
        number = self._problems.decimal(keys[key]) if key in keys else None
        if number is None:
            return Decimal(0)
        if fault := fault_of(number):
            self._problems.add(keys[key], fault)
            return Decimal(0)
        return Decimal(number_text(number))

    def _type(self, keys: dict[str, Node]) -> RuleType:
        word = self._optional(keys, "type", lambda node: self._problems.choice(node, [kind.value for kind in RuleType]))
        return RuleType.FLAT if word is None else RuleType(word)

    def _group(self, keys: dict[str, Node]) -> str | None:
        group = self._optional(keys, "group", self._problems.text)
        if group is not None:
            self._groups.setdefault(group)
        return group

    @staticmethod
    def _optional(keys: dict[str, Node], key: str, read: Callable[[Node], T | None]) -> T | None:
        node = _given(keys, key)
        return None if node is None else read(node)


def _given(keys: dict[str, Node], key: str) -> Node | None:
    """The member of that key unless it is absent or null."""
    node = keys.get(key)
    return None if node is None or node.kind == "null" else node
