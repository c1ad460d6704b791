"""Keeps what C++ libraries print off the terminal: what matters arrives as an exception."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def quiet() -> Iterator[None]:
    """No message of ITK or of a library below it reaches standard error meanwhile, if there is any."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        terminal = os.dup(2)
    except OSError:  # it was closed: there is nothing to keep quiet
        terminal = -1
    else:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        if terminal >= 0:
            os.dup2(terminal, 2)
            os.close(terminal)
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
