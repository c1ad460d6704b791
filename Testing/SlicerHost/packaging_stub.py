"""`slicer.packaging`: writes down what a module wants installed and installs nothing."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer
from packaging.requirements import Requirement


@dataclass
class PackagingCalls:
    """What modules asked of slicer.packaging, and how the host answers."""

    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    satisfied: bool = True  # what pip_check answers
    failure: Exception | None = None  # raised by pip_ensure and pip_install, e.g. RuntimeError when the user declines

    def names(self) -> list[str]:
        """Names of the functions called, in order."""
        return [name for name, _arguments, _options in self.calls]

    def clear(self) -> None:
        """Back to the start: nothing called, everything installed."""
        self.calls.clear()
        self.satisfied, self.failure = True, None


packaging_calls = PackagingCalls()


def load_requirements(path: str | Path) -> list[Requirement]:
    """Read a requirements file; blank lines, comments and options are skipped, as Slicer does."""
    _note("load_requirements", path)
    lines = (line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [Requirement(line.split(" #")[0]) for line in lines if line and not line.startswith(("#", "-"))]


def pip_check(requirements: Any) -> bool:
    """Whether the requirements are met: what the test decided."""
    _note("pip_check", requirements)
    return packaging_calls.satisfied


def pip_ensure(
    requirements: Any,
    constraints: Any = None,
    skip_packages: Any = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> list[str] | None:
    """Install what is missing, after asking; raises RuntimeError when the user declines."""
    _note("pip_ensure", requirements, constraints=constraints, prompt_install=prompt_install, requester=requester)
    return _install()


def pip_install(
    requirements: Any,
    constraints: Any = None,
    no_deps_requirements: Any = None,
    skip_packages: Any = None,
    blocking: bool = True,
    show_progress: bool = True,
    requester: str | None = None,
    logCallback: Any = None,
    completedCallback: Any = None,
) -> list[str] | None:
    """Install without asking."""
    _note("pip_install", requirements, constraints=constraints, blocking=blocking, requester=requester)
    installed = _install()
    if completedCallback is not None:
        completedCallback(0)
    return installed


def pip_uninstall(requirements: Any, **options: Any) -> None:
    """Remove packages."""
    _note("pip_uninstall", requirements, **options)


def isPipInstallInProgress() -> bool:
    """Whether an installation runs: never on the host."""
    return False


def _note(name: str, *arguments: Any, **options: Any) -> None:
    packaging_calls.calls.append((name, arguments, options))


def _install() -> list[str]:
    if packaging_calls.failure is not None:
        raise packaging_calls.failure
    packaging_calls.satisfied = True
    return []


def install() -> None:
    """Create the module `slicer.packaging`."""
    module = types.ModuleType("slicer.packaging")
    for function in (
        load_requirements,
        pip_check,
        pip_ensure,
        pip_install,
        pip_uninstall,
        isPipInstallInProgress,
    ):
        setattr(module, function.__name__, function)
    sys.modules["slicer.packaging"] = module
    slicer.packaging = module
