"""What can go wrong, each as one plain sentence for the user and one next step. Standard library only."""

from __future__ import annotations

import errno

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_ROOM_ON_WINDOWS = (39, 112)


class MedAEError(Exception):
    """A fault that the user can understand: `str(error)` is one plain sentence.

    `kind` names the family of the fault; `next_step` is one sentence on what to do, possibly empty.
    """

    kind = "internal"
    default_next_step = ""

    def __init__(self, sentence: str, next_step: str = "") -> None:
        super().__init__(sentence)
        self.next_step = next_step or self.default_next_step


class BadInput(MedAEError):
    """A file, node or parameter that cannot be worked on."""

    kind = "bad input"
    default_next_step = "Choose another volume or correct the parameter."


class BadModel(MedAEError):
    """A model folder that is incomplete, damaged or not trustworthy."""

    kind = "bad weights"
    default_next_step = "Install the model again, or choose another model."


class MissingPackage(MedAEError):
    """A Python package that the work needs is not installed."""

    kind = "missing package"
    default_next_step = "Let MedAE install its Python packages, then try again."


class DriverFault(MedAEError):
    """The graphics driver or the device refuses the work."""

    kind = "driver"
    default_next_step = "Choose the CPU as device, or update the graphics driver."


class OutOfMemory(MedAEError):
    """Neither the device nor smaller tiles leave enough memory."""

    kind = "out of memory"
    default_next_step = "Close other programs, choose a smaller tile, or choose the CPU as device."


class DiskFull(MedAEError):
    """The result does not fit on the disk."""

    kind = "disk full"
    default_next_step = "Free some disk space, or choose another temporary folder."


class Killed(MedAEError):
    """The worker was ended from outside."""

    kind = "killed"
    default_next_step = "Try again; if it happens again, close other programs to free memory."


class InternalFault(MedAEError):
    """A fault of MedAE itself."""

    kind = "internal"
    default_next_step = "Try again; if it happens again, report it with the log."


def is_disk_full(error: OSError) -> bool:
    """Whether the system refused to write for want of room: on the disk, in a quota, or by a limit of a file's size."""
    return error.errno in _NO_ROOM or getattr(error, "winerror", None) in _NO_ROOM_ON_WINDOWS


def unwritable(path: object, error: OSError) -> MedAEError:
    """The failure that an error in writing a file or folder means."""
    if is_disk_full(error):
        return DiskFull(f"{path} cannot be written: the disk is full.")
    reason = error.strerror or type(error).__name__
    return BadInput(f"{path} cannot be written: {reason}.", "Choose a folder that you may write to.")


class Cancelled(Exception):
    """Raised by a progress callback when the user has cancelled; not an error."""
