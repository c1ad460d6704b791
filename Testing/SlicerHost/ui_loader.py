"""`qt.QUiLoader`: builds a .ui file with the host's widgets, makes its connections, reports what it does not know."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets

from . import problems, qt_signals
from .qt_properties import object_name

custom_widgets: dict[str, type] = {}
_property_names: dict[str, frozenset[str]] = {}
_NOT_CLASSES = ("Line",)  # Designer's name for a QFrame that draws a line


def register(**classes: type) -> None:
    """Make widget classes known to .ui files under their own names."""
    for name, cls in classes.items():
        custom_widgets[name] = cls
        # Read once: PySide may delete the meta object of a Python class together with its last widget.
        _property_names[name] = _names_of(cls)


def _names_of(cls: type) -> frozenset[str]:
    meta = cls.staticMetaObject  # type: ignore[attr-defined]
    return frozenset(meta.property(index).name() for index in range(meta.propertyCount()))


def property_names(class_name: str) -> frozenset[str]:
    """Names of the Qt properties of a widget class; empty for an unknown class."""
    if class_name not in _property_names and hasattr(QtWidgets, class_name):
        _property_names[class_name] = _names_of(getattr(QtWidgets, class_name))
    return _property_names.get(class_name, frozenset())


class QUiLoader(QtUiTools.QUiLoader):
    """Loads .ui files like Qt's loader in Slicer, but keeps no silence about what it cannot do."""

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        """Build a widget, with the host's own class for names of ctk and qMRML widgets."""
        cls = custom_widgets.get(class_name)
        if cls is None:
            if class_name not in _NOT_CLASSES and class_name not in self.availableWidgets():
                problems.record("ui", f"unknown widget class {class_name} ({name})")
            return super().createWidget(class_name, parent, name)
        widget = cls(parent)
        widget.setObjectName(name)
        self._made.append(widget)
        return widget

    def load(self, source: Any, parent: Any = None) -> Any:
        """Return the top widget of a .ui file given as an open QFile or a path."""
        self._made: list[Any] = []
        content = Path(source).read_bytes() if isinstance(source, str | Path) else bytes(source.readAll())
        form, connections, wrong = _prepared(content)
        for text in wrong:
            problems.record("ui", text)
        buffer = QtCore.QBuffer()
        buffer.setData(form)
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        top = super().load(buffer, parent)
        if top is not None:
            top._host_children = self._made  # Python owns them: they live as long as the top widget
            for connection in connections:
                _connect(top, *connection)
        return top


@lru_cache(maxsize=32)
def _prepared(content: bytes) -> tuple[bytes, tuple[tuple[str, str, str, str], ...], tuple[str, ...]]:
    """A .ui file without its connections, these, and what is wrong with it: the same file is loaded for every panel."""
    root = ElementTree.fromstring(content)
    connections = tuple(_take_connections(root))
    return ElementTree.tostring(root), connections, tuple(_wrong_properties(root))


def _take_connections(root: ElementTree.Element) -> list[tuple[str, str, str, str]]:
    """Remove the connections from the tree: Qt's loader cannot make those that name signals written in Python."""
    found = []
    for block in root.findall("connections"):
        for entry in block:
            sender, signal, receiver, slot = (
                (entry.findtext(tag) or "").strip() for tag in ("sender", "signal", "receiver", "slot")
            )
            found.append((sender, signal, receiver, slot))
        root.remove(block)
    return found


def _wrong_properties(root: ElementTree.Element) -> Iterator[str]:
    for entry in root.iter("customwidget"):
        name = entry.findtext("class") or ""
        if name not in custom_widgets:
            yield f"custom widget class {name} is not among the host's widgets"
    for widget in root.iter("widget"):
        class_name = widget.get("class", "")
        known = property_names(class_name)
        for entry in widget.findall("property"):
            name = entry.get("name", "")
            dynamic = entry.get("stdset") == "0"
            if known and not dynamic and name not in known:
                yield f"{class_name} {widget.get('name')!r} has no property {name!r}"


def _connect(top: Any, sender: str, signal: str, receiver: str, slot: str) -> None:
    ends = [top if object_name(top) == name else top.findChild(QtCore.QObject, name) for name in (sender, receiver)]
    if None in ends:
        problems.record("ui", f"connection {sender}.{signal} -> {receiver}.{slot}: no such widget")
        return
    try:
        qt_signals.connect(ends[0], signal, getattr(ends[1], slot.split("(")[0]))
    except (ValueError, AttributeError) as error:
        problems.record("ui", f"connection {sender}.{signal} -> {receiver}.{slot}: {error}")
