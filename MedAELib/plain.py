"""What may stand in the metadata of anybody's model: finite numbers, few levels, no program, no hidden letters."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping
from typing import Any

from .errors import BadModel

_JOINERS = "\u200c\u200d"  # which join letters of some scripts, or part them; others that nobody sees hide something
_LEVELS = 32  # tables and lists in one another; a model of MedAE's has seven


def parse(text: str) -> Any:
    """The value of a JSON text. Raises BadModel, as the end of a sentence, for none or what `check_values` refuses."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadModel("is not valid JSON") from None
    check_values(value)
    return value


def check_values(value: Any, levels: int = _LEVELS) -> None:
    """Raise BadModel, as the end of a sentence, for what nests too deep and for a number that no computation takes."""
    if isinstance(value, Mapping | list | tuple):
        if not levels:
            raise BadModel(f"holds more than {_LEVELS} tables or lists in one another")
        for item in value.values() if isinstance(value, Mapping) else value:
            check_values(item, levels - 1)
    elif isinstance(value, int | float) and not math.isfinite(as_float(value)):
        raise BadModel("holds a number that is not finite or too large")


def as_float(value: float) -> float:
    """A number as a float; infinite where it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def is_program(value: Any) -> bool:
    """Whether a value holds what MONAI's configuration parser would execute or resolve."""
    if isinstance(value, Mapping):
        return any(str(key).startswith("_") or is_program(key) or is_program(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return any(map(is_program, value))
    return isinstance(value, str) and value.lstrip().startswith(("$", "@", "%"))


def is_plain(value: Any) -> bool:
    """Whether each text in a value moves no cursor and hides nothing when a terminal or a list shows it."""
    if isinstance(value, Mapping):
        return all(is_plain(key) and is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return not isinstance(value, str) or all(map(_is_shown, value))


def plain_text(text: str) -> str:
    """A text with a question mark for each letter that a model's metadata may not hold, as names of files may."""
    return "".join(letter if _is_shown(letter) else "?" for letter in text)


def _is_shown(letter: str) -> bool:
    """Whether a letter is one: no control character, nothing that nobody sees or that turns a text round, no half of
    one that UTF-8 cannot write (a lone surrogate)."""
    return letter in _JOINERS or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")
