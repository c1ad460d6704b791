"""Anomaly figures: the model's map beside plain baselines, on drawn anomalies in held-out brains and on a real case.

    python Testing/benchmarks/anomaly.py [--model brain-t1-anomaly] [--data FOLDER] [--each N] [--output FOLDER]

Drawn anomalies: ellipsoids of 6 to 12 mm radius in a held-out healthy brain at 2 mm (median 0.5): bright and dark by
0.2, texture of deviation 0.4, blur, tissue copied from elsewhere, and a bulge of 0.6. Real: the lesions of multiple
sclerosis that three raters agree on, on T1 (with the model) and on FLAIR (without one). Average precision, best Dice
and Dice at the calibrated threshold within the tissue that is looked at, for every map; false alarms on the healthy
brain itself; what the input gate says of wrong scans. Writes anomaly.json and anomaly.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from MedAELib.anomaly.figures import average_precision, best_dice, dice
from MedAELib.anomaly.prepare import Prepared, prepare
from MedAELib.anomaly.shown import shown_of
from MedAELib.model import Model
from MedAELib.tasks.anomaly import AnomalyResult, anomaly
from MedAELib.training.anomalies import KINDS
from MedAELib.training.anomaly import TEST
from MedAELib.training.choose_map import drawn_case
from MedAELib.training.cohort import data_folder
from MedAELib.volume import Volume


def mine(model: Model) -> str:
    """The name of the map that the model shows."""
    return shown_of(model.bundle.calibration if model.bundle else {}).name


def maps(found: AnomalyResult, first: str) -> dict[str, np.ndarray]:
    """All maps of a result by name, [i, j, k]."""
    return {first: found.map.array[0], **{name: other.array[0] for name, other in found.others.items()}}


def figures(found: AnomalyResult, first: str, truth: np.ndarray) -> dict[str, dict[str, float]]:
    """The figures of each map within the tissue that was looked at."""
    result = {}
    for name, z in maps(found, first).items():
        inside = (found.map.array[0] != 0) | truth
        scores, true = z[inside], truth[inside]
        result[name] = {
            "ap": average_precision(scores, true),
            "best_dice": best_dice(scores, true),
            "dice": dice(scores > found.threshold, true),
        }
    return result


def on_grid(prepared: Prepared, voxels: np.ndarray) -> Volume:
    """Voxels of a prepared scan as a volume of its own."""
    return Volume((voxels * 1000)[None].astype(np.float32), prepared.grid.affine, {"name": "scan", "modality": "MR"})


def drawn(model: Model, scans: list[Prepared], each: int) -> list[dict[str, Any]]:
    """A row for every drawn anomaly: kind, share of the tissue, and the figures of each map."""
    rows = []
    for kind in KINDS:
        for number in range(each):
            source = scans[number % len(scans)]
            changed, truth = drawn_case(source, kind, [4242, KINDS.index(kind), number])
            found = anomaly(on_grid(source, changed.voxels), model)
            share = float(truth.sum() / source.mask.sum())
            rows.append({"kind": kind, "share": share, "maps": figures(found, mine(model), truth)})
        print(f"{kind:8s} AP {np.mean([row['maps'][mine(model)]['ap'] for row in rows[-each:]]):.3f}", flush=True)
    return rows


def false_alarms(model: Model, volumes: list[Volume]) -> list[dict[str, Any]]:
    """The share of healthy tissue above thresholds, and the seconds a whole scan takes."""
    rows = []
    for volume in volumes:
        row: dict[str, Any] = {"scan": volume.name}
        for rate in (0.05, 0.01, 0.002):
            begin = time.perf_counter()
            found = anomaly(volume, model, rate=rate)
            row[f"{rate:g}"] = found.report["above_threshold"]
            row["seconds"] = round(time.perf_counter() - begin, 1)
        rows.append(row)
    return rows


def real(model: Model, data: Path) -> dict[str, dict[str, dict[str, float]]]:
    """The lesions of multiple sclerosis: T1 with the model, FLAIR without one."""
    folder = data / "ms_patient26"
    truth = Volume.load(folder / "lesion.nii.gz").array[0] > 0
    return {
        "T1": figures(anomaly(Volume.load(folder / "T1.nii.gz"), model), mine(model), truth),
        "FLAIR": figures(anomaly(Volume.load(folder / "FLAIR.nii.gz"), None), "bright", truth),
    }


def gate(model: Model, data: Path, normals: list[Volume]) -> list[dict[str, Any]]:
    """Whether right scans pass and wrong ones are told: other sequences, turned over, mirrored front to back, noise."""
    cases: list[tuple[str, bool, Volume]] = [(volume.name, True, volume) for volume in normals]
    for name in ("brain_t1_datalad/datalad_T1w_2mm.nii.gz", "ms_patient26/T1.nii.gz"):
        cases.append((name, True, Volume.load(data / name)))
    for name in ("ms_patient26/T2.nii.gz", "ms_patient26/FLAIR.nii.gz", "mr_misc/spine_t1w.nii.gz"):
        cases.append((name, False, Volume.load(data / name)))
    for volume in normals:
        affine = volume.affine
        for title, axis in (("upside down", 2), ("front to back", 1)):
            turned = np.array(affine)
            turned[axis] *= -1
            cases.append((f"{volume.name} {title}", False, Volume(volume.array, turned, volume.meta)))
        noise = np.random.default_rng(0).normal(0, 0.3 * float(np.percentile(volume.array, 99)), volume.array.shape)
        cases.append((f"{volume.name} noisy", False, volume.like(np.abs(volume.array + noise).astype(np.float32))))
    return [
        {"scan": name, "right": right, "warnings": anomaly(volume, model).report["warnings"]}
        for name, right, volume in cases
    ]


def report(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    names = list(result["drawn"][0]["maps"])
    lines = ["# Anomaly maps", "", "Average precision / best Dice / Dice at the threshold, means.", ""]
    lines += ["| drawn anomaly | share of tissue | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for kind in KINDS:
        rows = [row for row in result["drawn"] if row["kind"] == kind]
        cells = [_cell([row["maps"][name] for row in rows]) for name in names]
        lines.append(f"| {kind} | {100 * np.mean([row['share'] for row in rows]):.2f} % | " + " | ".join(cells) + " |")
    cells = [_cell([row["maps"][name] for row in result["drawn"]]) for name in names]
    lines += [f"| mean | | {' | '.join(cells)} |", "", "| real lesions | map | figures |", "|---|---|---|"]
    for scan, found in result["real"].items():
        lines += [f"| {scan} | {name} | {_cell([values])} |" for name, values in found.items()]
    lines += ["", "| healthy scan | above 5 % | above 1 % | above 0.2 % | s |", "|---|---|---|---|---|"]
    for row in result["false_alarms"]:
        lines.append(
            f"| {row['scan']} | {row['0.05']:.2%} | {row['0.01']:.2%} | {row['0.002']:.2%} | {row['seconds']} |"
        )
    lines += ["", "| scan | should pass | gate |", "|---|---|---|"]
    for row in result["gate"]:
        lines.append(
            f"| {row['scan']} | {'yes' if row['right'] else 'no'} | {'; '.join(row['warnings']) or 'passes'} |"
        )
    return "\n".join(lines) + "\n"


def _cell(values: list[dict[str, float]]) -> str:
    return " / ".join(f"{np.mean([value[name] for value in values]):.3f}" for name in ("ap", "best_dice", "dice"))


def main() -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="brain-t1-anomaly")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--each", type=int, default=8, help="anomalies of each kind")
    parser.add_argument("--output", type=Path, default=Path("anomaly-benchmark"))
    chosen = parser.parse_args()
    data, model = chosen.data or data_folder(), Model.load(chosen.model)
    chosen.output.mkdir(parents=True, exist_ok=True)
    volumes = [Volume.load(path) for pattern in TEST for path in sorted(data.glob(pattern))]
    result = {
        "model": model.bundle.sha256 if model.bundle else "",
        "drawn": drawn(model, [prepare(volume) for volume in volumes], chosen.each),
        "real": real(model, data),
        "false_alarms": false_alarms(model, volumes),
        "gate": gate(model, data, volumes),
    }
    (chosen.output / "anomaly.json").write_text(json.dumps(result, indent=1))
    (chosen.output / "anomaly.md").write_text(report(result))
    print(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
