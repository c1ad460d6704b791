"""T2 and FLAIR of people who were not learned from, by a model that fuses T1, T2 and FLAIR, one or two of them given.

    python Testing/benchmarks/translate_fused.py --output FOLDER [--steps 800] [--person patient01] [--write FILE]

Trains on two of the three people of `translate_cases.py` for a fixed number of steps (nothing is chosen by the third),
then makes T2 and FLAIR of each visit of the third, from T1 alone (the third kind is missing) and from T1 and the third
kind. Beside them histogram matching and the best regression of T1, as in `translate.py`, which says what the figures
are. A model that is in FOLDER already is measured only. --write puts the table behind the mark of a page.
Data: MEDAE_DATA, else ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.translate import PEOPLE, best, figures_of, options_of, parts_of, simple_ways, trained, visit_of
from benchmarks.translate_cases import KINDS, cohort

from MedAELib.engine.run import Engine
from MedAELib.model import Model
from MedAELib.tasks.translate import translate
from MedAELib.training.cohort import data_folder
from MedAELib.training.folder import Case
from MedAELib.training.plan import WINDOWS
from MedAELib.training.result import LICENCE
from MedAELib.training.sampling import Source, middle
from MedAELib.training.translation import FIGURE_EDGES, calibration, kinds_of, seen_as, seen_scan

PLAIN = "means 64, standard contrast"  # what a training reports beside its own figures
BEGIN, END = "<!-- fused -->", "<!-- end of fused -->"
FIGURES = ("psnr", "ssim")


def options_of_fusion() -> SimpleNamespace:
    """What `train --network fusion --modalities T1 T2 FLAIR --translate T1 FLAIR --dims 2` asks for."""
    changed = {"network": "fusion", "modalities": list(KINDS), "translate": [KINDS[0], KINDS[-1]]}
    return SimpleNamespace(**{**vars(options_of(KINDS[-1], "fusion")), **changed})


def model_without(person: str, chosen: argparse.Namespace, folder: Path) -> Model:
    """The model of the two others, trained unless it is there."""
    path = chosen.output / f"fusion-{person}"
    if not path.is_dir():
        room = path.with_name(f"{path.name}-{chosen.steps}.training")
        model, plan, seconds = trained(options_of_fusion(), parts_of(KINDS[1:], person, folder), chosen.steps, room)
        figures, learned = {"seconds": round(seconds), "steps": chosen.steps}, plan.sources["training"]
        known = calibration(model, learned, learned, Engine("cpu", "float32"))
        model.save(
            path, name="fused", description="Fold.", card="# Fold\n", licence=LICENCE, figures=figures, limits=[],
            training_data=[], calibration=known,
        )  # fmt: skip
        shutil.rmtree(room)
    return Model.load(path)


def made(model: Model, case: Case, target: str, given: tuple[str, ...]) -> np.ndarray:
    """The target of a visit [i, j, k] in its window, made of the kinds that are given."""
    voxels = np.array(case.voxels, np.float32)
    for number, kind in enumerate(KINDS):
        if kind not in given:
            voxels[number] = np.nan
    found = translate(
        case.volume().like(voxels), model, source=given[0], target=target, engine=Engine("cpu", "float32")
    )
    kind = next(kind for kind in model.spec.kinds if kind.name == target)
    return (found["translated"].array[0] - kind.low) / (kind.high - kind.low)


def rows_of(person: str, chosen: argparse.Namespace, folder: Path) -> list[dict]:
    """A row for each visit of the person left out and each target."""
    model, whole, rows = model_without(person, chosen, folder), parts_of(KINDS[1:], person, folder), []
    assert model.bundle is not None
    for target in KINDS[1:]:
        parts, other = parts_of((target,), person, folder), next(kind for kind in KINDS[1:] if kind != target)
        kinds = kinds_of(parts.training, [KINDS[0], target], WINDOWS, False)
        ways = simple_ways([seen_as(case, kinds) for case in parts.training])
        for case in whole.test:
            pair: Source = seen_as(next(one for one in parts.test if one.name == case.name), kinds)
            mask, box = seen_scan(pair, False) > 0, middle(pair, FIGURE_EDGES)
            low, high = pair.limits[-1]
            wanted = (np.asarray(pair.case.voxels[-1][box], np.float32) - low) / (high - low)
            row = {"target": target, "case": case.name, **model.bundle.figures}
            for name, given in (("alone", KINDS[:1]), ("both", (KINDS[0], other))):
                row[name] = figures_of(wanted, made(model, case, target, given)[box], mask)
            row["simple"] = {name: figures_of(wanted, way(pair, mask), mask) for name, way in ways.items()}
            print(target, case.name, row["alone"], row["both"], best(row, "psnr"), best(row, "ssim"), flush=True)
            rows.append(row)
    return rows


def report(rows: list[dict]) -> str:
    """The table, and how often each way of giving scans is better than both ways without a network."""
    lines = [
        "| target | visit left out | of T1 | of T1 and the third kind | histogram matching of T1 | best regression of "
        "T1 |",
        "|---|---|---|---|---|---|",
    ]
    won = {(name, figure): 0 for name in ("alone", "both", "plain") for figure in FIGURES}
    for row in rows:
        simple = {figure: (row["simple"]["matching"][figure], best(row, figure)[1]) for figure in FIGURES}
        shown = [[row[name][figure] for figure in FIGURES] for name in ("alone", "both")]
        shown += [[simple[figure][n] for figure in FIGURES] for n in (0, 1)]
        cells = " | ".join(f"{decibel:.2f} / {alike:.3f}" for decibel, alike in shown)
        lines.append(f"| {row['target']} | {visit_of(row)} | {cells} |")
        for figure in FIGURES:
            for name in ("alone", "both"):
                won[name, figure] += row[name][figure] > max(simple[figure])
            won["plain", figure] += row["alone"][figure] > row["simple"][PLAIN][figure]
    told = {name: " and ".join(f"{figure.upper()} {won[name, figure]}" for figure in FIGURES) for name, _ in won}
    seconds = float(np.mean([row["seconds"] for row in rows]))
    return "\n".join([
        *lines, "",
        f"PSNR (dB) / SSIM inside the brain; {rows[0]['steps']} steps, {seconds:.0f} processor seconds a training. Of "
        f"{len(rows)} rows the network is better than matching and every regression of T1 in: of T1 alone "
        f"{told['alone']}, of T1 and the third kind {told['both']}. Than the one regression that a training reports "
        f"beside its figures (means in 64 bins, standard contrast) it is better, of T1 alone, in {told['plain']}.",
    ])  # fmt: skip


def main() -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--person", action="append", choices=PEOPLE, default=[])
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--output", type=Path, default=Path("translate-benchmark"))
    parser.add_argument("--write", type=Path, default=None, help="a page, where the table stands between two marks")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.output.mkdir(parents=True, exist_ok=True)
    folder = cohort(data_folder(), chosen.output / "cohort")
    for person in chosen.person or PEOPLE:
        path = chosen.output / f"fusion-{person}.json"
        path.write_text(json.dumps(rows_of(person, chosen, folder), indent=1))
    files = [path for path in (chosen.output / f"fusion-{person}.json" for person in PEOPLE) if path.is_file()]
    table = report([row for path in files for row in json.loads(path.read_text())])
    print(table)
    if chosen.write:
        head, _, rest = chosen.write.read_text().partition(BEGIN)
        chosen.write.write_text(f"{head}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
