"""Sections of `gpu.py` that concern what a user waits for: denoising from array to array, in a worker, and anomaly."""

from __future__ import annotations

import cProfile
import importlib
import pstats
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from benchmarks.gpu_section import Section

from MedAELib.bundle import bundled_models
from MedAELib.engine.run import Engine
from MedAELib.model import Model
from MedAELib.networks.mirrored import Mirrored
from MedAELib.quality import limits
from MedAELib.tasks.denoise import automatic_passes, completed
from MedAELib.tasks.run import run_task
from MedAELib.volume import Volume
from MedAELib.worker.client import WorkerClient
from MedAELib.worker.protocol import CancelledEvent, Done, Failed
from MedAELib.worker.runs import InputWriter, create_run, discard, read_result

_BAR = "1.5 s"
_PANEL = {"removed": True}  # what the panel asks for unless the user changes it
_HASTY = {"passes": 1}  # what its preview asks for
_SLAB = 20  # slices of the preview
_TILE = 64  # voxels along an edge
# Where the time of the task may go: what is called, and how the table names it. None of these calls another.
_STAGES = {
    ("tasks.run_denoise", "load_model"): "model",
    ("tasks.run_denoise", "see"): "noise estimate for the network",
    ("tasks.run_denoise", "denoise"): "engine with rounding",
    ("tasks.run_denoise", "denoise_and_map"): "engine with rounding and noise map",
    ("tasks.run_denoise", "removed_noise"): "removed noise",
    ("tasks.run_denoise", "noise_levels"): "noise before and after",
    ("tasks.run_denoise", "trust"): "trust figures",
    ("tasks.run_denoise", "check_values"): "check of values",
    ("tasks.run_denoise", "_told"): "domain check",
}  # fmt: skip
_CALLS = 12  # of the profile, the dearest


def ct_denoise(section: Section) -> None:
    """From array to array: the engine, the task, and the task with all that the panel asks for; a large CT."""
    _denoising(section, "ct", section.sizes.large, "large CT")
    _denoising(section, "ct", section.sizes.small, "small CT")


def mr_denoise(section: Section) -> None:
    """The same for MRI."""
    _denoising(section, "mr", section.sizes.large, "large MR")
    _denoising(section, "mr", section.sizes.small, "small MR")


def _denoising(section: Section, scan: str, shape: tuple[int, ...], what: str) -> None:
    volume, model, device = section.volume(scan, shape), Model.load(f"{scan}-denoise"), section.device.type
    engine, passes = Engine(device), automatic_passes(volume, model)
    window = limits(model.spec.window, volume.array[0])
    network = completed(Mirrored(model.network, passes), model)
    section.seconds(
        f"{what}: engine, {passes} passes", lambda: engine.run(network, volume.array[0], window, lambda *_: None)
    )
    made: list[np.ndarray] = []
    section.seconds(
        f"{what}: task as the panel asks for it",
        lambda: made.append(_task(volume, device, **_PANEL).outputs["denoised"].array), _BAR, warm=True,
    )  # fmt: skip
    section.tell(f"{what}: voxels that differ from run to run", int((made[0] != made[-1]).sum()))
    _stages(section, what, lambda: _task(volume, device, noise=True, trust=True, **_PANEL))
    _calls(section, what, lambda: _task(volume, device, **_PANEL))


def _task(volume: Volume, device: str, task: str = "denoise", **parameters: Any) -> Any:
    return run_task(task, {"input": volume}, {"device": device, **parameters}, progress=lambda *_: None)


def _stages(section: Section, what: str, call: Callable[[], Any]) -> None:
    """The seconds of the stages of one run."""
    with _clocked(section) as taken:
        start = time.perf_counter()
        call()
        whole = time.perf_counter() - start
    for name, seconds in taken.items():
        section.tell(f"{what}:   {name}", seconds, "s")
    section.tell(f"{what}:   all else", whole - sum(taken.values()), "s")


@contextmanager
def _clocked(section: Section) -> Iterator[dict[str, float]]:
    taken: dict[str, float] = defaultdict(float)

    def clocked(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            section.ready()
            start = time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                section.ready()
                taken[name] += time.perf_counter() - start

        return call

    with ExitStack() as stack:
        for (module, function), name in _STAGES.items():
            home = importlib.import_module(f"MedAELib.{module}")
            stack.enter_context(mock.patch.object(home, function, clocked(getattr(home, function), name)))
        yield taken


def _calls(section: Section, what: str, call: Callable[[], Any]) -> None:
    """The dearest calls of one run, by their own time; what the device does is in whatever waits for it."""
    profile = cProfile.Profile()
    profile.runcall(call)
    stats: Any = pstats.Stats(profile)
    dearest = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:_CALLS]
    for (path, line, name), (_, count, own, _, _) in dearest:
        place = f"{Path(path).name}:{line} " if line else ""
        section.tell(f"{what}:   {place}{name} x {count}"[:110], own, "s")


def worker(section: Section) -> None:
    """A real worker over its protocol: from the input in memory to the result mapped into memory, as in Slicer."""
    client = WorkerClient(section.folder / "runs")
    try:
        for scan in ("ct", "mr"):
            volume = section.volume(scan)
            for wanted in ({}, _PANEL):
                said = ", removed noise too" if wanted else ""
                for turn in range(section.sizes.turns + 1):
                    _through_worker(section, client, volume, wanted, f"{scan}{said}" if turn else f"{scan}, warm-up")
            slab = volume.slab(2, volume.shape[2] // 2 // 4 * 4, volume.shape[2] // 2 // 4 * 4 + _SLAB)
            for turn in range(2):
                name = f"{scan}, preview of {_SLAB} slices{'' if turn else ', first'}"
                _through_worker(section, client, slab, _HASTY, name, "1 s")
    finally:
        client.close()


def _through_worker(
    section: Section, client: WorkerClient, volume: Volume, wanted: dict[str, Any], what: str, bar: str = _BAR
) -> None:
    start = time.perf_counter()
    run = create_run(section.folder / "runs", "denoise", {"device": section.device.type, **wanted}, {})
    writer = InputWriter(run, "input", volume)
    while not writer.step():
        pass
    exported = time.perf_counter()
    client.submit(run)
    end = _ended(client)
    if not isinstance(end, Done):
        raise RuntimeError(f"{end}\n{client.log_tail()}")
    done = time.perf_counter()
    result = read_result(run)
    float(result.outputs["denoised"].array[0, 0, 0, 0])
    mapped = time.perf_counter()
    task = float(result.report["seconds"])
    section.tell(f"{what}: from node to node", mapped - start, "s", bar)
    section.tell(f"{what}:   export", exported - start, "s")
    section.tell(f"{what}:   task", task, "s")
    section.tell(f"{what}:   reading, checksums and protocol", done - exported - task, "s")
    del result
    discard(run)


def _ended(client: WorkerClient, longest: float = 90) -> Any:
    """The event that a run ends with; it is asked for every 2 ms, where the panel asks every 50."""
    give_up = time.monotonic() + longest
    while time.monotonic() < give_up:
        for event in client.poll():
            if isinstance(event, (Done, Failed, CancelledEvent)):
                return event
        time.sleep(0.002)
    raise TimeoutError("the worker did not end its run in time")


def agreement(section: Section) -> None:
    """How far apart results are: this device and the CPU, shorter types and float32, tiles and the whole."""
    device = section.device.type
    for bundle in bundled_models():
        if bundle.spec.task == "compress":
            continue
        model = Model.load(str(bundle.folder))
        scan = "ct" if model.spec.modality == "CT" else "mr"
        source = section.volume(scan, section.sizes.long).array[0]
        window = limits(model.spec.window, source) if model.spec.task == "denoise" else (0.0, float(source.max()))
        network = completed(model.network, model) if model.spec.task == "denoise" else model.network
        made = {
            (where, precision, tile): _made(network, source, window, Engine(where, precision, tile))
            for where, precision, tile in [
                ("cpu", "float32", 0), (device, "float32", 0), (device, "float32", _TILE), (device, "bfloat16", 0),
                (device, "bfloat16", _TILE), *([(device, "float16", 0)] if device != "cpu" else []),
            ]
        }  # fmt: skip
        exact, bfloat = made[device, "float32", 0], made[device, "bfloat16", 0]
        span = float(source.max()) - float(source.min())
        pairs = {
            "float32, this device and the CPU": (exact, made["cpu", "float32", 0], "1e-4 of the window"),
            f"float32, tiles of {_TILE} and whole": (exact, made[device, "float32", _TILE], "1e-4 of the window"),
            "bfloat16 and float32": (exact, bfloat, ""),
            f"bfloat16, tiles of {_TILE} and whole": (bfloat, made[device, "bfloat16", _TILE], ""),
        }
        if device != "cpu":
            pairs["float16 and float32"] = (exact, made[device, "float16", 0], "")
        for name, (one, other, bar) in pairs.items():
            far = float(np.abs(one - other).max())
            section.tell(f"{bundle.name}: {name}", far / span, "of the range", bar)
            section.tell(f"{bundle.name}: {name}", far / (window[1] - window[0]), "of the window", bar)


def _made(network: Any, source: np.ndarray, window: tuple[float, float], engine: Engine) -> np.ndarray:
    result = np.empty(source.shape, np.float32)

    def keep(core: Any, before: np.ndarray, after: np.ndarray) -> None:
        result[core] = after

    engine.run(network, source, window, keep)
    return result


def anomaly(section: Section) -> None:
    """A T1-weighted head, all steps, as the panel asks for it; and where its time goes."""
    volume = section.volume("head")
    wanted = {"model": "brain-t1-anomaly", "typical": True}
    section.seconds("anomaly map of a head, all steps", lambda: _anomaly(section, volume, wanted), bar="2 s")
    _calls(section, "anomaly", lambda: _anomaly(section, volume, wanted))


def _anomaly(section: Section, volume: Volume, wanted: dict[str, Any]) -> Any:
    return _task(volume, section.device.type, "anomaly", **wanted)
