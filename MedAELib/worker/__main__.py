"""`python -m MedAELib.worker`: the process that MedAE starts beside Slicer; it speaks `protocol.py`."""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys

from .channel import Channel, start_guard, take_standard_streams
from .protocol import Hello
from .server import RunTask, Server


def start() -> tuple[RunTask, Hello]:
    """Import torch and the tasks; ImportError when a package is missing."""
    from . import describe

    hello = describe.hello()
    from ..tasks.run import run_task

    return run_task, hello


def main() -> None:
    """Serve until idle for too long or until Slicer closes our input; never returns."""
    parser = argparse.ArgumentParser(prog="python -m MedAELib.worker", description=__doc__)
    parser.add_argument("--idle-seconds", type=float, default=600.0, help="end after so long without a job")
    idle_seconds = parser.parse_args().idle_seconds
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C in Slicer's terminal is meant for Slicer
    commands, events = take_standard_streams()
    faulthandler.enable(sys.stderr)
    start_guard(commands, events)
    status = Server(Channel(commands, events), start, idle_seconds).serve()
    sys.stderr.flush()
    os._exit(status)  # not through the interpreter's shutdown, which may hang in a graphics driver


if __name__ == "__main__":
    main()
