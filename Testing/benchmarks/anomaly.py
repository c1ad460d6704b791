"""Anomaly figures: the model's map beside plain baselines, on drawn anomalies in held-out scans and on a real case.

    python Testing/benchmarks/anomaly.py [--model brain-t1-anomaly] [--data FOLDER] [--each N] [--output FOLDER]
                                         [--peers MODEL ...] [--parts PART ...]

Drawn anomalies: ellipsoids with radii of 3 to 6 cells of the model's grid in held-out normal scans: bright and dark by
0.2 (the tissue's median is 0.5, of CT 0.2 is 100 HU), texture of deviation 0.4, blur, tissue copied from elsewhere, and
a bulge of 0.6; and many small spots at once in brighter tissue. Real, for brains: the lesions of multiple sclerosis
that three raters agree on, on T1 (with the model) and on FLAIR (without one). Average precision, best Dice and Dice at
the calibrated threshold within the tissue that is looked at, for every map; Dice of the regions that the user gets; the
share of lesions found by size; false alarms on the normal scans themselves and on scans of other scanners, outside of
known lesions; what the input gate says of wrong scans; seconds. Peers are autoencoders that `train` made of the same
people, see anomaly_peers.py: their residuals are further maps. `--parts` measures some of drawn, real, false_alarms,
other_scanners, gate, artefacts (of brains, drawn into right heads, see anomaly_artefacts.py) and speed (a whole run on
256 x 256 x 170 voxels) alone. Writes anomaly.json and anomaly.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.anomaly_artefacts import counted, speed, told_artefacts
from benchmarks.anomaly_peers import Peer, learned

from MedAELib.anomaly.average import average_of
from MedAELib.anomaly.calibration import calibrations, z_of
from MedAELib.anomaly.figures import average_precision, best_dice, dice
from MedAELib.anomaly.grid import from_grid
from MedAELib.anomaly.normals import scores_of, z_maps
from MedAELib.anomaly.prepare import Prepared, prepared_for
from MedAELib.anomaly.regions import find_regions, rule_of
from MedAELib.anomaly.shown import shown_of
from MedAELib.engine.run import Engine
from MedAELib.model import Model
from MedAELib.tasks.anomaly import LEAST_ML, AnomalyResult, anomaly
from MedAELib.training.anomalies import KINDS, SPOTS
from MedAELib.training.anomaly_cohorts import COHORTS, volumes
from MedAELib.training.choose_map import drawn_case
from MedAELib.training.cohort import data_folder
from MedAELib.volume import Volume

DRAWN = (*KINDS, SPOTS)
PARTS = ("drawn", "real", "false_alarms", "other_scanners", "gate", "artefacts", "speed")
RATES = (0.05, 0.01, 0.002)
HIT = 0.1  # of a lesion above the threshold: it was found
SIZES = (1.0, 4.0, 16.0)  # ml: where the sizes of lesions part
# T1 of two other scanners, of patients with multiple sclerosis; the lesions of the first are known.
OTHER = (
    "ms_patient26/T1.nii.gz",
    "ms_longitudinal/patient01_study1_T1W.nii.gz",
    "ms_longitudinal/patient12_study1_T1W.nii.gz",
)
# Right and wrong scans of the gate by modality, besides the test scans, and these turned over or noisy.
GATE = {
    "MR": (
        (
            "brain_t1_datalad/datalad_T1w_2mm.nii.gz",
            "ms_patient26/T1.nii.gz",
            "ms_longitudinal/patient01_study1_T1W.nii.gz",
            "ms_longitudinal/patient01_study2_T1W.nii.gz",
            "ms_longitudinal/patient12_study1_T1W.nii.gz",
            "ms_longitudinal/patient12_study2_T1W.nii.gz",
        ),
        ("ms_patient26/T2.nii.gz", "ms_patient26/FLAIR.nii.gz", "mr_misc/spine_t1w.nii.gz"),
    ),
    "CT": ((), ("totalseg_examples/example_ct.nii.gz", "ct_lidc0314/LIDC-IDRI-0314_3mm.nii.gz")),
}


def mine(model: Model) -> str:
    """The name of the map that the model shows."""
    return shown_of(model.bundle.calibration if model.bundle else {}).name


def maps(found: AnomalyResult, first: str) -> dict[str, np.ndarray]:
    """All maps of a result by name, [i, j, k]."""
    return {first: found.map.array[0], **{name: other.array[0] for name, other in found.others.items()}}


def figures(found: dict[str, np.ndarray], truth: np.ndarray, looked_at: np.ndarray) -> dict[str, dict[str, float]]:
    """The figures of each map of z within the tissue that was looked at and the truth, wherever it is."""
    inside, threshold = looked_at | truth, z_of(0.01)
    true = truth[inside]
    return {
        name: {
            "ap": average_precision(z[inside], true),
            "best_dice": best_dice(z[inside], true),
            "dice": dice(z[inside] > threshold, true),
        }
        for name, z in found.items()
    }


def drawn(model: Model, scans: list[Prepared], each: int, peers: list[Peer]) -> list[dict[str, Any]]:
    """A row for every drawn anomaly: kind, share of the tissue, millilitres, and the figures of each map."""
    known, rows = (model.bundle.calibration if model.bundle else {}), []
    shown, spread, average, engine = shown_of(known), calibrations(known), average_of(known), Engine()
    rule, threshold = rule_of(known), z_of(0.01)
    for kind in DRAWN:
        for number in range(each):
            source = scans[number % len(scans)]
            changed, truth = drawn_case(source, kind, [4242, DRAWN.index(kind), number])
            scores = scores_of(changed, model, engine, shown, average=average)
            found = z_maps(scores, spread, shown, changed) | {peer.name: peer.z(changed) for peer in peers}
            labels, regions = find_regions(
                found[shown.name], threshold, changed, LEAST_ML, None, rule.peak(0.01), rule.outline
            )
            rows.append({
                "kind": kind,
                "share": float(truth.sum() / source.mask.sum()),
                "ml": float(truth.sum() * source.grid.cell_ml),
                "regions": {
                    "count": len(regions),
                    "dice": dice(labels > 0, truth),
                    "hit": bool((labels > 0)[truth].mean() > HIT),
                },
                "hit": {name: bool((z > z_of(0.01))[truth].mean() > HIT) for name, z in found.items()},
                "maps": figures(found, truth, changed.mask),
            })  # fmt: skip
        print(f"{kind:8s} AP {np.mean([row['maps'][shown.name]['ap'] for row in rows[-each:]]):.3f}", flush=True)
    return rows


def false_alarms(model: Model, scans: list[tuple[str, Volume, np.ndarray | None]]) -> list[dict[str, Any]]:
    """The share of normal tissue above thresholds, outside the lesions where they are known, the regions that the user
    gets, and the seconds a whole scan takes, all steps."""
    rows = []
    for name, volume, lesions in scans:
        begin = time.perf_counter()
        found = anomaly(volume, model)
        row: dict[str, Any] = {"scan": name, "seconds": round(time.perf_counter() - begin, 1)}
        z = found.map.array[0]
        tissue = z[(z != 0) if lesions is None else (z != 0) & ~lesions]
        row |= {"regions": len(found.regions), "ml": round(sum(region.volume_ml for region in found.regions), 2)}
        rows.append(row | {f"{rate:g}": float((tissue > z_of(rate)).mean()) for rate in RATES})
    return rows


def of_other_scanners(model: Model, data: Path) -> list[tuple[str, Volume, np.ndarray | None]]:
    """Scans of other scanners than those of the training, and their lesions where these are known."""
    if model.spec.modality == "CT":
        return []
    lesions = Volume.load(data / "ms_patient26" / "lesion.nii.gz").array[0] > 0
    found: list[tuple[str, Volume, np.ndarray | None]] = [(OTHER[0], Volume.load(data / OTHER[0]), lesions)]
    return found + [(name, Volume.load(data / name), None) for name in OTHER[1:]]


def real(model: Model, data: Path, peers: list[Peer]) -> dict[str, dict[str, dict[str, float]]]:
    """The lesions of multiple sclerosis: T1 with the model and its peers, FLAIR without one."""
    folder = data / "ms_patient26"
    truth = Volume.load(folder / "lesion.nii.gz").array[0] > 0
    volume = Volume.load(folder / "T1.nii.gz")
    on_t1, scan = anomaly(volume, model), prepared_for(volume, model)
    others = {peer.name: from_grid(peer.z(scan), scan.grid, volume) for peer in peers}
    on_flair = anomaly(Volume.load(folder / "FLAIR.nii.gz"), None)
    found = {
        "T1": figures(maps(on_t1, mine(model)) | others, truth, on_t1.map.array[0] != 0),
        "FLAIR": figures(maps(on_flair, "bright"), truth, on_flair.map.array[0] != 0),
    }
    found["T1"][mine(model)]["regions"] = dice(on_t1.labels.array[0] > 0, truth)
    found["FLAIR"]["bright"]["regions"] = dice(on_flair.labels.array[0] > 0, truth)
    return found


def gate(model: Model, data: Path, normals: list[Volume]) -> list[dict[str, Any]]:
    """Whether right scans pass and wrong ones are told: other kinds of scan, turned over, or very noisy."""
    right, wrong = GATE[model.spec.modality]
    cases: list[tuple[str, bool, Volume]] = [(volume.name, True, volume) for volume in normals]
    cases += [(name, name in right, Volume.load(data / name)) for name in (*right, *wrong)]
    for volume in normals:
        for title, axis in (("upside down", 2), ("front to back", 1)):
            turned = np.array(volume.affine)
            turned[axis] *= -1
            cases.append((f"{volume.name} {title}", False, Volume(volume.array, turned, volume.meta)))
        cases.append((f"{volume.name} noisy", False, noisy(volume, model.spec.modality)))
    return [
        {"scan": name, "right": is_right, "warnings": anomaly(volume, model).report["warnings"]}
        for name, is_right, volume in cases
    ]


def right_heads(data: Path) -> list[Path]:
    """The files of all right T1 heads: those of the gate and of the cohort, and one with contrast agent."""
    names = ("brain_t1_ixi/*", *GATE["MR"][0], "mr_misc/VS-SEG-001_T1c_0p82mm.nii.gz")
    return [path for name in names for path in sorted(data.glob(name))]


def noisy(volume: Volume, modality: str) -> Volume:
    """With noise of 0.3 of what is bright, as magnitudes have it, or in CT of 300 HU."""
    deviation = 300.0 if modality == "CT" else 0.3 * float(np.percentile(volume.array, 99))
    found = volume.array + np.random.default_rng(0).normal(0, deviation, volume.array.shape)
    return volume.like((found if modality == "CT" else np.abs(found)).astype(np.float32))


def report(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = ["# Anomaly maps"]
    lines += _of_drawn(result["drawn"]) if result["drawn"] else []
    lines += ["", "| real lesions | map | figures |", "|---|---|---|"]
    for scan, found in result["real"].items():
        lines += [f"| {scan} | {name} | {_cell([values])}{_outlined(values)} |" for name, values in found.items()]
    lines += ["", "| normal scan | above 5 % | above 1 % | above 0.2 % | regions | ml | s |", "|---" * 7 + "|"]
    for row in result["false_alarms"] + result["other_scanners"]:
        shares = " | ".join(f"{row[f'{rate:g}']:.2%}" for rate in RATES)
        lines.append(f"| {row['scan']} | {shares} | {row['regions']} | {row['ml']} | {row['seconds']} |")
    lines += ["", "| scan | should pass | gate |", "|---|---|---|"]
    for row in result["gate"]:
        lines.append(
            f"| {row['scan']} | {'yes' if row['right'] else 'no'} | {'; '.join(row['warnings']) or 'passes'} |"
        )
    lines += counted(result["artefacts"]) if result.get("artefacts") else []
    if took := result.get("speed"):
        size = " x ".join(map(str, took["size"]))
        lines += ["", f"{size} voxels: {took['seconds']} s, {took['cpu_seconds']} s of processors, on "
                  f"{took['processors']} of {took['processor']}, threads: {took['threads']}."]  # fmt: skip
    return "\n".join(lines) + "\n"


def _of_drawn(drawn: list[dict[str, Any]]) -> list[str]:
    """The figures of drawn anomalies by kind, as outlined and by size."""
    names = list(drawn[0]["maps"])
    lines = ["", "Average precision / best Dice / Dice at the threshold, means.", ""]
    lines += ["| drawn anomaly | share of tissue | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    six = [row for row in drawn if row["kind"] != SPOTS]
    for kind in DRAWN:
        rows = [row for row in drawn if row["kind"] == kind]
        cells = [_cell([row["maps"][name] for row in rows]) for name in names]
        lines.append(f"| {kind} | {100 * np.mean([row['share'] for row in rows]):.2f} % | " + " | ".join(cells) + " |")
    cells = [_cell([row["maps"][name] for row in six]) for name in names]
    lines += [f"| mean of all but spots | | {' | '.join(cells)} |", ""]
    lines += outlines(drawn, names[0])
    lines += ["", "| size of the drawn | n | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    return lines + recall(six, names)


def outlines(rows: list[dict[str, Any]], name: str) -> list[str]:
    """Of the shown map: best Dice, that of all voxels above the threshold, that of the regions, found ones, regions."""
    lines = ["| drawn anomaly | best Dice | above the threshold | regions | found | regions a scan |", "|---" * 6 + "|"]
    for kind in (*DRAWN, "mean of all but spots"):
        fit = [row for row in rows if row["kind"] == kind or (kind not in DRAWN and row["kind"] != SPOTS)]
        map_of = [row["maps"][name] for row in fit]
        dices = [[values["best_dice"] for values in map_of], [values["dice"] for values in map_of]]
        dices.append([row["regions"]["dice"] for row in fit])
        means = " | ".join(f"{np.mean(values):.3f}" for values in dices)
        hits, count = (np.mean([row["regions"][part] for row in fit]) for part in ("hit", "count"))
        lines.append(f"| {kind} | {means} | {hits:.0%} | {count:.1f} |")
    return lines


def recall(rows: list[dict[str, Any]], names: list[str]) -> list[str]:
    """Of drawn anomalies of each size, the share of which a tenth lies above the threshold for 1 %, by map."""
    lines = []
    for low, high in pairwise((0.0, *SIZES, np.inf)):
        fit = [row["hit"] for row in rows if low <= row["ml"] < high]
        if fit:
            shares = (f"{np.mean([hit[name] for hit in fit]):.0%}" for name in names)
            lines.append(f"| {low:g} to {high:g} ml | {len(fit)} | {' | '.join(shares)} |")
    return lines


def _cell(values: list[dict[str, float]]) -> str:
    return " / ".join(f"{np.mean([value[name] for value in values]):.3f}" for name in ("ap", "best_dice", "dice"))


def _outlined(values: dict[str, float]) -> str:
    return f"; of the regions {values['regions']:.3f}" if "regions" in values else ""


def main() -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="brain-t1-anomaly")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--each", type=int, default=8, help="anomalies of each kind")
    parser.add_argument("--output", type=Path, default=Path("anomaly-benchmark"))
    parser.add_argument("--peers", type=Path, nargs="*", default=[], help="autoencoders beside it: model folders")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (everything)")
    chosen = parser.parse_args()
    data, model = chosen.data or data_folder(), Model.load(chosen.model)
    chosen.output.mkdir(parents=True, exist_ok=True)
    cohort = next(cohort for cohort in COHORTS.values() if cohort.modality == model.spec.modality)
    scans = volumes(data, cohort.test)
    tuning = cohort.scans(data, cohort.calibration) if chosen.peers else []
    peers = learned(chosen.peers, tuning)
    nothing: dict[str, Any] = {"drawn": [], "real": {}, "false_alarms": [], "other_scanners": [], "gate": []}
    measure = {
        "drawn": lambda: drawn(model, [cohort.prepare(volume) for volume in scans], chosen.each, peers),
        "real": lambda: real(model, data, peers) if cohort.modality == "MR" else {},
        "false_alarms": lambda: false_alarms(model, [(volume.name, volume, None) for volume in scans]),
        "other_scanners": lambda: false_alarms(model, of_other_scanners(model, data)),
        "gate": lambda: gate(model, data, scans),
        "artefacts": lambda: told_artefacts(right_heads(data)) if cohort.modality == "MR" else [],
        "speed": lambda: speed(scans[0], chosen.model) if cohort.modality == "MR" else {},
    }
    found = {part: measure[part]() for part in PARTS if part in chosen.parts}
    result = {"model": model.bundle.sha256 if model.bundle else "", **nothing, **found}
    (chosen.output / "anomaly.json").write_text(json.dumps(result, indent=1))
    (chosen.output / "anomaly.md").write_text(report(result))
    print(report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
