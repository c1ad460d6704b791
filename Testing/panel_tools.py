"""What the tests of the panel share: generated scans, a model folder without real weights, a fast fake worker."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from MedAELib.bundle import CARD, LICENCE, METADATA, WEIGHTS, Spec, Window, identity, spec_to_json
from MedAELib.worker.client import WorkerClient

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "MedAE" / "MedAE.py"
FAKE_WORKER = [sys.executable, str(ROOT / "Testing" / "fake_worker.py")]


def safetensors_file(weights: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    """The bytes of a safetensors file of weights by name, each with its type, shape and bytes."""
    header, data = {}, b""
    for name, (kind, shape, content) in weights.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def write_model(
    folder: Path, modality: str = "CT", task: str = "denoise", dims: int = 3, spec: Spec | None = None
) -> Path:
    """A model folder that can be read, shown and imported, with one weight of no network; its name is the folder's."""
    window = Window("fixed", -1000.0, 1000.0) if modality == "CT" else Window("percentile", 0.0, 99.9)
    spec = spec or Spec("denoising", {"channels": 8}, dims, task, modality, window)
    weights = safetensors_file({"weight": ("F32", [2], np.float32([0.5, 1]).tobytes())})
    for name in (METADATA, WEIGHTS, CARD, LICENCE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(weights)
    (folder / CARD).write_text("# card\n")
    (folder / LICENCE).write_text("Apache-2.0\n")
    own = {
        **spec_to_json(spec),
        "name": folder.name,
        "sha256": identity(spec, weights),
        "limits": ["Trained on adults only."],
        "training_data": ["100 generated heads"],
        "figures": {"PSNR (dB)": {"noisy": 26.1, "denoised": 31.25}},
    }
    description = f"Removes noise from {modality} volumes."
    (folder / METADATA).write_text(json.dumps({"version": "0.1.0", "description": description, "medae": own}))
    return folder


def write_hostile(folder: Path, value: str, *keys: str) -> Path:
    """A model whose metadata holds this JSON text under these keys, and whose hash agrees where it can be told."""
    write_model(folder, "MR")
    metadata = json.loads((folder / METADATA).read_text())
    table = metadata
    for key in keys[:-1]:
        table = table[key]
    table[keys[-1]] = "HERE"
    own, text = metadata["medae"], json.dumps(metadata).replace('"HERE"', value)
    names = ("network", "arguments", "dims", "task", "modality", "window")
    spec = json.dumps({name: own[name] for name in names}, sort_keys=True, separators=(",", ":"))
    content = spec.replace('"HERE"', value.replace(" ", "")).encode() + b"\n" + (folder / WEIGHTS).read_bytes()
    (folder / METADATA).write_text(text.replace(own["sha256"], hashlib.sha256(content).hexdigest()))
    return folder


def deep(levels: int, inner: str = "0") -> str:
    """So many JSON lists in one another."""
    return "[" * levels + inner + "]" * levels


# What no model may say, by JSON text and the keys above it.
HOSTILE = {
    "a window of 400 digits": ("1" * 400, "medae", "window", "high"),
    "a window beyond all numbers": ("-1e999", "medae", "window", "low"),
    "a kind of 400 digits": (
        json.dumps([{"name": "T1", "modality": "MR", "low": 0, "high": 10**400,
                     "window": {"kind": "percentile", "low": 0, "high": 99}}] * 2), "medae", "kinds",
    ),
    "a standard of 400 digits": (
        json.dumps([{"name": "T1", "modality": "MR", "low": 0, "high": 1, "standard": [10**400],
                     "window": {"kind": "percentile", "low": 0, "high": 99}}] * 2), "medae", "kinds",
    ),
    "an argument beyond all numbers": ('{"channels": 1e999}', "medae", "arguments"),
    "deep arguments": ('{"channels": ' + deep(900) + "}", "medae", "arguments"),
    "deep figures": (deep(900), "medae", "figures"),
    "a figure beyond all numbers": ('{"a": 1e999}', "medae", "figures"),
    "a long modality": (json.dumps("x" * 9000), "medae", "modality"),
    "a long window": (json.dumps("x" * 9000), "medae", "window", "kind"),
    "a long name": (json.dumps("x" * 9000), "medae", "name"),
    "dimensions of 300 digits": ("1" * 300, "medae", "dims"),
    "half a letter": ('"a\\ud800b"', "description"),
    "half a letter in a list": ('["a\\udfffb"]', "medae", "limits"),
    "half a letter in the arguments": ('{"fields": ["\\ud800"]}', "medae", "arguments"),
}  # fmt: skip
NO_NUMBERS = ('"x"', "[3]", "100000000", "0", "9", "true", "2.0", "null", "-1")  # of modalities


def write_with_arguments(folder: Path, arguments: str, network: str = "fusion") -> Path:
    """A model of a network with these arguments, a JSON text; its hash agrees."""
    write_hostile(folder, arguments, "medae", "arguments")
    metadata = json.loads((folder / METADATA).read_text())
    own = metadata["medae"]
    own["network"] = network
    names = ("network", "arguments", "dims", "task", "modality", "window")
    spec = json.dumps({name: own[name] for name in names}, sort_keys=True, separators=(",", ":"))
    own["sha256"] = hashlib.sha256(spec.encode() + b"\n" + (folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / METADATA).write_text(json.dumps(metadata))
    return folder


def fake_client(runs: Path, *options: str) -> WorkerClient:
    """A client whose worker does what the parameter "behaviour" of a job says; see fake_worker.py."""
    one_thread = {"OPENBLAS_NUM_THREADS": "1"}  # numpy starts faster, and the volumes are tiny
    return WorkerClient(runs, command=[*FAKE_WORKER, *options], idle_seconds=60, environment=one_thread)


class HandTimer:
    """A timer that never fires: the test calls `tick` itself."""

    interval = 0

    def __init__(self, tick: Callable[[], None]) -> None:
        self.tick = tick

    def setInterval(self, milliseconds: int) -> None:
        """As QTimer."""
        self.interval = milliseconds

    def start(self) -> None:
        """As QTimer."""

    def stop(self) -> None:
        """As QTimer."""


def oblique_affine(spacing: tuple[float, float, float] = (0.7, 0.8, 2.5)) -> np.ndarray:
    """An affine with a turn about two axes, anisotropic spacing and an origin, RAS millimetres."""
    a, b = 0.3, -0.2
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag(spacing)
    affine[:3, 3] = (-31.5, 12.25, 100.125)
    return affine


def scan_voxels(size: tuple[int, int, int], dtype: str, seed: int) -> np.ndarray:
    """Noisy voxels [k, j, i]: Hounsfield-like values for signed types, the uneven ones of an MRI else."""
    values = np.random.default_rng(seed).normal(40, 30, size[::-1])
    values[:, : size[1] // 4] -= 1000
    if np.dtype(dtype).kind == "u":
        values = np.clip(values + 100, 0, 250) * (1 if dtype == "uint8" else 8)
    return values.astype(dtype)


def add_shown_scan(name: str) -> Any:
    """A noisy scan as a node, shown in every slice view."""
    import slicer

    scan = add_scan(name=name)
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        composite.SetBackgroundVolumeID(scan.GetID())
    return scan


def add_scan(
    name: str = "CT chest", size: tuple[int, int, int] = (24, 20, 12), dtype: str = "int16", seed: int = 3
) -> Any:
    """A noisy scan as a node, see `scan_voxels`."""
    import slicer

    node = slicer.util.addVolumeFromArray(scan_voxels(size, dtype, seed), ijkToRAS=oblique_affine(), name=name)
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(350, 40)
    return node


def run_until(controller: Any, condition: Callable[[], bool], seconds: float = 20) -> None:
    """Tick the controller by hand until the condition holds; AssertionError when it never does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"still {controller.state} ({controller.stage}); {list(controller.log)[-5:]}"
        controller.tick()
        time.sleep(0.002)


def add_sequence(
    name: str = "perfusion", frames: int = 4, browser: bool = True, size: tuple[int, int, int] = (12, 10, 8),
    dtype: str = "int16",
) -> Any:  # fmt: skip
    """A sequence node of noisy scans, no two alike, 1.5 s apart; with a browser, its first frame is shown."""
    import slicer

    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequence.SetIndexName("time")
    sequence.SetIndexUnit("s")
    frame = slicer.vtkMRMLScalarVolumeNode()
    frame.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(oblique_affine()))
    for number in range(frames):
        slicer.util.updateVolumeFromArray(frame, scan_voxels(size, dtype, number))
        sequence.SetDataNodeAtValue(frame, str(1.5 * number))
    if browser:
        player = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{name} browser")
        player.SetAndObserveMasterSequenceNodeID(sequence.GetID())
        display = player.GetProxyNode(sequence).GetDisplayNode()
        display.AutoWindowLevelOff()
        display.SetWindowLevel(350, 40)
    return sequence


def own_models() -> list[str]:
    """The names of the user's own models."""
    folder = Path(os.environ["MEDAE_MODELS"])
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
