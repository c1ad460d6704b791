"""`python -m MedAELib.worker`: the process that MedAE starts beside Slicer; it speaks `protocol.py`."""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
from pathlib import Path

from .channel import Channel, start_guard, take_standard_streams
from .protocol import Hello
from .server import RunTask, Server

BEHIND = 5  # a third of the share that a process of usual priority gets


def start() -> tuple[RunTask, Hello]:
    """Import torch and the tasks; ImportError when a package is missing."""
    from . import describe

    hello = describe.hello()
    from ..tasks.run import run_task

    return run_task, hello


def step_back() -> None:
    """Let Slicer's windows go first where both want the processor; alone, the worker is as quick as before.

    Linux shares a processor between sessions first where it groups by them (autogroup), and this one has its own.
    Threads inherit it, so it comes before torch starts any. Windows is told when the process is made.
    """
    if sys.platform == "win32":
        return
    try:
        os.nice(BEHIND)
        if os.getsid(0) == os.getpid():  # else it is somebody's terminal
            Path("/proc/self/autogroup").write_text(str(BEHIND))
    except OSError:  # another system than Linux, or nobody may ask here
        pass


def main() -> None:
    """Serve until idle for too long or until Slicer closes our input; never returns."""
    parser = argparse.ArgumentParser(prog="python -m MedAELib.worker", description=__doc__)
    parser.add_argument("--idle-seconds", type=float, default=600.0, help="end after so long without a job")
    idle_seconds = parser.parse_args().idle_seconds
    step_back()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C in Slicer's terminal is meant for Slicer
    commands, events = take_standard_streams()
    faulthandler.enable(sys.stderr)
    start_guard(commands, events)
    status = Server(Channel(commands, events), start, idle_seconds).serve()
    sys.stderr.flush()
    os._exit(status)  # not through the interpreter's shutdown, which may hang in a graphics driver


if __name__ == "__main__":
    main()
