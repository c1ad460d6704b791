"""Compress and decompress for the fake worker: real .maez files whose chunk is only deflated, so no model is needed."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np


def compress(volume: Any, parameters: dict[str, Any], allocate: Any) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Outputs, report and file of a volume; "max-error" rounds to the middle of steps of twice the error."""
    from MedAELib.codec.container import lay_out, write_container

    error = int(parameters.get("value", 0)) if parameters.get("mode") == "max-error" else 0
    voxels = volume.array - (volume.array + error) % (2 * error + 1) + error
    data = zlib.compress(np.ascontiguousarray(voxels).tobytes(), 9)
    mode = {"kind": "max-error", "bound": error} if error else {"kind": "lossless"}
    chunk = {
        "channel": 0, "start": 0, "stop": volume.shape[2], "how": {"kind": "deflated"}, "low": 0, "high": 0,
        "largest": 0, "step": 1, "extra": [0, 0, 0], "parts": [lay_out([data])[0].to_json()],
    }  # fmt: skip
    told = {
        "shape": list(volume.array.shape), "dtype": volume.array.dtype.name, "affine": volume.affine.tolist(),
        "name": volume.name, "modality": "CT", "meta": {},
    }  # fmt: skip
    difference = volume.array - voxels
    largest = float(np.abs(difference).max())
    figures = {"psnr": 60.5 if error else None, "ssim": 0.99 if error else 1.0, "max_error": largest}
    header = {
        "coder": "lattice", "mode": mode, "model": {"name": "none", "sha256": "0" * 64}, "volume": told,
        "spacing_um": [1000, 1000, 1000], "chunks": [chunk], "figures": figures,
        "display": {"window": parameters.get("window", 0.0), "level": parameters.get("level", 0.0)},
    }  # fmt: skip
    file = write_container(header, [data])
    report = {
        "seconds": 0.1, "device": "cpu", "model": "none", "model_sha256": "0" * 64, "versions": {}, "warnings": [],
        "task": "compress", "mode": mode, "modality": "CT", "units": "HU", "bytes": len(file), **figures,
        "ratio": volume.array.nbytes / len(file), "bits_per_voxel": 8 * len(file) / volume.array.size,
    }  # fmt: skip
    outputs = {}
    if parameters.get("lost"):
        lost = allocate("lost", volume.array.shape, "int16")
        lost[...] = difference
        outputs["lost"] = volume.like(lost)
    return outputs, report, file


def decompress(data: bytes, allocate: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The volume "decoded" of such a file, and a report."""
    from MedAELib.codec.container import open_container
    from MedAELib.volume import Volume

    container = open_container(data, "The file")
    told = container.header["volume"]
    room = allocate("decoded", tuple(told["shape"]), told["dtype"])
    room[...] = np.frombuffer(zlib.decompress(bytes(container.payload)), told["dtype"]).reshape(told["shape"])
    report = {"seconds": 0.1, "device": "cpu", "task": "decompress", "warnings": [], "mode": container.header["mode"]}
    return {"decoded": Volume(room, np.array(told["affine"]), {"name": told["name"]})}, report
