"""Random sequences of what can happen to a run, on a real scene, with a ledger of what must stay as it is."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
import vtk
from panel_tools import HandTimer, add_scan, add_sequence, fake_client

from MedAELib import nodes
from MedAELib.errors import MedAEError, OutOfMemory
from MedAELib.worker.runs import InputWriter

ENDINGS = ("idle", "done", "cancelled", "failed")
BEHAVIOURS = (
    {"behaviour": "quick"},
    {"behaviour": "quick"},
    {"behaviour": "steps", "steps": 4, "seconds": 0.004},
    {"behaviour": "steps", "steps": 400, "seconds": 0.02},
    {"behaviour": "garbage"},
    {"behaviour": "half"},
    {"behaviour": "disk full"},
    {"behaviour": "raise", "error": "torch.OutOfMemoryError", "text": "CUDA out of memory"},
    {"behaviour": "raise", "error": "ValueError", "text": "a defect"},
    {"behaviour": "crash"},
    {"behaviour": "kill"},
    {"behaviour": "exit"},
    {"behaviour": "hang"},
)


def fingerprint(node: Any) -> tuple[Any, ...]:
    """Everything of a node that a run could lose or change."""
    told = tuple((name, node.GetAttribute(name)) for name in sorted(node.GetAttributeNames()))
    parts: list[Any] = [node.GetClassName(), node.GetName(), told]
    if node.IsA("vtkMRMLTransformableNode"):
        parts.append(node.GetTransformNodeID())
    if node.IsA("vtkMRMLVolumeNode"):
        image, placed = node.GetImageData(), vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(placed)
        voxels = image.GetPointData().GetScalars()
        parts += [bytes(memoryview(voxels)), voxels.GetDataType(), image.GetDimensions(), placed.GetData()]
        display = node.GetDisplayNode()
        if display is not None and display.IsA("vtkMRMLScalarVolumeDisplayNode"):
            parts += [display.GetWindow(), display.GetLevel(), display.GetColorNodeID()]
    if node.IsA("vtkMRMLSequenceNode"):
        for number in range(node.GetNumberOfDataNodes()):
            parts += [node.GetNthIndexValue(number), fingerprint(node.GetNthDataNode(number))]
    if node.IsA("vtkMRMLSequenceBrowserNode"):  # results may join what it plays
        first = node.GetMasterSequenceNode()
        parts += [first.GetID() if first is not None else "", node.GetSelectedItemNumber()]
    if node.IsA("vtkMRMLLinearTransformNode"):
        matrix = vtk.vtkMatrix4x4()
        node.GetMatrixTransformToParent(matrix)
        parts.append(matrix.GetData())
    return tuple(parts)


class SceneDriver:
    """Does random things to a controller and a scene, and checks after each that nothing of the scene was lost.

    `panel` is an object with `enter` and `exit`, the module's panel, or None.
    """

    def __init__(self, folder: Path, panel: Any = None) -> None:
        from MedAEPanel.controller import RunController

        self.runs, self.panel, self.journal = folder, panel, []  # type: ignore[var-annotated]
        self.client = fake_client(folder)
        self.controller = RunController(folder, self.client, HandTimer)
        self.trouble = ""
        self._ledger: dict[str, tuple[Any, ...]] = {}
        self._outputs: set[str] = set()  # nodes that the run in hand may change
        self.seen: Counter[str] = Counter()  # states and incidents, so that a test can tell that they did happen
        self._step, self._filling = InputWriter.step, nodes.Filling.__init__
        self.operations: dict[str, Callable[[random.Random], None]] = {
            name[3:]: getattr(self, name) for name in dir(self) if name.startswith("do_")
        }

    # ---- trouble that the tests can switch on ----

    def install_trouble(self, monkeypatch: Any) -> None:
        """Let a full disk and missing memory happen when `trouble` says so."""

        def step(writer: Any, *arguments: Any) -> bool:
            if self.trouble == "disk full":
                writer.close()
                raise OSError(errno.ENOSPC, "No space left on device")
            return self._step(writer, *arguments)

        def filling(image: Any, volume: Any) -> None:
            if self.trouble == "out of memory":
                raise OutOfMemory("There is not enough memory left in Slicer for the result.")
            self._filling(image, volume)

        import MedAEPanel.controller

        monkeypatch.setattr(MedAEPanel.controller, "_SLAB_BYTES", 64)  # so that copying takes several ticks
        monkeypatch.setattr(MedAEPanel.controller, "_COPY_SECONDS", 0.0)
        monkeypatch.setattr(InputWriter, "step", step)
        monkeypatch.setattr(nodes.Filling, "__init__", filling)

    # ---- one sequence ----

    def run(self, seed: int, length: int = 14) -> None:
        """Do `length` random operations; AssertionError with the journal when anything goes wrong."""
        chance = random.Random(seed)
        self.journal = [f"seed {seed}"]
        try:
            self._new_scene(chance)
            for _ in range(length):
                name = chance.choices(list(self.operations), self._likelihoods())[0]
                self.journal.append(name)
                self.operations[name](chance)
                self.check()
            self._finish(chance)
        except Exception as error:
            raise AssertionError(f"{error}\n" + " > ".join(self.journal)) from error

    def _likelihoods(self) -> list[int]:
        """How likely each operation is now: trouble comes rather while a run is under way."""
        likely = {"apply": 6, "tick": 9, "cancel": 2, "wait": 3}
        if self.controller.busy:
            likely |= {"close_scene": 3, "kill": 3}
        if self.controller.unclaimed():
            likely["recover"] = 10
        return [likely.get(name, 1) for name in self.operations]

    def check(self) -> None:
        """Every node that was there is there and as it was."""
        self.seen[self.controller.state] += 1
        if self.controller.state == "done":
            made = self.controller.results.get("denoised")
            self.seen["a sequence is done"] += made is not None and made.IsA("vtkMRMLSequenceNode")
            for identifier in self._outputs & set(self._ledger):
                self._ledger[identifier] = fingerprint(slicer.mrmlScene.GetNodeByID(identifier))
            self._outputs = set()
        for identifier, before in self._ledger.items():
            node = slicer.mrmlScene.GetNodeByID(identifier)
            assert node is not None, f"{identifier} is lost"
            assert fingerprint(node) == before, f"{identifier} ({node.GetName()}) was changed"
        assert self.controller.state in (*ENDINGS, "exporting", "starting", "running", "cancelling", "importing")

    def _finish(self, chance: random.Random) -> None:
        """Whatever has happened, the run ends within a second of Cancel, and the next one works."""
        self.trouble = ""
        self.controller.cancel()
        self._tick_until(lambda: not self.controller.busy, 1.0)
        self.check()
        last = chance.choice((add_scan, add_sequence))
        scan = last("last", size=(6, 5, 4))
        self._note(scan)
        self._apply(scan, {"behaviour": "quick"}, {"denoised": None, "removed": None})
        self._tick_until(lambda: not self.controller.busy, 20)
        assert self.controller.state == "done", f"the last run {self.controller.state}: {self.controller.failure}"
        self.check()
        assert set(self.controller.results) == {"denoised", "removed"}
        self.controller.wait()  # until the files of the last run are deleted
        offered = self.controller.unclaimed()
        left = [path for path in self.runs.iterdir() if path.is_dir() and path not in offered]
        assert not left, f"forgotten run folders: {left}"
        for run in offered:
            self.controller.discard(run)

    def _tick_until(self, condition: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"still {self.controller.state} after {seconds} s"
            self.controller.tick()
            self.check()
            self._pause(0.003)

    def _pause(self, seconds: float) -> None:
        """Let time pass while the worker is waited for; nothing else takes time of its own."""
        if self.controller.state in ("starting", "running", "cancelling"):
            time.sleep(seconds)

    # ---- the scene ----

    def _new_scene(self, chance: random.Random) -> None:
        slicer.mrmlScene.Clear(0)
        self._ledger, self._outputs = {}, set()
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "bed")
        labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "report")
        labels.SetAttribute("written by", "a radiologist")
        scans = [add_scan(name, size=(8, 7, 6), dtype=kind) for name, kind in (("CT", "int16"), ("MR", "uint16"))]
        scans[0].SetAndObserveTransformNodeID(transform.GetID())
        outputs = [add_scan("my output", size=(3, 3, 3)), add_scan("my noise", size=(3, 3, 3))]
        sequence = add_sequence("PERF", frames=2, size=(5, 4, 3))
        browser = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSequenceBrowserNode")
        browser.SetSelectedItemNumber(chance.randrange(2))
        for node in (transform, labels, *scans, *outputs, sequence, browser, browser.GetProxyNode(sequence)):
            self._note(node)
            if node.IsA("vtkMRMLVolumeNode"):
                self._note(node.GetDisplayNode())

    def _note(self, node: Any) -> None:
        self._ledger[node.GetID()] = fingerprint(node)

    def _named(self, *names: str) -> list[Any]:
        found = [slicer.mrmlScene.GetNodeByID(identifier) for identifier in self._ledger]
        return [node for node in found if node.GetName() in names]

    def _remove(self, node: Any) -> None:
        gone = [node.GetID()]
        if node.IsA("vtkMRMLDisplayableNode") and node.GetDisplayNode() is not None:
            gone.append(node.GetDisplayNode().GetID())
        slicer.mrmlScene.RemoveNode(node)
        for identifier in gone:
            if slicer.mrmlScene.GetNodeByID(identifier) is None:
                self._ledger.pop(identifier, None)
        for identifier in self._ledger:  # without its transform a volume stands where its own matrix says
            self._ledger[identifier] = fingerprint(slicer.mrmlScene.GetNodeByID(identifier))

    # ---- what can happen ----

    def _apply(self, scan: Any, parameters: dict[str, Any], outputs: dict[str, Any]) -> None:
        from MedAEPanel.request import Request

        before = (self.controller.state, self.controller.subject)
        try:
            request = Request(scan, "denoise", {**parameters, "removed": "removed" in outputs}, outputs)
            self.controller.apply(request)
        except MedAEError as error:
            self.journal.append(f"({error})")
            if before[0] not in ENDINGS:
                assert (self.controller.state, self.controller.subject) == before
                self.seen["second apply refused"] += 1
            return
        assert before[0] in ENDINGS, "a second Apply was accepted"
        self._outputs = set()
        for node in outputs.values():
            if node is not None:
                self._outputs |= {node.GetID(), node.GetDisplayNodeID()}

    def do_apply(self, chance: random.Random) -> None:
        """Start a run, or try to while one is under way."""
        scans = self._named("CT", "MR", "PERF")
        if not scans:
            return
        outputs: dict[str, Any] = {"denoised": chance.choice([None, *self._named("my output")])}
        if chance.random() < 0.5:
            outputs["removed"] = chance.choice([None, *self._named("my noise")])
        parameters = chance.choice(BEHAVIOURS)
        self.journal.append(str(parameters["behaviour"]))
        self._apply(chance.choice(scans), parameters, outputs)

    def do_tick(self, chance: random.Random) -> None:
        """Let time pass."""
        for _ in range(chance.randint(1, 12)):
            self.controller.tick()
            self.check()
            self._pause(chance.choice((0, 0.001, 0.003)))

    def do_wait(self, chance: random.Random) -> None:
        """Let a run come to its end, unless it is a long one."""
        end = time.monotonic() + 0.15
        while self.controller.busy and time.monotonic() < end:
            self.controller.tick()
            self._pause(0.003)

    def do_cancel(self, chance: random.Random) -> None:
        """Press Cancel."""
        self.controller.cancel()

    def do_kill(self, chance: random.Random) -> None:
        """kill -9 of the worker, in whatever state it is."""
        if self.client.pid:
            os.kill(self.client.pid, signal.SIGKILL)
            self.seen[f"killed while {self.controller.state}"] += 1

    def do_kill_while_it_computes(self, chance: random.Random) -> None:
        """kill -9 of a worker that computes, however fast the machine is."""
        scans = self._named("CT", "MR", "PERF")
        if self.controller.busy or self.trouble or not scans:
            return
        self._apply(chance.choice(scans), {"behaviour": "steps", "steps": 40, "seconds": 0.01}, {"denoised": None})
        self._tick_until(lambda: self.controller.state == "running" or not self.controller.busy, 20)
        self.do_kill(chance)
        self._tick_until(lambda: not self.controller.busy, 20)

    def do_close_scene(self, chance: random.Random) -> None:
        """Close the scene and load another one, in which old IDs mean other nodes."""
        self.seen[f"closed while {self.controller.state}"] += 1
        self._new_scene(chance)

    def do_close_scene_at_the_worst_moment(self, chance: random.Random) -> None:
        """Close the scene while a run that will succeed computes, or while its result is brought in."""
        scans = self._named("CT", "MR", "PERF")
        if self.controller.busy or self.trouble or not scans:
            return
        moment = chance.choice(("running", "importing"))
        self._apply(chance.choice(scans), {"behaviour": "steps", "steps": 3, "seconds": 0.005}, {"denoised": None})
        self._tick_until(lambda: self.controller.state == moment or not self.controller.busy, 20)
        self.do_close_scene(chance)
        self._tick_until(lambda: not self.controller.busy, 20)

    def do_delete_input(self, chance: random.Random) -> None:
        """Delete the scan or sequence that is worked on, or another one."""
        scans = self._named("CT", "MR", "PERF")
        if scans:
            self._remove(chance.choice(scans))

    def do_delete_output(self, chance: random.Random) -> None:
        """Delete the node that was to receive the result."""
        chosen = self._named("my output", "my noise")
        if chosen:
            self._remove(chance.choice(chosen))

    def do_delete_transform(self, chance: random.Random) -> None:
        """Delete the transform that the scan lies under."""
        for node in self._named("bed"):
            self._remove(node)

    def do_edit_input(self, chance: random.Random) -> None:
        """Change a voxel of a scan, as an editor would."""
        for node in self._named("CT", "MR")[:1]:
            voxels = slicer.util.arrayFromVolume(node)
            voxels[tuple(chance.randrange(size) for size in voxels.shape)] = chance.randrange(100)
            slicer.util.arrayFromVolumeModified(node)
            self._note(node)

    def do_trouble(self, chance: random.Random) -> None:
        """The disk is full, or memory is short, from now on or no more."""
        self.trouble = chance.choice(("", "", "disk full", "out of memory"))

    def do_leave_and_enter(self, chance: random.Random) -> None:
        """Go to another module and come back."""
        if self.panel is not None:
            self.panel.exit()
            self.controller.tick()
            self.panel.enter()

    def do_recover(self, chance: random.Random) -> None:
        """Bring back a result that is not in the scene, or throw it away."""
        offered = self.controller.unclaimed()
        if offered and not self.controller.busy:
            self.seen["result offered"] += 1
            try:
                (self.controller.recover if chance.random() < 0.7 else self.controller.discard)(offered[0])
            except MedAEError as error:
                self.journal.append(f"({error})")

    def do_release(self, chance: random.Random) -> None:
        """Press 'Release memory'."""
        self.controller.release()

    def close(self) -> None:
        """End the worker."""
        self.controller.close()
        slicer.mrmlScene.Clear(0)
