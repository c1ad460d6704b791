"""`slicer.i18n`: translation; the host speaks English, but checks what translators need."""

from __future__ import annotations


def tr(text: str) -> str:
    """Return the text; TypeError for anything but a plain text."""
    if not isinstance(text, str):
        raise TypeError(f"only text can be translated, not {type(text).__name__}")
    return text


def translate(context: str, text: str) -> str:
    """Return the text."""
    return tr(text)
