"""The learning curve of a denoiser: what more training buys, on the validation subject and in flat tissue.

    python Testing/benchmarks/denoise_curve.py --modality CT --output FOLDER [--steps 250 500 1000 2000] [--model NAME]
                                               [--further history.json] [--threads N]
    python Testing/benchmarks/denoise_curve.py --report FOLDER/curve-MR.json FOLDER/curve-CT.json [--write docs/...]

The first form trains the network of the bundled denoiser from random weights, with the batches and the objective of
`MedAELib.training.denoise`, once for each number of steps (each to the end of its own cosine), and measures the
averaged weights beside those of the bundled model. Rows that are there are kept, so that a run that was ended goes on.
``--further`` takes up the history of a training that began with a bundled model. The second form writes the page,
docs/denoise.md. Nobody learns from the validation subject. Data: MEDAE_DATA, else ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.denoise_medae import safety
from benchmarks.denoise_trust import flat_lesions
from benchmarks.pages import options_unless_page

from MedAELib.errors import MedAEError
from MedAELib.model import Model
from MedAELib.training.cohort import data_folder, training_sources, validation_volume
from MedAELib.training.denoise import batches, denoising_error, validation
from MedAELib.training.loop import Schedule, train

PRECISION, SEED = "bfloat16", 11
Row = dict[str, Any]


def main() -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--modality", choices=("MR", "CT"), default="CT")
    parser.add_argument("--steps", type=int, nargs="+", default=[250, 500, 1000, 2000])
    parser.add_argument("--model", default=None)
    parser.add_argument("--further", type=Path, default=None)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, default=Path())
    chosen = options_unless_page(parser, report)
    if chosen is None:
        return 0
    torch.set_num_threads(chosen.threads)
    chosen.output.mkdir(parents=True, exist_ok=True)
    try:
        model = Model.load(chosen.model or f"{chosen.modality.lower()}-denoise")
        table = curve(model, chosen.modality, chosen.steps, chosen.output)
    except MedAEError as error:
        print(f"{error} {error.next_step}", file=sys.stderr)
        return 2
    if chosen.further:
        table["further"] = json.loads(chosen.further.read_text())
    (chosen.output / f"curve-{chosen.modality}.json").write_text(json.dumps(table, indent=1))
    return 0


def curve(model: Model, modality: str, lengths: Sequence[int], output: Path) -> Row:
    """The rows of trainings of these lengths, kept as they come, and of the bundled model."""
    path, data = output / f"curve-{modality}.json", data_folder()
    table: Row = json.loads(path.read_text()) if path.is_file() else {"modality": modality, "rows": []}
    check = validation(modality, validation_volume(data, modality), PRECISION)
    missing = [steps for steps in lengths if steps not in {row["steps"] for row in table["rows"]}]
    if missing:
        sources = training_sources(data, modality, SEED, output / f"noise-{modality}")
        batch = batches(sources, modality, SEED)
    for steps in missing:
        torch.manual_seed(SEED)
        fresh = Model.create(model.spec).network.to(memory_format=torch.channels_last_3d)
        begun = time.process_time()
        schedule = Schedule(steps, warmup=steps // 10, averaging=1 - 20 / steps, precision=PRECISION)
        made, history = train(fresh, batch, denoising_error, schedule, output / f"{modality}-{steps}")
        seconds = time.process_time() - begun
        row = {"steps": steps, "cpu_seconds": seconds, "losses": [line["loss"] for line in history]}
        row |= figures(Model(model.spec, made), modality, check)
        table["rows"].append(row)
        path.write_text(json.dumps(table, indent=1))
        print(json.dumps(row), flush=True)
    table["bundled"] = {"sha256": model.bundle.sha256 if model.bundle else ""} | figures(model, modality, check)
    table["parameters"] = sum(parameter.numel() for parameter in model.network.parameters())
    return table


def figures(model: Model, modality: str, check: Callable[[nn.Module], dict[str, float]]) -> dict[str, float]:
    """What is measured of a model: PSNR of the validation subject, and what is left in flat tissue."""
    model.network.float()
    return {**check(model.network), **safety(model, modality, []), **flat_lesions(model, modality)}


def report(tables: list[Row]) -> str:
    """The page as Markdown."""
    parts = [
        "# What more training buys",
        "",
        "Made by `Testing/benchmarks/denoise_curve.py`; its first lines say how to repeat it. The network of each "
        "bundled denoiser begins with random weights, once for each number of steps, and is measured after the last of "
        "them: the PSNR (dB) of the validation subject, whom nobody learned from, in one pass, and what it does in "
        "tissue without any structure (in as many passes as users get): how much of pure noise is left, and how much "
        "of their contrast balls of five voxels keep at twice the noise. The last row is the bundled model. None of "
        "these figures is of the test subjects, which are in the models' cards.",
        "",
        "Each length is one training with one seed, at the highest learning rate of 0.001. Where the PSNR is below "
        "that of a shorter one, the training had lost its way for a while, as the mean loss of its steps tells. The "
        "bundled models began as smaller networks and were trained on at half of that rate.",
        "",
    ]
    for table in tables:
        parts += _section(table)
    return "\n".join(parts)


def _section(table: Row) -> list[str]:
    modality, rows = table["modality"], sorted(table["rows"], key=lambda row: row["steps"])
    bundled = table["bundled"]
    names = [name for name in bundled if "psnr" in name or name.startswith(("pure", "flat_lesions"))]
    seconds = sum(row["cpu_seconds"] for row in rows) / sum(row["steps"] for row in rows)
    lines = [
        f"## {'MRI: mr' if modality == 'MR' else 'CT: ct'}-denoise, {table['parameters']:,} parameters",
        "",
        "| steps | mean loss, each 500 steps | " + " | ".join(_told(name, modality) for name in names) + " |",
        "|---|---|" + "---|" * len(names),
        *(f"| {row['steps']} | {_losses(row)} | {_cells(row, names)} |" for row in rows),
        f"| bundled ({bundled['sha256'][:12]}) | | {_cells(bundled, names)} |",
        "",
        f"A step took {seconds:.2f} processor seconds.",
        *(f"- {_doublings(name, rows, bundled, modality)}" for name in names if "psnr" in name),
        "",
    ]
    if "further" in table:
        kept = [name for name in table["further"][0] if "psnr" in name or name == "flat_kept"]
        lines += [
            "A further training of the bundled model before this one: its averaged weights, one pass, while the "
            "learning rate falls (`flat_kept` is the share that is left of white noise around a constant):",
            "",
            "| further steps | " + " | ".join(_told(name, modality) for name in kept) + " |",
            "|---|" + "---|" * len(kept),
            *(f"| {row['step']} | {_cells(row, kept)} |" for row in table["further"]),
            "",
        ]
    return lines


def _losses(row: Row) -> str:
    return ", ".join(f"{loss:.2f}" for loss in row["losses"])


def _doublings(name: str, rows: list[Row], bundled: Row, modality: str) -> str:
    """What the last doubling of the steps brought, and how far ahead the bundled model is, as a sentence."""
    gain, ahead = rows[-1][name] - rows[-2][name], bundled[name] - rows[-1][name]
    return (
        f"{_told(name, modality)}: from {rows[-2]['steps']} to {rows[-1]['steps']} steps {gain:+.2f} dB, from there to "
        f"the bundled model {ahead:+.2f} dB."
    )


def _told(name: str, modality: str) -> str:
    """The name of a figure, for people."""
    words, _, level = name.rpartition("_")
    if not level[0].isdigit():
        return f"`{name}`"
    amount = f"{100 * float(level):g} %" if modality == "MR" else f"{1000 * float(level):g} HU"
    words = words.replace("psnr", "PSNR").replace("_", " ")
    return f"{words}, {amount}{'' if 'PSNR' in words else ' (%)'}"


def _cells(row: Row, names: Sequence[str]) -> str:
    return " | ".join(f"{row[name]:.3f}" if name == "flat_kept" else f"{row[name]:.2f}" for name in names)


if __name__ == "__main__":
    sys.exit(main())
