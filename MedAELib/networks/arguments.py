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


def levels(channels: Any, strides: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and strides of a convolutional coder: up to 5 levels of 1..256 channels, strides 1 or 2.

    Raises BadModel, also when they differ in number.
    """
    channels = whole_numbers("channels", channels, 1, 256, 5)
    strides = whole_numbers("strides", strides, 1, 2, 5)
    if len(channels) != len(strides):
        raise BadModel("The network's arguments 'channels' and 'strides' must have the same length.")
    return channels, strides


def names(name: str, value: Any, longest: int) -> tuple[str, ...]:
    """``value`` as a tuple of 1..longest different short texts; raises BadModel."""
    fits = isinstance(value, list | tuple) and 1 <= len(value) <= longest
    if not fits or not all(isinstance(item, str) and 1 <= len(item) <= 64 for item in value):
        raise BadModel(f"The network's argument '{name}' must be a list of 1 to {longest} short texts.")
    if len(set(value)) < len(value):
        raise BadModel(f"The network's argument '{name}' names something twice.")
    return tuple(value)
