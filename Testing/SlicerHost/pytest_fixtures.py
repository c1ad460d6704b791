"""Fixtures for tests that run a module on the host: `from SlicerHost.pytest_fixtures import slicer_host`."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

import SlicerHost


@pytest.fixture
def slicer_host() -> Iterator[ModuleType]:
    """The started host with a fresh scene; open panels are closed and hidden problems are raised when the test ends."""
    SlicerHost.start()
    _close_panels()
    SlicerHost.new_scene()
    yield SlicerHost
    _close_panels()
    SlicerHost.check()


def _close_panels() -> None:
    import slicer

    from SlicerHost.module_loader import ScriptedModule, close_panel

    manager = slicer.app.moduleManager()
    for name in manager.modulesNames():
        module = manager.module(name)
        if isinstance(module, ScriptedModule):
            close_panel(module)
