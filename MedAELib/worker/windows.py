"""Windows only: a job object that ends a process tree, also when Slicer dies, and the start time of a process."""

from __future__ import annotations

import ctypes
from typing import Any

_EXTENDED_LIMITS = 9
_KILL_ON_JOB_CLOSE = 0x2000
_QUERY_LIMITED_INFORMATION = 0x1000
_STILL_ACTIVE = 259


class _Limits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION, with its two inner structures written out."""

    _fields_ = [
        ("process_time", ctypes.c_int64),
        ("job_time", ctypes.c_int64),
        ("flags", ctypes.c_uint32),
        ("smallest_working_set", ctypes.c_size_t),
        ("largest_working_set", ctypes.c_size_t),
        ("active_processes", ctypes.c_uint32),
        ("affinity", ctypes.c_size_t),
        ("priority", ctypes.c_uint32),
        ("scheduling", ctypes.c_uint32),
        ("io_counters", ctypes.c_uint64 * 6),
        ("process_memory", ctypes.c_size_t),
        ("job_memory", ctypes.c_size_t),
        ("peak_process_memory", ctypes.c_size_t),
        ("peak_job_memory", ctypes.c_size_t),
    ]


def _kernel() -> Any:
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined, unused-ignore]
    for name in ("CreateJobObjectW", "OpenProcess"):
        getattr(kernel, name).restype = ctypes.c_void_p
    return kernel


class Job:
    """A job object that holds a process and all it starts; they end with `end`, or when our process ends."""

    def __init__(self, process_handle: int) -> None:
        self._kernel = _kernel()
        self._handle = ctypes.c_void_p(self._kernel.CreateJobObjectW(None, None))
        limits = _Limits(flags=_KILL_ON_JOB_CLOSE)
        self._kernel.SetInformationJobObject(
            self._handle, _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)
        )
        self._process = ctypes.c_void_p(process_handle)
        self._holds = bool(self._kernel.AssignProcessToJobObject(self._handle, self._process))

    def end(self) -> None:
        """End everything in the job; the process alone where the system refused to put it into a job."""
        if not self._holds:
            self._kernel.TerminateProcess(self._process, 1)
        if self._handle:
            self._kernel.TerminateJobObject(self._handle, 1)
            self._kernel.CloseHandle(self._handle)
            self._handle = ctypes.c_void_p()


def start_time(pid: int) -> str | None:
    """When the process started, in the system's ticks; None when there is no such process."""
    kernel = _kernel()
    handle = ctypes.c_void_p(kernel.OpenProcess(_QUERY_LIMITED_INFORMATION, False, pid))
    if not handle:
        return None
    try:
        status = ctypes.c_uint32()
        kernel.GetExitCodeProcess(handle, ctypes.byref(status))
        times = (ctypes.c_uint64 * 4)()
        size = ctypes.sizeof(ctypes.c_uint64)
        ok = kernel.GetProcessTimes(handle, *(ctypes.byref(times, index * size) for index in range(4)))
        return str(times[0]) if ok and status.value == _STILL_ACTIVE else None
    finally:
        kernel.CloseHandle(handle)
