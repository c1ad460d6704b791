"""What MedAE does with a graphics card: ceilings, networks, tasks, agreement, training; and the codec beside it.

    python Testing/benchmarks/gpu.py --output FOLDER [--device cuda] [--only SECTION ...] [--seconds 110] [--trial]

For a computer with a CUDA card; nothing but the project is needed: all scans are generated (FOLDER may be deleted).
Writes FOLDER/gpu.json and gpu.md, and prints at the end what is in them, but for details. Two lanes run side by side:
the sections of the card on one half of the processors, those without it on the other; decoding comes last, alone. A
section that fails or takes too long says so, and the others go on. `--trial` measures tiny volumes, on any device: a
trial of the script itself.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from benchmarks import gpu_cores, gpu_network, gpu_tasks
from benchmarks.gpu_section import TRIAL, Section, Sizes, make_volume

VOLUMES = ("ct", "mr", "head")
# Sections, and how many seconds each may take.
CARD: dict[str, tuple[Callable[[Section], None], float]] = {
    "ceilings": (gpu_network.ceilings, 30),
    "training": (gpu_network.training, 40),
    "ct_network": (gpu_network.ct_network, 40),
    "ct_denoise": (gpu_tasks.ct_denoise, 60),
    "worker": (gpu_tasks.worker, 60),
    "mr_network": (gpu_network.mr_network, 40),
    "mr_denoise": (gpu_tasks.mr_denoise, 60),
    "agreement": (gpu_tasks.agreement, 40),
    "anomaly": (gpu_tasks.anomaly, 60),
}
CORES: dict[str, tuple[Callable[[Section], None], float]] = {
    "cores_denoise": (gpu_cores.cores_denoise, 60),
    "encoding": (gpu_cores.encoding, 90),
}
LAST: dict[str, tuple[Callable[[Section], None], float]] = {"decoding": (gpu_cores.decoding, 40)}
SECTIONS = CARD | CORES | LAST
_RESERVED = 20  # seconds, for what comes last
_ENDING = 10  # seconds, for a process that has done all its sections
_FAILED = 6  # lines of a traceback that are told


def work_through(names: Sequence[str], device: str, sizes: Sizes, folder: Path) -> None:
    """Do sections in turn, in this process; what goes wrong in one is told in its rows."""
    for name in names:
        section = Section(name, torch.device(device), sizes, folder)
        begun = time.monotonic()
        _note(folder, {"begun": name})
        try:
            SECTIONS[name][0](section)
        except Exception:
            lines = traceback.format_exc().strip().splitlines()[-_FAILED:]
            section.tell("FAILED", " / ".join(line.strip() for line in lines))
        section.tell("this section took", time.monotonic() - begun, "s")
        _note(folder, {"ended": name})
        if device == "cuda":
            torch.cuda.empty_cache()


def _note(folder: Path, what: dict[str, Any]) -> None:
    with (folder / "progress.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(what) + "\n")


class Lane:
    """Sections that are done one after another in one process, which is replaced when it dies or one takes too long."""

    def __init__(
        self, names: Sequence[str], options: argparse.Namespace, processors: Sequence[int], end: float
    ) -> None:
        self.names, self.options, self.processors, self.end = list(names), options, list(processors), end

    def run(self) -> None:
        """Do them all, or tell why not."""
        while self.names:
            process = self._started()
            while process.poll() is None and not self._late():
                time.sleep(0.05)
            if process.poll() is None:
                if self.names:
                    self._tell("took too long")
                process.kill()
                process.wait()
            elif self.names and not self._drop_ended():
                self._tell(f"ended its process with {process.returncode}: {self._last_words()}")
            if time.monotonic() >= self.end:
                for name in self.names:
                    self._tell("had no time left", name)
                return

    def _started(self) -> subprocess.Popen[bytes]:
        options = self.options
        command = [sys.executable, __file__, "--output", str(options.output), "--device", options.device, "--within"]
        command += ["--only", *self.names, *(["--trial"] if options.trial else [])]
        self.log = options.output / f"log-{self.names[0]}.txt"
        self.begun, self.current = time.monotonic(), ""
        with self.log.open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, self.processors)
        return process

    def _late(self) -> bool:
        """Whether the section in hand, or the end after the last, has taken too long, or there is no time left."""
        self._drop_ended()
        current = self.names[0] if self.names else "the end"
        if current != self.current:
            self.current, self.begun = current, time.monotonic()
        longest = SECTIONS[self.names[0]][1] if self.names else _ENDING
        return time.monotonic() > min(self.begun + longest, self.end)

    def _drop_ended(self) -> bool:
        """Forget the sections that have ended; whether there is none left."""
        path = self.options.output / "progress.jsonl"
        noted = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        ended = {note.get("ended") for note in noted}
        self.names = [name for name in self.names if name not in ended]
        return not self.names

    def _tell(self, why: str, name: str = "") -> None:
        name = name or self.names.pop(0)
        Section(name, torch.device("cpu"), Sizes(), self.options.output).tell("FAILED", why)

    def _last_words(self) -> str:
        return " / ".join(self.log.read_text(errors="replace").strip().splitlines()[-_FAILED:])


def lanes(options: argparse.Namespace) -> None:
    """Make the volumes, run both lanes side by side, then what must run alone."""
    wanted = options.only or list(SECTIONS)
    end = time.monotonic() + options.seconds
    early = end - (_RESERVED if set(LAST) & set(wanted) and set(wanted) - set(LAST) else 0)
    every = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    half = (every[: len(every) // 2] or every, every[len(every) // 2 :])
    makers = [_maker(name, options) for name in VOLUMES if not (options.output / f"{name}.npy").is_file()]
    chosen = [[name for name in part if name in wanted] for part in (CARD, CORES)]
    threads = [threading.Thread(target=Lane(c, options, h, early).run) for c, h in zip(chosen, half, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for maker in makers:
        maker.wait()
    Lane([name for name in LAST if name in wanted], options, every, end).run()


def _maker(name: str, options: argparse.Namespace) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--output", str(options.output), "--make", name]
    return subprocess.Popen(command + (["--trial"] if options.trial else []))


def table(rows: Sequence[dict[str, Any]], title: str) -> str:
    """The rows as Markdown."""
    lines = [title, "", "| section | what | measured | unit | bar |", "|---|---|---:|---|---|"]
    for row in rows:
        value = row["value"] if isinstance(row["value"], str) else f"{row['value']:.4g}"
        lines.append(f"| {row['section']} | {row['what']} | {value} | {row['unit']} | {row['bar']} |")
    return "\n".join(lines) + "\n"


def brief(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in few words, for a terminal: without bars, and without what a row above is made up of."""
    lines, section = [], ""
    for row in rows:
        if row["section"] != section:
            section = row["section"]
            lines.append(f"[{section}]")
        if not row["what"].startswith(" ") and ":   " not in row["what"]:
            value = row["value"] if isinstance(row["value"], str) else f"{row['value']:.4g}"
            lines.append(f"{row['what']} = {value} {row['unit']}".rstrip())
    return "\n".join(lines)


def _title(options: argparse.Namespace) -> dict[str, str]:
    card = torch.cuda.get_device_name() if options.device == "cuda" and torch.cuda.is_available() else "no card"
    return {
        "card": card, "torch": torch.__version__, "cuda": str(torch.version.cuda), "numpy": np.__version__,
        "cudnn": str(torch.backends.cudnn.version()), "python": platform.python_version(),
        "processors": str(os.cpu_count()), "sizes": "trial" if options.trial else "full",
    }  # fmt: skip


def main() -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=[])
    parser.add_argument("--seconds", type=float, default=110.0)
    parser.add_argument("--trial", action="store_true")
    parser.add_argument("--within", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--make", choices=VOLUMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = TRIAL if options.trial else Sizes()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.make:
        make_volume(options.make, options.output, sizes)
        return 0
    if options.within:
        work_through(options.only, options.device, sizes, options.output)
        return 0
    for name in ("rows.jsonl", "progress.jsonl"):
        (options.output / name).unlink(missing_ok=True)
    lanes(options)
    rows = [json.loads(line) for line in (options.output / "rows.jsonl").read_text().splitlines()]
    rows.sort(key=lambda row: list(SECTIONS).index(row["section"]))
    told = _title(options)
    made = table(rows, ", ".join(f"{name} {value}" for name, value in told.items()))
    (options.output / "gpu.json").write_text(json.dumps({**told, "rows": rows}, indent=1) + "\n")
    (options.output / "gpu.md").write_text(made)
    print(brief(rows))
    return int(any(row["what"] == "FAILED" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
