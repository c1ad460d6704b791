"""Which nodes a node selector offers: by class, visibility and attributes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class NodeFilter:
    """What a selector (with qMRMLNodeComboBox's properties) offers; reads its properties once, for many nodes."""

    def __init__(self, selector: Any, attributes: Iterable[tuple[str, str, str | None]]) -> None:
        self._types, self._hidden_types = tuple(selector.nodeTypes), tuple(selector.hideChildNodeTypes)
        self._show_hidden, self._show_derived = selector.showHidden, selector.showChildNodeTypes
        self._attributes = tuple(attributes)

    def accepts(self, node: Any) -> bool:
        """True when the selector offers the node."""
        if node is None or not self._is_of_type(node) or (node.GetHideFromEditors() and not self._show_hidden):
            return False
        if any(node.IsA(name) for name in self._hidden_types):
            return False
        return all(_has(node, name, value) for node_type, name, value in self._attributes if node.IsA(node_type))

    def _is_of_type(self, node: Any) -> bool:
        if self._show_derived:
            return any(node.IsA(name) for name in self._types)
        return node.GetClassName() in self._types


def _has(node: Any, name: str, value: str | None) -> bool:
    found = node.GetAttribute(name)
    return found is not None and (value is None or found == value)
