"""Whatever goes wrong in the worker becomes a kind of failure, one plain sentence and a next step."""

from __future__ import annotations

import errno
import signal

import pytest

from MedAELib import errors
from MedAELib.worker.failures import explain, explain_exit


def like(name: str, text: str, base: type[Exception] = RuntimeError) -> Exception:
    """An exception that looks like a library's own."""
    module, _, plain = name.rpartition(".")
    return type(plain, (base,), {"__module__": module})(text)


def dll_fault(code: int) -> OSError:
    """What Windows raises when a DLL cannot be loaded."""
    fault = OSError(f"[WinError {code}] Error loading c10.dll or one of its dependencies.")
    fault.winerror = code
    return fault


KNOWN = [
    (ModuleNotFoundError("No module named 'torch'", name="torch"), "missing package", "torch is not installed"),
    (ModuleNotFoundError("No module named 'monai.networks'", name="monai.networks"), "missing package", "monai is not"),
    (ImportError("cannot import name 'x' from 'monai'", name="monai"), "missing package", "damaged"),
    (ImportError("libcublas.so.12: cannot open shared object file"), "missing package", "damaged"),
    (ImportError("libcuda.so.1: cannot open shared object file"), "driver", "driver"),
    (dll_fault(126), "missing package", "torch cannot be loaded"),
    (ModuleNotFoundError("No module named 'MedAELib.x'", name="MedAELib.x"), "internal", "A part of MedAE is missing"),
    (like("torch", "CUDA out of memory. Tried to allocate 20.00 GiB", RuntimeError), "out of memory", "graphics card"),
    (like("torch.OutOfMemoryError", "CUDA out of memory."), "out of memory", "graphics card"),
    (like("torch.cuda.OutOfMemoryError", "HIP out of memory."), "out of memory", "graphics card"),
    (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), "out of memory", "graphics card"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling x"), "out of memory", "graphics card"),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried to"),
     "out of memory", "The computer"),
    (MemoryError(), "out of memory", "The computer"),
    (like("numpy._core._exceptions._ArrayMemoryError", "Unable to allocate", MemoryError), "out of memory", "The"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory", "The computer"),
    (OSError(errno.ENOSPC, "No space left on device"), "disk full", "no room"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk full", "no room"),
    (RuntimeError("CUDA error: no kernel image is available for execution"), "driver", "does not support"),
    (RuntimeError("The NVIDIA driver on your system is too old (found version 11040)."), "driver", "too old"),
    (RuntimeError("Found no NVIDIA driver on your system."), "driver", "missing or too old"),
    (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), "driver", "reported a fault"),
    (RuntimeError("CUDA error: unspecified launch failure"), "driver", "reported a fault"),
    (RuntimeError("CUDA error: invalid device ordinal"), "driver", "not available"),
    (AssertionError("Torch not compiled with CUDA enabled"), "driver", "not available"),
    (like("torch.AcceleratorError", "CUDA error: an illegal memory access was encountered"), "driver", "fault"),
    (like("safetensors_rust.SafetensorError", "header too large", Exception), "bad weights", "weights"),
    (RuntimeError("Error(s) in loading state_dict for N: size mismatch for a.weight"), "bad weights", "weights"),
    (FileNotFoundError(errno.ENOENT, "No such file", "a.npy"), "bad input", "missing: a.npy"),
    (PermissionError(errno.EACCES, "Permission denied", "a.npy"), "bad input", "cannot be opened: a.npy"),
    (OSError(errno.EIO, "Input/output error"), "internal", "Input/output error"),
    (ValueError("in the middle"), "internal", "(ValueError)"),
    (KeyboardInterrupt(), "internal", "(KeyboardInterrupt)"),
    (RecursionError("maximum recursion depth exceeded"), "internal", "(RecursionError)"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "kind", "words"), KNOWN, ids=lambda value: str(value)[:40])
def test_an_exception_is_explained(fault: BaseException, kind: str, words: str) -> None:
    failure = explain(fault)
    assert failure.kind == kind
    assert words in str(failure)
    assert str(failure).endswith(".")
    assert failure.next_step.endswith(".")
    assert "\n" not in str(failure)


@pytest.mark.parametrize("kind", [errors.BadInput, errors.BadModel, errors.OutOfMemory, errors.DriverFault])
def test_medaes_own_faults_keep_their_words(kind: type[errors.MedAEError]) -> None:
    fault = kind("The volume is empty.", "Choose another.")
    assert explain(fault) is fault


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (-signal.SIGKILL, "killed", "out of memory"),
        (-signal.SIGTERM, "killed", "from outside (SIGTERM)"),
        (-signal.SIGBUS, "disk full", "disk"),
        (-signal.SIGSEGV, "internal", "crashed (SIGSEGV)"),
        (-signal.SIGABRT, "internal", "crashed (SIGABRT)"),
        (-250, "internal", "crashed (signal 250)"),
        (7, "internal", "exit status 7"),
        (0, "internal", "exit status 0"),
    ],
)
def test_the_end_of_a_process_is_explained(status: int, kind: str, words: str) -> None:
    failure = explain_exit(status)
    assert failure.kind == kind
    assert words in str(failure)
    assert failure.next_step
