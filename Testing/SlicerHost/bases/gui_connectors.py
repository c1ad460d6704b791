"""How a parameter and a widget are bound: which signal, how to read, how to write; one table entry a widget class."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .parameter_text import Parameter
from .validators import Choice, Decimals, Maximum, Minimum, SingleStep, WithinRange

_SMALLEST_INT, _LARGEST_INT = -(2**31), 2**31 - 1


@dataclass
class Link:
    """Binding of one parameter to one widget."""

    signal: Any  # None for a widget that only shows
    read: Callable[[], Any]
    write: Callable[[Any], None]


def connect(widget: Any, parameter: Parameter) -> Link:
    """Bind; RuntimeError when Slicer's wrapper knows no way between that widget class and that type."""
    name = type(widget).__name__
    builder = _BUILDERS.get(name)
    link = builder(widget, parameter) if builder is not None else None
    if link is None:
        raise RuntimeError(f"no connection between parameter {parameter.name!r} ({parameter.type}) and a {name}")
    return link


def _annotation(parameter: Parameter, kind: type) -> Any:
    return next((one for one in parameter.annotations if isinstance(one, kind)), None)


def _bool(widget: Any, parameter: Parameter) -> Link | None:
    if parameter.type is not bool:
        return None
    if not widget.checkable:
        widget.checkable = True
    return Link(widget.toggled, lambda: widget.checked, lambda value: setattr(widget, "checked", value))


def _number(widget: Any, parameter: Parameter) -> Link | None:
    whole_numbers_only = type(widget).__name__ in ("QSlider", "QSpinBox")
    if parameter.type not in ((int,) if whole_numbers_only else (int, float)):
        return None
    low, high = _bounds(parameter)
    needs_bounds = type(widget).__name__ in ("QSlider", "ctkSliderWidget", "qMRMLSliderWidget")
    if needs_bounds and (low is None or high is None):
        raise RuntimeError(f"{parameter.name!r}: a {type(widget).__name__} needs a bounded number")
    if not whole_numbers_only and parameter.type is int:
        widget.decimals = 0
    decimals, step = _annotation(parameter, Decimals), _annotation(parameter, SingleStep)
    if decimals is not None and parameter.type is float:
        widget.decimals = decimals.value
    if step is not None:
        widget.singleStep = step.value
    open_low, open_high = (_SMALLEST_INT, _LARGEST_INT) if whole_numbers_only else (float("-inf"), float("inf"))
    widget.setMinimum(open_low if low is None else low)
    widget.setMaximum(open_high if high is None else high)
    return Link(
        widget.valueChanged, lambda: parameter.type(widget.value), lambda value: setattr(widget, "value", value)
    )


def _bounds(parameter: Parameter) -> tuple[Any, Any]:
    both = _annotation(parameter, WithinRange)
    if both is not None:
        return both.minimum, both.maximum
    low, high = _annotation(parameter, Minimum), _annotation(parameter, Maximum)
    return low.minimum if low else None, high.maximum if high else None


def _combo(widget: Any, parameter: Parameter) -> Link | None:
    is_enum = isinstance(parameter.type, type) and issubclass(parameter.type, enum.Enum)
    if is_enum:
        values = list(parameter.type)
        label = getattr(parameter.type, "label", lambda member: member.name)
        texts = [label(member) for member in values]
    elif parameter.type in (int, float, str, bool):
        choice = _annotation(parameter, Choice)
        if choice is None:
            raise RuntimeError(f"{parameter.name!r}: a combo box needs Choice(...) in the annotation")
        values = list(choice.choices)
        texts = [str(value) for value in values]
    else:
        return None
    widget.clear()
    for text in texts:
        widget.addItem(text)
    return Link(
        widget.currentIndexChanged,
        lambda: values[widget.currentIndex],
        lambda value: setattr(widget, "currentIndex", values.index(value)),
    )


def _text(widget: Any, parameter: Parameter) -> Link | None:
    if parameter.type is not str:
        return None

    def write(value: str) -> None:
        if widget.text != value:  # writing moves the cursor
            widget.text = value

    shows_only = type(widget).__name__ == "QLabel"
    return Link(None if shows_only else widget.textChanged, lambda: widget.text, write)


def _plain_text(widget: Any, parameter: Parameter) -> Link | None:
    if parameter.type is not str:
        return None

    def write(value: str) -> None:
        if widget.toPlainText() != value:
            widget.setPlainText(value)

    return Link(widget.textChanged, widget.toPlainText, write)


def _path(widget: Any, parameter: Parameter) -> Link | None:
    return Link(
        widget.currentPathChanged,
        lambda: parameter.type(widget.currentPath),
        lambda value: setattr(widget, "currentPath", str(value)),
    )


def _directory(widget: Any, parameter: Parameter) -> Link | None:
    return Link(
        widget.directoryChanged,
        lambda: parameter.type(widget.directory),
        lambda value: setattr(widget, "directory", str(value)),
    )


def _node(widget: Any, parameter: Parameter) -> Link | None:
    if not parameter.nodes:
        return None
    widget.nodeTypes = [cls.__name__ for cls in parameter.nodes]
    return Link(widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode)


_BUILDERS: dict[str, Callable[[Any, Parameter], Link | None]] = {
    **dict.fromkeys(("QCheckBox", "ctkCheckBox", "QPushButton"), _bool),
    **dict.fromkeys(("QSlider", "QSpinBox", "QDoubleSpinBox", "ctkSliderWidget", "qMRMLSliderWidget"), _number),
    **dict.fromkeys(("ctkDoubleSlider", "ctkDoubleSpinBox", "qMRMLSpinBox"), _number),
    **dict.fromkeys(("QComboBox", "ctkComboBox"), _combo),
    **dict.fromkeys(("QLineEdit", "QLabel"), _text),
    "QTextEdit": _plain_text,
    "ctkPathLineEdit": _path,
    "ctkDirectoryButton": _directory,
    "qMRMLNodeComboBox": _node,
}
