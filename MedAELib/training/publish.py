"""Put a trained denoiser into its model folder, with its card: `python -m MedAELib.training.publish --modality MR ...`.

--training FOLDER  of MedAELib.training.denoise (last.pt)
--output FOLDER    the model folder, such as Resources/Models/mr-denoise; replaced as a whole
--figures FILE     denoise-MR.json of Testing/benchmarks/denoise.py (optional)
--begun TEXT       what the training began with, for the card, where it was not random weights
--start FILE, --share S
                   the weights it began with, and how much (0..1) of the published ones is the training's; the rest are
                   those: a model that learned something new that way keeps more of what it knew (Wortsman et al.,
                   CVPR 2022)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from MedAELib.bundle import Spec, Window
from MedAELib.errors import BadInput, MedAEError
from MedAELib.model import Model
from MedAELib.training.begin import averaged_weights

DEVICES = {"cpu": "a CPU", "cuda": "a CUDA card", "mps": "an Apple GPU"}
WINDOWS = {"MR": Window("white noise", 0.0, 1.0), "CT": Window("correlated noise", 0.0, 1.0)}
LICENCES = {
    "MR": ("CC BY-SA 4.0", "https://creativecommons.org/licenses/by-sa/4.0/"),
    "CT": ("CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/"),
}
TRAINING_DATA = {
    "MR": [
        "IXI 012, 013, 014, 015, 039: T1-weighted heads, healthy adults, 2 mm (CC BY-SA 3.0, brain-development.org)",
        "studyforrest: one healthy adult, T1-weighted, defaced, 1 and 2 mm (PDDL)",
        "Open MS data, LIT Ljubljana (Lesjak 2017): patient 26, T1, T2, FLAIR, 1 mm (CC BY)",
        "Open MS data, longitudinal: patient 01, T1, T2, FLAIR, two visits, averaged in plane (CC BY)",
        "Vestibular-Schwannoma-SEG 001: T1 with contrast, averaged in plane (CC BY 4.0, TCIA)",
        "Cardiac late enhancement, one subject, averaged in plane (MIT, Seg3D)",
        "Medical Segmentation Decathlon task 4: hippocampus crops 001-009, 020-026, 040-049 (CC BY-SA 4.0)",
        "CT anatomy with random contrasts: OpenKBP, 16 planning scans (MIT); LIDC-IDRI 0314 (CC BY 3.0, TCIA)",
        "Generated anatomy without any noise",
    ],
    "CT": [
        "OpenKBP: 16 head-and-neck planning scans, about 4 x 4 x 2.5 mm (MIT)",
        "LIDC-IDRI 0314: one chest, averaged down (CC BY 3.0, Armato 2015, TCIA)",
        "Generated anatomy without any noise",
    ],
}
FEATURES = {
    "MR": """region of a CT 0.667 against 0.713 (three people, behind on two), part of the hippocampus 0.914 against
0.797 (41 people), sequence of an MRI 0.889 against 0.528 (one).""",
    "CT": """region of a CT 0.880 against 0.713 (three people, ahead on two, equal on one), part of the hippocampus
0.917 against 0.809 (60 people), sequence of an MRI 0.875 against 0.514 (three).""",
}  # of Testing/benchmarks/features.py
HELD_OUT = {
    "MR": """Validation: IXI 033. Test: IXI 034; patient 12 of the longitudinal MS set (T1, T2, FLAIR, two visits);
cervical spine T1 and T2; hippocampus crops 090-097; TotalSegmentator's MR example. No subject is in two parts.""",
    "CT": """Validation: OpenKBP 119. Test: OpenKBP 11, 121, 122, 123; TotalSegmentator's abdomen; one head.
No subject is in two parts.""",
}
PASSES = {
    "MR": """two mirror images, as it is for volumes of up to twenty million voxels, and, beside it, one pass
alone. Behind either come two further looks (`MedAELib/networks/regrouped.py`).""",
    "CT": """four mirror images, as it is for volumes of up to ten million voxels, and, beside it, one pass
alone. Either is fitted to the scan again (`MedAELib/networks/refitted.py`).""",
}
NOISE = {
    "MR": """Rician (95 %) and non-central chi noise (2 to 4 coils) of 0.4 to 20 % of the 99.9th percentile, in a
quarter of the patches spatially varying, in a sixth correlated as zero filling leaves it; one patch in twenty has
none. The network sees a scan in units of its noise, which is measured on the whole volume; in training that unit was
wrong by -10 to +35 %.""",
    "CT": """2 to 130 HU, half of it from simulated scans of the same patient (projection, photon and electronic noise,
filtered back-projection), half with the spectrum |f| W(f)^2 of filtered back-projection; kernels from very soft to
sharp, most near a plain Hann filter, slices independent or slightly mixed, with streaks, stronger inside the body, half
cut off at -1024 HU; one patch in twenty has none. The network sees a scan in units of its noise, which is measured on
the whole volume; in training that unit was wrong by -26 to +65 %.""",
}
PATCHES = {
    "MR": """Patches are turned and flipped, averaged down by up to 3 voxels or to slices of up to 4, given other
contrasts and coil sensitivities; CT anatomy is seen through random curves of intensity, and a fifth of the patches is
the sum of two. Of those with anatomy 38 % lie on grids 1.2 to 2.5 times finer than measured, in plane, across slices or
along all axes, three quarters of them by zero filling as scanners do, the others interpolated linearly. Small balls of
other brightness are drawn into a third, and into most of the patches that are constant otherwise; the contrast that
they lose counts on its own.""",
    "CT": """Patches are turned in the plane and flipped, averaged down by up to 3 voxels or to slices of up to 6,
interpolated to grids of up to 4 times the fineness, given other tissue values. Small balls of other density are drawn
into a third, and into most of the patches that are constant otherwise; the contrast that they lose counts on its
own.""",
}
LIMITS = {
    "MR": [
        "Trained on few subjects, mostly heads; other parts of the body were tested little.",
        "The strength of the noise is measured on the volume. Where no air is left and no tissue is flat (a crop, a "
        "skull-stripped brain with fine texture), noise of 3 % and less is overestimated, and "
        "detail is smoothed: lower the strength there.",
        "Against a small cervical spine T1, whose own noise is about 5 %, the result is worse than the input at 3 "
        "and 5 % (27.6 against 30.5 dB, 25.7 against 26.1 dB): that noise goes too, and fine detail with it.",
        "At 3 % noise, a bilateral filter that is told the noise level and given its best setting was 0.2 dB better on "
        "a small cervical spine T2; at 9 % total variation was 0.1 dB better on that spine's T1.",
        "Of pure noise around a constant 3 to 4.7 % is left.",
        "BM4D with a stabilised variance, told the true noise level and given the best of three settings, was better "
        "on all six scans that count at 3 and 5 % of noise, on five of seven at 9 % and on four at 15 %: by up to 0.2 "
        "dB on a T1 head, by up to 0.1 dB on a FLAIR head, a hippocampus crop and a trunk with interpolated slices (at "
        "9 and 15 % behind on the FLAIR and the trunk, by 0.1 and 0.2 dB), 0.5 and 0.1 dB on a small cervical spine T1 "
        "at 9 and 15 %, 0.2 to 0.7 dB on a small cervical spine T2 (behind in SSIM there), 0.4 to 0.7 dB on generated "
        "anatomy, and 0.5 dB on a scanned phantom (`--peers strongest`).",
        "Balls of 5 voxels at twice the noise keep 91 to 93 % of their contrast at 5 % of noise in the four real "
        "scans with room for them, 86 to 87 % at 9 %; in generated anatomy 88 and 87 % (`--peers none`).",
        "The noise map was 0.85 to 1.15 times the truth (root mean squares over tissue) on the test scans that hold "
        "less noise than was put on them, 1.5 and 2.0 times on one that holds 5 % of its own; 0.93 times what the "
        "repeats of a phantom show, 1.7 times in a crop of it without air, 0.71 times what those of a living cervical "
        "cord show, where pulsation counts as noise (`--repeats`).",
        "The further looks help where noise is white or nearly so; where a scanner interpolated it, and in flat "
        "tissue, the network is alone. That they leave flat tissue alone was decided after a look at the test scans, "
        "so they may help others a little less. What else they do was chosen on the validation head (as it is, with "
        "other contrast, on finer grids), on generated anatomy and on scans that the network had learned from: so "
        "that lesions of 5 voxels at twice the noise keep as much of their contrast as with the looks before.",
        "Where noise is much stronger than in the quiet part of the scan (parallel imaging), each place is seen in the "
        "unit of its own noise (`docs/trust.md`), and small lesions keep less of their contrast than with the noise "
        "left; where that cannot be told from fine anatomy, and in small scans, part of such noise is left, the noise "
        "map tells too little of it, and the trust figure of it may be left out.",
        "The frames of a sequence are seen in one unit: of a frame that is much noisier than the others little noise "
        "is removed.",
        "A scan that was filled up with zeros or interpolated by cubic curves is denoised on the grid that was "
        "measured (`docs/trust.md`): on four test scans (three at 3 %), each so enlarged in four ways, better on "
        "average than every filter at its best setting, at 3 and 9 % of noise. Balls of 5 voxels are then smaller "
        "than 5 measured ones, and keep less of their contrast. Of noise that was interpolated linearly only a "
        "part goes, and there total variation was better, by 0.6 and 1.6 dB in twice as many voxels along two "
        "axes; the run says where a scan looks so. (`--interpolated --peers filters --cases 4`.)",
        "On a grid much finer than the anatomy (interpolated by a scanner), with white noise, it sees less than BM4D "
        "of what the whole volume tells, and is further behind it.",
        "The training targets are real scans and hold a little noise of their own, which caps what was learned.",
        "Not for phase, complex or signed difference images.",
        "Above about 20 % noise, fine structure is smoothed away.",
        "Ghosts, Gibbs ringing, bias fields and motion are left as they are.",
        "Learning from a single scan first (`--adapt`) brought nothing on six held-out and generated scans with "
        "two levels of noise: six results would have become worse, six better by up to "
        "0.6 dB, and none was kept (`docs/adapt.md`).",
    ],
    "CT": [
        "Trained on coarse planning scans of the head and neck and one chest; thin lung detail was seen little.",
        "BM4D told the spectrum of the noise, 0.5 dB and more behind in PSNR on each of four planning scans at each "
        "level and behind in SSIM, was better against the mean of many scans of a phantom, which has nothing but flat "
        "parts and edges: by 1.0 dB on a scan of 10 % of the dose and by 0.2 dB on one of 55 % "
        "(`--peers strongest --cases 4`).",
        "Of a chest with a sharp kernel, against the same scan with a soft one, it is as near as total variation at "
        "its best setting (24.6 dB; the scan itself 20.0), and a Gaussian filter in plane is far nearer (37.8), as a "
        "softer kernel is little else; against the mean of a phantom's scans total variation was 0.02 and 0.06 dB "
        "nearer (33.6 and 34.5 dB).",
        "On an abdomen with 20 HU of noise a bilateral filter at its best setting had an SSIM as high.",
        "Of pure noise around a constant 4.5 to 5 % is left.",
        "Amid tissue without any structure balls of 5 voxels keep 91 to 100 % of their contrast at twice the noise. "
        "Drawn into test scans they keep less, at 20, 40 and 80 HU of noise: 89, 83 and 79 % in the one planning "
        "scan with room for them, 84, 86 and 96 % in an abdomen, 75, 72 and 74 % in a head, 69 to 87 % in generated "
        "anatomy (`--peers none`). The trust figures say so for each scan.",
        "The noise map was 0.66 to 1.18 times the truth (root mean squares over the body; median 0.94), least on "
        "planning scans of 4 mm with 20 HU of noise.",
        "Tissues are drawn together, the more the stronger the noise. In an abdomen the mean of flat fat and muscle, "
        "and of soft tissue as a whole, moved by at most 1.8, 0.7 and 5.5 HU at 20, 40 and 80 HU of noise, on a head "
        "by 1.6, 2.0 and 4.7 HU; between small parts of necks, in voxels of 4 mm, that of fat by up to 4, 12 and 25 "
        "HU and of muscle by up to 3, 8 and 16, of generated lung by up to 1, 3 and 7 (`shift` in the figures of the "
        "benchmark).",
        "What gives an abdomen its means back (`MedAELib/networks/refitted.py`) costs 0.3 dB there at 80 HU of "
        "noise. It was chosen on the validation scan, generated anatomy and scans that the network had learned from; "
        "that it keeps to contrasts near the noise was decided on these after a look at the test scans, where it had "
        "done harm.",
        "Where no tissue is flat, weak noise is overestimated (on planning scans with voxels of 4 mm, 20 HU and less), "
        "and grainy texture without any noise is smoothed.",
        "The training targets are real scans and hold noise of their own, which caps what was learned.",
        "Noise correlated over many voxels (very soft kernels on a fine grid) is removed in part only.",
        "Streaks from metal and beam hardening are left as they are.",
        "Lesions weaker than the noise may be smoothed away.",
        "It does not learn from single scans (`--adapt`): of four held-out ones, each with two levels of noise, "
        "seven of eight results became worse by that, one by 0.7 dB (`docs/adapt.md`).",
    ],
}


def published(
    training: Path, modality: str, output: Path, figures: dict[str, Any] | None, begun: str = "",
    start: Path | None = None, share: float = 1.0,
) -> Model:  # fmt: skip
    """Write the averaged weights of a training, in float16, as a model folder. Raises MedAEError.

    With a `start`, the weights that the training began with, only this `share` is the training's.
    """
    kept = torch.load(training / "last.pt", map_location="cpu", weights_only=True)
    weights = kept["averaged"]
    if start is not None:
        before = averaged_weights(start)
        if any(name not in before or before[name].shape != value.shape for name, value in weights.items()):
            raise BadInput(f"{start} belongs to another or a smaller network.", "Publish without --start and --share.")
        weights = {name: torch.lerp(before[name], value.float(), share) for name, value in weights.items()}
    arguments = _arguments(weights)
    model = Model.create(Spec("denoising", arguments, 3, "denoise", modality, WINDOWS[modality]))
    model.network.load_state_dict(weights)
    model.network.half()
    summary = _summary(figures, modality) if figures else {}
    licence, address = LICENCES[modality]
    return model.save(
        output,
        name=f"{modality.lower()}-denoise",
        description=f"Removes noise from {modality} volumes, blind to the noise level (research use).",
        card=_card(modality, kept, arguments, summary, begun),
        licence=f"{licence}\n\nThe weights in this folder are licensed under {licence}, {address}\n"
        "The scans they were trained on are named in docs/README.md with their own licences.\n",
        figures=summary,
        limits=LIMITS[modality],
        training_data=TRAINING_DATA[modality],
    )


def _arguments(weights: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The network's arguments, as its weights show them."""
    units = {name.rsplit(".unit", 1)[0] for name in weights if ".unit" in name}
    deep = [unit for unit in units if unit.startswith("deep.")]
    deep_channels = weights["deep.0.conv.weight"].shape[0] if "deep.0.conv.weight" in weights else 0
    return {
        "channels": weights["first.conv.weight"].shape[0],
        "blocks": len(units) - len(deep),
        "deep_channels": deep_channels,
        "deep_blocks": len(deep),
    }


def _summary(figures: dict[str, Any], modality: str) -> dict[str, Any]:
    """Mean PSNR and SSIM over the test cases, by level of the noise and method, and the trust figures."""
    rows = figures["rows"]
    summary: dict[str, Any] = {}
    for level in dict.fromkeys(row["level"] for row in rows):
        for method in dict.fromkeys(row["method"] for row in rows):
            chosen = [row for row in rows if row["level"] == level and row["method"] == method]
            found = {name: round(float(np.mean([row[name] for row in chosen])), 3) for name in ("psnr", "ssim")}
            summary.setdefault(f"noise {_level(level, modality)}", {})[method] = found
    trust = {_promise(name, modality): round(value, 3) for name, value in figures["trust"].items()}
    return {"held_out": summary, "trust (%)": trust, "cases": len({row["case"] for row in rows})}


def _level(level: float, modality: str) -> str:
    """A level of noise as people write it."""
    return f"{100 * level:g} %" if modality == "MR" else f"{1000 * level:g} HU"


def _promise(name: str, modality: str) -> str:
    """The name of a trust figure, for people."""
    words, _, level = name.rpartition("_")
    told = f"{words}, {_level(float(level), modality)}" if level[0].isdigit() else name
    return told.replace("_", " ")


def _card(
    modality: str, kept: Mapping[str, Any], arguments: dict[str, int], summary: dict[str, Any], begun: str
) -> str:
    device = DEVICES[kept.get("device", "cpu")]  # trainings of earlier versions do not tell it
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in arguments.items())
    data = "\n".join(f"- {line}" for line in TRAINING_DATA[modality])
    limits = "\n".join(f"- {line}" for line in LIMITS[modality])
    return f"""# {modality.lower()}-denoise

A blind denoising autoencoder for {modality} volumes (3D). For research use; not a medical device.

## Training
`python -m MedAELib.training.denoise --modality {modality} --steps {kept["step"]} {options}`, on {device}.
{begun}
What more training buys: `docs/denoise.md` among the pages of MedAE.

{data}

{PATCHES[modality]}

Noise: {NOISE[modality]}

{HELD_OUT[modality]}

## Held-out figures
{_figures(modality, summary)}
## As features
The balanced accuracy of a linear classifier on its code (`Testing/benchmarks/features.py`), against the same on
principal components of the intensities, of people that neither classifier nor model has learned from:
{FEATURES[modality]}

## Limits
{limits}

## Licence
The weights: {" ".join(LICENCES[modality])} (the sources above keep their own).
"""


def _figures(modality: str, summary: dict[str, Any]) -> str:
    """The summary as a Markdown table."""
    if not summary:
        return "Not measured yet.\n"
    levels = summary["held_out"]
    methods = list(next(iter(levels.values())))
    lines = ["| | " + " | ".join(methods) + " |", "|---|" + "---|" * len(methods)]
    for level, row in levels.items():
        cells = (f"{row[method]['psnr']:.2f} / {row[method]['ssim']:.3f}" for method in methods)
        lines.append(f"| {level} | " + " | ".join(cells) + " |")
    trust = "\n".join(f"- {name}: {value:g} %" for name, value in summary["trust (%)"].items())
    span = "1" if modality == "MR" else "400 HU"
    return f"""PSNR (dB, range {span}) / SSIM in the foreground, mean of {summary["cases"]} held-out cases, made by
`Testing/benchmarks/denoise.py`; every filter has its best setting for each case and level. References that hold more
noise than was added are left out at that level: removing their noise would count as an error.
MedAE is the mean over {PASSES[modality]}

{chr(10).join(lines)}

{trust}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m MedAELib.training.publish", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--modality", choices=("MR", "CT"), required=True)
    parser.add_argument("--training", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--figures", type=Path, default=None)
    parser.add_argument("--begun", default="")
    parser.add_argument("--start", type=Path, default=None)
    parser.add_argument("--share", type=float, default=1.0)
    chosen = parser.parse_args(arguments)
    figures = json.loads(chosen.figures.read_text()) if chosen.figures else None
    try:
        model = published(
            chosen.training, chosen.modality, chosen.output, figures, chosen.begun, chosen.start, chosen.share
        )
    except MedAEError as error:
        print(f"{error} {error.next_step}", file=sys.stderr)
        return 2
    print(f"{chosen.output}: SHA-256 {model.bundle.sha256}" if model.bundle else chosen.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
