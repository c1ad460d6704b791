"""Features against plain baselines: one simple classifier on each, on the same subject-wise splits.

    python Testing/benchmarks/features.py [--model ct-denoise] [--data FOLDER] [--splits N] [--seen] [--output FOLDER]

Three probes (`features_probes.py`): part of the hippocampus, region of a CT, sequence of an MRI; each piece of a scan
is cut out at a random place and seen alone. Described by (1) the bundled model's features, as `MedAELib features` makes
them, (2) the principal components of its intensities, (3) first-order radiomics statistics. A ridge regression onto the
classes decides. Every method's setting (ridge; number of components; intensities as they are or standardised in each
piece) is chosen by cross-validation over the subjects of the training part. Tested on people that the model never saw:
half of them in each of N random splits, or, where there are fewer than five, each once; and a second time on everybody
where the model saw some, without their labels. With `--seen` nobody takes part whom the model never saw: on such
people the features' layout was chosen. Writes features.json and features.md: the balanced accuracy, its mean
and deviation over the splits.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.features_probes import PROBES, Piece

from MedAELib.engine.run import Engine
from MedAELib.model import Model
from MedAELib.tasks.features import DEFAULT_MODEL, features
from MedAELib.training.cohort import data_folder

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # per training piece
COMPONENTS = (2, 4, 8, 16, 32, 64)
METHODS = ("features", "PCA of intensities", "first-order radiomics")
Views = dict[str, np.ndarray]  # the same pieces, described in one or two ways of which the better is chosen


def first_order(voxels: np.ndarray) -> list[float]:
    """The first-order statistics of radiomics (Zwanenburg et al., 2020): moments, quantiles, histogram."""
    values = voxels.ravel()
    low, tenth, first, middle, third, ninetieth, high = np.percentile(values, [0, 10, 25, 50, 75, 90, 100])
    mean, deviation = values.mean(), max(float(values.std()), 1e-9)
    standard = (values - mean) / deviation
    core = values[(values >= tenth) & (values <= ninetieth)]
    share = np.histogram(values, 32)[0] / len(values)
    return [
        mean, deviation, (standard**3).mean(), (standard**4).mean(), low, tenth, first, middle, third, ninetieth, high,
        high - low, third - first, np.abs(values - mean).mean(), np.abs(core - core.mean()).mean(),
        np.abs(values - middle).mean(), np.square(values).mean(), np.square(share).sum(),
        -(share[share > 0] * np.log2(share[share > 0])).sum(),
    ]  # fmt: skip


def standardised(voxels: np.ndarray) -> np.ndarray:
    """Voxels of a piece, with mean 0 and deviation 1."""
    return (voxels - voxels.mean()) / max(float(voxels.std()), 1e-9)


def described(pieces: list[Piece], model: Model) -> dict[str, Views]:
    """The pieces as rows of numbers, by method."""
    engine = Engine("cpu", "float32")
    rows = [features(piece.volume(), model, air=True, engine=engine).items[0].values for piece in pieces]
    raw, even = [piece.voxels for piece in pieces], [standardised(piece.voxels) for piece in pieces]
    return {
        "features": {"": np.array(rows)},
        "PCA of intensities": {
            "as is": np.stack([v.ravel() for v in raw]), "standardised": np.stack([v.ravel() for v in even]),
        },
        "first-order radiomics": {
            "as is": np.array([first_order(v) for v in raw]),
            "standardised": np.array([first_order(v) for v in even]),
        },
    }  # fmt: skip


def predicted(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> list[np.ndarray]:
    """What ridge regression onto the classes says of the test rows, for each ridge."""
    classes, (mean, spread) = np.unique(labels), (train.mean(0), train.std(0) + 1e-9)
    a, b = (train - mean) / spread, np.clip((test - mean) / spread, -6, 6)
    wanted = (labels[:, None] == classes).astype(float)
    values, vectors = np.linalg.eigh(a.T @ a)
    right, left = vectors.T @ (a.T @ (wanted - wanted.mean(0))), b @ vectors
    scores = [left @ (right / (values[:, None] + ridge * len(a))) + wanted.mean(0) for ridge in RIDGES]
    return [classes[score.argmax(1)] for score in scores]


def components(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in the principal components of the first, largest first."""
    centred = train - train.mean(0)
    most = min(max(COMPONENTS), len(train) - 1, train.shape[1])
    vectors = np.linalg.eigh(centred @ centred.T)[1][:, ::-1][:, :most]
    axes = vectors.T @ centred
    axes /= np.linalg.norm(axes, axis=1, keepdims=True) + 1e-12
    return centred @ axes.T, (test - train.mean(0)) @ axes.T


def accuracy(found: np.ndarray, truth: np.ndarray) -> float:
    """Balanced: the mean over the classes of the share that was found."""
    return float(np.mean([(found == truth)[truth == label].mean() for label in np.unique(truth)]))


def tried(
    views: Views, train: np.ndarray, test: np.ndarray, labels: np.ndarray, reduce: bool
) -> dict[tuple[str, int, float], np.ndarray]:
    """What each setting (view, number of components, ridge) says of the test rows."""
    found = {}
    for view, rows in views.items():
        a, b = components(rows[train], rows[test]) if reduce else (rows[train], rows[test])
        for count in COMPONENTS if reduce else (a.shape[1],):
            for ridge, said in zip(RIDGES, predicted(a[:, :count], labels[train], b[:, :count]), strict=True):
                found[view, count, ridge] = said
    return found


def judged(views: Views, labels: np.ndarray, subjects: np.ndarray, tested: np.ndarray, reduce: bool) -> float:
    """The accuracy on the tested subjects, by the setting that is best within the others."""
    test = np.isin(subjects, tested)
    others = np.unique(subjects[~test])
    np.random.default_rng(1).shuffle(others)
    right: dict[tuple[str, int, float], list[np.ndarray]] = {}
    for fold in np.array_split(others, min(4, len(others))):
        held = np.isin(subjects, fold)
        for setting, said in tried(views, ~test & ~held, held, labels, reduce).items():
            right.setdefault(setting, []).append(said == labels[held])
    best = max(right, key=lambda setting: np.concatenate(right[setting]).mean())
    return accuracy(tried({best[0]: views[best[0]]}, ~test, test, labels, reduce)[best], labels[test])


def splits(people: np.ndarray, count: int) -> list[np.ndarray]:
    """Which of these people are tested in each split: a random half, or, of fewer than five, one after the other."""
    if len(people) < 5:
        return [np.array([subject]) for subject in people]
    random = np.random.default_rng(0)
    return [random.choice(people, len(people) // 2, replace=False) for _ in range(count)]


def probe(name: str, model: Model, options: argparse.Namespace, note: Callable[[str], None]) -> list[dict]:
    """All figures of one probe: tested on people that the model never saw, then, if there are others, on everybody."""
    make, each = PROBES[name]
    pieces, started = list(make(options.data, each)), time.monotonic()
    if options.seen:
        pieces = [piece for piece in pieces if seen_by(model, piece)]
    if len({piece.subject for piece in pieces}) < 3:
        note(f"{name}: too few people")
        return []
    labels, subjects = (np.array([getattr(p, what) for p in pieces]) for what in ("label", "subject"))
    methods = described(pieces, model)
    note(f"{name}: {len(pieces)} pieces described in {time.monotonic() - started:.0f} s")
    everybody, unseen = np.unique(subjects), np.unique([p.subject for p in pieces if not seen_by(model, p)])
    rows = []
    for people in [unseen, everybody] if 0 < len(unseen) < len(everybody) else [everybody]:
        chosen, found = splits(people, options.splits), {}
        for method in METHODS:
            found[method] = [judged(methods[method], labels, subjects, t, method.startswith("PCA")) for t in chosen]
            note(f"  {len(people)} people, {method}: {np.mean(found[method]):.3f} ± {np.std(found[method]):.3f}")
        rows.append({
            "probe": name, "classes": sorted(set(labels)), "pieces": len(pieces), "subjects": len(everybody),
            "tested": len(people), "unseen": len(unseen), "splits": len(chosen), "accuracy": found,
        })  # fmt: skip
    return rows


def seen_by(model: Model, piece: Piece) -> bool:
    """Whether the model was trained, without labels, on this person."""
    return model.bundle is not None and model.bundle.name in piece.seen_by


def table(rows: list[dict], model: Model) -> str:
    """The figures as Markdown."""
    assert model.bundle is not None
    lines = [f"| probe ({model.bundle.name} {model.bundle.sha256[:12]}) | people | tested | pieces | chance |"]
    lines[0] += "".join(f" {method} |" for method in METHODS) + " splits won against PCA |"
    lines.append("|---|---|---|---|---|" + "---|" * (len(METHODS) + 1))
    for row in rows:
        mine, pca = (np.array(row["accuracy"][method]) for method in METHODS[:2])
        cells = [f"{np.mean(row['accuracy'][m]):.3f} ± {np.std(row['accuracy'][m]):.3f}" for m in METHODS]
        lines.append(
            f"| {row['probe']}: {', '.join(row['classes'])} | {row['subjects']} "
            f"| {row['tested']}{' (some seen)' if row['tested'] > row['unseen'] else ''} | {row['pieces']} "
            f"| {1 / len(row['classes']):.2f} | **{cells[0]}** | {' | '.join(cells[1:])} "
            f"| {int((mine > pca).sum())} of {row['splits']} ({int((mine == pca).sum())} equal) |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the probes and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--seen", action="store_true", help="only people whom the model was trained on")
    parser.add_argument("--output", type=Path, default=Path())
    options = parser.parse_args()
    model = Model.load(options.model)
    rows = []
    for name in PROBES:
        rows += probe(name, model, options, lambda text: print(text, flush=True))
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "features.json").write_text(json.dumps(rows, indent=2) + "\n")
    (options.output / "features.md").write_text(table(rows, model))
    print(table(rows, model))
    return 0


if __name__ == "__main__":
    sys.exit(main())
