"""Finds in module sources names of `qt`, `ctk` and `slicer` widgets that do not exist, before any line runs."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any


def unknown_names(source: str, namespaces: dict[str, Any], name: str = "<source>") -> list[str]:
    """Return "file:line: qt.X" for every `qt.X` or `qt.X.y` that the namespaces do not hold."""
    findings = []
    for node in ast.walk(ast.parse(source, name)):
        if not isinstance(node, ast.Attribute):
            continue
        parts = ast.unparse(node).split(".")
        if parts[0] in namespaces and all(part.isidentifier() for part in parts) and not _resolves(parts, namespaces):
            findings.append(f"{name}:{node.lineno}: {'.'.join(parts)} does not exist")
    return sorted(set(findings))


def unknown_names_in_folder(folder: Path, namespaces: dict[str, Any]) -> list[str]:
    """The same for every .py file below a folder."""
    findings = []
    for path in sorted(folder.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        findings += unknown_names(source, namespaces, path.relative_to(folder.parent).as_posix())
    return findings


def _resolves(parts: list[str], namespaces: dict[str, Any]) -> bool:
    value = namespaces[parts[0]]
    for part in parts[1:3]:  # deeper attributes belong to objects, not to the namespace
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True
