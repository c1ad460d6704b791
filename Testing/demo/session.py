"""MedAE as a user meets it: the real panel on the test host, a volume node as input, the Apply button, the wait."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODULE = Path(__file__).resolve().parents[2] / "MedAE" / "MedAE.py"


@dataclass
class Run:
    """What one press of Apply led to: nodes by output name, the worker's report, and what the panel felt like."""

    nodes: dict[str, Any]
    report: dict[str, Any]
    seconds: float
    parts: dict[str, float] = field(default_factory=dict)  # seconds in export, start, run and import
    longest_stall: float = 0.0  # the longest time the event loop was held, seconds
    longest_import_stall: float = 0.0  # the same while the result came into the scene


class Session:
    """The host with MedAE's panel open and an empty scene; a context manager, so that the worker always ends."""

    def __init__(self, runs_folder: Path) -> None:
        os.environ["MEDAE_RUNS"] = str(runs_folder)  # the demo leaves nothing in the user's own folders
        import SlicerHost

        self.host = SlicerHost
        self.host.start()
        self.host.new_scene()
        self.module = self.host.load_module(MODULE)
        self.widget = self.host.open_panel(self.module)
        self.panel, self.controller = self.widget.panel, self.widget.logic.controller

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.controller.close()
        self.host.close_panel(self.module)
        if error is None:
            self.host.check()  # what Qt and VTK would have hidden fails the demo

    def load(self, path: Path, name: str, window: tuple[float, float] | None = None) -> Any:
        """Load a volume as Slicer's 'Add data' does; `window` is (low, high) for the display, None for automatic."""
        import slicer

        node = slicer.util.loadVolume(str(path))
        node.SetName(name)
        if window is not None:
            display = node.GetDisplayNode()
            display.AutoWindowLevelOff()
            display.SetWindowLevelMinMax(*window)
        slicer.util.setSliceViewerLayers(background=node, fit=True)
        return node

    def apply(self, node: Any, model: str = "", show: Callable[[str, float], None] | None = None) -> Run:
        """Select the input, press Apply, and serve the event loop until the run has ended. RuntimeError if it fails."""
        import slicer

        parameters = self.panel.parameters
        parameters.inputVolume, parameters.model, parameters.makeRemoved = node, model, True
        slicer.app.processEvents()
        button = self.widget.ui.applyButton
        if not button.enabled:
            raise RuntimeError(self.panel.problem())
        started, stalls = time.perf_counter(), {True: 0.0, False: 0.0}
        button.click()
        while self.controller.busy or self.controller.preview.pending:  # the visible slices come first, then the volume
            before = time.perf_counter()
            slicer.app.processEvents()
            importing = self.controller.state in ("importing", "done")
            stalls[importing] = max(stalls[importing], time.perf_counter() - before)
            if show is not None:
                show(self.controller.stage, self.controller.fraction)
            time.sleep(0.002)
        if self.controller.state != "done":
            raise RuntimeError(self.widget.ui.statusLabel.text or "\n".join(self.controller.log))
        seconds = time.perf_counter() - started
        parts = dict(self.controller.seconds)
        return Run(self.controller.results, dict(self.controller.report), seconds, parts, stalls[False], stalls[True])
