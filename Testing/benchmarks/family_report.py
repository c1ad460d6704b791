"""The table of the family as a page: what each network costs, how well it reconstructs, and what it is good for."""

from __future__ import annotations

from statistics import median
from typing import Any

from MedAELib.training.recipes import RECIPES

_BAR = 1.1  # times the bare step

VARIANTS = {
    "variational-vector": "one code for a whole slice or volume: features, traversals; blurred",
    "adversarial-image": "sharper reconstructions, with detail that may be made up",
    "averaging": "no learning: means of 2 x 2 (x 2) voxels, interpolated back; what a code must beat",
}
SUBJECTS = {
    "MR": "heads of healthy adults, T1-weighted, 2 mm (IXI)",
    "CT": "head-and-neck planning scans, about 4 x 4 x 2.5 mm (OpenKBP)",
}


def report(tables: list[dict]) -> str:
    """The page as Markdown, from tables of rows; those of one modality are put together."""
    whole: dict[str, dict] = {}
    for table in tables:
        whole.setdefault(table["modality"], {**table, "rows": []})["rows"] += table["rows"]
    parts = [
        "# The family of networks",
        "",
        "Made by `Testing/benchmarks/family.py`; its first lines say how to repeat it. Every network is trained with "
        "its recipe (`MedAELib/training/recipes.py`) and few steps: the figures compare networks and are not what "
        "they can reach. PSNR (dB) and SSIM are means over test subjects whom neither the training nor the choice of "
        "the best moment has seen, in their middle 96 x 96 x 48 voxels, over the window of the model (MRI: 0 to the "
        "99.9th percentile; CT: -1000 to 1000 HU). The row `denoising` is another task: noise added and taken away "
        "again (MRI: Rician, 6 %; CT: 40 HU, range 1000 HU).",
        "",
        "Operations are multiply-adds per voxel of one pass. Bare is the CPU seconds of forward, backward, optimiser "
        "for the recipe's batch on one thread; the next columns, in multiples of it, are a step of the training loop "
        "on the same tensors, in CPU seconds and, in brackets, by the clock, and the loading of a batch, which another "
        "thread does meanwhile. Loop and bare steps take turns, four by four; the multiples are medians over twelve "
        "turns. "
        + _loops([row for table in whole.values() for row in table["rows"] if "loop" in row]),
        "",
        _beside_averaging(list(whole.values())),
        "",
    ]
    for table in whole.values():
        parts += _table(table)
    return "\n".join(parts)


def _beside_averaging(tables: list[dict[str, Any]]) -> str:
    """How many networks reconstruct better than what needs no learning, as a sentence."""
    better, count = 0, 0
    for table in tables:
        rows = {row["name"]: row for row in table["rows"]}
        for name, row in rows.items():
            kind, dims = name.rsplit("-", 1)
            if kind not in ("denoising", "averaging") and f"averaging-{dims}" in rows:
                count += 1
                better += row["psnr"] > rows[f"averaging-{dims}"]["psnr"]
    return (
        f"Of {count} networks that reconstruct {better} have a higher PSNR than plain averaging, the last rows, after "
        "so few steps; the table says what they cost and how fast they begin to learn. Codes of fewer numbers for a "
        "voxel have the harder task."
    )


def _loops(rows: list[dict]) -> str:
    """How much longer steps of the loop take, as a sentence, and whether that was measured later than the rest."""
    if not rows:
        return "None was measured."
    found = [row["loop"] for row in rows]
    later = " Seconds and multiples were measured again later than the other columns." * any("again" in r for r in rows)
    within = sum(one <= _BAR for one in found)
    return (
        f"Of {len(found)} rows {within} are within a tenth of the bare step; the median is {median(found):.2f}, the "
        f"largest {max(found):.2f}.{later}"
    )


def _table(table: dict) -> list[str]:
    counts = ", ".join(f"{count} {part}" for part, count in table["subjects"].items())
    lines = [
        f"## {'MRI' if table['modality'] == 'MR' else 'CT'}: {SUBJECTS[table['modality']]}",
        "",
        f"Subjects: {counts}.",
        "",
        "| network | dims | steps | parameters | operations | bare s | loop | loading | PSNR | SSIM | code "
        "| numbers per voxel | good for |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows = {row["name"]: row for row in table["rows"]}
    for kind in [*RECIPES, *VARIANTS]:
        for dims in (2, 3):
            if (kind, dims) == ("dense", 3):
                lines.append("| dense | 3 |" + " 2D only |" * 10 + " a slice is all that it can see: 48^3 voxels in "
                             "and out would take 10^8 weights for 512 hidden units |")  # fmt: skip
            elif row := rows.get(f"{kind}-{dims}"):
                lines.append(_line(kind, dims, row))
    return [*lines, ""]


def _latent(kind: str, dims: int, row: dict) -> str:
    """How many numbers stand for a voxel: of a sparse code those that are kept, of a quantised one whole ones."""
    if row["latent"] is None:
        return "as many for every size"
    if kind == "sparse":
        kept = RECIPES["sparse"].arguments[dims]["keep"]
        return f"{row['latent'] * kept / row['latent_numbers']:.3g} ({kept} of {row['latent_numbers']} kept)"
    if kind == "quantised":
        last = RECIPES[kind].arguments[dims]["entries"] - 1
        return f"{row['latent'] / row['latent_numbers']:.3g} (whole, 0 to {last})"
    return f"{row['latent']:.3g}"


def _line(kind: str, dims: int, row: dict) -> str:
    good = RECIPES[kind].good_for if kind in RECIPES else VARIANTS[kind]
    quality = f"{row['psnr']:.2f}" + (f" (noisy {row['noisy_psnr']:.2f})" if "noisy_psnr" in row else "")
    latent = _latent(kind, dims, row)
    if kind == "averaging":
        cells = ["none", "0", "2", "none", "none", "none", quality, f"{row['ssim']:.3f}", f"1 x a cell for {2**dims} "
                 "voxels", latent]  # fmt: skip
    else:
        code = f"{row['latent_numbers']} x {row['latent_shape']}"
        cells = [
            str(row["steps"]), f"{row['parameters']:,}", f"{row['operations']:,.0f}", f"{row['bare']:.3f}",
            f"{row['loop']:.2f} ({row['loop_wall']:.2f})", f"{row['loading']:.2f}", quality, f"{row['ssim']:.3f}",
            code, latent,
        ]  # fmt: skip
    return f"| {kind} | {dims} | " + " | ".join(cells) + f" | {good} |"
