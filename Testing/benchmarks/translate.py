"""Translation of T1 to T2 and to FLAIR on people who were not learned from, against two simple ways.

    python Testing/benchmarks/translate.py --output FOLDER [--steps 800] [--fold T2 patient01] [--write docs/...]
    python Testing/benchmarks/translate.py --report --output FOLDER [--write docs/translate.md]

The first form trains on two of the three people of `translate_cases.py` for a fixed number of steps (nothing is chosen
by the third), translates each visit of the third and keeps model and figures in FOLDER; a model that is there is
measured only, and a training that was interrupted goes on. All folds are trained unless some are named; at the end, and
by the second form without training, the tables are written. PSNR and SSIM are of the target's window (0 to its 99.9th
percentile), inside the brain, as made and scaled by the one factor that fits best (the same favour to every way: units
of MRI are arbitrary). Histogram matching gives the scan the histogram of the training targets; the regressions
(polynomials of degree 1 to 7, means in 16 to 256 bins of intensity) are fitted on the training people, and the best
setting, on the scan's own or the standard contrast, for each visit and figure is taken, which only an oracle could.
Data: MEDAE_DATA, else ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.translate_cases import cohort

from MedAELib.engine.run import Engine
from MedAELib.model import Model
from MedAELib.quality import psnr, ssim
from MedAELib.training.cohort import data_folder
from MedAELib.training.folder import Split, read_folder
from MedAELib.training.loop import Schedule, train
from MedAELib.training.plan import Plan, make_plan
from MedAELib.training.result import LICENCE
from MedAELib.training.sampling import Source
from MedAELib.training.translation import (
    calibration,
    conditional_mean,
    correlation,
    histogram_matching,
    pairs_of,
    seen_as,
    seen_scan,
    translated_pair,
)

PEOPLE = ("patient01", "patient12", "patient26")
TARGETS = ("T2", "FLAIR")
DEGREES, BINS = (1, 2, 3, 4, 5, 7), (16, 32, 64, 128, 256)
Floats = np.ndarray


def options_of(target: str, network: str) -> SimpleNamespace:
    """What `train --network NETWORK --dims 2 --translate T1 TARGET` asks for."""
    return SimpleNamespace(
        network=network, dims=2, seed=0, modality="MR", modalities=["T1", target], translate=["T1", target], members=3,
        condition=[], table=None, arguments={}, terms={}, corrupt=[], learn_from="clean", start="", size="",
    )  # fmt: skip


def parts_of(targets: Sequence[str], held_out: str, folder: Path) -> Split:
    """Two people to learn from, and the third: their T1 and the targets."""
    cache = folder.parent / f"cache-{'-'.join(targets)}-{held_out}"
    cases = read_folder(folder, cache, ["T1", *targets], r"patient\d+", lambda _: None)
    cases = [case for case in cases if np.isfinite(case.voxels).any((1, 2, 3)).all()]
    people = {out: [case for case in cases if (case.subject == held_out) == out] for out in (True, False)}
    return Split(people[False], [], people[True])


def trained(options: SimpleNamespace, parts: Split, steps: int, room: Path) -> tuple[Model, Plan, float]:
    """A model of two people, without a look at the third, and the processor's seconds; it can be interrupted."""
    begin, timed = time.process_time(), room / "seconds.json"
    before = json.loads(timed.read_text()) if timed.is_file() else 0.0
    torch.manual_seed(options.seed)
    plan = make_plan(options, parts, torch.device("cpu"))
    schedule = Schedule(
        steps, plan.recipe.learning_rate, warmup=steps // 10, averaging=1 - 20 / steps, validate_every=steps // 20,
        checkpoint_every=steps // 20,
    )  # fmt: skip

    def report(row: dict) -> None:
        print(f"step {row['step']} of {steps}: loss {row['loss']:.4f}", flush=True)
        room.mkdir(parents=True, exist_ok=True)
        timed.write_text(json.dumps(before + time.process_time() - begin))

    resume = (room / "last.pt").is_file()
    made, _ = train(plan.network, plan.batch, plan.objective(steps), schedule, room, resume=resume, report=report)
    return Model(plan.spec, made.eval()), plan, before + time.process_time() - begin


def simple_ways(learned: list[Source]) -> dict[str, Callable[[Source, Floats], Floats]]:
    """By name, what takes a scan and the brain's mask, and gives a guess at the target."""
    matching = histogram_matching(learned)
    ways = {"matching": lambda source, mask: matching(seen_scan(source, False), mask)}
    for standard in (False, True):
        seen, wanted = pairs_of(learned, standard)
        ends = np.percentile(seen, [0.05, 99.95])
        told = ", standard contrast" if standard else ""
        for degree in DEGREES:
            curve = np.polynomial.Polynomial.fit(seen[::5], wanted[::5], degree)
            ways[f"polynomial {degree}{told}"] = (
                lambda source, mask, c=curve, e=ends, s=standard: c(np.clip(seen_scan(source, s), *e))
            )
        for bins in BINS:
            mean = conditional_mean(learned, bins, standard)
            ways[f"means {bins}{told}"] = lambda source, mask, m=mean, s=standard: m(seen_scan(source, s))
    return ways


def fold(target: str, held_out: str, options: argparse.Namespace, folder: Path) -> None:
    """Train without one person, unless that model is there, and keep a row for each of their visits."""
    path = options.output / f"{target}-{held_out}-{options.network}"
    parts, arguments = parts_of([target], held_out, folder), options_of(target, options.network)
    if not path.is_dir():
        room = path.with_name(f"{path.name}-{options.steps}.training")
        model, plan, seconds = trained(arguments, parts, options.steps, room)
        figures = {"seconds": round(seconds), "steps": options.steps}
        learned = plan.sources["training"]
        known = calibration(model, learned, learned, Engine("cpu", "float32"))
        model.save(
            path, name=f"t1-to-{target.lower()}", description="Fold.", card="# Fold\n", licence=LICENCE,
            figures=figures, limits=[], training_data=[], calibration=known,
        )  # fmt: skip
        shutil.rmtree(room)
    model = Model.load(path)
    learned, tested = ([seen_as(case, model.spec.kinds) for case in part] for part in (parts.training, parts.test))
    ways = simple_ways(learned)
    rows = [row(target, source, model, ways) for source in tested]
    path.with_suffix(".json").write_text(json.dumps(rows, indent=1))


def row(target: str, source: Source, model: Model, ways: dict[str, Callable[[Source, Floats], Floats]]) -> dict:
    """The figures of one visit of the person left out."""
    pair = translated_pair(model, source, Engine("cpu", "float32"))
    assert pair is not None and model.bundle is not None
    wanted, made, deviation = pair
    mask = seen_scan(source, False) > 0
    found = {"target": target, "case": source.case.name, **model.bundle.figures, "own": figures_of(wanted, made, mask)}
    found["simple"] = {name: figures_of(wanted, way(source, mask), mask) for name, way in ways.items()}
    error = np.abs(made - wanted)[mask]
    if deviation is not None:
        found["correlation"] = correlation(error, deviation[mask])
        doubtful = deviation[mask] > np.quantile(deviation[mask], 0.9)
        found["doubtful"] = float(error[doubtful].mean() / error[~doubtful].mean())
        found["spread"] = float(np.sqrt(np.square(deviation[mask]).mean()) / np.sqrt(np.square(error).mean()))
    print(target, source.case.name, found["own"], best(found, "psnr"), best(found, "scaled_psnr"), flush=True)
    return found


def figures_of(wanted: Floats, made: Floats, mask: Floats) -> dict[str, float]:
    """PSNR and SSIM, as made and after the one factor that fits the target best: the unit of MRI is arbitrary."""
    found, wanted, made = {}, np.where(mask, wanted, 0), np.where(mask, made, 0)
    factor = float((wanted * made).sum() / max(np.square(made).sum(), 1e-9))
    for name, guess in (("", made), ("scaled_", factor * made)):
        found[f"{name}psnr"], found[f"{name}ssim"] = psnr(wanted, guess, 1.0, mask), ssim(wanted, guess, 1.0, mask)
    return found


def best(row: dict, figure: str) -> tuple[str, float]:
    """The best setting of the regressions for this visit and figure."""
    found = {name: values[figure] for name, values in row["simple"].items() if name != "matching"}
    name = max(found, key=lambda key: found[key])
    return name, found[name]


def report(rows: list[dict]) -> str:
    """Two tables, a row for each visit: the figures beside simple ways, and the uncertainty."""
    lines = [
        "| target | visit left out | network | histogram matching | best regression | network, scaled "
        "| matching, scaled | best regression, scaled |",
        "|---|---|---|---|---|---|---|---|",
    ]
    won = dict.fromkeys(("psnr", "ssim", "scaled_psnr", "scaled_ssim"), 0)
    for row in rows:
        cells = []
        for kind in ("", "scaled_"):
            names = (f"{kind}psnr", f"{kind}ssim")
            own, matching = ([found[name] for name in names] for found in (row["own"], row["simple"]["matching"]))
            simple = [best(row, name)[1] for name in names]
            cells += [f"{decibel:.2f} / {alike:.3f}" for decibel, alike in (own, matching, simple)]
            for name, mine, *others in zip(names, own, matching, simple, strict=True):
                won[name] += mine > max(others)
        lines.append(f"| {row['target']} | {visit_of(row)} | {' | '.join(cells)} |")
    told = ", ".join(f"{name.replace('_', ' ').upper()} {count}" for name, count in won.items())
    seconds = float(np.mean([row["seconds"] for row in rows]))
    lines += [
        "",
        f"PSNR (dB) / SSIM inside the brain; {rows[0]['steps']} steps, {seconds:.0f} processor seconds a training. Of "
        f"{len(rows)} rows the network is better than matching and every regression in: {told}.",
        "",
        "| target | visit left out | correlation of uncertainty and error | error where it is highest (a tenth) to "
        "elsewhere | its size to the error's |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['target']} | {visit_of(row)} | {row['correlation']:.2f} | {row['doubtful']:.2f} "
        f"| {row['spread']:.2f} |"
        for row in rows if "correlation" in row
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def visit_of(row: dict) -> str:
    """The visit of a row, for people."""
    name = row["case"].split(".")[0].strip("_")
    return name.replace("_", ", ").replace("patient", "patient ").replace("study", "visit ")


def main() -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--fold", nargs=2, action="append", default=[], metavar=("TARGET", "PERSON"))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--network", default="translating")
    parser.add_argument("--output", type=Path, default=Path("translate-benchmark"))
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--write", type=Path, default=None, help="a page whose last chapter the table becomes")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.output.mkdir(parents=True, exist_ok=True)
    if not chosen.report:
        folder = cohort(data_folder(), chosen.output / "cohort")
        for target, person in chosen.fold or [(target, person) for target in TARGETS for person in PEOPLE]:
            fold(target, person, chosen, folder)
    found = [
        json.loads(path.read_text())
        for path in (chosen.output / f"{t}-{p}-{chosen.network}.json" for t in TARGETS for p in PEOPLE)
        if path.is_file()
    ]
    table = report([row for rows in found for row in rows]) if found else "No fold has been trained yet.\n"
    print(table)
    if chosen.write:
        text = chosen.write.read_text()
        mark = "<!-- figures -->\n"
        chosen.write.write_text(text.split(mark)[0] + mark + "\n" + table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
