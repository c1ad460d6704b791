"""Set MedAE up outside Slicer and run it: `python run.py demo [VOLUME]` or `python run.py test`."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, NoReturn, Sequence  # noqa: UP035  (an old Python must still reach the sentence below)

ROOT = Path(__file__).resolve().parent
LOCK = ROOT / "requirements-lock.txt"
VENV = ROOT / ".venv"
STAMP = VENV / "medae-complete"
LOG = ROOT / ".venv-install.log"
PYTHONS = ((3, 11), (3, 12))

# What Qt and VTK load from the system, and the Debian package that holds it. fontconfig brings fonts along.
LIBRARIES = {
    "libglib-2.0.so.0": "libglib2.0-0",
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "fontconfig",
    "libX11.so.6": "libx11-6",
    "libXrender.so.1": "libxrender1",
}

# Run by the Python of .venv: does it hold exactly what the lock names?
COMPARE = """
import sys
from importlib.metadata import PackageNotFoundError, version
for line in open(sys.argv[1]):
    if "==" in line:
        name, wanted = line.split("==")
        try:
            found = version(name).split("+")[0]
        except PackageNotFoundError:
            sys.exit(1)
        if found != wanted.strip():
            sys.exit(1)
"""


def stop(sentence: str) -> NoReturn:
    """End with one plain sentence and exit status 2."""
    print(sentence, file=sys.stderr)
    raise SystemExit(2)


def check_python() -> None:
    """MedAE's pinned packages exist for these Pythons only."""
    if sys.version_info[:2] not in PYTHONS:
        stop(
            "MedAE needs Python 3.11 or 3.12, and this is Python %d.%d; " % sys.version_info[:2]  # noqa: UP031
            + "start run.py with python3.11 or python3.12."
        )


def venv_python() -> Path:
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def stamp() -> str:
    """What a finished .venv was made from: the locked versions and this Python."""
    return hashlib.sha256(LOCK.read_bytes()).hexdigest() + " %d.%d\n" % sys.version_info[:2]  # noqa: UP031


def venv_runs() -> bool:
    """Whether .venv has a Python that starts and is of this version; a moved or half-deleted folder has none."""
    code = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    try:
        return subprocess.run([str(venv_python()), "-c", code], capture_output=True).returncode == 0
    except OSError:
        return False


def venv_is_complete() -> bool:
    """Whether .venv can be used as it is. One made by hand has no stamp; it counts if it holds what the lock names."""
    if not venv_runs() or (STAMP.is_file() and STAMP.read_text() != stamp()):
        return False
    return subprocess.run([str(venv_python()), "-c", COMPARE, str(LOCK)], capture_output=True).returncode == 0


def run_logged(command: Sequence[str], doing: str, environment: dict[str, str] | None = None) -> bool:
    """Run a command with its output in the log file, showing one short line of progress; True when it succeeded."""
    started, shown = time.monotonic(), -1.0
    with LOG.open("ab") as log:
        log.write(("\n$ " + " ".join(command) + "\n").encode())
        log.flush()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        try:
            while process.poll() is None:
                seconds = time.monotonic() - started
                pause = 1.0 if sys.stdout.isatty() else 30.0
                if seconds - shown >= pause or shown < 0:
                    end = "\r" if sys.stdout.isatty() else "\n"
                    print(f"{doing} ... {seconds:.0f} s", end=end, flush=True)
                    shown = seconds
                time.sleep(0.1)
        except BaseException:
            process.kill()
            process.wait()
            raise
    outcome = "done" if process.returncode == 0 else "failed"
    print(f"{doing}: {outcome} after {time.monotonic() - started:.0f} s", flush=True)
    return process.returncode == 0


def stop_with_log(sentence: str) -> NoReturn:
    """End with the last lines of the log and one sentence."""
    lines = LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
    print("\n".join(["", f"the last lines of {LOG.name}:", *(f"  {line}" for line in lines), ""]), file=sys.stderr)
    stop(sentence)


def install_debian_packages(packages: Sequence[str], why: str) -> None:
    """Install Debian or Ubuntu packages when we may; otherwise say in one sentence how the user can."""
    command = "apt-get install " + " ".join(packages)
    if not (shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0):
        how = f"install them with: sudo {command}" if shutil.which("apt-get") else "install them and start again"
        stop(f"{why} (on Debian and Ubuntu the packages {' '.join(packages)}); {how}.")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run_logged(["apt-get", "update"], "Reading the list of system packages", environment)
    options = ["-y", "--no-install-recommends"]
    if not run_logged(["apt-get", "install", *options, *packages], f"Installing {' '.join(packages)}", environment):
        stop_with_log(f"{why}, and '{command}' failed; its output is in {LOG}.")


def provide_system_libraries() -> None:
    """Qt and VTK need a few shared libraries of the system (Linux only)."""
    if not sys.platform.startswith("linux"):
        return
    missing = []
    for library, package in LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(package)
    if missing:
        install_debian_packages(missing, "Some shared libraries of the system are missing")


def make_venv() -> None:
    """Make .venv anew and install the locked versions; until that is done its stamp says that it is unfinished."""
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        package = "python%d.%d-venv" % sys.version_info[:2]  # noqa: UP031
        install_debian_packages([package], "This Python cannot make virtual environments")
    if VENV.is_symlink() or VENV.is_file():
        VENV.unlink()
    shutil.rmtree(VENV, ignore_errors=True)
    if not run_logged([sys.executable, "-m", "venv", str(VENV)], "Making .venv"):
        stop_with_log(f"The virtual environment {VENV} could not be made.")
    STAMP.write_text("unfinished\n")
    pip = [str(venv_python()), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    pip += ["--no-compile", "-r", str(LOCK)]  # Python compiles what is imported, when it is
    if not run_logged(pip, "Installing Python packages into .venv (about 2 GB)"):
        stop_with_log(f"The Python packages could not be installed; pip's whole output is in {LOG}.")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let a second run.py that starts meanwhile wait, instead of deleting what the first is making."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (ROOT / ".venv-lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def set_up() -> None:
    """Everything that the demo and the tests need; a second call finds it done and costs a moment."""
    LOG.write_text("")
    with alone():
        provide_system_libraries()
        if not venv_is_complete():
            make_venv()
        STAMP.write_text(stamp())


def run(*arguments: str) -> int:
    """Run the Python of .venv in the project's folder and return its exit status."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "Testing")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONNOUSERSITE": "1", "QT_QPA_PLATFORM": "offscreen"}
    status = subprocess.run([str(venv_python()), *arguments], cwd=ROOT, env=environment).returncode
    if status < 0:
        print(f"run.py: {' '.join(arguments[:2])} was ended by signal {-status}", file=sys.stderr)
        return 128 - status
    return status


def main() -> int:
    check_python()
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="denoise a generated head CT, or VOLUME; write volumes, pictures, report")
    demo.add_argument("volume", nargs="?", metavar="VOLUME", help="a CT or MRI file, or a DICOM folder")
    demo.add_argument("--output", metavar="DIR", default="demo-output", help="where to write (default: demo-output)")
    demo.add_argument("--model", metavar="NAME|FOLDER", default="", help="default: the model that fits the volume")
    commands.add_parser("test", help="run every test; what follows goes to pytest", add_help=False)
    options, others = parser.parse_known_args()
    if options.command == "test":
        set_up()
        everything = ("-m", "")  # also what is slow; a later -m of the user's takes its place
        return run("-m", "pytest", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), *everything, *others)
    if others:
        parser.error(f"unknown: {' '.join(others)}")
    if options.volume and not Path(options.volume).exists():
        stop(f"{options.volume} does not exist; name a CT or MRI file or a DICOM folder.")
    set_up()
    volume = [str(Path(options.volume).resolve())] if options.volume else []
    return run("-m", "demo", *volume, "--output", str(Path(options.output).resolve()), "--model", options.model)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
