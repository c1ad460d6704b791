"""What the worker can compute with: devices and their memory, versions of the packages, and why a device is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import warnings

from .protocol import Device, Hello

_PACKAGES = ("torch", "monai", "numpy", "SimpleITK", "safetensors")


def hello() -> Hello:
    """Import torch and describe this machine; ImportError when torch is missing."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    devices = [Device("cpu", _processor(), _memory())]
    for index in range(gpus):
        properties = torch.cuda.get_device_properties(index)
        devices.append(Device(f"cuda:{index}", str(properties.name), int(properties.total_memory)))
    if torch.backends.mps.is_available():
        devices.append(Device("mps", "Apple GPU", _memory()))
    reasons = tuple(str(warning.message)[:500] for warning in caught)
    return Hello(tuple(devices), _versions(), reasons)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    return versions


def _processor() -> str:
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def _memory() -> int:
    """Bytes of main memory; 0 when the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
