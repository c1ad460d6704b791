"""A training from a folder to a model: read, split, train, measure, write; whole at the end, or resumable."""

from __future__ import annotations

import argparse
import copy
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from MedAELib.atomic import write_text
from MedAELib.engine.device import choose_device
from MedAELib.errors import BadInput, MedAEError
from MedAELib.plain import plain_text
from MedAELib.terminal import tell_note
from MedAELib.training.anomaly_model import make_anomaly_plan, write_anomaly_model
from MedAELib.training.card import Course, counted, without_place
from MedAELib.training.feed import prefetched, threads_beside
from MedAELib.training.folder import Case, Split, cases_of, read_folder, split
from MedAELib.training.loop import Schedule, adam, kept_course, train
from MedAELib.training.parallel import agreed, least, processes, rank_and_world, wait_for_all
from MedAELib.training.plan import Plan, check_network, check_options, make_plan, without_empty
from MedAELib.training.result import write_model
from MedAELib.training.resuming import check_parts, settings
from MedAELib.training.translation import complete
from MedAELib.training.workplace import CACHE, HISTORY, PLAN, Workplace
from MedAELib.volume import Volume
from MedAELib.worker.live import Live

Progress = Callable[[str, int, int], None]

_VALIDATIONS = 25
_CALIBRATION = 3  # steps for each thread that makes batches: to warm up, and to be timed
_FINE = 0.2  # of the learning rate: a model that is good already is only to be moved a little


@dataclass
class Interrupt:
    """Whether and why a training shall end early: the first Ctrl-C asks, the second insists; or the time is over."""

    deadline: float | None = None
    asked: bool = False
    late: bool = False
    live: Live | None = None
    finish: bool = False  # asked by whoever looks on, who wants nothing to resume from

    def __call__(self, step: int) -> bool:
        """Whether to end after this step."""
        self.late = self.deadline is not None and time.monotonic() > self.deadline
        self.finish = self.live is not None and self.live.stop()
        return self.asked or self.late or self.finish

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Let Ctrl-C ask first."""

        def ask(number: int, frame: object) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True
            print("medae: ending after this step; Ctrl-C again to end at once", file=sys.stderr)

        try:
            before = signal.signal(signal.SIGINT, ask)
        except ValueError:  # not in the main thread: nobody presses Ctrl-C here
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


@dataclass
class _Curve:
    """Tells each validation on the terminal, with the time that is left."""

    schedule: Schedule
    started: float = field(default_factory=time.monotonic)
    first: int | None = None  # the step that this run began with, when it has made one
    live: Live | None = None

    def repeat(self, folder: Path) -> None:
        """Tell whoever looks on what a training that is resumed has come to before."""
        if self.live is not None:
            for row in json.loads((folder / HISTORY).read_text(encoding="utf-8")):
                self.live.measured(row["step"], self.schedule.steps, row["loss"], _quality(row))

    def __call__(self, row: Mapping[str, Any]) -> None:
        step, total = row["step"], self.schedule.steps
        left = (time.monotonic() - self.started) * (total - step) / max(step - (self.first or 0), 1)
        held_out = f", held out {row['held_out_psnr']:.2f} dB" if "held_out_psnr" in row else ""
        if self.live is not None:
            self.live.measured(step, total, row["loss"], _quality(row))
        if "held_out_ap" in row:
            held_out = f", held out average precision {row['held_out_ap']:.3f}"
        print(f"step {step} of {total}: loss {row['loss']:.4g}{held_out}, {left:.0f} s left", flush=True)


def _quality(row: Mapping[str, Any]) -> float | None:
    """The held-out figure of a line of the history: dB, of an anomaly model the average precision, or none."""
    found: float | None = row.get("held_out_psnr", row.get("held_out_ap"))
    return found


def run_session(
    options: argparse.Namespace, progress: Progress, *, volumes: Mapping[str, Volume] | None = None,
    subjects: Mapping[str, str] | None = None, live: Live | None = None,
) -> int:  # fmt: skip
    """Train as the command line's options say; the exit status: 0, or 130 when Ctrl-C ended it.

    `volumes` by name, and whom each shows, are learned from instead of a folder. `live` is told how it goes, and asked
    whether to end with the best so far. `options.work` is the folder for what is needed meanwhile, if not
    OUTPUT.training.
    Raises MedAEError, and KeyboardInterrupt at a second Ctrl-C; then no model was written, and OUTPUT.training is kept
    only if there is something in it to resume from.
    """
    place = Workplace(options.work or options.output.with_name(options.output.name + ".training"))
    if options.task != "anomaly":
        check_options(options, options.modality)
        check_network(options)
    with processes(choose_device(options.device)) as device, _taken(place, options, device):
        status = _trained(options, _Data(volumes, subjects or {}), place.folder, device, progress, live)
        if status == 0:
            place.remove()
    return status


@contextmanager
def _taken(place: Workplace, options: argparse.Namespace, device: torch.device) -> Iterator[None]:
    """Let the first process have the work folder for all; it is removed when there is nothing to resume from."""
    fault: MedAEError | None = None
    if rank_and_world()[0] == 0:
        try:
            place.take(options.folder, options.resume)
        except MedAEError as error:
            fault = error
    if agreed(fault is not None, device):
        raise fault or BadInput("The first process could not begin.", "It says why.")
    try:
        yield
    except BaseException:
        if not place.resumable:
            place.remove()
        raise
    finally:
        place.release()


@dataclass(frozen=True)
class _Data:
    """The volumes by name where there is no folder, and whom they show."""

    volumes: Mapping[str, Volume] | None
    subjects: Mapping[str, str]


def _trained(
    options: argparse.Namespace, data: _Data, folder: Path, device: torch.device, progress: Progress, live: Live | None
) -> int:
    """Train and write the model; the exit status."""
    started, first = time.monotonic(), rank_and_world()[0] == 0
    begun = settings(options, folder)
    parts, unfit = _read(options, data, folder, progress)
    if options.resume:
        check_parts(parts, folder)
    earlier, devices = kept_course(folder) if options.resume else (0.0, [])
    torch.manual_seed(options.seed)
    plan = make_anomaly_plan(options, parts, device) if options.task == "anomaly" else make_plan(options, parts, device)
    steps = begun["steps"] or _steps_in(started + options.minutes * 60 - time.monotonic(), plan)
    schedule = make_schedule(steps, plan, options)
    if first and not options.resume:
        write_text(folder / PLAN, json.dumps({**begun, "steps": steps, "parts": parts.told()}, indent=1))
    if first and rank_and_world()[1] > 1:
        print(f"{rank_and_world()[1]} processes share batches of {plan.samples} samples", flush=True)
    curve, interrupt = _Curve(schedule, live=live), Interrupt(live=live)
    if options.resume:
        curve.repeat(folder)
    before = plan.validate(copy.deepcopy(plan.network).eval()) if options.start and plan.validate else {}
    if options.minutes is not None:
        interrupt.deadline = started + options.minutes * 60

    def stop(step: int) -> bool:
        curve.first = step - 1 if curve.first is None else curve.first
        progress("Training", step, steps)
        return interrupt(step)

    with interrupt.listening():
        network, history = train(
            plan.network, plan.batch, plan.objective(steps), schedule, folder,
            resume=options.resume, validate=_watched(plan, live), critic=plan.critic, report=curve, stop=stop,
        )  # fmt: skip
        progress("Training", steps, steps)
        if first:
            end = _end(history, steps, interrupt, plan) + _sharing(plan) + _gain(history, before)
            write = write_anomaly_model if options.task == "anomaly" else write_model
            others = [name for name in devices if name != plan.device.type]
            course = Course(end, earlier + time.monotonic() - started, " and ".join([*others, str(plan.device)]))
            write(options, plan, network, history, parts, unfit, course, progress)
    wait_for_all()
    if interrupt.asked:
        print(f"medae: stopped; the best so far is {options.output}, go on with --resume", file=sys.stderr)
        return 130
    return 0


def _watched(plan: Plan, live: Live | None) -> Callable[[nn.Module], dict[str, float]] | None:
    """The measure of the plan, which shows the held-out slice too where somebody looks on."""
    if live is None:
        return plan.validate

    def measure(network: nn.Module) -> dict[str, float]:
        if plan.picture is not None:
            live.picture(plan.picture(network))
        return plan.validate(network) if plan.validate else {}

    return measure


def _sharing(plan: Plan) -> str:
    """How many processes share a batch, as a sentence; empty for one."""
    world = rank_and_world()[1]
    return f" {world} processes shared batches of {plan.samples} samples." if world > 1 else ""


def _gain(history: list[dict[str, Any]], before: Mapping[str, float]) -> str:
    """What the training has brought to the model that it started from, as a sentence; empty where none can say."""
    after = max((row["held_out_psnr"] for row in history if "held_out_psnr" in row), default=None)
    if after is None or "held_out_psnr" not in before:
        return ""
    then = before["held_out_psnr"]
    said = "better than" if after > then + 0.05 else "no better than"
    figures = f"{after:.2f} dB, {then:.2f} dB before"
    return f" On the validation subjects it is {said} the model that it started from: {figures}."


def _read(options: argparse.Namespace, data: _Data, folder: Path, progress: Progress) -> tuple[Split, list[str]]:
    """The cases in their parts, and why others were left out. The first process fills the cache for all."""
    unfit: list[str] = []

    def remark(sentence: str) -> None:
        if rank_and_world()[0] == 0:
            tell_note(sentence)

    def note(sentence: str) -> None:
        unfit.append(plain_text(without_place(sentence, options.folder)))
        remark(sentence)

    def read(write: bool) -> list[Case]:
        if data.volumes is not None:
            found = cases_of(data.volumes, data.subjects, note, options.modalities, remark)
        else:
            cache, kinds = folder / CACHE, options.modalities
            found = read_folder(options.folder, cache, kinds, options.subject, note, write, remark)
        fused = options.network == "fusion"
        found = complete(found, options.modalities, fused, note) if options.translate else found
        return found if options.task == "anomaly" else without_empty(found, options, note)

    progress("Reading the volumes", 0, 1)
    if rank_and_world()[0] == 0:
        cases = read(True)
        wait_for_all()
    else:
        wait_for_all()
        cases = read(False)
    progress("Reading the volumes", 1, 1)
    parts = split(cases, options.seed)
    if rank_and_world()[0] == 0:
        _tell(parts)
    return parts, unfit


def _tell(parts: Split) -> None:
    counts = {part: len(names) for part, names in parts.told().items()}
    print(", ".join(f"{part}: {counted(count, 'volume')}" for part, count in counts.items()), flush=True)
    if not parts.validation:
        tell_note("there is only one subject, so nothing is held out")


def make_schedule(steps: int, plan: Plan, options: argparse.Namespace) -> Schedule:
    """How a training of so many steps goes: its rates, and about 25 validations and checkpoints."""
    every = max(1, min(500, steps // _VALIDATIONS))
    return Schedule(
        steps=steps,
        learning_rate=plan.recipe.learning_rate * (_FINE if options.start else 1),
        warmup=min(200, max(1, steps // 10)),
        averaging=min(0.999, 1 - 1 / max(2, steps // 20)),
        checkpoint_every=every,
        validate_every=every,
        precision=options.precision,
        best=plan.best if plan.validate else "",
        patience=options.patience,
    )


def _steps_in(seconds: float, plan: Plan) -> int:
    """How many steps, with a critic's turn, fit into a time: some are made on copies, the first of which warm up."""
    network, critic = copy.deepcopy(plan.network), copy.deepcopy(plan.critic)
    optimizer = adam(network)
    other = adam(critic.network) if critic else None
    objective, device, begin = plan.objective(1), next(network.parameters()).device, 0.0
    threads = threads_beside(device)
    timed = _CALIBRATION * threads
    # A few batches more than are used, so that as many are being made when the clock is stopped as when it is started.
    with prefetched(plan.batch, 0, 2 * timed + threads, threads=threads) as batches:
        for step in range(2 * timed):
            if step == timed:
                begin = time.perf_counter()
            batch = tuple(part.to(device) for part in next(batches))
            optimizer.zero_grad()
            objective(network, batch).backward()
            optimizer.step()
            if critic and other:
                other.zero_grad()
                critic.error(critic.network, network, batch).backward()
                other.step()
            float(next(network.parameters()).detach().sum())  # waits for the device
        each = (time.perf_counter() - begin) / timed
    return least(max(1, int(0.9 * seconds / max(each, 1e-4))), device)


def _end(history: list[dict[str, Any]], steps: int, interrupt: Interrupt, plan: Plan) -> str:
    """Why the training ended, as one sentence."""
    done = history[-1]["step"] if history else 0
    best = max((row for row in history if plan.best in row), key=lambda row: row[plan.best], default=None)
    used = f" The weights are those of step {best['step']}, the best on the validation subjects." if best else ""
    if interrupt.asked or interrupt.finish:
        return f"It was stopped by hand after {done} of {steps} steps.{used}"
    if interrupt.late:
        return f"Its time was over after {done} of {steps} steps.{used}"
    if done < steps:
        return f"It ended after {done} of {steps} steps, as nothing better came.{used}"
    return f"It ran to its end.{used}"
