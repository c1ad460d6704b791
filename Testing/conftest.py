"""What every test shares: the folder of real scans; tests that need a GPU or data skip with a reason."""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest
from panel_fixtures import models, panel  # noqa: F401  (fixtures of the tests of the panel)

from SlicerHost.pytest_fixtures import slicer_host  # noqa: F401  (a fixture for every test)

ROOT = Path(__file__).resolve().parents[1]

# Before any test imports Qt: no display is needed, and a test must not depend on the user's settings or desktop.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
# Before any test imports torch: its threads wait asleep, else they take the cores from the other tests' processes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Torch imports triton where it is installed, though nothing here compiles. Its LLVM and that of the software renderer,
# which tests of the panel load, cannot live in one process.
sys.modules.setdefault("triton", None)

# What a test finds must not depend on how busy the computer is.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# A test must not see the user's own models either.
os.environ["MEDAE_MODELS"] = str(Path(tempfile.gettempdir()) / "medae-tests-have-no-models")


def data_folder_path() -> Path:
    """The folder of real scans: MEDAE_DATA, else shared/data beside the project."""
    return Path(os.environ.get("MEDAE_DATA") or ROOT.parent / "shared" / "data")


@cache
def _cuda_available() -> bool:
    """Ask in another process, so that collecting tests imports no torch; without NVIDIA's driver there is none."""
    if sys.platform.startswith("linux") and not Path("/proc/driver/nvidia").exists() and not shutil.which("nvidia-smi"):
        return False
    code = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process for each core, four at the most, for the whole set; none for chosen files, which would only wait."""
    cores = os.cpu_count() or 1
    return min(cores, 4) if cores > 1 and config.args_source is pytest.Config.ArgsSource.TESTPATHS else 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Each of several processes computes with one thread: more would only wait for each other's cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    """What was imported stays: Python need not look through it again for garbage, which takes a third of a second."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not _cuda_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))
        if item.get_closest_marker("data") and not data_folder_path().is_dir():
            item.add_marker(pytest.mark.skip(reason=f"no real scans: {data_folder_path()} is missing (set MEDAE_DATA)"))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real scans; the test skips when there is none."""
    folder = data_folder_path()
    if not folder.is_dir():
        pytest.skip(f"no real scans: {folder} is missing (set MEDAE_DATA)")
    return folder


@pytest.fixture(autouse=True)
def library_as_imported() -> Iterator[None]:
    """Put back modules that a test reloaded: a test file holds the classes that it imported at its top."""
    before = {name: module for name, module in sys.modules.items() if _is_ours(name)}
    yield
    if any(sys.modules.get(name) is not module for name, module in before.items()):
        for name in [name for name in sys.modules if _is_ours(name)]:
            del sys.modules[name]
        sys.modules.update(before)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in ("MedAELib", "MedAEPanel", "MedAE")
