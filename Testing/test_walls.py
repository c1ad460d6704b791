"""The walls of the design: which part may import what, read from the sources and seen in a fresh process."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "MedAE"
HEAVY = {"torch", "monai", "safetensors"}

# What runs in Slicer's process, below the panel.
IN_SLICER = [
    "MedAELib",
    "MedAELib.errors",
    "MedAELib.volume",
    "MedAELib.bundle",
    "MedAELib.naming",
    "MedAELib.library",
    "MedAELib.sound",
    "MedAELib.tasks",
    "MedAELib.worker.client",
    "MedAELib.worker.protocol",
    "MedAELib.worker.runs",
]
# Of these, what Slicer may import while it starts: not even numpy.
LIGHT = ["MedAELib", "MedAELib.errors", "MedAELib.naming", "MedAELib.worker.client", "MedAELib.worker.protocol"]


def module_files() -> list[Path]:
    return sorted(MODULE.rglob("*.py"))


def imports_of(path: Path, file_scope_only: bool = False) -> set[str]:
    """Top-level names that a file imports, anywhere in it or only when it is loaded (outside functions)."""
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if file_scope_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
        todo += ast.iter_child_nodes(node)
    return found


def loaded_by(code: str) -> set[str]:
    """Top-level names of the modules that a fresh Python process holds after running `code`."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(MODULE)])}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, encoding="utf-8")
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_import_linter_finds_every_wall_standing() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(MODULE)])}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    assert run.returncode == 0, run.stdout + run.stderr
    assert " 0 broken" in run.stdout


def test_the_linter_sees_a_hole_in_a_wall(tmp_path: Path) -> None:
    """A copy of the library in which volume.py reaches torch through another file must be refused."""
    for part in ("MedAELib", "MedAE"):
        for path in (ROOT / part).rglob("*.py"):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (tmp_path / "MedAELib" / "hole.py").write_text("import torch\n")
    with (tmp_path / "MedAELib" / "volume.py").open("a") as file:
        file.write("\ndef hole():\n    from . import hole\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(tmp_path / "MedAE")])}
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8")
    assert run.returncode == 1 and "MedAELib.volume" in run.stdout, run.stdout + run.stderr


@pytest.mark.parametrize("name", IN_SLICER)
def test_importing_it_in_a_fresh_process_loads_no_torch(name: str) -> None:
    assert not loaded_by(f"import {name}") & HEAVY


@pytest.mark.parametrize("name", LIGHT)
def test_importing_it_in_a_fresh_process_loads_no_numpy(name: str) -> None:
    assert not loaded_by(f"import {name}") & {"numpy", "SimpleITK", "scipy"}


@pytest.mark.parametrize("path", module_files(), ids=lambda path: path.name)
def test_module_and_panel_import_nothing_heavy(path: Path) -> None:
    assert not imports_of(path) & HEAVY
    # numpy, SimpleITK and packaging come with Slicer; PyTorchUtils is the PyTorch extension.
    slicer_own = {"slicer", "qt", "ctk", "vtk", "MedAELib", "MedAEPanel"}
    slicer_own |= {"numpy", "SimpleITK", "packaging", "PyTorchUtils"}
    assert imports_of(path) - slicer_own <= set(sys.stdlib_module_names)
    at_load = imports_of(path, file_scope_only=True)
    assert not at_load & {"numpy", "SimpleITK", "scipy", "packaging", "PyTorchUtils"}, "imported while Slicer starts"


def test_loading_the_module_file_loads_neither_torch_nor_numpy() -> None:
    """MedAE.py itself, with slicer, qt and the like replaced by empty stand-ins that import nothing."""
    code = (
        "import sys\nfrom unittest.mock import MagicMock\n"
        "for name in ('slicer', 'slicer.i18n', 'slicer.util', 'slicer.parameterNodeWrapper', 'qt', 'ctk', 'vtk',\n"
        "             'slicer.ScriptedLoadableModule'):\n"
        "    sys.modules[name] = MagicMock()\n"
        "base = sys.modules['slicer.ScriptedLoadableModule']\n"
        "base.__all__ = []\n"
        "for part in ('', 'Widget', 'Logic', 'Test'):\n"
        "    kind = 'ScriptedLoadableModule' + part\n"
        "    setattr(base, kind, type(kind, (), {})); base.__all__.append(kind)\n"
        "sys.modules['slicer.util'].VTKObservationMixin = type('VTKObservationMixin', (), {})\n"
        "import MedAE\n"
        "assert MedAE.MedAE and MedAE.MedAEWidget and MedAE.MedAELogic and MedAE.MedAETest"
    )
    assert not loaded_by(code) & {*HEAVY, "numpy", "SimpleITK", "scipy"}


def test_only_the_panel_imports_qt_and_only_the_adapter_imports_slicer() -> None:
    for path in (ROOT / "MedAELib").rglob("*.py"):
        assert not imports_of(path) & {"qt", "ctk", "PySide6"}, path.name
        if path.name != "nodes.py":
            assert "slicer" not in imports_of(path), path.name
