"""Attributes of Qt objects the PythonQt way: children by name, dynamic properties, nothing out of thin air."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import shiboken6
from PySide6 import QtCore

from . import problems, qt_signals
from .qt_properties import as_python_qt, object_name

QObject = QtCore.QObject
_find_child = QObject.findChild
_find_children = QObject.findChildren
_children = QObject.children
_HOST_PACKAGES = ("PySide6", "shiboken6", __package__)


def patch_attributes(qt: Any, classes: Iterable[type]) -> None:
    """Give QObject and the classes derived from it the attribute rules of PythonQt."""
    for cls in classes:
        # PySide gives every class a setter of its own and a few a getter of their own: QObject's would not be asked.
        cls.__setattr__ = _guarded_set  # type: ignore[assignment,method-assign]
        if "__getattribute__" in cls.__dict__:
            cls.__getattribute__ = _getattribute(cls.__getattribute__)  # type: ignore[method-assign]
    QObject.__getattr__ = _missing_attribute
    QObject.connect, QObject.disconnect = qt_signals.connect, qt_signals.disconnect
    QObject.name = property(object_name, lambda self, text: self.setObjectName(text))
    QObject.className = lambda self: self.metaObject().className()
    QObject.delete = lambda self: shiboken6.delete(self)
    QObject.children = lambda self: as_python_qt(_children(self))
    QObject.findChild = lambda self, cls, *rest: _find_child(self, _class_of(qt, cls), *rest)
    QObject.findChildren = lambda self, cls, *rest, **options: as_python_qt(
        _find_children(self, _class_of(qt, cls), *rest, **options)
    )


def _class_of(qt: Any, cls: Any) -> Any:
    return getattr(qt, cls, QObject) if isinstance(cls, str) else cls  # PythonQt also takes the class name


def _getattribute(native: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    def get(self: Any, name: str) -> Any:
        if name not in ("connect", "disconnect"):
            return native(self, name)
        ours = qt_signals.connect if name == "connect" else qt_signals.disconnect

        def by_name_or_native(*arguments: Any) -> Any:
            # PySide itself comes through here with coded strings such as "2timeout()", with objects or with bytes.
            text = next((value for value in arguments if isinstance(value, str)), "")
            is_native = not text or text[:1].isdigit()
            return native(self, name)(*arguments) if is_native else ours(self, *arguments)

        return by_name_or_native

    return get


def _missing_attribute(self: Any, name: str) -> Any:
    """Dynamic property or child of that name; reached only when ordinary lookup failed."""
    if not name.startswith("__") and shiboken6.isValid(self):
        value = QObject.property(self, name)
        if value is not None:
            return as_python_qt(value)
        for child in _children(self):
            if object_name(child) == name:
                return child
    raise AttributeError(f"{type(self).__name__} has no attribute named {name!r}")


def _guarded_set(self: Any, name: str, value: Any) -> None:
    attribute = next((cls.__dict__[name] for cls in type(self).__mro__ if name in cls.__dict__), None)
    if isinstance(attribute, QtCore.Property) and attribute.fset is not None:
        attribute.fset(self, value)
    elif attribute is not None and hasattr(type(attribute), "__set__"):
        type(attribute).__set__(attribute, self, value)
    elif name.startswith("_") or _kept_by_pyside(name, value) or _is_class_of_a_module(type(self)):
        self.__dict__[name] = value
    elif name in [bytes(known).decode() for known in QObject.dynamicPropertyNames(self)]:
        QObject.setProperty(self, name, value)
    else:
        reason = "is a method or signal" if attribute is not None else "is no property"
        message = f"{type(self).__name__} {object_name(self)!r}: {name!r} {reason}; it cannot be assigned"
        problems.record("attribute", message)
        raise AttributeError(message)


def _kept_by_pyside(name: str, value: Any) -> bool:
    """PySide keeps signals on the object they were asked of, and its .ui loader keeps children on their parent."""
    return isinstance(value, QtCore.SignalInstance) or (isinstance(value, QObject) and object_name(value) == name)


def _is_class_of_a_module(cls: type) -> bool:
    """A widget class that a module wrote in Python may hold attributes of its own, as in PythonQt."""
    return not cls.__module__.startswith(_HOST_PACKAGES)
