"""Any exception or exit of the worker as a failure that the user understands: kind, one plain sentence, a next step.

Types of torch and others are recognised by name, so nothing heavy is imported here.
"""

from __future__ import annotations

import errno
import re
import signal

from ..errors import (
    BadInput,
    BadModel,
    DiskFull,
    DriverFault,
    InternalFault,
    Killed,
    MedAEError,
    MissingPackage,
    OutOfMemory,
    is_disk_full,
)

EXIT_IDLE = 0
"""Exit status of a worker that ended because nothing was asked of it, or because it was told to."""
EXIT_FAILED_START = 3
"""Exit status of a worker that could not start and has said why."""

_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|DefaultCPUAllocator|"
    r"(CUDA|CUBLAS|CUDNN|HIP)[A-Z_]*_(OUT_OF_MEMORY|ALLOC_FAILED)|MPS backend out of memory",
    re.IGNORECASE,
)
_GPU = re.compile(r"cuda|cublas|cudnn|\bhip|\bmps\b|\bgpu\b", re.IGNORECASE)
_DRIVER = re.compile(
    r"no kernel image|driver|cudnn|cublas|CUDA error|CUDA-capable|not compiled with CUDA|device-side|"
    r"Found no NVIDIA|NCCL|HIP error|invalid device ordinal|libcuda|nvrtc|unspecified launch failure",
    re.IGNORECASE,
)
_WEIGHTS = re.compile(r"safetensor|state_dict|missing key|unexpected key|size mismatch for", re.IGNORECASE)


def explain(error: BaseException) -> MedAEError:
    """The failure that an exception means; one of MedAE's own comes back as it is."""
    if isinstance(error, MedAEError):
        return error
    name, text = _type_names(error), str(error)
    if isinstance(error, ImportError):
        return _missing(error)
    if isinstance(error, MemoryError) or "OutOfMemoryError" in name or (_is_runtime(error) and _MEMORY.search(text)):
        return _memory(text + name)
    if isinstance(error, OSError):
        return _system(error)
    if "SafetensorError" in name or (_is_runtime(error, KeyError) and _WEIGHTS.search(text)):
        return BadModel("The weights of the model do not fit its description or are damaged.")
    if "AcceleratorError" in name or (_is_runtime(error, AssertionError) and _DRIVER.search(text)):
        return _driver(text)
    return InternalFault(f"The task stopped because of an unexpected fault in MedAE ({type(error).__name__}).")


def explain_exit(status: int) -> MedAEError:
    """The failure that the end of the worker in the middle of a run means; a negative status is a signal's number."""
    if status >= 0:
        return InternalFault(f"The worker ended unexpectedly with exit status {status}.")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    if name == "SIGKILL":
        return Killed("The system ended the worker, most likely because the computer ran out of memory.")
    if name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"):
        return Killed(f"The worker was ended from outside ({name}).", "Try again.")
    if name == "SIGBUS":
        return DiskFull("The worker could not reach its files any more: the disk is full or was taken away.")
    return InternalFault(
        f"The worker crashed ({name}).",
        "Try again; if it happens again, choose the CPU as device, or install torch again, and report it with the log.",
    )


def _type_names(error: BaseException) -> str:
    return " ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__)


def _is_runtime(error: BaseException, *more: type[Exception]) -> bool:
    return isinstance(error, (RuntimeError, ValueError, *more))


def _missing(error: ImportError) -> MedAEError:
    package = (error.name or "").partition(".")[0]
    if package == "MedAELib":
        return InternalFault(f"A part of MedAE is missing: {error.name}.", "Install the MedAE extension again.")
    if isinstance(error, ModuleNotFoundError) and package:
        return MissingPackage(f"The Python package {package} is not installed.")
    if re.search(r"libcuda\.|nvcuda|libhip", str(error)):
        return DriverFault("The graphics driver is missing or does not fit the installed torch.")
    return _damaged(package)


def _damaged(package: str) -> MedAEError:
    return MissingPackage(
        f"The Python package {package or 'that the task needs'} cannot be loaded; its installation is damaged.",
        "Let MedAE install its Python packages again, then try again.",
    )


def _memory(text: str) -> MedAEError:
    if _GPU.search(text):
        return OutOfMemory("The graphics card has too little free memory for this volume.")
    return OutOfMemory(
        "The computer has too little free memory for this volume.",
        "Close other programs, choose a smaller tile, or crop the volume.",
    )


def _system(error: OSError) -> MedAEError:
    where = f": {error.filename}" if isinstance(error.filename, str) else ""
    if is_disk_full(error):
        return DiskFull("The disk has no room for the result.")
    if error.errno == errno.ENOMEM:
        return _memory("")
    if getattr(error, "winerror", None) in (126, 127, 1114):  # a DLL of torch, or one that it needs
        return _damaged("torch")
    if isinstance(error, FileNotFoundError):
        return BadInput(f"A file is missing{where}.", "Try again, or choose another temporary folder.")
    if isinstance(error, PermissionError):
        return BadInput(f"A file cannot be opened{where}.", "Give yourself the right to, or choose another folder.")
    if error.filename is None and _DRIVER.search(str(error)):
        return _driver(str(error))
    return InternalFault(f"A file cannot be read or written{where} ({error.strerror or type(error).__name__}).")


def _driver(text: str) -> MedAEError:
    if "no kernel image" in text:
        return DriverFault("The installed torch does not support this graphics card.")
    if re.search(r"driver", text, re.IGNORECASE):
        return DriverFault("The graphics driver is missing or too old for the installed torch.")
    if re.search(r"not compiled with CUDA|invalid device ordinal|no CUDA-capable", text, re.IGNORECASE):
        return DriverFault("The chosen graphics card is not available to torch.", "Choose the CPU or another device.")
    return DriverFault("The graphics card reported a fault.")
