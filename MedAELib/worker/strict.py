"""JSON from another process or from a crash, read as hostile data: bounded, finite, without doubled keys."""

from __future__ import annotations

import json
from typing import Any


def loads(data: bytes, largest: int) -> dict[str, Any]:
    """The JSON object in `data`, at most `largest` bytes long; ValueError with a short reason on anything else."""
    if len(data) > largest:
        raise ValueError(f"longer than {largest} bytes")
    try:
        value = json.loads(
            data.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_distinct
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg}") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def dumps(value: Any, largest: int) -> bytes:
    """One line of JSON, without its line end; ValueError when it is no plain JSON or longer than `largest` bytes."""
    try:
        data = json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"not plain JSON: {error}") from None
    if len(data) > largest:
        raise ValueError(f"longer than {largest} bytes")
    return data


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("the same key twice")
    return value
