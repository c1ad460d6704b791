"""Federations of sites with different scanners against each site alone, on the held-out people of all.

    python Testing/benchmarks/federated.py --output FOLDER [--modality any MR] [--network plain] [--dims 2]
                                           [--rounds 200] [--steps-per-round 10] [--momentum 0.8] [--seed 0]
                                           [--write docs/federated.md]

Trains and measures each model that FOLDER has no row of, then writes the tables. Sites for "any": heads of healthy
adults (T1 MRI, 2 mm) and planning CT of head and neck (4 mm). For "MR": the same heads; crops around the hippocampus
(T1, 1 mm, another scanner); thick slices of people with multiple sclerosis (T1, T2, FLAIR, a third scanner). The
federation runs by NVIDIA FLARE's simulator, as `python -m MedAELib federate simulate` does; a site alone begins with
the same weights, makes as many steps with the same learning rates on the same patches, and is not stopped early, as the
federation is not. The figure is the PSNR of reconstructions (in the scan's window) of people that no training has seen.
Data: the environment variable MEDAE_DATA, else ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from MedAELib.model import Model
from MedAELib.training.cohort import data_folder
from MedAELib.training.federated.command import NETWORKS
from MedAELib.training.federated.federation import Federation, start
from MedAELib.training.federated.publish import model_of
from MedAELib.training.federated.simulation import simulate
from MedAELib.training.federated.site import Site
from MedAELib.training.result import held_out_figures

HEADS = ("brain_t1_ixi/*.nii.gz", 7)
SITES = {
    "any": {"heads": HEADS, "necks": ("ct_openkbp/*.nii.gz", 7)},
    "MR": {
        "heads": HEADS,
        "hippocampi": ("hippocampus/images/*.nii.gz", 7),
        "sclerosis": ("ms_longitudinal/*.nii.gz", 12),
    },
}
BEGIN, END = "<!-- benchmark -->", "<!-- end of benchmark -->"
CPU = torch.device("cpu")


def folders(modality: str, place: Path) -> dict[str, Path]:
    """A folder of links for each site: the first so many files, by name."""
    found = {}
    for site, (pattern, count) in SITES[modality].items():
        found[site] = place / site
        found[site].mkdir(parents=True)
        for path in sorted(data_folder().glob(pattern))[:count]:
            (found[site] / path.name).symlink_to(path)
    return found


def alone(federation: Federation, folder: Path, place: Path) -> Model:
    """What a site comes to without the others in the same steps."""
    own = replace(federation, rounds=1, steps=federation.rounds * federation.steps, sites=1)
    site = Site(own, folder, place, CPU, print)
    spec = own.spec()
    weights, _ = site.learn(0, start(spec.network, spec.dims, spec.arguments, own.seed).state_dict())
    site.plan.network.load_state_dict(weights)
    return Model(spec, site.plan.network.eval())


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


def run(federation: Federation, rows: list[dict], keep: Callable[[list[dict]], None]) -> list[dict]:
    """Train together and alone what the rows lack; a row for each model, kept as soon as it is measured."""
    with tempfile.TemporaryDirectory(prefix="medae-benchmark-", ignore_cleanup_errors=True) as place:
        data = folders(federation.modality, Path(place, "data"))
        sites = {
            name: Site(federation, folder, Path(place, "measure", name), CPU, print) for name, folder in data.items()
        }

        def row(name: str, train: Callable[[], Model]) -> None:
            if not any(there["model"] == name for there in rows):
                rows.extend(measured({name: train()}, sites))
                keep(rows)
                print(f"{name}: done", flush=True)

        row("federated", lambda: model_of(simulate(federation, data, Path(place, "together"), "cpu", tell)))
        for name, folder in data.items():
            row(f"{name} alone", lambda f=folder, n=name: alone(federation, f, Path(place, "alone", n)))
        return sorted(rows, key=lambda row: bool(row["model"] != "federated"))


def table(rows: list[dict]) -> str:
    """The rows as Markdown, then what the federated model gains on the sites that a model has not learned from."""
    sites = [name for name in rows[0] if name != "model"]
    lines = ["| PSNR (dB) on held-out people of | " + " | ".join(sites) + " |", "|---" * (len(sites) + 1) + "|"]
    lines += [f"| {row['model']} | " + " | ".join(f"{row[site]:.2f}" for site in sites) + " |" for row in rows]
    gains = []
    for row in rows[1:]:
        others = [site for site in sites if row["model"] != f"{site} alone"]
        gain = np.mean([rows[0][site] - row[site] for site in others])
        gains.append(f"{gain:+.2f} dB against *{row['model']}*")
    return "\n".join([*lines, "", f"The federated model on the other sites' people: {', '.join(gains)}."])


def report(parts: list[str], document: Path | None) -> None:
    """Print the tables, and put them into a document where asked."""
    print("\n\n".join(parts))
    if document:
        head, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
        middle = "\n\n".join([BEGIN, *parts, END])
        document.write_text(f"{head}{middle}{rest.partition(END)[2]}", encoding="utf-8")


def rows_of(federation: Federation, path: Path) -> list[dict]:
    """The rows of a federation, of which those in the file are not made again."""
    agreed = json.loads(json.dumps(asdict(federation)))
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"federation": agreed, "rows": []}
    if kept["federation"] != agreed:
        sys.exit(f"{path} holds the rows of another federation.")

    def keep(rows: list[dict]) -> None:
        path.write_text(json.dumps({"federation": agreed, "rows": rows}, indent=1) + "\n", encoding="utf-8")

    return run(federation, kept["rows"], keep)


def main() -> None:
    """Train, measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modality", choices=list(SITES), nargs="+", default=list(SITES))
    parser.add_argument("--network", choices=NETWORKS, default="plain")
    parser.add_argument("--dims", type=int, choices=(2, 3), default=2)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--steps-per-round", type=int, default=10)
    parser.add_argument("--momentum", type=float, default=0.8, help="of the server")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("federated-benchmark"), help="the folder of the rows")
    parser.add_argument("--write", type=Path, help="the document to put the tables into")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    parts = []
    for modality in options.modality:
        federation = Federation(
            options.network, options.dims, modality, options.rounds, options.steps_per_round, len(SITES[modality]),
            seed=options.seed, subject=r"(patient\d+)", momentum=options.momentum,
        )  # fmt: skip
        rows = rows_of(federation, options.output / f"{modality}-{options.network}.json")
        told = f"`{modality}`, `{federation.network}`, {federation.dims}D, {federation.rounds} rounds"
        parts.append(f"{told} of {federation.steps} steps, momentum {federation.momentum:g}:")
        parts.append(table(rows))
    report(parts, options.write)


if __name__ == "__main__":
    main()
