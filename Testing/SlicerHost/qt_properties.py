"""Qt properties the PythonQt way: `widget.text` is a value, can be assigned; `setText()` and `isChecked()` remain."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from PySide6 import QtCore

QObject = QtCore.QObject
# Left as methods: PySide calls the size hints as virtual functions, and singleShot is also a static function.
_LEFT_ALONE = {("QTimer", "singleShot"), ("QWidget", "sizeHint"), ("QWidget", "minimumSizeHint")}
_object_name = QObject.objectName


def as_python_qt(value: Any) -> Any:
    """Return lists as tuples: PythonQt does so for every list that comes out of Qt."""
    return tuple(value) if isinstance(value, list) else value


def object_name(obj: Any) -> str:
    """Name of a Qt object, also after `objectName` has become a property."""
    return _object_name(obj)


def patch_properties(classes: Iterable[type]) -> None:
    """Turn every Q_PROPERTY of the classes, base classes first, into a Python property."""
    for cls in sorted(classes, key=lambda c: len(c.__mro__)):
        meta = cls.staticMetaObject
        for index in range(meta.propertyOffset(), meta.propertyCount()):
            _patch_one(cls, meta.property(index))


def _patch_one(cls: type, meta_property: Any) -> None:
    name = _text(meta_property.name())
    existing = getattr(cls, name, None)
    if (cls.__name__, name) in _LEFT_ALONE or isinstance(existing, property):
        return
    getter = _getter(cls, name, existing)
    setter = _setter(cls, name) if meta_property.isWritable() else None
    try:
        setattr(cls, name, property(getter, setter, doc="Qt property"))
    except TypeError:
        pass  # a few private Qt classes are closed; no panel uses them


def _getter(cls: type, name: str, existing: Any) -> Callable[[Any], Any]:
    method = existing if callable(existing) else None
    for candidate in (f"is{_capital(name)}", f"has{_capital(name)}"):
        if method is None and callable(getattr(cls, candidate, None)):
            method = getattr(cls, candidate)

    def get(self: Any) -> Any:
        if method is not None:
            try:
                return as_python_qt(method(self))
            except TypeError:
                pass  # the method of that name takes arguments: it is not the property's getter
        return as_python_qt(QObject.property(self, name))

    return get


def _setter(cls: type, name: str) -> Callable[[Any, Any], None]:
    method = getattr(cls, f"set{_capital(name)}", None)

    def put(self: Any, value: Any) -> None:
        if method is not None:
            try:
                method(self, value)
                return
            except TypeError:
                pass  # an overload that differs from the property; Qt's property system converts
        if not QObject.setProperty(self, name, value):
            raise AttributeError(f"property {name!r} of {type(self).__name__} does not accept {value!r}")

    return put


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]


def _text(name: Any) -> str:
    return name if isinstance(name, str) else bytes(name).decode()
