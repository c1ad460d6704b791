"""The network of a model as an ONNX file for other programs, checked against torch before it is kept."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from .atomic import whole_file
from .errors import BadInput, BadModel, MissingPackage, unwritable
from .model import Model

_EDGE = 64
_LARGEST = 1 << 26  # voxels
_TOLERANCE = 1e-3  # of the window: two programs add up in different orders
_PACKAGES = ("onnx", "onnxscript")


def export_onnx(folder: Path, target: Path, size: Sequence[int] | None = None) -> str:
    """Write the network (input and output [1, c, *size] in the window of the model) and say how it was checked.

    `size`: edges in voxels, one number for all; default 64, or the network's own grid. Intensities become the window's
    numbers before, and back after, as configs/metadata.json says; the file holds the network alone.
    Raises BadInput for a size that the network does not take, BadModel for a network that has no such form,
    MissingPackage.
    """
    _check_packages()
    model = Model.load(folder)
    network = model.network
    if network.in_channels > 1 or hasattr(network, "fields"):
        raise BadModel(
            f"The network '{model.spec.network}' takes more than an image, which MedAE does not write as ONNX.",
            "Export it as a MONAI bundle instead.",
        )
    shape = _shape(size, model)
    example = torch.rand((1, 1, *shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = network(example)
    if not isinstance(wanted, torch.Tensor) or wanted.shape != example.shape:
        raise BadModel(f"The network '{model.spec.network}' gives no image back.", "Export it as a MONAI bundle.")
    try:
        with whole_file(target, ".onnx") as temporary:
            _write(network, example, temporary)
            return _checked(temporary, example, wanted)
    except OSError as error:
        raise unwritable(target, error) from None


def _check_packages() -> None:
    import importlib.util

    lacking = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if lacking:
        raise MissingPackage(
            f"ONNX files need the Python packages {' and '.join(lacking)}, which are not installed.",
            "Install them into MedAE's Python, or export a MONAI bundle, which needs none.",
        )


def _shape(size: Sequence[int] | None, model: Model) -> tuple[int, ...]:
    network = model.network
    edges = list(size) if size else [network.grid or _EDGE]
    edges = edges * network.dims if len(edges) == 1 else edges
    fits = len(edges) == network.dims and all(edge > 0 for edge in edges)
    voxels = 1
    for edge, step in zip(edges, network.strides, strict=False):
        fits, voxels = fits and edge % step == 0, voxels * max(edge, 1)
    if not fits or voxels > _LARGEST:
        steps = " x ".join(map(str, network.strides))
        raise BadInput(f"The network takes {network.dims} edges that are multiples of {steps} voxels.", "See --size.")
    return tuple(edges)


def _write(network: torch.nn.Module, example: torch.Tensor, path: Path) -> None:
    """Write by torch's exporter, which prints much that is of no use to anybody."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network, (example,), str(path), dynamo=True, external_data=False, verbose=False,
                input_names=["image"], output_names=["pred"],
            )  # fmt: skip
    except OSError:
        raise
    except Exception as error:  # the exporter has its own kinds for whatever it cannot translate
        reason = str(error).strip().partition("\n")[0][:200]
        raise BadModel(f"torch cannot write this network as ONNX ({reason}).", "Export a MONAI bundle.") from error


def _checked(path: Path, example: torch.Tensor, wanted: torch.Tensor) -> str:
    """How the file was checked: by running it, where onnxruntime is installed. Raises BadModel when it differs."""
    import onnx

    onnx.checker.check_model(str(path))
    try:
        import onnxruntime
    except ImportError:
        return "well formed; not run, as onnxruntime is not installed"
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    made = torch.from_numpy(session.run(None, {"image": example.numpy()})[0])
    difference = float((made - wanted).abs().max())
    if not difference <= _TOLERANCE * max(1.0, float(wanted.abs().max())):
        raise BadModel(f"The ONNX file computes something else (by {difference:.2g}), so it is not kept.")
    return f"run by onnxruntime: differs from torch by {difference:.1e} at most"
