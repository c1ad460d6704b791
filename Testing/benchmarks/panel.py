"""How live the panel stays: event-loop stalls during a run, time from Cancel to idle, and the cost from node to node.

    python Testing/benchmarks/panel.py [--size 512 512 300] [--frames N] [--model NAME|FOLDER] [--json FILE]

Without --model a fake worker stands in, which shows the panel's own cost at its worst: nothing else takes time. With
a model the real worker runs: export and import are compared with the time of the network, and how fast another slice is
drawn while it runs with that before. A process that only sleeps tells what the machine, busy with the worker, would do
to any program beside it. With --frames the input is a sequence in a browser.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing")]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import SlicerHost  # noqa: E402

HEARTBEAT_MS = 5
STOLEN_LATE = 0.02  # seconds until stolen time is surely counted


class Beat(NamedTuple):
    """One beat of the timer: when, what this thread and what others outside this machine had used by then (seconds)."""

    when: float
    own: float
    stolen: float
    state: str


class Heartbeat:
    """A timer every 5 ms; the longest gap between two beats, by state of the controller, is the worst stall.

    Two more figures tell the panel's own work from a machine that was busy with something else: the processor time that
    this thread used within that gap, and, on a virtual machine of Linux, for how long the hypervisor took processors
    away.
    """

    def __init__(self, controller: Any) -> None:
        import qt

        self._beats = [_beat(controller.state)]
        self._timer = qt.QTimer()
        self._timer.setTimerType(qt.Qt.PreciseTimer)
        self._timer.setInterval(HEARTBEAT_MS)
        self._timer.timeout.connect(lambda: self._beats.append(_beat(controller.state)))
        self._timer.start()

    def stop(self) -> dict[str, dict[str, float]]:
        """End; by state the worst gap beyond the heartbeat itself, and the processor times in it, in milliseconds."""
        self._timer.stop()
        worst: dict[str, dict[str, float]] = {}
        for number, (last, now) in enumerate(pairwise(self._beats), start=1):
            gap = round(1000 * max(0.0, now.when - last.when) - HEARTBEAT_MS, 1)
            for state in {last.state, now.state}:  # a gap in which the state changed counts for both
                if state not in worst or gap > worst[state]["gap"]:
                    stolen = self._counted_after(number).stolen - last.stolen
                    own = now.own - last.own
                    worst[state] = {"gap": max(0.0, gap), "own": round(1000 * own, 1), "stolen": round(1000 * stolen)}
        return worst

    def _counted_after(self, number: int) -> Beat:
        """The first beat by which Linux, at its next ticks, has counted what was stolen before that beat."""
        counted = self._beats[number].when + STOLEN_LATE
        return next((beat for beat in self._beats[number:] if beat.when >= counted), self._beats[-1])


class Witness:
    """A process of its own that only sleeps, 5 ms at a time, and notes the longest sleep: what nobody's panel did."""

    _CODE = f"""
import sys, threading, time
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
worst, last = 0.0, time.perf_counter()
print(flush=True)
while not over.is_set():
    time.sleep({HEARTBEAT_MS / 1000})
    now = time.perf_counter()
    worst, last = max(worst, now - last), now
print(worst)
"""

    def __init__(self) -> None:
        command = [sys.executable, "-c", self._CODE]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def stop(self) -> float:
        """End; the longest sleep beyond what was asked for, in milliseconds."""
        said, _nothing = self._process.communicate()
        return round(1000 * float(said) - HEARTBEAT_MS, 1)


def _beat(state: str) -> Beat:
    return Beat(time.perf_counter(), time.thread_time(), _stolen(), state)


def _stolen() -> float:
    """Seconds for which a hypervisor gave this machine's processors, all together, to others; 0 where nobody counts."""
    try:
        line = Path("/proc/stat").read_text().split("\n", 1)[0]
        return int(line.split()[8]) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def spin(condition: Any, seconds: float) -> float:
    """Let the event loop turn until the condition holds; how long it took (seconds)."""
    import slicer

    started = time.perf_counter()
    while not condition():
        if time.perf_counter() - started > seconds:
            raise TimeoutError("the benchmark's run did not end")
        slicer.app.processEvents()
        time.sleep(0.0005)
    return time.perf_counter() - started


def add_volume(size: tuple[int, int, int]) -> Any:
    """A noisy CT-like volume as a node."""
    import slicer

    rng = np.random.default_rng(1)
    plane = rng.normal(40, 30, (size[1], size[0])).astype(np.int16)
    voxels = np.empty(size[::-1], np.int16)
    for k in range(size[2]):
        voxels[k] = np.roll(plane, k * 7)
    voxels[:, : size[1] // 5] = -1000
    node = slicer.util.addVolumeFromArray(voxels, name="benchmark CT")
    slicer.util.setSliceViewerLayers(background=node, fit=True)
    return node


def add_sequence(size: tuple[int, int, int], frames: int) -> Any:
    """Such a volume in every frame of a sequence node, in a browser."""
    import slicer

    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "benchmark sequence")
    volume = add_volume(size)
    for number in range(frames):
        sequence.SetDataNodeAtValue(volume, str(number))
    slicer.mrmlScene.RemoveNode(volume)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "benchmark browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.util.setSliceViewerLayers(background=browser.GetProxyNode(sequence), fit=True)
    return sequence


def run_once(panel: Any, scan: Any, seconds: float) -> dict[str, Any]:
    """One run from Apply to the result: stalls by state and seconds by part."""
    import slicer

    if scan.IsA("vtkMRMLScalarVolumeNode"):
        slicer.util.setSliceViewerLayers(background=scan)  # not the result of the run before: it is previewed again
    panel.choose(scan)
    witness, heart = Witness(), Heartbeat(panel.controller)
    panel.ui.applyButton.click()
    first = total = spin(lambda: not panel.controller.busy, seconds)
    preview = panel.controller.preview.pending  # the visible slices are there; now the whole volume
    if preview:
        total += spin(lambda: not (panel.controller.busy or panel.controller.preview.pending), seconds)
    end = time.perf_counter() + 0.2  # what the scene's watchers do afterwards counts too
    spin(lambda: time.perf_counter() > end, 1)
    if panel.controller.state != "done":
        raise RuntimeError(f"the run {panel.controller.state}: {panel.controller.failure}")
    stalls, beside = heart.stop(), witness.stop()
    parts = {name: round(value, 3) for name, value in panel.controller.seconds.items()}
    told = {"preview_seconds": round(first, 3)} if preview else {}
    return {"stall_ms": stalls, "witness_ms": beside, "seconds": parts, "total_seconds": round(total, 3), **told}


def slice_times(panel: Any, scan: Any, seconds: float) -> dict[str, float]:
    """Milliseconds until another slice is drawn, the median of many, with an idle worker and while one takes all cores.

    The run is cancelled afterwards.
    """
    panel.choose(scan)
    _slices_drawn(20)  # warm-up
    idle = _slices_drawn(100)
    panel.ui.applyButton.click()
    spin(lambda: panel.controller.state == "running" and not panel.controller.preview.pending, seconds)
    spin(lambda: panel.controller.fraction > 0, seconds)
    busy = _slices_drawn(100)
    if panel.controller.state != "running":
        raise RuntimeError("the run was over before the slices were drawn: take a larger volume")
    panel.ui.cancelButton.click()
    spin(lambda: not panel.controller.busy, seconds)
    return {"idle": round(1000 * float(np.median(idle)), 1), "running": round(1000 * float(np.median(busy)), 1)}


def _slices_drawn(count: int) -> list[float]:
    import slicer

    view = slicer.app.layoutManager().sliceWidget("Red")
    first = view.sliceLogic().GetSliceOffset()
    taken = []
    for number in range(count):
        started = time.perf_counter()
        view.sliceLogic().SetSliceOffset(first + number % 20)
        view.sliceView().forceRender()
        taken.append(time.perf_counter() - started)
        end = time.perf_counter() + 0.02
        spin(lambda end=end: time.perf_counter() > end, 1)
    return taken


def cancel_times(panel: Any, scan: Any) -> dict[str, float]:
    """Seconds from Cancel to a panel that takes the next Apply: a worker that listens, and one that hangs."""
    times = {}
    for name, behaviour in (
        ("cooperative", {"behaviour": "steps", "steps": 1000, "seconds": 0.02}),
        ("hung in native code", {"behaviour": "hang"}),
    ):
        panel.behaviour = behaviour
        panel.choose(scan)
        panel.ui.applyButton.click()
        spin(lambda: panel.controller.state == "running" and panel.controller.fraction > 0, 30)
        panel.ui.cancelButton.click()
        times[name] = round(spin(lambda: panel.ui.applyButton.enabled, 10), 3)
    return times


def open_panel(folder: Path, model: str) -> Any:
    """The module's panel over a fake worker, or over the real one when a model is given."""
    from panel_fixtures import OpenPanel
    from panel_tools import MODULE, fake_client, write_model

    from SlicerHost.module_loader import load_module

    module = load_module(MODULE)
    from MedAEPanel import shared
    from MedAEPanel.controller import RunController

    if not model:
        import MedAELib.bundle

        write_model(folder / "models" / "ct_denoise")
        MedAELib.bundle.models_folder = lambda: folder / "models"
    client = None if model else fake_client(folder / "runs")
    panel = OpenPanel(module, shared.replace(RunController(folder / "runs", client)))
    if model:
        panel.behaviour = {}
        panel.parameters.model = model
    return panel


def main() -> int:
    """Measure, print a table, and write JSON where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 300), metavar=("I", "J", "K"))
    parser.add_argument("--frames", type=int, default=0, help="0: a volume; else a sequence of so many frames")
    parser.add_argument("--model", default="", help="bundled model or folder for the real worker")
    parser.add_argument("--runs", type=int, default=3, help="runs to take the worst stall of")
    parser.add_argument("--seconds", type=float, default=3600, help="give up after this time")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    SlicerHost.start()
    SlicerHost.new_scene()
    with tempfile.TemporaryDirectory(prefix="medae-benchmark-") as folder:
        panel = open_panel(Path(folder), options.model)
        size = tuple(options.size)
        scan = add_sequence(size, options.frames) if options.frames else add_volume(size)
        panel.choose(scan)
        results: dict[str, Any] = {
            "size": list(size),
            "frames": options.frames,
            "model": options.model or "(fake worker)",
        }
        results["runs"] = [run_once(panel, scan, options.seconds) for _ in range(options.runs)]
        if options.model:
            best = results["runs"][-1]["seconds"]
            results["slice_ms"] = slice_times(panel, scan, options.seconds)
            outside = best["export"] + best["import"]
            results["overhead_percent"] = round(100 * outside / best["run"], 2)
        else:
            results["cancel_seconds"] = cancel_times(panel, scan)
        panel.controller.close()
    for number, run in enumerate(results["runs"]):
        preview = f"; preview {run['preview_seconds']}" if "preview_seconds" in run else ""
        print(f"run {number}: worst stall (ms) {run['stall_ms']}; ", end="")
        print(f"of a process that only sleeps {run['witness_ms']}; ", end="")
        print(f"seconds {run['seconds']}{preview}; total {run['total_seconds']}")
    print({key: value for key, value in results.items() if key != "runs"})
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
