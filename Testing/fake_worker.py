"""A worker for tests: the real server, without torch, whose task does what the job's parameter "behaviour" says.

    FAKE = [sys.executable, "Testing/fake_worker.py"]        # WorkerClient(runs, command=FAKE)
    create_run(runs, "denoise", {"behaviour": "steps", "steps": 40, "seconds": 0.05, "removed": True}, origin)

Behaviours (parameter: default):
    quick            the result at once: "denoised" (input less 1 where above 0) and, with "removed": True, "removed";
                     "noise": True, "trust": True likewise
    steps            the same after "steps": 20 reports of progress, "seconds": 0.02 apart
    chatty           reports "steps": 5000 different stages at once, more than a pipe holds
    deaf             works on without ever reporting; "seconds": 1000
    hang             sits in native code with the Python lock held, signals blocked, for "seconds": 1000
    grandchild       starts a process that sleeps, writes its number to FOLDER/grandchild ("folder"), then hangs
    family           the same, but waits for that process
    crash, exit      ends with SIGABRT, with status "status": 7
    kill             ends itself with SIGKILL, as the system does when memory is short
    garbage          writes "text": "\xff" to the protocol pipe, then goes on
    print            prints "text": "hello from the task" to stdout and stderr, by Python and below it, then quick
    raise            raises the exception "error": "ValueError" with "text" in it; "torch.OutOfMemoryError" too
    disk full        asks for an output larger than any disk
    half             fills half of an output, then raises
Start option --start: ok, slow (a second), silent (never says hello), deaf (hangs in native code after hello),
    missing (torch is not installed), crash, garbage.
"""

from __future__ import annotations

import argparse
import builtins
import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import fake_codec

from MedAELib import errors
from MedAELib.worker.channel import Channel, start_guard, take_standard_streams
from MedAELib.worker.protocol import Device, Hello
from MedAELib.worker.server import Server

EVENTS = 1
RUNS_DONE = 0


@dataclass
class Result:
    """As `MedAELib.tasks.run.TaskResult`."""

    outputs: dict[str, Any]
    report: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)


def run_task(
    task: str, inputs: dict[str, Any], parameters: dict[str, Any], *, progress: Any, allocate: Any, live: Any = None
) -> Result:
    """Misbehave as asked, or return a result of the denoise task's form."""
    global RUNS_DONE
    behaviour = parameters.get("behaviour", "quick")
    if task == "train":
        return train(inputs, parameters, progress, live)
    if task == "onnx":
        (live.run / "network.onnx").write_bytes(b"a network")
        return Result({}, {"task": "onnx", "model": Path(parameters["model"]).name, "checked": "well formed"})
    misbehave(behaviour, parameters, progress, allocate)
    volume = inputs["input"]
    if task == "anomaly":
        return anomaly(volume, parameters, allocate)
    if task == "explain":
        made = explained if "traversal" not in parameters.get("parts", ["traversal"]) else traversals
        return made(volume, parameters, allocate)
    if task == "features":
        return features(volume, parameters, allocate)
    if task == "compress":
        made, told, file = fake_codec.compress(volume, parameters, allocate)
        return Result(made, told, {"latent": file})
    if task == "decompress":
        return Result(*fake_codec.decompress(volume, allocate))
    if task == "translate":
        return translate(inputs, parameters, allocate)
    if parameters.get("slab"):
        volume = volume.slab(*parameters["slab"])
    denoised = allocate("denoised", volume.array.shape, volume.array.dtype)
    denoised[...] = volume.array - (volume.array > 0).astype(volume.array.dtype)
    outputs = {"denoised": volume.like(denoised)}
    if parameters.get("removed"):
        removed = allocate("removed", volume.array.shape, volume.array.dtype)
        removed[...] = volume.array - denoised
        outputs["removed"] = volume.like(removed)
    if parameters.get("noise"):
        noise = allocate("noise", (1, *volume.shape), "float32")
        noise[...] = 20.0
        outputs["noise"] = volume.like(noise)
    RUNS_DONE += 1
    report = {
        "seconds": 0.1, "device": "cpu", "precision": "float32", "tile": 64, "noise_before": 20.0, "noise_after": 8.0,
        "model": str(parameters.get("model", "fake")), "model_sha256": "0" * 64, "versions": {"torch": "0"},
        "warnings": [], "task": task, "process": os.getpid(), "runs_before": RUNS_DONE - 1,
    }  # fmt: skip
    if parameters.get("adapt"):
        report |= {"adapted": parameters["adapt"] > 30, "warnings": ["The volume is doubtful."]}
    if parameters.get("trust"):
        figure = {"name": "Bias in flat tissue", "value": 0.25, "unit": "HU", "verdict": "good", "explanation": "None."}
        report |= {"trust": [figure, {**figure, "name": "Edges kept", "value": None}], "verdict": "Trust it <b>."}
    return Result(outputs, report)


def anomaly(volume: Any, parameters: dict[str, Any], allocate: Any) -> Result:
    """A result of the anomaly task's form: z 1 everywhere, and a cube of z 5 that is region 1."""
    outputs = {}
    for name, dtype in (("anomaly", "float32"), ("regions", "uint8")):
        array = allocate(name, (1, *volume.shape), dtype)
        array[...] = 1 if name == "anomaly" else 0
        array[0, 4:8, 4:8, 3:6] = 5 if name == "anomaly" else 1
        outputs[name] = volume.like(array)
    if parameters.get("typical") and parameters.get("model") != "none":
        for name in ("typical", "residual"):
            array = allocate(name, (1, *volume.shape), "float32")
            array[...] = volume.array[:1] if name == "typical" else -3
            outputs[name] = volume.like(array)
    for name in ("map_residual", "map_bright", "map_contrast") if parameters.get("others") else ():
        array = allocate(name, (1, *volume.shape), "float32")
        array[...] = 2
        outputs[name] = volume.like(array)
    for name in ("step_mask", "step_seen") if parameters.get("steps") else ():
        array = allocate(name, (1, *volume.shape), "uint8" if name == "step_mask" else "float32")
        array[...] = 1
        outputs[name] = volume.like(array)
    right, front, head = (volume.affine @ [5.5, 5.5, 4, 1])[:3].tolist()
    row = {
        "number": 1, "volume_ml": 0.5, "peak_z": 5.0, "mean_z": 5.0, "rate": 0.0005, "right_mm": right,
        "front_mm": front, "head_mm": head, "side": "right", "brightness": "brighter",
        "sharpest_map": "contrast", "sharpest_z": 6.0,
    }  # fmt: skip
    report = {
        "seconds": 0.1, "model": str(parameters.get("model", "")), "model_sha256": "", "versions": {"torch": "0"},
        "warnings": ["Most of the scan is unlike."], "task": "anomaly", "regions": 1,
        "threshold_z": 2.326, "false_alarm_rate": parameters.get("rate", 0.01),
        "above_threshold": 0.02, "map": "unlike the training data", "found": [row],
        "calibration": parameters.get("calibration", "scan"),
        "case": "As a whole (score 3.00) it is less usual than 4 of 5 normal scans.",
    }  # fmt: skip
    return Result(outputs, report)


def translate(inputs: dict[str, Any], parameters: dict[str, Any], allocate: Any) -> Result:
    """The sum of the scans; the report tells what was asked for and where the scans were."""
    volume = inputs["input"]
    made = allocate("translated", volume.array.shape, "float32")
    made[...] = sum(scan.array.astype("float32") for scan in inputs.values())
    outputs = {"translated": volume.like(made)}
    if parameters.get("uncertainty"):
        doubt = allocate("uncertainty", volume.array.shape, "float32")
        doubt[...] = 1
        outputs["uncertainty"] = volume.like(doubt)
    asked = {name: parameters.get(name) for name in ("source", "target", "others", "uncertainty")}
    affines = {name: scan.affine.tolist() for name, scan in inputs.items()}
    return Result(outputs, {"task": "translate", "warnings": [], "asked": asked, "affines": affines, "seconds": 0.1})


def features(volume: Any, parameters: dict[str, Any], allocate: Any) -> Result:
    """A row for the volume, and where it is wanted a code of three channels in cells of two voxels."""
    outputs = {}
    if parameters.get("latent"):
        code = allocate("code", (3, *(-(-size // 2) for size in volume.shape)), "float32")
        code[...] = np_column([1.0, 2.0, 3.0])
        outputs["code"] = type(volume)(code, volume.affine @ np_cells(), {"frames": True})
    row = {"item": "volume", "r": 0.0, "a": 0.0, "s": 0.0, "values": [4.0]}
    report = {
        "task": "features", "warnings": [], "seconds": 0.1, "device": "cpu", "names": ["mean_000"], "features": [row],
        "similar": [], "asked": dict(parameters),
    }  # fmt: skip
    return Result(outputs, report)


def explained(volume: Any, parameters: dict[str, Any], allocate: Any) -> Result:
    """Results of the explain task's form: typical scan and residuals full of one number, those of each further scan."""
    outputs, others = {}, parameters.get("others") or {}
    for number, end in enumerate(["", *(f"_of_{kind.lower()}" for kind in others.values())]):
        for name in ("typical", *(f"{kind}residual_{mm}mm" for kind in ("", "baseline_") for mm in ("1_7", "4"))):
            array = allocate(f"{name}{end}", (1, *volume.shape), "float32")
            array[...] = volume.array[:1] * (10 * number + 1) if name == "typical" else number
            outputs[f"{name}{end}"] = volume.like(array)
    return Result(outputs, {"task": "explain", "warnings": [], "seconds": 0.1, "asked": dict(parameters)})


def traversals(volume: Any, parameters: dict[str, Any], allocate: Any) -> Result:
    """Two traversals of the explain task's form around its point, each frame full of its own amount."""
    amounts, outputs = [-1.0, 0.0, 1.0], {}
    ends = {"": 1.0, **{f"_of_{kind.lower()}": 10.0 for kind in parameters.get("others", {}).values()}}
    for number, end in itertools.product((1, 2), ends):
        array = allocate(f"traversal_{number}{end}", (3, 6, 6, 4), "float32")
        array[...] = np_column(amounts) * number * ends[end]
        meta = {"frames": True, "frame_spacing": 1.0}
        outputs[f"traversal_{number}{end}"] = type(volume)(array, volume.affine, meta)
    rows = [{"direction": n, "share_of_variance": 0.5 / n, "largest_change": 7.0 * n} for n in (1, 2)]
    report = {
        "task": "explain", "warnings": [], "seconds": 0.1, "point": parameters["point"], "asked": dict(parameters),
        "traversal": {"deviations": amounts, "directions": rows, "channel": parameters["channel"]},
    }  # fmt: skip
    return Result(outputs, report)


def np_column(values: list[float]) -> Any:
    """Numbers along the first of four axes."""
    import numpy as np

    return np.array(values, np.float32)[:, None, None, None]


def np_cells() -> Any:
    """From cells of two voxels along each edge to voxels."""
    import numpy as np

    return np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 2, 0.5], [0, 0, 0, 1]])


def train(inputs: dict[str, Any], parameters: dict[str, Any], progress: Any, live: Any) -> Result:
    """A training of "steps": 12 points, "seconds": 0.01 apart, and a model without real weights.

    "behaviour": "hang" hangs after three points, "kill", "crash" end the process then. "checkpoints": True leaves what
    a training that goes on in the same run begins with.
    """
    import numpy as np
    from panel_tools import write_model

    from MedAELib.atomic import write_text  # whole or not at all, as the real files: the process may be killed here

    steps, work = int(parameters.get("steps") or 12), live.run / "work"
    done = json.loads((work / "history.json").read_text()) if work.is_dir() else []
    for row in done:
        live.measured(row["step"], steps, row["loss"], 20 + row["step"])
    for step in range(len(done) + 1, steps + 1):
        progress("Training", step, steps)
        if parameters.get("checkpoints"):
            work.mkdir(exist_ok=True)
            (work / "last.pt").write_bytes(b"weights")
            write_text(work / "plan.json", json.dumps({"steps": steps}))
            done.append({"step": step, "loss": 1 / step})
            write_text(work / "history.json", json.dumps(done))
        live.picture(np.full((8, 4), step / steps, np.float32))
        live.measured(step, steps, 1 / step, 20 + step if parameters.get("measured", True) else None)
        if step == 3 and parameters.get("behaviour") in ("hang", "kill", "crash"):
            misbehave(parameters["behaviour"], {**parameters, "folder": str(live.run)}, progress, None)
        if live.stop():
            break
        time.sleep(float(parameters.get("seconds", 0.01)))
    name = parameters["name"]
    write_model(live.run / "made" / name, "MR").rename(live.model)
    report = {
        "task": "train", "model": name, "figures": {"psnr": 20.0 + step}, "steps": step, "seconds": 0.1,
        "inputs": {key: list(volume.array.shape) for key, volume in inputs.items()}, "parameters": dict(parameters),
    }  # fmt: skip
    return Result({}, report)


def misbehave(behaviour: str, parameters: dict[str, Any], progress: Any, allocate: Any) -> None:
    """Everything that happens before a result, if there is to be one."""
    text = parameters.get("text", "")
    if behaviour == "steps":
        steps = int(parameters.get("steps", 20))
        allocate("denoised", (1, 8, 8, 8), "int16")  # room first, as a real task does
        for step in range(steps + 1):
            progress("Denoising", step, steps)
            time.sleep(float(parameters.get("seconds", 0.02)) if step < steps else 0)
    elif behaviour == "chatty":
        for step in range(int(parameters.get("steps", 5000))):
            progress(f"Stage {step}", 0, 1)
    elif behaviour == "deaf":
        time.sleep(float(parameters.get("seconds", 1000)))
    elif behaviour in ("hang", "grandchild", "family"):
        if behaviour != "hang":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
            (Path(parameters["folder"]) / "grandchild").write_text(str(child.pid))
        if behaviour == "family":
            progress("Waiting", 1, 2)
            child.wait()
        progress("Hanging", 1, 2)
        hang(float(parameters.get("seconds", 1000)))
    elif behaviour == "crash":
        os.abort()
    elif behaviour == "exit":
        os._exit(int(parameters.get("status", 7)))
    elif behaviour == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif behaviour == "garbage":
        os.write(EVENTS, (text or "\xff").encode("latin-1") + b"\n")
    elif behaviour == "print":
        say(text or "hello from the task")
    elif behaviour == "raise":
        raise exception(parameters.get("error", "ValueError"))(text)
    elif behaviour == "disk full":
        allocate("denoised", (1, 1 << 20, 1 << 20, 1 << 10), "float32")
    elif behaviour == "half":
        allocate("denoised", (1, 64, 64, 64), "float32")[:, :32] = 1
        raise ValueError("in the middle")


def hang(seconds: float) -> None:
    """Hold the Python lock in native code and block every signal that can be blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ctypes.PyDLL(None).usleep(int(min(seconds, 1000) * 1e6))


def say(text: str) -> None:
    """Print through every door there is."""
    print(text, "(stdout)")
    print(text, "(stderr)", file=sys.stderr)
    os.write(1, f"{text} (below Python)\n".encode())
    subprocess.run([sys.executable, "-c", f"print({text!r}, '(child)')"], check=True)


def exception(name: str) -> type[Exception]:
    """An exception type by name: MedAE's, Python's, or a look-alike of a library's."""
    module, _, plain = name.rpartition(".")
    if module:
        return type(plain, (RuntimeError,), {"__module__": module})
    return getattr(errors, name, None) or getattr(builtins, name)


def start(how: str) -> Any:
    """What happens instead of importing torch."""
    if how == "slow":
        time.sleep(1)
    elif how == "silent":
        time.sleep(1000)
    elif how == "missing":
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    elif how == "crash":
        os.abort()
    elif how == "deaf":
        threading.Timer(0.1, hang, (1000.0,)).start()
    elif how == "garbage":
        os.write(EVENTS, b"Segmentation fault?\n")
    return run_task, Hello((Device("cpu", "Fake processor", 8 << 30),), {"torch": "0.0"})


def main() -> None:
    """Serve like `python -m MedAELib.worker`."""
    global EVENTS
    parser = argparse.ArgumentParser()
    parser.add_argument("--idle-seconds", type=float, default=600.0)
    parser.add_argument("--start", default="ok")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    commands, EVENTS = take_standard_streams()
    start_guard(commands, EVENTS)
    status = Server(Channel(commands, EVENTS), lambda: start(arguments.start), arguments.idle_seconds).serve()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
