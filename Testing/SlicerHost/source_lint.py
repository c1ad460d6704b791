"""Finds in module sources what runs on PySide but not in Slicer (PythonQt, Qt 5.15 and 6, Python 3.12)."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

_FORBIDDEN_IMPORTS = {
    **dict.fromkeys(("PySide2", "PySide6", "PyQt5", "PyQt6", "shiboken6", "PythonQt"), "import qt and ctk instead"),
    "imp": "removed in Python 3.12; use importlib",
    "distutils": "removed in Python 3.12",
    "pkg_resources": "not in Slicer's Python by default; use importlib",
}
_FORBIDDEN_NAMES = {
    "Signal": "a Python class with qt.Signal ends Slicer; keep a list of callbacks",
    "Slot": "PythonQt has no slots in Python",
    "Property": "PythonQt has no properties in Python",
    "QTextCodec": "only in Qt5Compat; decode bytes in Python",
    "QRegExp": "removed in Qt 6; use QRegularExpression",
    "QRegExpValidator": "removed in Qt 6; use QRegularExpressionValidator",
    "QDesktopWidget": "removed in Qt 6; use slicer.app.screens()",
    "QTime": "its timing is gone in Qt 6; use QElapsedTimer",
}
_FORBIDDEN_ATTRIBUTES = {
    "stateChanged": "deprecated in Qt 6; use toggled",
    "setMargin": "removed in Qt 6; use setContentsMargins",
    "exec": "use exec_(), which both Qt versions have in PythonQt",
}
_FORBIDDEN_SIGNALS = {
    "stateChanged(": "deprecated in Qt 6; use toggled(bool)",
    "currentIndexChanged(QString)": "removed in Qt 6; use currentTextChanged(QString)",
    "SIGNAL(": "PythonQt takes the plain signature",
}
_TRANSLATORS = ("_", "tr", "translate")


def lint_source(source: str, name: str = "<source>") -> list[str]:
    """Return one "file:line: what is wrong" for each finding, in the order of the lines."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        tree = ast.parse(source, name)
        compile(source, name, "exec")  # says what Python 3.12 warns of, such as invalid escape sequences
    found = [(warning.lineno, str(warning.message)) for warning in heard]
    for node in ast.walk(tree):
        found += [(getattr(node, "lineno", 0), text) for text in _findings(node)]
    return [f"{name}:{line}: {text}" for line, text in sorted(set(found))]


def lint_folder(folder: Path) -> list[str]:
    """Findings of every .py file below a folder."""
    findings = []
    for path in sorted(folder.rglob("*.py")):
        findings += lint_source(path.read_text(encoding="utf-8"), path.relative_to(folder.parent).as_posix())
    return findings


def _findings(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from _imports(node)
    elif isinstance(node, ast.Attribute):
        yield from _attributes(node)
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from (f"{text!r}: {why}" for text, why in _FORBIDDEN_SIGNALS.items() if node.value.startswith(text))
    elif isinstance(node, ast.While) and any(_called_name(inner) == "processEvents" for inner in ast.walk(node)):
        yield "a while loop around processEvents() starves the worker and lets the user click into it; use a QTimer"


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    is_from = isinstance(node, ast.ImportFrom)
    modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    for module in modules:
        package = module.split(".")[0]
        if package in _FORBIDDEN_IMPORTS and not (is_from and node.level):
            yield f"import {package}: {_FORBIDDEN_IMPORTS[package]}"
        if package == "qt" and is_from:
            yield from (f"qt.{a.name}: {_FORBIDDEN_NAMES[a.name]}" for a in node.names if a.name in _FORBIDDEN_NAMES)


def _attributes(node: ast.Attribute) -> Iterator[str]:
    chain = _chain(node)
    if chain and chain[0] in ("qt", "ctk"):
        if len(chain) == 2 and chain[0] == "qt" and chain[1] in _FORBIDDEN_NAMES:
            yield f"qt.{chain[1]}: {_FORBIDDEN_NAMES[chain[1]]}"
        if len(chain) == 4 and all(part[:1].isupper() or part.startswith("ctk") for part in chain[1:]):
            yield f"{'.'.join(chain)}: scoped enum; write {'.'.join((chain[0], chain[1], chain[3]))}"
    if node.attr in _FORBIDDEN_ATTRIBUTES:
        yield f".{node.attr}: {_FORBIDDEN_ATTRIBUTES[node.attr]}"
    if node.attr == "margin" and isinstance(node.ctx, ast.Store):
        yield ".margin = ...: removed in Qt 6; use setContentsMargins"


def _calls(node: ast.Call) -> Iterator[str]:
    keywords = [keyword.arg for keyword in node.keywords]
    chain = _chain(node.func)
    if chain and chain[0] in ("qt", "ctk") and keywords:
        yield f"{'.'.join(chain)}(...{keywords[0]}=): PythonQt takes no keyword arguments"
    if _called_name(node) == "value" and "type" in keywords:
        yield "value(..., type=): PySide only; convert with slicer.util.settingsValue(..., converter=)"
    if _called_name(node) in _TRANSLATORS and node.args:
        text = node.args[-1]
        if not (isinstance(text, ast.Constant) and isinstance(text.value, str)):
            yield f"{_called_name(node)}(): the text must be literal, or translators never see it"


def _called_name(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _chain(node: ast.expr) -> tuple[str, ...]:
    """("qt", "Qt", "AlignLeft") for `qt.Qt.AlignLeft`; () for anything that starts with no plain name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return (node.id, *reversed(parts)) if isinstance(node, ast.Name) else ()
