"""Small models for tests: real networks with random weights, saved as real model folders."""

from pathlib import Path
from typing import Any

import torch

from MedAELib.bundle import Spec, Window
from MedAELib.model import Model

CT_WINDOW = Window("fixed", 0.0, 1000.0)
MR_WINDOW = Window("percentile", 0.0, 99.9)


def small_model(
    network: str = "denoising", dims: int = 3, modality: str = "CT", seed: int = 0, **arguments: Any
) -> Model:
    """A model whose every weight is random, so that no layer hides a fault of the engine."""
    defaults = {"denoising": {"channels": 8, "blocks": 2}, "plain": {"channels": [4, 8], "strides": [2, 2]}}[network]
    window = CT_WINDOW if modality == "CT" else MR_WINDOW
    model = Model.create(Spec(network, {**defaults, **arguments}, dims, "denoise", modality, window))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.network.parameters():
            spread = 1 / weight[0].numel() ** 0.5 if weight.ndim > 1 else 0.1
            weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
    return model


def save_small_model(folder: Path, name: str = "small", **options: Any) -> Model:
    """The same, saved."""
    return small_model(**options).save(
        folder,
        name=name,
        description="A small model for tests.",
        card="# small\n",
        licence="Apache-2.0\n",
        figures={"psnr_db": 30.0},
        limits=["Random weights."],
        training_data=["none"],
    )
