"""Volumes to latents and back: by an autoencoder, or as the coarse lattice that a .maez file begins with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bundle import find_bundle
from ..codec.lattice import halvings, plan
from ..engine.memory import free_system_memory
from ..errors import BadInput, BadModel, OutOfMemory
from ..latent import Latent, Source
from ..modality import guess_modality
from ..volume import Volume

LATTICE = "coarse lattice"
_BYTES = 12  # of memory for a voxel while it is decoded, beside the volume itself, at least
_DEEPEST = 5  # halvings that a .maez file keeps apart
_OTHER = "Choose a reconstructing autoencoder, or leave --model out for the coarse lattice."
Progress = Callable[[str, int, int], None]


def encode(
    volume: Volume, model: Any, *, device: str = "auto", progress: Progress = lambda stage, done, total: None
) -> Latent:
    """The latent of a volume by a `Model` whose decoder needs nothing but the code.

    A 2D network sees slice by slice along k, a 3D one the volume as a whole (so the device needs the memory for it).
    A code without places (a vector) becomes one cell, or one cell per slice. Raises BadInput for a volume of several
    channels, BadModel for a network whose decoder needs the scan too (denoising, anomaly) or a condition, OutOfMemory.
    """
    import torch

    from ..engine.device import choose_device
    from .seen import see

    network, called = model.network, volume.name or "The volume"
    if hasattr(network, "fields"):
        raise BadModel(f"The decoder of the model {_name(model)} needs more than the code.", _OTHER)
    if volume.channels != 1 or network.in_channels != 1:
        raise BadInput(f"{called} and the model {_name(model)} do not make a latent.", "One channel alone has one.")
    device_used = choose_device(device)
    network = network.to(device_used).eval()
    _check_memory(network, volume, str(device_used))
    _check_decodes_alone(network, _name(model), device_used)
    found = see(volume, model)
    low, high = found.window
    seen = (found.volume.array[0].astype(np.float32) - np.float32(low)) / np.float32(high - low)
    seen = np.nan_to_num(seen, nan=0.0, posinf=0.0, neginf=0.0)
    pieces, blocks = [], _blocks(seen, network)
    with torch.inference_mode():
        for number, block in enumerate(blocks):
            progress("Encoding", number, len(blocks))
            pieces.append(network.encode(torch.from_numpy(block).to(device_used)).float().cpu().numpy())
    code, padded = _joined(pieces, network.dims), blocks[0].shape[2:]
    affine = volume.affine @ _cells(code.shape[1:], padded, network, volume.shape)
    modality = guess_modality(volume)
    source = Source(volume.shape, volume.affine, volume.array.dtype.name, (low, high), volume.name, modality)
    return Latent(code, affine, _name(model), _sha256(model), source)


def decode(latent: Latent, model: Any = None, *, device: str = "auto") -> Volume:
    """The volume that a latent stands for, in its source's place, type and units.

    Nothing else is needed for a bundled model and for the coarse lattice; a model of one's own is given as `model`.
    Raises BadModel when the model is not there or is not the one that made the latent, OutOfMemory.
    """
    too_large = OutOfMemory(
        f"The volume that the latent of '{latent.source.name}' stands for does not fit the memory.",
        "Close other programs, or decode it on a computer with more memory.",
    )
    if math.prod(latent.source.shape) * (_BYTES + np.dtype(latent.source.dtype).itemsize) > free_system_memory():
        raise too_large
    try:
        return _finished(_interpolated(latent) if latent.model == LATTICE else _by_model(latent, model, device), latent)
    except MemoryError:
        raise too_large from None


def _by_model(latent: Latent, model: Any, device: str) -> npt.NDArray[np.float32]:
    """The voxels [i, j, k] that the decoder of the latent's model makes of it, in units of the source."""
    import torch

    from ..engine.device import choose_device
    from ..model import Model
    from ..networks.whole import from_grid

    model = model if model is not None else Model.load(find_bundle(latent.model).folder)
    if _sha256(model) != latent.sha256:
        raise BadModel(
            f"The latent was made by the model {latent.model} (SHA-256 {latent.sha256[:16]}...), which"
            f" {_name(model)} is not.", "Name the model that made it.",
        )  # fmt: skip
    device_used, dims = choose_device(device), model.network.dims
    network, made = model.network.to(device_used).eval(), []
    codes = [latent.code[..., k] for k in range(latent.code.shape[3])] if dims == 2 else [latent.code]
    size = latent.source.shape[:dims]
    with torch.inference_mode():
        for code in codes:
            given = np.array(code[None]).reshape(1, -1) if network.grid else np.array(code[None])
            found = network.decode(torch.from_numpy(given).to(device_used))
            found = from_grid(found, size) if network.grid else found.float()
            made.append(found[0, 0].cpu().numpy()[tuple(slice(n) for n in size)])
    low, high = latent.source.limits
    whole = np.stack(made, -1) if dims == 2 else made[0]
    return np.asarray(whole * np.float32(high - low) + np.float32(low), np.float32)


def coarse_lattice(volume: Volume, halved: int = _DEEPEST) -> Latent:
    """Every n-th voxel along each axis, as the codec halves a volume, as a latent: it needs no model, knows no detail.

    `halved` of the last halvings are left out (0 to 5). Decoding interpolates between the voxels, linearly. Raises
    BadInput for several channels or values that are not finite.
    """
    if volume.channels != 1 or not np.isfinite(volume.array).all():
        raise BadInput(f"{volume.name or 'The volume'} has no latent.", "One channel of finite values has one.")
    shape = volume.shape
    spacing = tuple(int(min(max(round(1000 * along), 1), 10**9)) for along in volume.spacing)
    stages = plan(shape, halvings(shape, spacing), spacing)  # type: ignore[arg-type]
    halved = min(halved, len(stages))
    steps = [1, 1, 1]
    if halved:
        stage = stages[-halved]
        steps = [step * (2 if axis == stage.axis else 1) for axis, step in enumerate(stage.steps)]
    code = volume.array[:, :: steps[0], :: steps[1], :: steps[2]].astype(np.float32)
    source = Source(
        shape, volume.affine, volume.array.dtype.name, (0.0, 1.0), volume.name, guess_modality(volume)
    )  # fmt: skip
    return Latent(code, volume.affine @ np.diag([*map(float, steps), 1.0]), LATTICE, "", source)


def _name(model: Any) -> str:
    return str(model.bundle.name) if model.bundle is not None else model.spec.network


def _sha256(model: Any) -> str:
    if model.bundle is None:
        raise BadModel("The model has no folder yet, so its latents could not come back.", "Save it first.")
    return str(model.bundle.sha256)


def _check_memory(network: Any, volume: Volume, device: str) -> None:
    """Raise OutOfMemory, before anything is computed, where the network does not fit around the whole."""
    from ..engine.device import free_memory
    from ..engine.run import bytes_per_voxel

    voxels = int(np.prod(volume.shape[: network.dims], dtype=np.int64))
    needed = voxels * bytes_per_voxel(network)
    if needed > free_memory(device):
        raise OutOfMemory(
            f"A latent sees {volume.name or 'the volume'} as a whole, which takes about {needed / 2**30:.1f} GiB, more"
            f" than the device {device} has free.", "Crop the volume, or choose another device.",
        )  # fmt: skip


def _check_decodes_alone(network: Any, name: str, device: Any) -> None:
    """Raise BadModel unless what the network makes of a block is what it decodes from the block's code."""
    import torch

    from ..networks.whole import from_grid

    edge = max(4 * network.stride, 16, network.grid)
    block = torch.rand((1, 1) + (edge,) * network.dims, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        whole, found = network(block), network.decode(network.encode(block))
        found = from_grid(found, block.shape[2:]) if network.grid else found
    if found.shape != whole.shape or not torch.allclose(found.float(), whole.float(), rtol=1e-3, atol=1e-3):
        raise BadModel(
            f"The decoder of the model {name} needs the scan beside the code, so its code is no latent.",
            _OTHER,
        )


def _blocks(seen: npt.NDArray[np.float32], network: Any) -> list[npt.NDArray[np.float32]]:
    """What the network sees at a time, [1, 1, ...], at multiples of its stride by repeated border voxels."""
    strides = (*network.strides, 1)[:3] if network.dims == 2 else network.strides
    padded = np.pad(seen, [(0, -n % step) for n, step in zip(seen.shape, strides, strict=True)], mode="edge")
    if network.dims == 3:
        return [padded[None, None]]
    return [np.ascontiguousarray(padded[None, None, :, :, k]) for k in range(padded.shape[2])]


def _joined(pieces: list[npt.NDArray[np.float32]], dims: int) -> npt.NDArray[np.float32]:
    """The codes of all blocks as one, [c, i, j, k]."""
    spatial = [piece[0].reshape(*piece.shape[1:], *(1,) * (dims + 2 - piece.ndim)) for piece in pieces]
    return np.stack(spatial, -1) if dims == 2 else spatial[0]


def _cells(
    code: tuple[int, ...], padded: tuple[int, ...], network: Any, shape: tuple[int, int, int]
) -> npt.NDArray[np.float64]:
    """From the index of a cell to that of the voxel at its middle, 4 x 4."""
    matrix = np.eye(4)
    for axis in range(network.dims):
        step = shape[axis] if network.grid else padded[axis] // code[axis]
        matrix[axis, axis] = step
        matrix[axis, 3] = (step - 1) / 2 if network.grid else network.offset if step > 1 else 0.0
    return matrix


def _interpolated(latent: Latent) -> npt.NDArray[np.float32]:
    """The lattice's values at every voxel of the source, linear along each axis, the last ones repeated."""
    cells = np.linalg.solve(latent.source.affine, latent.affine)  # cell index -> voxel index
    result = latent.code[0]
    for axis, size in enumerate(latent.source.shape):
        step = max(float(cells[axis, axis]), 1e-6)
        place = np.clip(np.arange(size) / step, 0, result.shape[axis] - 1)
        below = np.floor(place).astype(np.int64)
        above = np.minimum(below + 1, result.shape[axis] - 1)
        part = np.asarray(place - below, np.float32).reshape([-1 if n == axis else 1 for n in range(3)])
        result = np.take(result, below, axis) * (1 - part) + np.take(result, above, axis) * part
    return np.asarray(result, np.float32)


def _finished(voxels: npt.NDArray[np.float32], latent: Latent) -> Volume:
    """Voxels [i, j, k] in the source's type and place."""
    source, dtype = latent.source, np.dtype(latent.source.dtype)
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        # 2^63 - 1 and 2^64 - 1 are no doubles: what they are rounded to would overflow
        top = float(bounds.max) if float(bounds.max) <= bounds.max else np.nextafter(float(bounds.max), 0)
        whole = np.clip(np.rint(voxels.astype(np.float64)), bounds.min, top).astype(dtype)
    else:
        whole = voxels.astype(dtype) if dtype.kind == "f" else voxels > 0.5
    told = {"model": latent.model, "model_sha256": latent.sha256}
    meta = {"name": f"{source.name} decoded".strip(), "modality": source.modality, "provenance": told}
    return Volume(whole[None], source.affine, meta)
