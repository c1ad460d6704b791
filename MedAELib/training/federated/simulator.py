"""The process that is FLARE's simulator: `python -m MedAELib.training.federated.simulator WORKPLACE SITE...`.

It ends with all its children when its standard input closes: so nothing outlives whoever started it.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path


def main(workplace: Path, sites: list[str]) -> int:
    """Run the job in the workplace with a FLARE client for each site; FLARE's exit status."""
    from nvflare.private.fed.app.simulator.simulator_runner import SimulatorRunner

    threading.Thread(target=_end_with_parent, daemon=True).start()
    runner = SimulatorRunner(
        job_folder=str(workplace / "job"), workspace=str(workplace / "flare"), clients=",".join(sites),
        n_clients=None, threads=len(sites), gpu=None,
    )  # fmt: skip
    return int(runner.run() or 0)


def _end_with_parent() -> None:
    """Wait for the end of the standard input, then kill all children and this process."""
    while os.read(0, 1):  # not by sys.stdin, whose lock a forked child would wait for
        pass
    import psutil

    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
