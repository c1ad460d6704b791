"""Which nodes a node selector offers: by class, visibility and attributes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def accepts(selector: Any, node: Any, attributes: Iterable[tuple[str, str, str | None]]) -> bool:
    """True when the selector (with qMRMLNodeComboBox's properties) offers the node."""
    if node is None or (node.GetHideFromEditors() and not selector.showHidden):
        return False
    if selector.showChildNodeTypes:
        of_type = any(node.IsA(name) for name in selector.nodeTypes)
    else:
        of_type = node.GetClassName() in selector.nodeTypes
    if not of_type or any(node.IsA(name) for name in selector.hideChildNodeTypes):
        return False
    return all(_has(node, name, value) for node_type, name, value in attributes if node.IsA(node_type))


def _has(node: Any, name: str, value: str | None) -> bool:
    found = node.GetAttribute(name)
    return found is not None and (value is None or found == value)
