"""Whether every ``$expression`` of a bundle's configs compiles, and the names in it exist; none is evaluated."""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from voxel_ext.sharing.bundle import Bundle
from voxel_ext.sharing.checks_commands import commands, items, shown
from voxel_ext.sharing.checks_modules import TRUSTED, UNKNOWN, binding_problem, find_module, follow, installed
from voxel_ext.sharing.checks_outcome import Check, outcome


def check_expressions(bundle: Bundle) -> Check:
    """Check the expressions and imports of every command."""
    found: dict[tuple[str, str], str] = {}
    known: dict[tuple[str, frozenset[str]], list[str]] = {}
    number = 0
    for command in commands(bundle.root):
        texts = [(where, value) for where, value in items(command.content) if is_expression(value)]
        names = imported(value for _, value in texts)
        for where, value in texts:
            key = (value, frozenset(names))
            if key not in known:
                known[key] = problems_of(value, names, bundle.root)
            for problem in known[key]:
                found.setdefault((where, problem), command.label)
        number += len(texts)
    problems = [f"{label}: {shown(where)}: {problem}" for (where, problem), label in found.items()]
    return outcome("expressions", problems, f"{number} in {len(commands(bundle.root))} commands")


def is_expression(value: object) -> bool:
    """Return whether a config's value is an expression or an import."""
    return isinstance(value, str) and value.startswith("$")


def import_of(text: str) -> tuple[str, str, str] | None:
    """Return the module, the name in it (or empty) and the name it gets, if a config's text is an import.

    As MONAI does, an import without ``as`` is known by its whole dotted name, and only the first of several counts.
    """
    try:
        node = ast.parse(text.removeprefix("$").strip()).body[:1]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if node and isinstance(node[0], ast.Import):
        alias = node[0].names[0]
        return alias.name, "", alias.asname or alias.name
    if node and isinstance(node[0], ast.ImportFrom):
        alias = node[0].names[0]
        return node[0].module or "", alias.name, alias.asname or alias.name
    return None


def imported(texts: Iterator[str]) -> dict[str, Any]:
    """Return what the expressions of a config can name: MONAI's own names and what the config imports."""
    names: dict[str, Any] = {name: find_module(module) for name, module in _GIVEN.items()}
    for text in texts:
        if (found := import_of(text)) is not None:
            module = find_module(found[0])
            names[found[2]] = UNKNOWN if module is None else follow(module, [found[1]] if found[1] else [])[0]
    return names


_GIVEN = {"monai": "monai", "torch": "torch", "np": "numpy", "numpy": "numpy"}


def problems_of(text: str, names: Mapping[str, Any], root: Path) -> list[str]:
    """Return what is wrong with an expression.

    Args:
        text: with its ``$``.
        names: see :func:`imported`.
        root: folder of the bundle, which may have modules of its own.
    """
    from monai.bundle import ReferenceResolver

    if (found := import_of(text)) is not None:
        return _import_problems(*found[:2], root)
    refs = dict.fromkeys(ReferenceResolver.match_refs_pattern(text))
    source = ReferenceResolver.update_refs_pattern(text, refs)[1:].strip()
    try:
        tree = ast.parse(source, mode="eval")
        table = symtable.symtable(source, "config", "eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return [f"{text!r} is not an expression ({error.args[0] if error.args else type(error).__name__})"]
    free = _free_names(table) - set(dir(builtins)) - {"__local_refs"}
    problems = [f"{name!r} is neither imported nor an id, in {text!r}" for name in sorted(free - names.keys())]
    return problems + _attribute_problems(tree, {name: names[name] for name in free & names.keys()}, text)


def _import_problems(module: str, name: str, root: Path) -> list[str]:
    """What is wrong with an import."""
    top = module.partition(".")[0]
    if (root / top).is_dir() or (root / f"{top}.py").is_file():
        return []
    if not installed(module):
        return [f"there is no package {top!r} to import"]
    if top not in TRUSTED:
        return []
    found = find_module(module)
    if found is None:
        return [f"there is no module {module!r} to import"]
    return [f"there is no {name!r} in {module}"] if name and follow(found, [name])[1] else []


def _free_names(table: symtable.SymbolTable) -> set[str]:
    """Names of an expression that come from outside of it."""
    free = {one.get_name() for one in table.get_symbols() if one.is_referenced() and one.is_global()}
    bound = {one.get_name() for one in table.get_symbols() if one.is_assigned()}
    return (free - bound).union(*(_free_names(below) for below in table.get_children())) - bound


def _attribute_problems(tree: ast.AST, names: Mapping[str, Any], text: str) -> list[str]:
    """Attributes that modules do not have, and calls that do not fit."""
    problems = []
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if id(node) in inner or not isinstance(node, ast.Attribute | ast.Name):
            continue
        root, *attributes = _dotted(node)
        if names.get(root, UNKNOWN) is UNKNOWN:
            continue
        found, missing = follow(names[root], attributes)
        if missing:
            problems.append(f"there is no {missing!r} in {'.'.join([root, *attributes])}, in {text!r}")
        elif id(node) in called and (problem := _call_problem(found, called[id(node)])):
            problems.append(f"{'.'.join([root, *attributes])}: {problem}, in {text!r}")
    return problems


def _dotted(node: ast.AST) -> list[str]:
    """The names of ``a.b.c``; the first is empty if that is not how the expression begins."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [*_dotted(node.value), node.attr]
    return [""]


def _call_problem(function: object, call: ast.Call) -> str:
    """Why the arguments of a call do not fit."""
    if any(isinstance(one, ast.Starred) for one in call.args) or any(one.arg is None for one in call.keywords):
        return ""
    return binding_problem(function, len(call.args), [one.arg for one in call.keywords if one.arg])
