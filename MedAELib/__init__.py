"""MedAE: autoencoders for CT and MRI. Public names are imported on first use, so `import MedAELib` costs nothing."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Volume": "volume",
    "Spec": "bundle",
    "Window": "bundle",
    "Bundle": "bundle",
    "read_bundle": "bundle",
    "bundled_models": "bundle",
    "Model": "model",
    "denoise": "tasks.denoise",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name, once."""
    if name not in _HOMES:
        raise AttributeError(f"module 'MedAELib' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"MedAELib.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
