"""How the host's widgets declare stored Qt properties: one line each, with setter, notification and conversion."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtWidgets

_PLAIN = (float, int, bool, str)


def parent_of(arguments: tuple[Any, ...]) -> Any:
    """The parent widget among a constructor's arguments (Qt allows a text before it)."""
    return next((value for value in arguments if isinstance(value, QtWidgets.QWidget)), None)


def stored(namespace: dict[str, Any], notify: dict[str, str] | None = None, **declared: tuple[Any, Any]) -> None:
    """Add Qt properties to a class body: `stored(locals(), decimals=(int, 2))` gives `decimals` and `setDecimals`.

    `notify` maps a property to the signal emitted when it changes; a method `_changed_<name>` is called as well.
    """
    for name, (kind, default) in declared.items():
        _store_one(namespace, name, kind, default, (notify or {}).get(name))


def _store_one(namespace: dict[str, Any], name: str, kind: Any, default: Any, signal: str | None) -> None:
    def get(self: Any) -> Any:
        return self.__dict__.get(f"_{name}", default)

    def put(self: Any, value: Any) -> None:
        converted = kind(value) if kind in _PLAIN and value is not None else value
        converted = tuple(converted) if isinstance(converted, list) else converted
        if get(self) == converted:
            return
        self.__dict__[f"_{name}"] = converted
        changed = getattr(type(self), f"_changed_{name}", None)
        if changed is not None:
            changed(self)
        if signal is not None:
            getattr(self, signal).emit(converted)

    namespace[name] = QtCore.Property(kind, get, put)
    namespace[f"set{name[0].upper()}{name[1:]}"] = put
