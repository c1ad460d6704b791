"""On a CUDA card every task gives what the CPU gives, again and again, and any tiling what the whole volume gives."""

from __future__ import annotations

import numpy as np
import pytest
from phantom import add_noise, head

from MedAELib.bundle import bundled_models
from MedAELib.engine.run import Engine
from MedAELib.model import Model
from MedAELib.networks.mirrored import Mirrored
from MedAELib.quality import limits
from MedAELib.tasks.denoise import completed
from MedAELib.tasks.run import run_task
from MedAELib.volume import Volume

pytestmark = pytest.mark.gpu
CARD = "cuda"
MODELS = [bundle.name for bundle in bundled_models() if bundle.spec.task in ("denoise", "anomaly")]


def scan(modality: str, shape: tuple[int, int, int] = (64, 72, 60)) -> Volume:
    phantom = head(modality, 3, shape, (3.2, 3.2, 3.0))
    noisy = add_noise(phantom, 20.0)
    return Volume(np.asfortranarray(noisy)[None], phantom.affine, {"name": "head", "modality": modality})


def answers(name: str, source: np.ndarray, engine: Engine) -> np.ndarray:
    """What a bundled network makes of voxels `[i, j, k]`."""
    model = Model.load(name)
    window = limits(model.spec.window, source) if model.spec.task == "denoise" else (0.0, float(source.max()))
    network = completed(Mirrored(model.network, 2), model) if model.spec.task == "denoise" else model.network
    made = np.full(source.shape, np.nan, np.float32)

    def keep(core, before, after):
        made[core] = (after - window[0]) / (window[1] - window[0])

    engine.run(network, source, window, keep)
    return made


@pytest.mark.parametrize("name", MODELS)
def test_a_card_gives_the_cpus_voxels_and_any_tile_the_wholes(name):
    source = scan("CT" if "ct" in name else "MR", (24, 24, 260)).array[0]
    whole = answers(name, source, Engine(CARD, "float32"))
    assert np.abs(whole - answers(name, source, Engine("cpu", "float32"))).max() < 1e-3
    assert np.abs(whole - answers(name, source, Engine(CARD, "float32", 32))).max() < 1e-4
    assert np.abs(whole - answers(name, source, Engine(CARD))).max() < 0.5


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("wanted", [{}, {"removed": True, "noise": True, "trust": True}, {"adapt": 2}, {"passes": 8}])
def test_a_scan_is_denoised_on_a_card_as_often_as_wanted(modality, wanted):
    volume = scan(modality)
    for _ in range(2):
        result = run_task("denoise", {"input": volume}, {"device": CARD, **wanted}, progress=lambda *_: None)
        assert result.report["device"] == "cuda:0"
        assert result.report["noise_after"] < result.report["noise_before"]
        assert result.outputs["denoised"].array.dtype == volume.array.dtype


@pytest.mark.parametrize(
    "task, wanted",
    [
        ("anomaly", {"model": "brain-t1-anomaly", "typical": True, "others": True}),
        ("features", {"latent": True}),
        ("explain", {}),
    ],
)
def test_other_tasks_run_on_a_card(task, wanted):
    inputs, wanted = {"input": scan("MR")}, {"precision": "float32", **wanted}
    found = [
        run_task(task, inputs, {"device": device, **wanted}, progress=lambda *_: None) for device in (CARD, "cpu", CARD)
    ]
    first, expected, again = ({name: made.array for name, made in one.outputs.items()} for one in found)
    assert set(first) == set(expected) == set(again)
    for name, array in first.items():
        spread = float(np.ptp(expected[name])) or 1.0
        assert np.quantile(np.abs(array.astype(np.float64) - expected[name]), 0.99) <= 1e-3 * spread
