"""Signals the PythonQt way: `widget.connect("clicked(bool)", handler)`, checked against the signals Qt really has."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from PySide6 import QtCore

QObject = QtCore.QObject
_ANY_NUMBER = 99
_links: list[tuple[Any, str, Callable[..., Any], Any, Callable[..., Any]]] = []


def connect(self: Any, *arguments: Any) -> bool:
    """Connect by name; also `connect(sender, signal, handler)` and `connect(signal, receiver, slot)`.

    Raises ValueError when the sender has no signal of that signature, as a scripted module would silently do nothing.
    """
    sender, signal_text, handler = _unpack(self, arguments)
    signal = find_signal(sender, signal_text)
    call = _with_arguments(handler, _argument_count(signal_text) if "(" in signal_text else _ANY_NUMBER)
    signal.connect(call)
    _links.append((sender, signal_text, handler, signal, call))
    return True


def _with_arguments(handler: Callable[..., Any], offered: int) -> Callable[..., Any]:
    """The handler with exactly the arguments it has room for: PySide chooses among a signal's forms by that number."""
    count = min(offered, _positional_count(handler))
    if count == 0:
        return lambda: handler()
    if count == 1:
        return lambda first: handler(first)
    if count == 2:
        return lambda first, second: handler(first, second)
    return lambda *values: handler(*values[:count])


def disconnect(self: Any, *arguments: Any) -> bool:
    """Undo connect() with the same signal and handler; False when there was no such connection."""
    sender, signal_text, handler = _unpack(self, arguments)
    for index, (owner, text, function, signal, call) in enumerate(_links):
        if owner is sender and text == signal_text and function == handler:
            del _links[index]
            try:
                signal.disconnect(call)
            except (RuntimeError, TypeError):
                pass  # the sender is already deleted
            return True
    return False


def forget_deleted(is_valid: Callable[[Any], bool]) -> None:
    """Drop the records of senders that Qt has deleted, so that a long test run does not keep their handlers alive."""
    _links[:] = [link for link in _links if is_valid(link[0])]


def find_signal(sender: Any, text: str) -> Any:
    """Return the bound signal for "name(types)"; ValueError names the signals that do exist."""
    name = text.split("(")[0]
    declared: dict[str, str] = {}
    for cls in reversed(type(sender).__mro__):
        declared.update(cls.__dict__.get("host_signals", {}))
    if text in declared:
        return getattr(sender, declared[text])
    same_name = [signature for signature in declared if signature.split("(")[0] == name]
    if same_name and "(" in text:
        raise ValueError(f"{type(sender).__name__} has no signal {text}; it has {same_name}")
    signal = getattr(sender, name, None)
    if signal is None or not hasattr(signal, "connect"):
        raise ValueError(f"{type(sender).__name__} has no signal {text}")
    if "(" in text:
        _check_signature(sender, name, text)
    return signal


def _check_signature(sender: Any, name: str, text: str) -> None:
    wanted = _text(QtCore.QMetaObject.normalizedSignature(text))
    meta = sender.metaObject()
    if meta.indexOfSignal(wanted) >= 0:
        return
    methods = [meta.method(index) for index in range(meta.methodCount())]
    existing = [_text(method.methodSignature()) for method in methods if _text(method.name()) == name]
    raise ValueError(f"{type(sender).__name__} has no signal {wanted}; it has {existing}")


def _unpack(self: Any, arguments: tuple[Any, ...]) -> tuple[Any, str, Callable[..., Any]]:
    if len(arguments) == 3 and isinstance(arguments[0], QObject):  # QObject.connect(sender, signal, handler)
        self, arguments = arguments[0], arguments[1:]
    if len(arguments) == 3:  # (signal, receiver, "slot()")
        signal_text, receiver, slot = arguments
        return self, signal_text, getattr(receiver, slot.split("(")[0])
    return self, arguments[0], arguments[1]


def _argument_count(signature: str) -> int:
    inner = signature[signature.index("(") + 1 : signature.rindex(")")].strip()
    return inner.count(",") + 1 if inner else 0


def _positional_count(handler: Callable[..., Any]) -> int:
    """How many positional arguments the handler takes; PythonQt drops the ones it has no room for."""
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return _ANY_NUMBER
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return _ANY_NUMBER
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in positional for parameter in parameters)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else bytes(value).decode()
