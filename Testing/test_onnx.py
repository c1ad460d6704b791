"""Networks as ONNX files: each kind, written for real and run by onnxruntime, gives what torch gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from MedAELib.bundle import Spec, Window
from MedAELib.errors import BadModel
from MedAELib.model import Model
from MedAELib.networks.whole import to_grid
from MedAELib.onnx_file import export_onnx

SMALL = {"channels": [4, 8], "strides": [2, 2]}
VECTOR = {**SMALL, "latent": 4, "code": "vector", "grid": 8}
# A network, its arguments, and the edges of what it sees. Dimensions take turns where a network is the same in both.
EXPORTS: list[tuple[str, dict[str, Any], list[int]]] = [
    ("dense", {"grid": 8, "hidden": [16], "latent": 4}, [12, 20]),
    ("plain", SMALL, [8, 12, 16]),
    ("denoising", {"channels": 4, "blocks": 1}, [16, 8]),
    ("sparse", {**SMALL, "keep": 2}, [8, 8, 12]),
    ("quantised", SMALL, [8, 12]),
    ("recurrent", SMALL, [8, 8]),
    ("adversarial", SMALL, [8, 8, 8]),
    ("translating", {}, [16, 16]),
    ("variational", {**SMALL, "latent": 4}, [8, 8]),
    ("variational", VECTOR, [12, 20]),
    ("variational", VECTOR, [8, 8, 8]),
    ("variational", VECTOR, [12, 20, 5]),
]


def random_model(network: str, arguments: dict[str, Any], dims: int, folder: Path) -> Model:
    """A saved model whose every weight is random, so that no layer hides a fault of the file."""
    made = Model.create(Spec(network, arguments, dims, "reconstruct", "MR", Window("percentile", 0.0, 99.9)))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in made.network.parameters():
            spread = 1 / weight[0].numel() ** 0.5 if weight.ndim > 1 else 0.1
            weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
    return made.save(
        folder, name="m", description="A model for tests.", card="# m\n", licence="Apache-2.0\n", figures={}, limits=[],
        training_data=[],
    )  # fmt: skip


@pytest.mark.parametrize(("network", "arguments", "edges"), EXPORTS)
def test_a_network_as_onnx_gives_what_torch_gives(network, arguments, edges, tmp_path):
    model = random_model(network, arguments, len(edges), tmp_path / "m")
    said = export_onnx(tmp_path / "m", tmp_path / "m.onnx", edges)
    assert said.startswith("run by onnxruntime")
    x = torch.rand((1, 1, *edges), generator=torch.Generator().manual_seed(2)) * 2 - 0.5  # not what the export saw
    with torch.no_grad():
        wanted = model.network(x).numpy()
    session = onnxruntime.InferenceSession((tmp_path / "m.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    (made,) = session.run(["pred"], {"image": x.numpy()})
    assert made.shape == wanted.shape and np.ptp(wanted) > 1e-3
    np.testing.assert_allclose(made, wanted, atol=1e-4 * np.abs(wanted).max())


class OnGrid(torch.nn.Module):
    """What a network with a grid of its own sees."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return to_grid(x, 6)


@pytest.mark.parametrize("edges", [(6, 12, 5), (1, 17, 7), (13, 3)])
def test_the_means_on_a_grid_are_the_same_in_an_export(edges):
    x = torch.rand((2, 1, *edges), generator=torch.Generator().manual_seed(0)) * 1000
    exported = torch.export.export(OnGrid(), (x,)).module()
    torch.testing.assert_close(exported(x), to_grid(x, 6), rtol=1e-5, atol=1e-4)


def test_what_takes_more_than_an_image_is_refused(tmp_path):
    random_model("conditional", {**SMALL, "fields": ["age"]}, 2, tmp_path / "m")
    with pytest.raises(BadModel, match="takes more than an image"):
        export_onnx(tmp_path / "m", tmp_path / "m.onnx", [8])
    assert not (tmp_path / "m.onnx").exists()
