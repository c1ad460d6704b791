"""A federation of three sites with different scanners against each site alone, on the held-out people of all.

    python Testing/benchmarks/federated.py [--dims 2] [--rounds 20] [--steps-per-round 100] [--seed 0]
                                           [--rows FILE.json] [--write]

Sites: whole heads of healthy adults (T1, 2 mm), crops around the hippocampus (T1, 1 mm, other scanner), thick slices
of people with multiple sclerosis (T1, T2 and FLAIR, a third scanner). The federation runs by NVIDIA FLARE's simulator,
as `python -m MedAELib federate simulate` does; a site alone begins with the same weights, makes the same number of
steps with the same learning rates on the same patches, and is not stopped early, as the federation is not. The figure
is the PSNR of reconstructions (window of the scan) on people that no training has seen; nothing was chosen by it. Data:
the environment variable MEDAE_DATA, else ../shared/data. With --write the table goes into docs/federated.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from MedAELib.model import Model
from MedAELib.training.cohort import data_folder
from MedAELib.training.federated.federation import Federation, start
from MedAELib.training.federated.publish import model_of
from MedAELib.training.federated.simulation import simulate
from MedAELib.training.federated.site import Site
from MedAELib.training.result import held_out_figures

SITES = {
    "heads": ("brain_t1_ixi/*.nii.gz", 7),
    "hippocampi": ("hippocampus/images/*.nii.gz", 7),
    "sclerosis": ("ms_longitudinal/*.nii.gz", 12),
}
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "federated.md"
BEGIN, END = "<!-- benchmark -->", "<!-- end of benchmark -->"
CPU = torch.device("cpu")


def folders(place: Path) -> dict[str, Path]:
    """A folder of links for each site: the first so many files, by name."""
    found = {}
    for site, (pattern, count) in SITES.items():
        found[site] = place / site
        found[site].mkdir(parents=True)
        for path in sorted(data_folder().glob(pattern))[:count]:
            (found[site] / path.name).symlink_to(path)
    return found


def alone(federation: Federation, folder: Path, place: Path) -> tuple[Site, Model]:
    """What a site comes to without the others in the same steps."""
    own = replace(federation, rounds=1, steps=federation.rounds * federation.steps, sites=1)
    site = Site(own, folder, place, CPU, print)
    spec = own.spec()
    weights, _ = site.learn(0, start(spec.network, spec.dims, spec.arguments, own.seed).state_dict())
    site.plan.network.load_state_dict(weights)
    return site, Model(spec, site.plan.network.eval())


def tell(row: dict) -> None:
    """A line for each round."""
    print(f"round {row['round']}: loss {row['loss']:.4f}, began with {row['held_out_psnr']:.2f} dB", flush=True)


def measured(models: dict[str, Model], sites: dict[str, Site]) -> list[dict]:
    """The mean PSNR of every model on the held-out people of every site."""
    rows = []
    for name, model in models.items():
        row = {"model": name}
        for other, site in sites.items():
            figures = held_out_figures(site.plan, model, lambda *_: None)
            row[other] = float(np.mean([figure["psnr"] for figure in figures]))
        rows.append(row)
    return rows


def run(federation: Federation) -> list[dict]:
    """Train alone and together; a row for each model."""
    with tempfile.TemporaryDirectory(prefix="medae-benchmark-", ignore_cleanup_errors=True) as place:
        data, models, sites = folders(Path(place, "data")), {}, {}
        outcome = simulate(federation, data, Path(place, "federation"), "cpu", tell)
        models["federated"] = model_of(outcome)
        for name, folder in data.items():
            sites[name], models[f"{name} alone"] = alone(federation, folder, Path(place, "alone", name))
            print(f"{name} alone: done", flush=True)
        return measured(models, sites)


def table(rows: list[dict]) -> str:
    """The rows as Markdown; the last column is the mean over the sites that a model has not learned from."""
    lines = ["| PSNR (dB) on held-out people of | " + " | ".join(SITES) + " | sites other than its own |"]
    lines += ["|---" * (len(SITES) + 2) + "|"]
    for row in rows:
        others = [row[site] for site in SITES if row["model"] != f"{site} alone"]
        last = f"{np.mean(others):.2f}" if row["model"] != "federated" else "-"
        lines.append(f"| {row['model']} | " + " | ".join(f"{row[site]:.2f}" for site in SITES) + f" | {last} |")
    together = rows[0]
    for row in rows[1:]:
        others = [site for site in SITES if row["model"] != f"{site} alone"]
        gain = np.mean([together[site] - row[site] for site in others])
        lines.append(f"\nThe federated model against *{row['model']}* on the other sites' people: {gain:+.2f} dB.")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, and keep it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, choices=(2, 3), default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps-per-round", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=Path, help="also write the rows as JSON")
    parser.add_argument("--write", action="store_true", help="put the table into docs/federated.md")
    options = parser.parse_args()
    federation = Federation(
        "plain", options.dims, "MR", options.rounds, options.steps_per_round, len(SITES), seed=options.seed,
        subject=r"(patient\d+)",
    )  # fmt: skip
    rows = run(federation)
    if options.rows:
        options.rows.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(table(rows))
    if options.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        head, _, rest = text.partition(BEGIN)
        DOCUMENT.write_text(f"{head}{BEGIN}\n\n{table(rows)}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
