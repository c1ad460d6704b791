"""What the cards of the bundled normative models say besides figures: data, making, limits and licence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """What a model shows, how it was made, from what, and what to know before using it; each limit is a sentence."""

    description: str
    summary: str
    making: str
    parts: str
    tuning: str
    training_data: tuple[str, ...]
    limits: tuple[str, ...]
    licence: tuple[str, str]
    weakness: str = ""  # why it is not good enough to help, if so; the first of the limits


_SHARE_ALIKE = ("CC BY-SA 4.0", "https://creativecommons.org/licenses/by-sa/4.0/")
_WEAK = (
    "Not good enough to help: most of what is drawn into unseen scans is missed, and none of it made a region; "
    "asymmetry alone finds nearly as much. A model that helps needs more scans and a longer training."
)

ABOUT = {
    "brain-t1-anomaly": About(
        description="Shows where a T1-weighted brain is unlike healthy ones (research use).",
        summary="A normative autoencoder for T1-weighted brains (3D, 2 mm).",
        making="""`python -m MedAELib.training.anomaly --start MODEL --blocks 2 --steps STEPS --seed 31`, on one core of
a CPU, with brightness as it was scanned. MODEL had 15 750 steps with one block at each scale behind it. A second block
at the coarsest scale, which changed no figure by more than 0.005 in the tuning scan, was left out afterwards:
the map below was chosen before that.
Pieces of brains were turned, scaled, bent and recontrasted; bright, dark, textured, blurred, copied and bulging places
were drawn into them, into three in eight many dark or bright spots of up to 10 mm radius in brighter tissue instead;
the network learned to undo these and to say where they were. What is hard (dark, blurred, copied, bulging) was drawn
more often; one piece in eight had coarse noise. The first 15 750 steps had no bending and fewer and smaller spots. A
further training on scans with their brightness made even found less in the tuning scan and was left.""",
        parts="Calibrated on IXI 033, tested on IXI 034 and on one case of multiple sclerosis.",
        tuning="IXI 033, half of the time as on another scanner: another contrast, uneven brightness, more noise",
        training_data=(
            "IXI 012, 013, 014, 015, 039: T1-weighted heads, healthy adults, 2 mm (CC BY-SA 3.0, "
            "brain-development.org)",
            "studyforrest: one healthy adult, T1-weighted, defaced, 1 mm (PDDL)",
        ),
        limits=(
            "Trained on six healthy adults from two scanners: much that is normal (age, sex, variants) was never seen. "
            "A map shows what is unlike these six, which is not the same as disease.",
            "Calibrated on one further subject, on whom the map was chosen, too: rates of false alarms below 0.1 % are "
            "extrapolated, and how usual a scan is as a whole is known beside one normal scan only.",
            "T1-weighted MRI without contrast agent only; whole heads or brains without their skull, at about 2 mm.",
            "Of small, low-contrast lesions (multiple sclerosis) the map shows some, and regions none in the one case "
            "tested: see the figures.",
            "Lesions beyond about 30 ml make the scan's own unit larger, in which they fade. Where a single map shows "
            "one, other than asymmetry, it is left out of that unit: then most make a region, of half to nearly all of "
            "their volume, sometimes with another one on the other side. Of what is hidden still a note tells mostly.",
            "Blur and bulges are found in part, by missing fine detail alone: drawn ones have none, by blurring or by "
            "interpolation, real ones may keep it; no change of shape as such is seen. The map smooth alone finds more "
            "of both. A healthy brain may have a few regions, and a third of the drawn anomalies make none.",
            "Nothing outside the brain is looked at, and nothing smaller than about 3 mm.",
            "Mirrored sides (left for right) are not noticed. What is normally one-sided, as large veins, may show.",
            "In a head with its skull, dark places at the surface of the brain may be taken for fluid around it and "
            "left out of what is looked at.",
        ),
        licence=_SHARE_ALIKE,
    ),
    "head-neck-ct-anomaly": About(
        description="Shows where a CT of head and neck is unlike other planning CTs; misses most (research use).",
        summary="A normative autoencoder for CT of head and neck (3D, 4 mm).",
        making="""`python -m MedAELib.training.anomaly --model head-neck-ct-anomaly --start MODEL --steps 6000`, on one
core of a CPU, ended at step STEPS; until step 3750 the learning rate fell as for 8000 steps in all. MODEL had 3200
steps of such a training behind it, which began with the weights of the model for brains. Pieces of bodies were turned,
scaled and made noisier; bright, dark, textured, blurred, copied and bulging places were drawn into them.""",
        parts="Calibrated on patients 115, 116, 118, 119 and 120, tested on 11, 121, 122 and 123.",
        tuning="The calibration patients, half of the time as on another scanner",
        training_data=(
            "OpenKBP, patients 10, 100, 101, 103 to 106, 108, 109, 111 to 114: planning CT of head and neck, about "
            "4 x 4 x 2.5 mm (MIT)",
            "by way of the weights that it began with: what brain-t1-anomaly was trained on",
        ),
        weakness=_WEAK,
        limits=(
            _WEAK,
            "Trained on planning CTs of thirteen patients with cancer of head or neck: their tumours, surgery, masks "
            "and dental metal count as normal. It knows no healthy anatomy.",
            "Calibrated on five further patients, on whom the map was chosen, too.",
            "Cells of 4 mm: nothing smaller than about 8 mm is seen, and no fine texture.",
            "From -250 to 500 HU only: what happens within bone, lung or air is not seen.",
            "Bodies that were cut out, as for planning: table, mask and clothes were not seen in training.",
            "Other parts of the body are told by coarse anatomy and tissues beside those of eighteen scans: few.",
        ),
        licence=_SHARE_ALIKE,
    ),
}
