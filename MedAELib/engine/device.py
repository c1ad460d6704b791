"""Which devices there are, which one to use, and in which precision it is fastest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ..errors import BadInput, DriverFault
from .memory import free_system_memory

# Each layer's result is new memory, which Linux clears page by page as it is written to. In large pages that takes half
# as long. torch looks at this once, when it makes its first tensor; other systems pay no heed to it.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Device:
    """A device by torch's name ("cpu", "cuda:0", "mps"), its title for people, and its free memory in bytes."""

    name: str
    title: str
    free_bytes: int


def devices() -> list[Device]:
    """Every device that torch can use here, the CPU last."""
    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        name = f"cuda:{index}"
        found.append(Device(name, torch.cuda.get_device_name(index), free_memory(name)))
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", free_memory("mps")))
    title = (
        str(torch.cpu.get_capabilities().get("cpu_name", "CPU")) if hasattr(torch.cpu, "get_capabilities") else "CPU"
    )
    return [*found, Device("cpu", f"{title}, {torch.get_num_threads()} threads", free_memory("cpu"))]


def free_memory(device: str = "cpu") -> int:
    """Bytes that can be allocated now on "cpu", "cuda:N" or "mps" without swapping."""
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        # What the allocator holds but does not use is as good as free.
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return free_system_memory()


def choose_device(name: str = "auto") -> torch.device:
    """The torch device of this name; "auto" takes the GPU with the most free memory, else the CPU.

    Raises BadInput for a name that is none of auto, cpu, cuda, cuda:N, mps; DriverFault when the device is not there.
    """
    there = devices()
    if name == "auto":
        return torch.device(max(there[:-1] or there, key=lambda device: device.free_bytes).name)
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in ("cpu", "mps") and not (wanted.startswith("cuda:") and wanted[5:].isdigit()):
        raise BadInput(f"The device {name!r} is not known.", "Use auto, cpu, cuda, cuda:N or mps.")
    if wanted not in {device.name for device in there}:
        known = ", ".join(device.name for device in there)
        raise DriverFault(f"The device {name!r} cannot be used on this computer.", f"Choose one of: auto, {known}.")
    return torch.device(wanted)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The computing precision; "auto" takes bfloat16 where the hardware multiplies it faster, else float32.

    GPUs gain from compute capability 8.0 on, CPUs only with AMX tiles or AVX512-BF16. Raises BadInput.
    """
    if name != "auto":
        if name not in PRECISIONS:
            raise BadInput(f"The precision {name!r} is not known.", f"Use auto or {', '.join(PRECISIONS)}.")
        if device.type == "cpu" and name == "float16":
            raise BadInput("The CPU does not compute in float16.", "Use auto, float32 or bfloat16.")
        return PRECISIONS[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        able = torch.cpu.get_capabilities()
        return torch.bfloat16 if able.get("amx_bf16") or able.get("avx512_bf16") else torch.float32
    return torch.float32


@contextmanager
def computing_in(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Inference in this precision: autocast below float32; in float32 no device rounds what it multiplies.

    Left alone, CUDA's convolutions of float32 numbers keep ten bits of each (TF32), and tiles would not fit as exactly.
    """
    cudnn = torch.backends.cudnn
    before, exact = cudnn.allow_tf32, dtype == torch.float32
    cudnn.allow_tf32 = before and not exact
    try:
        with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=not exact):
            yield
    finally:
        cudnn.allow_tf32 = before
