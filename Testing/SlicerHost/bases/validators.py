"""Limits of parameters: what may be written inside `typing.Annotated` in a parameter node class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Validator:
    """A limit; validate() raises ValueError for a value outside."""

    def validate(self, value: Any) -> None:
        """Raise ValueError when the value is not allowed."""


class NotNone(Validator):
    """The parameter must be set."""

    def validate(self, value: Any) -> None:
        """Raise ValueError for None."""
        if value is None:
            raise ValueError("Value must not be None")


@dataclass
class WithinRange(Validator):
    """Both ends are allowed."""

    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        """Raise ValueError outside the range."""
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within [{self.minimum}, {self.maximum}], is {value}")


@dataclass
class Minimum(Validator):
    """Smallest value allowed."""

    minimum: float

    def validate(self, value: Any) -> None:
        """Raise ValueError below the minimum."""
        if value < self.minimum:
            raise ValueError(f"Value must be at least {self.minimum}, is {value}")


@dataclass
class Maximum(Validator):
    """Largest value allowed."""

    maximum: float

    def validate(self, value: Any) -> None:
        """Raise ValueError above the maximum."""
        if value > self.maximum:
            raise ValueError(f"Value must be at most {self.maximum}, is {value}")


@dataclass
class Choice(Validator):
    """The values allowed."""

    choices: Sequence[Any]

    def validate(self, value: Any) -> None:
        """Raise ValueError for any other value."""
        if value not in self.choices:
            raise ValueError(f"Value {value!r} is not among {list(self.choices)}")


@dataclass
class Exclude(Validator):
    """Values not allowed."""

    excludedValues: Sequence[Any]

    def validate(self, value: Any) -> None:
        """Raise ValueError for one of these values."""
        if value in self.excludedValues:
            raise ValueError(f"Value {value!r} is excluded")


@dataclass
class Default:
    """Value of a parameter that was never set."""

    value: Any


@dataclass
class Decimals:
    """Decimals shown by the widget."""

    value: int


@dataclass
class SingleStep:
    """Step of the widget."""

    value: float
