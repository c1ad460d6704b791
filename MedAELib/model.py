"""A model: network, intensity window and description, loaded from one folder and saved to one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from .archive import INFERENCE, bundle_files, check_replaceable, inference
from .atomic import replace_folder
from .bundle import (
    CARD,
    LICENCE,
    METADATA,
    WEIGHTS,
    Bundle,
    Spec,
    find_bundle,
    identity,
    read_bundle,
    spec_to_json,
)
from .channels import names_of
from .errors import BadInput, BadModel, unwritable
from .networks import Network, build
from .plain import plain_text
from .volume import Volume


@dataclass(frozen=True, eq=False)
class Model:
    """A network in evaluation mode, with the specification it was made from; `bundle` is None before it is saved."""

    spec: Spec
    network: Network
    bundle: Bundle | None = None

    @staticmethod
    def create(spec: Spec) -> Model:
        """A new model with random weights. Raises BadModel when the network is unknown or its arguments are wrong."""
        return Model(spec, build(spec.network, spec.dims, spec.arguments).eval())

    @staticmethod
    def load(name_or_folder: str | Path) -> Model:
        """Load a bundled model by its name, or a model folder. Raises BadModel when it cannot be trusted or built."""
        bundle = find_bundle(name_or_folder)
        network = build(bundle.spec.network, bundle.spec.dims, bundle.spec.arguments)
        network.load_state_dict(_read_weights(bundle, network))
        return Model(bundle.spec, network.eval(), bundle)

    def save(
        self,
        folder: str | Path,
        *,
        name: str,
        description: str,
        card: str,
        licence: str,
        figures: dict[str, Any],
        limits: list[str],
        training_data: list[str],
        calibration: Mapping[str, Any] | None = None,
        weakness: str = "",
        version: str = "1.0.0",
    ) -> Model:
        """Write the model as a MONAI bundle folder, wholly or not at all; an existing folder is replaced at the end.

        `card` is Markdown, `licence` the text of the weights' licence (its first line names it), `figures` held-out
        results, `calibration` what a task needs to read the network's answer, `weakness` why the model is not good
        enough to help, if so. Returns the model with its bundle.
        Raises DiskFull, BadInput for a folder that cannot be written or that is no model of MedAE.
        """
        folder, weights = Path(folder), self._weights()
        check_replaceable(folder)
        own = {
            **spec_to_json(self.spec),
            "name": name,
            "sha256": identity(self.spec, weights),
            "figures": figures,
            "limits": list(map(plain_text, limits)),
            "training_data": list(map(plain_text, training_data)),
            **({"calibration": dict(calibration)} if calibration else {}),
            **({"weakness": plain_text(weakness)} if weakness else {}),
        }
        metadata = _monai_metadata(self.spec, self.network, description, version) | {"medae": own}
        files = {
            METADATA: _json(metadata),
            INFERENCE: inference(self.spec),
            CARD: card.encode(),
            LICENCE: licence.encode(),
            WEIGHTS: weights,
        }
        try:
            replace_folder(folder, files)
        except OSError as error:
            raise unwritable(folder, error) from error
        return replace(self, bundle=read_bundle(folder))

    @property
    def sha256(self) -> str:
        """The SHA-256 of specification and weights, by which reports and files name the model."""
        return identity(self.spec, self._weights())

    def _weights(self) -> bytes:
        """The weights as a safetensors file."""
        return safetensors.torch.save({key: value.contiguous() for key, value in self.network.state_dict().items()})

    def reconstruct(self, volume: Volume, **options: Any) -> Volume:
        """The volume through encoder and decoder, in its own place, type and units; see `tasks.reconstruct`."""
        from .tasks.reconstruct import reconstruct

        return reconstruct(volume, self, **options)

    def export(self, folder: str | Path) -> Path:
        """Write the saved bundle again with `models/model.pt`, the form that MONAI's own tools read.

        MedAE never reads that file (it is a pickle). The network is named as a MedAELib class, so MONAI needs MedAELib
        on the path. Raises BadModel when the model was never saved.
        """
        if self.bundle is None:
            raise BadModel("The model has no folder yet.", "Save it first, then export it.")
        for name, data in bundle_files(self.bundle).items():
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_bytes(data)
        path = Path(folder) / "models" / "model.pt"
        torch.save(self.network.state_dict(), path)
        return path


def check_modalities(model: Model, volume: Volume) -> None:
    """Raise BadInput where a volume's channels are not the modalities that the model's network fuses."""
    fused = model.network.in_channels
    if volume.channels != fused:
        names = names_of(model.spec)
        order = f" ({', '.join(names)}, in this order)" if names else ""
        raise BadInput(f"The network fuses {fused} modalities{order}, but the volume has {volume.channels}.")


def _read_weights(bundle: Bundle, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights, with exactly the network's names and shapes, in the network's precision."""
    try:
        found = safetensors.torch.load(bundle.weights.read_bytes())
    except (safetensors.SafetensorError, ValueError, KeyError, OSError):
        raise BadModel(f"{bundle.weights} is damaged: it is not a complete safetensors file.") from None
    wanted = network.state_dict()
    if set(found) != set(wanted):
        odd = sorted(set(found) ^ set(wanted))[0]
        raise BadModel(f"The weights in {bundle.weights} do not belong to the network {bundle.spec.network}: {odd!r}.")
    for key, tensor in found.items():
        if tensor.shape != wanted[key].shape or not tensor.is_floating_point():
            raise BadModel(
                f"The weight {key!r} in {bundle.weights} has the wrong shape or type for {bundle.spec.network}."
            )
        if not bool(torch.isfinite(tensor).all()):
            raise BadModel(f"The weight {key!r} in {bundle.weights} is not finite.")
    return {key: tensor.to(wanted[key].dtype) for key, tensor in found.items()}


def _monai_metadata(spec: Spec, network: Network, description: str, version: str) -> dict[str, Any]:
    """The fields that MONAI's bundle specification asks for, filled from the model's own description."""
    import monai

    tensor = {
        "type": "image",
        "format": "hounsfield" if spec.modality == "CT" else "magnitude",
        "modality": spec.modality,
        "num_channels": network.in_channels,
        "spatial_shape": [f"{stride}*n" for stride in network.strides],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": network.tiles,
        "channel_def": {str(n): name for n, name in enumerate(names_of(spec) or _unnamed(network.in_channels))},
    }
    packages = {
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": np.__version__,
    }
    return {
        "version": version,
        **packages,
        "required_packages_version": {"safetensors": safetensors.__version__},
        "task": spec.task,
        "description": description,
        "authors": "The MedAE developers",
        "copyright": f"{date.today().year} the MedAE developers",
        "changelog": {version: "See docs/README.md"},
        "network_data_format": {"inputs": {"image": tensor}, "outputs": {"pred": {**tensor, "value_range": []}}},
    }


def _unnamed(channels: int) -> list[str]:
    return [f"image {n}" if n else "image" for n in range(channels)]


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
