"""The table of the family: every network in 2D and 3D on held-out people, with its size, cost and code.

    python Testing/benchmarks/family.py --modality MR --steps 600 --rows family-MR.json [--only plain-3 ...]
    python Testing/benchmarks/family.py --modality MR --rows family-MR.json --timing
    python Testing/benchmarks/family.py --report family-MR.json family-CT.json [--write docs/family.md]

The first form trains each network that the rows lack, with its recipe and seed 0, on the training subjects of
`MedAELib.training.cohort` (MR: five heads at 2 mm; CT: sixteen head-and-neck scans), stops by the validation subject,
measures on the test subjects (one; four), and adds a row. The same steps and thread count give the same figures; the
seconds depend on the machine. The second form measures the seconds of a step again, of rows that were not measured so
yet, and nothing else. The third form writes the table. Data: the environment variable MEDAE_DATA, else
../shared/data.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.family_report import report
from benchmarks.family_timing import timing
from benchmarks.pages import options_unless_page

from MedAELib.engine.run import Engine
from MedAELib.model import Model
from MedAELib.quality import psnr, ssim
from MedAELib.training.cohort import CT_TEST, CT_TRAINING, CT_VALIDATION, MR_TEST, MR_TRAINING, MR_VALIDATION
from MedAELib.training.cohort import data_folder as data
from MedAELib.training.folder import Split, read_folder
from MedAELib.training.held_out import figures
from MedAELib.training.loop import Schedule, train
from MedAELib.training.noisy import denoising_figures
from MedAELib.training.plan import Plan, make_plan
from MedAELib.training.recipes import RECIPES
from MedAELib.training.sampling import middle_voxels

FOLDERS = {"MR": "brain_t1_ixi", "CT": "ct_openkbp"}
PARTS = {
    "MR": (list(MR_TRAINING), [MR_VALIDATION], list(MR_TEST)),
    "CT": (list(CT_TRAINING), [CT_VALIDATION], list(CT_TEST)),
}
VARIANTS = {
    "variational-vector": {"code": "vector", "grid": 32, "latent": 128},
    "adversarial-image": {"judged": "image"},
}


def names() -> list[str]:
    """Every network with its dimensions, such as plain-3, then the variants."""
    kinds = [*RECIPES, *VARIANTS]
    return [f"{kind}-{dims}" for kind in kinds for dims in (2, 3) if (kind, dims) != ("dense", 3)]


def cohort(modality: str, cache: Path) -> Split:
    """The subjects of the benchmark, in the parts of `MedAELib.training.cohort`."""
    cases = read_folder(data() / FOLDERS[modality], cache, [], "", print)

    def of(patterns: list[str]) -> list:
        starts = tuple(
            pattern.split("/")[1].rstrip("*") for pattern in patterns if pattern.startswith(FOLDERS[modality])
        )
        return [case for case in cases if case.name.startswith(starts)]

    return Split(*map(of, PARTS[modality]))


def planned(name: str, parts: Split, modality: str) -> Plan:
    """The training of a network, from the same start each time."""
    kind, dims = name.rsplit("-", 1)
    options = SimpleNamespace(
        network=kind.split("-")[0], dims=int(dims), seed=0, modality=modality, modalities=[], condition=[], table=None,
        arguments=VARIANTS.get(kind, {}), terms={}, corrupt=[], learn_from="clean", start="", size="",
        translate=[],
    )  # fmt: skip
    torch.manual_seed(0)
    return make_plan(options, parts, torch.device("cpu"))


def row(name: str, parts: Split, modality: str, steps: int) -> dict:
    """Train one network and measure it."""
    timed, plan = timing(planned(name, parts, modality)), planned(name, parts, modality)
    every = max(1, steps // 4)
    schedule = Schedule(
        steps, plan.recipe.learning_rate, warmup=steps // 10, averaging=min(0.999, 1 - 20 / steps),
        validate_every=every, checkpoint_every=steps, best="held_out_psnr",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        network, history = train(
            plan.network, plan.batch, plan.objective(steps), schedule, Path(folder), validate=plan.validate,
            critic=plan.critic,
        )  # fmt: skip
    model = Model(plan.spec, network.eval())
    measure = denoising_figures if plan.spec.network == "denoising" else figures
    found = measure(model, plan.tested, Engine("cpu", "float32"), lambda *_: None)
    means = {key: float(np.mean([case[key] for case in found])) for key in found[0] if key != "case"}
    return {
        "name": name, "steps": steps, "cases": len(found), **means, **size(plan, model),
        **timed, "curve": [r["held_out_psnr"] for r in history],
    }  # fmt: skip


@torch.no_grad()
def size(plan: Plan, model: Model) -> dict:
    """Parameters, multiply-adds per voxel, numbers of the code per voxel, and what the code looks like."""
    network, source = model.network, plan.tested[0]
    edges = (96, 96, 1 if network.dims == 2 else 48)
    box = middle_voxels(source, edges, (*network.strides, *(1,) * (3 - network.dims)), 0)
    x = box[None] if network.dims == 3 else box.permute(3, 0, 1, 2)
    with FlopCounterMode(display=False) as counter:
        network(x)
    code = network.encode(x)
    shape = "one vector" if code.ndim == 2 else f"a cell for {x[0, 0].numel() // code[0, 0].numel()} voxels"
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "operations": counter.get_total_flops() / 2 / x.numel(),
        "latent": code[0].numel() / x[0].numel() if code.ndim > 2 else None,
        "latent_numbers": code.shape[1],
        "latent_shape": shape,
    }


def baseline(parts: Split, modality: str, dims: int) -> dict:
    """Means of cells of eight (3D) or four (2D) voxels, interpolated back: a code that needs no learning."""
    options = SimpleNamespace(
        network="plain", dims=dims, seed=0, modality=modality, modalities=[], condition=[], table=None, arguments={},
        terms={}, corrupt=[], learn_from="clean", start="", size="",
        translate=[],
    )  # fmt: skip
    plan, found = make_plan(options, parts, torch.device("cpu")), []
    for source in plan.tested:
        x = middle_voxels(source, (96, 96, 48), (2, 2, 2), 0)
        x = x[None] if dims == 3 else x.permute(3, 0, 1, 2)
        small = torch.nn.functional.interpolate(x, scale_factor=0.5, mode="area")
        y = torch.nn.functional.interpolate(small, x.shape[2:], mode="trilinear" if dims == 3 else "bilinear")
        volumes = [v[0, 0].numpy() if dims == 3 else v[:, 0].permute(1, 2, 0).numpy() for v in (x, y)]
        found.append((psnr(*volumes, 1.0), ssim(*volumes, 1.0)))
    means = {"psnr": float(np.mean([f[0] for f in found])), "ssim": float(np.mean([f[1] for f in found]))}
    return {"name": f"averaging-{dims}", "cases": len(found), **means, "latent": 0.5**dims}


def time_again(table: dict, parts: Split, keep: Callable[[], None]) -> None:
    """Put the seconds of today's code in the place of earlier ones, row by row; rows that have them are left."""
    for one in table["rows"]:
        if "loop" in one and "again" not in one:
            one |= {**timing(planned(one["name"], parts, table["modality"])), "again": True}
            print(one["name"], f"{one['bare']:.4f} {one['loop']:.3f} {one['loop_wall']:.3f}", flush=True)
            keep()


def main() -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--modality", choices=("MR", "CT"), default="MR")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--timing", action="store_true")
    chosen = options_unless_page(parser, report)
    if chosen is None:
        return 0
    torch.set_num_threads(1)
    kept = json.loads(chosen.rows.read_text()) if chosen.rows and chosen.rows.is_file() else None
    table = kept or {"modality": chosen.modality, "rows": []}

    def keep() -> None:
        if chosen.rows:
            chosen.rows.write_text(json.dumps(table, indent=1))

    with tempfile.TemporaryDirectory() as cache:
        parts = cohort(chosen.modality, Path(cache))
        if chosen.timing:
            time_again(table, parts, keep)
            return 0
        table["subjects"] = {part: len(cases) for part, cases in parts.told().items()}
        for name in chosen.only or [*names(), "averaging-2", "averaging-3"]:
            if any(done["name"] == name for done in table["rows"]):
                continue
            kind, dims = name.rsplit("-", 1)
            made = baseline(parts, chosen.modality, int(dims)) if kind == "averaging" else None
            table["rows"].append(made or row(name, parts, chosen.modality, chosen.steps))
            print(json.dumps(table["rows"][-1]), flush=True)
            keep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
