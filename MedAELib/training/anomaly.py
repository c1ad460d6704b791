"""Train a bundled normative model: `python -m MedAELib.training.anomaly --output FOLDER`.

    --model NAME      brain-t1-anomaly (default) or head-neck-ct-anomaly: who is learned from
    --start MODEL     begin with the weights of this model
    --data FOLDER     the data folder (default: the environment variable MEDAE_DATA, else ../shared/data)
    --steps N         length of the cosine schedule (default 4000; about half a second a step on one core)
    --blocks N        residual blocks at each scale but the coarsest (default 1); what MODEL lacks begins without effect
    --seed S, --resume, --threads N, --precision float32|bfloat16

Pieces of normal scans are turned, scaled, bent and recontrasted; anomalies are drawn into them; the network learns to
undo these and to say where they were. FOLDER receives last.pt (resumable) and history.json.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, map_coordinates, zoom
from torch import Tensor, nn

from MedAELib.anomaly.prepare import BODY_RANGE, MEDIAN, Prepared
from MedAELib.errors import BadInput, MedAEError
from MedAELib.model import Model
from MedAELib.networks import build
from MedAELib.training.anomalies import KINDS, Floats, Mask, Random, draw_anomaly, draw_spots
from MedAELib.training.anomaly_cohorts import COHORTS
from MedAELib.training.cohort import data_folder
from MedAELib.training.loop import Batch, Schedule, train
from MedAELib.training.parallel import mean_over_all, shareable

ARGUMENTS = {"channels": 32, "levels": 2, "blocks": 1}
EDGE = 48  # voxels along a patch
BATCHES = {2: 16, 3: 2}  # patches by dimensions
_DARKEST = 1e-3  # of the inside of an image, whose ground may be 0: 0 stands for what is not looked at
_VISIBLE = 0.02  # by how much a pixel of an image must change
_RARE = 8.0  # how much more a changed voxel counts than a normal one: there are few of them
_SPOTTED = 0.375  # of the patches of volumes
_SPOTS = (2.0, 5.0)  # voxels, of the largest radius of spots
_WAVES = 6  # cosines along an edge of a patch that bend it: the shortest is about 20 voxels long
_BENT = 1.0  # voxels: so far places are moved at most, on the root mean square
# How often each kind is drawn: what is hard to tell from normal tissue more often.
_SHARES = {"bright": 0.12, "dark": 0.24, "texture": 0.12, "blur": 0.18, "copy": 0.16, "bulge": 0.18}


def batches(sources: Sequence[Prepared], seed: int) -> Callable[[int], Batch]:
    """The batch of a step as a function of the step: (changed, normal, where it was changed), [b, 1, i, j, k] each.

    From sources that are single images (`dims` 2) they are [b, 1, i, j].
    """
    dims = sources[0].dims
    samples = shareable(BATCHES[dims])

    def batch(step: int) -> Batch:
        random = np.random.default_rng([seed, step])
        rows = []
        for _ in range(samples):
            source = sources[int(random.integers(len(sources)))]
            normal, inside = patch(source, random)
            changed, where = with_anomalies(normal, inside, random)
            if source.hounsfield:  # what is bright in bone or dark in air does not show
                changed = np.where(inside, np.clip(changed, *BODY_RANGE), 0)
                where = where & (changed != normal)
            rows.append(np.stack([changed, normal, where]).astype(np.float32))
        parts = torch.from_numpy(np.stack(rows)).unsqueeze(2)
        return (parts if dims == 3 else parts[..., 0]).unbind(1)

    return batch


def patch(source: Prepared, random: Random) -> tuple[Floats, Mask]:
    """A piece of a scan and its mask [EDGE, EDGE, EDGE]: another pose, size, contrast, noise and extent of the mask.

    Volumes are bent, and brains are mirrored, too. Of images it is a piece of a slice [EDGE, EDGE, 1], turned within it
    and never mirrored.
    """
    flat = source.dims == 2
    places = np.flatnonzero(source.mask)
    middle = np.unravel_index(places[random.integers(len(places))], source.mask.shape)
    centre = np.array(middle) + random.uniform(-8, 8, 3) * (1, 1, not flat)
    angles, sizes = random.uniform(-0.25, 0.25, 3), random.uniform(-0.15, 0.15, 3)
    turn = _turn(angles * (not flat, not flat, 1)) @ np.diag(np.exp(sizes * (1, 1, not flat)))
    if not flat:
        turn[:, 0] *= random.choice([-1, 1])
    shape = (EDGE, EDGE, 1 if flat else EDGE)
    places = _seen_at(shape, turn, centre)
    if not flat:
        places += _bending(shape, random)
    voxels = map_coordinates(source.voxels, places, order=1, output=np.float32)
    mask = map_coordinates(source.mask.astype(np.float32), places, order=1, output=np.float32)
    inside = gaussian_filter(mask, random.uniform(0.3, 1.0)) > random.uniform(0.3, 0.7)
    if random.random() < 0.3:
        voxels = gaussian_filter(voxels, random.uniform(0.2, 0.7))
    voxels = as_on_another_scanner(voxels, source.hounsfield, random)
    if flat:
        voxels = np.maximum(voxels, _DARKEST)
    return np.where(inside, voxels, 0).astype(np.float32), inside & (voxels > 0)


def _seen_at(shape: tuple[int, ...], turn: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Where in the source the voxels of a patch around this place lie, [3, i, j, k]."""
    axes = [np.arange(size) - (size - 1) / 2 for size in shape]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"))
    return np.asarray(np.tensordot(turn, offsets, 1) + np.reshape(centre, (3, 1, 1, 1)))


def _bending(shape: tuple[int, ...], random: Random) -> np.ndarray:
    """By how many voxels the places of a patch are moved, smoothly, [3, i, j, k]: people differ in shape, too."""
    moved = random.normal(0, 1, (3, *[_WAVES] * 3))
    for axis, size in enumerate(shape):
        waves = np.cos(np.pi * np.outer(np.arange(_WAVES), (np.arange(size) + 0.5) / size))
        moved = np.moveaxis(np.tensordot(moved, waves, ([axis + 1], [0])), -1, axis + 1)
    return np.asarray(moved * (random.uniform(0, _BENT) / max(float(moved.std()), 1e-6)))


def as_on_another_scanner(voxels: Floats, hounsfield: bool, random: Random) -> Floats:
    """Windowed voxels `[i, j, k]` with another contrast, uneven brightness and more noise, as the modality has them."""
    return _as_on_another_ct(voxels, random) if hounsfield else _as_on_another_mr(voxels, random)


def _as_on_another_mr(voxels: Floats, random: Random) -> Floats:
    """Another contrast, uneven brightness, and noise as magnitudes have it."""
    bent = MEDIAN * (np.maximum(voxels, 0) / MEDIAN) ** random.uniform(0.75, 1.35)
    field = np.exp(_coarse(voxels.shape, 4, 0.1 * random.random(), random)) * random.uniform(0.9, 1.1)
    noise = _noise(random) * random.normal(0, 1, (2, *voxels.shape))
    return np.asarray(np.hypot(bent * field + noise[0], noise[1]), np.float32)


def _as_on_another_ct(voxels: Floats, random: Random) -> Floats:
    """Other kilovolts and more or less contrast agent, a few HU of cupping, and noise."""
    stretched = MEDIAN + (voxels - MEDIAN) * random.uniform(0.9, 1.1)
    field = _coarse(voxels.shape, 4, 0.02 * random.random(), random)
    noise = _noise(random) * random.normal(0, 1, voxels.shape)
    return np.asarray(np.clip(stretched + field + noise, *BODY_RANGE), np.float32)


def _noise(random: Random) -> float:
    """The deviation of the noise of a patch; three in ten have none of their own."""
    return float(random.uniform(0, 0.04) * (random.random() < 0.7))


def _coarse(shape: tuple[int, ...], cells: int, deviation: float, random: Random) -> np.ndarray:
    """A field that varies from cell to cell of so many along each edge."""
    count = [cells if size > 1 else 1 for size in shape]
    return np.asarray(zoom(random.normal(0, deviation, count), np.divide(shape, count), order=1))


def with_anomalies(normal: Floats, inside: Mask, random: Random) -> tuple[Floats, Mask]:
    """None (one patch in eight), coarse noise (one), of volumes many small spots (three), or three to ten anomalies of
    any kind, and where they are.

    Coarse noise changes every place (Kascenas et al., MIDL 2022): most of what a patch can teach at first.
    """
    where = np.zeros(normal.shape, bool)
    drawn = random.random()
    if not inside.any() or drawn < 0.125:
        return normal, where
    if drawn < 0.25:
        return _with_coarse_noise(normal, inside, random)
    if drawn < 0.25 + _SPOTTED and normal.shape[2] > 1:
        return draw_spots(normal, inside, random, float(random.uniform(*_SPOTS)))
    changed = normal
    for _ in range(random.integers(3, 11)):
        radius = float(np.exp(random.uniform(np.log(2.0), np.log(7))))
        strength = float(random.uniform(0.3, 1.0))
        kind = str(random.choice(KINDS, p=[_SHARES[kind] for kind in KINDS]))
        changed, mask = draw_anomaly(changed, inside, kind, radius, strength, random)
        where |= mask
    if normal.shape[2] == 1:  # an even ground hides most of them
        where &= np.abs(changed - normal) > _VISIBLE
    return changed, where


def _with_coarse_noise(normal: Floats, inside: Mask, random: Random) -> tuple[Floats, Mask]:
    """Brightness that varies over several voxels, and where it differs by more than a fifth of the tissue's median."""
    noise = _coarse(normal.shape, int(random.integers(6, 16)), float(random.uniform(0.1, 0.25)), random)
    noise = np.where(inside, noise, 0)
    return np.maximum(normal + noise, 0).astype(np.float32), np.abs(noise) > 0.1


def _turn(angles: np.ndarray) -> np.ndarray:
    """A rotation about the three axes by small angles in radians."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        about = np.eye(3)
        about[one, one] = about[other, other] = np.cos(angle)
        about[one, other], about[other, one] = -np.sin(angle), np.sin(angle)
        turn = turn @ about
    return turn


def objective(network: nn.Module, batch: Batch) -> Tensor:
    """How far the reconstruction is from normal, and how badly the anomalies are found."""
    changed, normal, where = batch
    made = network.typical_and_odds(changed)  # type: ignore[operator]
    inside = (normal > 0).float()
    weight = inside * (1 + (_RARE - 1) * where)
    total = mean_over_all(weight.sum()).clamp(min=1)
    reconstruction = ((made[:, :1] - normal).abs() * weight).sum() / total
    odds = nn.functional.binary_cross_entropy_with_logits(made[:, 1:], where, weight=weight, reduction="sum")
    return 2 * reconstruction + odds / total


def validation(sources: Sequence[Prepared], count: int = 24) -> Callable[[nn.Module], dict[str, float]]:
    """Average precision of the odds by kind, on the same patches every time."""
    from MedAELib.anomaly.figures import average_precision

    cases: list[tuple[str, Floats, Mask, Mask]] = []
    for number in range(count):
        random = np.random.default_rng([77, number])
        normal, inside = patch(sources[number % len(sources)], random)
        kind = KINDS[number % len(KINDS)]
        changed, where = draw_anomaly(normal, inside, kind, float(random.uniform(3, 6)), 0.67, random)
        cases.append((kind, changed, where, inside))

    @torch.no_grad()
    def measure(network: nn.Module) -> dict[str, float]:
        found: dict[str, list[float]] = {kind: [] for kind in KINDS}
        device = next(network.parameters()).device
        for kind, changed, where, inside in cases:
            x = torch.from_numpy(changed if changed.shape[2] > 1 else changed[..., 0])[None, None].to(device)
            with torch.autocast(device.type, torch.bfloat16):
                odds = network.typical_and_odds(x)[0, 1].cpu().numpy()  # type: ignore[operator]
            found[kind].append(average_precision(odds.reshape(where.shape)[inside], where[inside]))
        return {kind: float(np.nanmean(values)) for kind, values in found.items()}

    return measure


def blocks_of(weights: Mapping[str, Tensor]) -> int:
    """How many residual blocks the normative network of these weights has at its finest scale; 0 for another kind."""
    return 1 + max((int(name.split(".")[2]) for name in weights if name.startswith("encoder.0.")), default=-1)


def _network(start: str, blocks: int) -> nn.Module:
    """A new network, or one with the weights of the model. Raises BadModel, BadInput for one of another kind.

    It may have more blocks than the model: those begin without effect, so it computes what the model does.
    """
    network = build("normative", 3, {**ARGUMENTS, "blocks": blocks})
    if not start:
        return network
    known = Model.load(start).network.float().state_dict()
    same = build("normative", 3, {**ARGUMENTS, "blocks": min(max(blocks_of(known), 1), blocks)}).state_dict()
    if {name: value.shape for name, value in known.items()} != {name: value.shape for name, value in same.items()}:
        raise BadInput(f"The model {start} has another network.", "Start from a 3D normative model of no more blocks.")
    network.load_state_dict(known, strict=False)
    for name, parameter in network.named_parameters():
        if name not in known and ".unit1." in name:
            nn.init.zeros_(parameter)
    return network


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m MedAELib.training.anomaly", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", choices=COHORTS, default=next(iter(COHORTS)))
    parser.add_argument("--start", default="", metavar="MODEL")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--blocks", type=int, default=ARGUMENTS["blocks"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    chosen = parser.parse_args(arguments)
    try:
        torch.set_num_threads(chosen.threads)
        torch.manual_seed(chosen.seed)
        data, cohort = chosen.data or data_folder(), COHORTS[chosen.model]
        network = _network(chosen.start, chosen.blocks).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        measure = validation(cohort.scans(data, cohort.calibration))
        schedule = Schedule(
            steps=chosen.steps, averaging=0.997, precision=chosen.precision, validate_every=250, checkpoint_every=250
        )
        sources = cohort.scans(data, cohort.training)
        train(network, batches(sources, chosen.seed), objective, schedule, chosen.output, resume=chosen.resume,
              validate=measure)  # fmt: skip
    except MedAEError as error:
        print(f"{error} {error.next_step}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
