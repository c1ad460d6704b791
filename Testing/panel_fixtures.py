"""The module's real panel on the test host, with a fast fake worker: what the tests of the panel drive."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from panel_tools import MODULE, fake_client, write_model


class OpenPanel:
    """The open panel: `widget` (MedAEWidget), `ui`, `controller`; `behaviour` tells the fake worker what to do."""

    def __init__(self, module: Any, controller: Any) -> None:
        from SlicerHost.module_loader import open_panel

        self.module, self.controller = module, controller
        self.behaviour: dict[str, Any] = {"behaviour": "quick"}
        apply = controller.apply

        def apply_with_behaviour(request: Any) -> None:
            apply(dataclasses.replace(request, parameters={**request.parameters, **self.behaviour}))

        controller.apply = apply_with_behaviour
        open_panel(module)

    @property
    def widget(self) -> Any:
        """The module's widget object; a reload makes a new one."""
        return self.module.widgetRepresentation().self()

    @property
    def ui(self) -> Any:
        """The panel's widgets by name."""
        return self.widget.ui

    @property
    def parameters(self) -> Any:
        """The parameter node."""
        return self.widget._parameterNode

    def choose(self, scan: Any) -> None:
        """Choose the input."""
        self.ui.inputSelector.setCurrentNode(scan)

    def spin(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Let Qt's event loop turn until the condition holds; AssertionError when it never does."""
        import slicer

        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"still {self.controller.state} ({self.controller.stage})"
            slicer.app.processEvents()
            time.sleep(0.005)

    def run(self, scan: Any = None) -> None:
        """Press Apply and wait for the end."""
        if scan is not None:
            self.choose(scan)
        assert self.ui.applyButton.enabled, self.ui.applyButton.toolTip
        self.ui.applyButton.click()
        self.spin(lambda: not self.controller.busy)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a CT and an MRI model as the only bundled ones."""
    folder = tmp_path / "models"
    write_model(folder / "ct_denoise", "CT")
    write_model(folder / "mr_denoise", "MR")
    monkeypatch.setattr("MedAELib.bundle.models_folder", lambda: folder)
    monkeypatch.setenv("MEDAE_MODELS", str(tmp_path / "own-models"))
    return folder


@pytest.fixture
def panel(slicer_host: Any, models: Path, tmp_path: Path) -> Iterator[OpenPanel]:
    """The open panel over an empty scene."""
    from SlicerHost.module_loader import load_module

    module = load_module(MODULE)
    from MedAEPanel import shared
    from MedAEPanel.controller import RunController

    controller = shared.replace(RunController(tmp_path / "runs", fake_client(tmp_path / "runs")))
    yield OpenPanel(module, controller)
    controller.close()
