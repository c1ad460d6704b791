"""What Slicer installs: CMake is run against a stand-in for Slicer, and the outcome is compared with the tree."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("MedAELib", "Resources", "MedAE")
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
# What Slicer brings, by version, and so must not be replaced: SuperBuild/External_python-{numpy,scipy,SimpleITK}.cmake
# of Slicer/Slicer at a2b6d082be ("ENH: Slicer 5.10.0"; SimpleITK: External_SimpleITK.cmake) and a5df71450f ("5.12.0").
BUNDLED = {
    "5.10": {"numpy": "2.0.2", "scipy": "1.13.1", "SimpleITK": "2.5.2"},
    "5.12": {"numpy": "2.4.6", "scipy": "1.17.1", "SimpleITK": "2.5.5"},
}
MODELS_MEGABYTES, REPOSITORY_MEGABYTES = 20, 100


def source_files(*parts: str) -> set[Path]:
    """All files below the given folders of the project, caches left out."""
    found = {path for part in parts for path in (ROOT / part).rglob("*") if path.is_file()}
    return {path for path in found if "__pycache__" not in path.parts and path.suffix != ".pyc" and path.name[0] != "."}


def python_files() -> list[Path]:
    return sorted({*ROOT.glob("*.py"), *(p for p in source_files("MedAELib", "MedAE", "Testing") if p.suffix == ".py")})


def wanted_in_slicer() -> set[str]:
    """The files as they must lie in Slicer's module folder: MedAE/ is flattened, the rest keeps its folders."""
    module = {p.relative_to(ROOT / "MedAE").as_posix() for p in source_files("MedAE") if p.name != "CMakeLists.txt"}
    beside = {p.relative_to(ROOT).as_posix() for p in source_files("MedAELib", "Resources")}
    return module | beside | {"requirements.txt"}


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension, configured by the real CMake against the stand-in in Testing/packaging."""
    if not shutil.which("cmake"):
        pytest.skip("cmake is not installed; the file lists are still checked as text")
    folder = tmp_path_factory.mktemp("build")
    command = ["cmake", "-S", str(ROOT), "-B", str(folder), f"-DSlicer_DIR={ROOT / 'Testing' / 'packaging'}"]
    run = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120)
    if "CMAKE_C_COMPILER" in run.stderr or "CMAKE_CXX_COMPILER" in run.stderr:
        pytest.skip("no C/C++ compiler, which CMake asks for; the file lists are still checked as text")
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def test_slicer_gets_every_file_of_module_library_and_resources_and_nothing_else(build: Path) -> None:
    installed = build / "lib" / "qt-scripted-modules"
    found = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    assert found == wanted_in_slicer()


def test_the_installed_library_and_models_work_without_the_source_tree(build: Path, tmp_path: Path) -> None:
    installed = build / "lib" / "qt-scripted-modules"
    code = "import MedAELib; print(MedAELib.__file__); print(len(MedAELib.bundled_models()))\n"
    code += "from MedAELib.codec.model_file import load_codec_model; print(load_codec_model().name)"
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8")
    assert run.returncode == 0, run.stderr
    where, models, codec = run.stdout.splitlines()
    assert Path(where).is_relative_to(installed)
    folders = {path.name for path in (ROOT / "Resources" / "Models").glob("*") if path.is_dir()}
    assert codec in folders and int(models) == len(folders - {codec}) > 0


def test_the_self_test_of_the_module_is_registered_with_ctest(build: Path) -> None:
    declared = dict(line.split("=", 1) for line in (build / "extension.txt").read_text(encoding="utf-8").splitlines())
    assert declared["PYTHON_UNITTESTS"].split(";").count(str(ROOT / "MedAE" / "MedAE.py")) == 1


def test_the_lists_of_files_in_cmake_are_globs_or_complete() -> None:
    """The same question as above, for a machine without CMake: by reading the two CMakeLists.txt."""
    top = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert "MedAELib/*.py" in top and "Resources/*" in top and "requirements.txt" in top
    module = (ROOT / "MedAE" / "CMakeLists.txt").read_text(encoding="utf-8").replace("${MODULE_NAME}", "MedAE")
    for path in source_files("MedAE"):
        name = path.relative_to(ROOT / "MedAE").as_posix()
        globbed = re.search(r"GLOB(_RECURSE)?[^)]*MedAEPanel/\*\.py", module) and name.startswith("MedAEPanel/")
        assert name == "CMakeLists.txt" or globbed or name in module, f"{name} is not in MedAE/CMakeLists.txt"


def test_slicer_takes_only_medae_py_for_a_module() -> None:
    """Slicer tries every loose .py beside MedAE.py as a module of its own."""
    assert [path.name for path in (ROOT / "MedAE").glob("*.py")] == ["MedAE.py"]


def test_all_bundled_models_together_stay_under_twenty_megabytes() -> None:
    assert sum(path.stat().st_size for path in source_files("Resources/Models")) < MODELS_MEGABYTES * 1e6


def test_the_project_stays_under_the_size_that_the_extensions_index_allows() -> None:
    everything = source_files(*PARTS, "Testing", "docs", ".ci", "ExtensionsIndex")
    assert sum(path.stat().st_size for path in everything) < REPOSITORY_MEGABYTES * 1e6


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short_and_say_what_they_are_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE, "the file is too long"
    tree = ast.parse(text, feature_version=(3, 11))
    assert ast.get_docstring(tree) or not tree.body, "the file does not begin with a sentence that says what it is for"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


def test_the_lock_holds_a_version_for_every_requirement() -> None:
    lock = (ROOT / "requirements-lock.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lock if line and not line.startswith("#"))
    locked = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    for file in ("requirements.txt", "requirements-dev.txt", "requirements-federated.txt"):
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
            if line and line[0].isalpha():
                name = re.split(r"[<>=~\[; ]", line)[0]
                assert re.sub(r"[-_.]+", "-", name).lower() in locked, f"{name} of {file} is not in the lock"
    assert all(re.fullmatch(r"[0-9][0-9A-Za-z.]*", version) for version in pins.values()), "not a plain version"


def test_slicer_is_asked_for_ranges_and_never_for_an_exact_version() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line and line[0] != "#"]
    assert wanted and all(">=" in line and "==" not in line for line in wanted)


@pytest.mark.parametrize("version", BUNDLED)
def test_the_requirements_are_met_by_what_each_promised_slicer_brings(version: str) -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    ranges = {each.name: each.specifier for each in wanted if each.name in BUNDLED[version]}
    assert ranges.keys() == BUNDLED[version].keys()
    for name, found in BUNDLED[version].items():
        assert found in ranges[name], f"Slicer {version} has {name} {found}, which would be replaced"


def test_the_oldest_slicer_that_is_promised_is_looked_at() -> None:
    promised = re.findall(r"Slicer (\d+\.\d+) or newer", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert promised == [min(BUNDLED, key=lambda version: tuple(map(int, version.split("."))))]
