"""Checks of a network's arguments: a model folder from a stranger must not build something huge or strange."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from MedAELib.errors import BadModel


def whole_number(name: str, value: Any, low: int, high: int) -> int:
    """``value`` as an int within low..high; raises BadModel."""
    if type(value) is not int or not low <= value <= high:
        raise BadModel(
            f"The network's argument '{name}' is {value!r:.60} but must be a whole number from {low} to {high}."
        )
    return value


def whole_numbers(name: str, value: Any, low: int, high: int, longest: int) -> tuple[int, ...]:
    """``value`` as a tuple of 1..longest ints, each within low..high; raises BadModel."""
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= longest:
        raise BadModel(f"The network's argument '{name}' must be a list of 1 to {longest} whole numbers.")
    return tuple(whole_number(name, item, low, high) for item in value)


def choice(name: str, value: Any, allowed: Sequence[Any]) -> Any:
    """``value`` if it is one of ``allowed`` and of the same type; raises BadModel."""
    if not any(type(value) is type(item) and value == item for item in allowed):
        raise BadModel(
            f"The network's argument '{name}' is {value!r:.60} but must be one of {', '.join(map(repr, allowed))}."
        )
    return value
