"""Installing packages: only what is missing, only after asking, torch through its extension, offline from a folder."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from panel_tools import MODULE

from MedAELib.errors import MissingPackage
from SlicerHost.packaging_stub import packaging_calls


@pytest.fixture
def install(slicer_host: Any) -> Any:
    """The module under test, in a Slicer that is not in testing mode."""
    import slicer

    from SlicerHost.module_loader import load_module

    load_module(MODULE)
    from MedAEPanel import install

    slicer.app.setTestingEnabled(False)
    return install


class Packages:
    """A computer that lacks some packages. `calls` are what was installed and how."""

    def __init__(self, install: Any, monkeypatch: pytest.MonkeyPatch, *lacking: str) -> None:
        self.lacking, self.calls = list(lacking), []  # type: ignore[var-annotated]
        monkeypatch.setattr(install, "missing", lambda lines: [line for line in lines if line in self.lacking])
        monkeypatch.setattr(install, "requirements", lambda: ["torch>=2.10", "monai>=1.6,<2", "numpy>=2.0"])

    def got(self, how: str) -> Any:
        """A function that installs everything that is asked of it."""

        def run(lines: Any, **options: Any) -> None:
            self.calls.append((how, list(lines)))
            self.lacking = [line for line in self.lacking if line not in lines]

        return run


def never(_question: str) -> bool:
    raise AssertionError("the user was asked")


def test_nothing_is_asked_or_installed_when_everything_is_there(install: Any) -> None:
    assert install.ensure(confirm=never) is False
    assert [name for name in packaging_calls.names() if name.startswith("pip_") and name != "pip_check"] == []


def test_the_requirements_are_read_without_comments(install: Any) -> None:
    lines = install.requirements()
    assert any(line.startswith("torch>=") for line in lines)
    assert all(line and "#" not in line for line in lines)


def test_in_testing_mode_nothing_is_asked_or_installed(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    slicer.app.setTestingEnabled(True)
    Packages(install, monkeypatch, "monai>=1.6,<2")
    with pytest.raises(MissingPackage, match="not installed: monai"):
        install.ensure()


def test_missing_packages_come_through_slicer_packaging_which_asks_itself(
    install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer

    packages = Packages(install, monkeypatch, "monai>=1.6,<2")
    monkeypatch.setattr(slicer.packaging, "pip_ensure", packages.got("pip_ensure"))
    assert install.ensure(confirm=never) is True
    assert packages.calls == [("pip_ensure", ["monai>=1.6,<2"])]


def test_the_user_may_decline_and_nothing_happens(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    def declined(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("User declined")

    Packages(install, monkeypatch, "monai>=1.6,<2")
    monkeypatch.setattr(slicer.packaging, "pip_ensure", declined)
    with pytest.raises(MissingPackage, match="nothing was installed"):
        install.ensure(confirm=never)


def test_torch_comes_through_the_pytorch_extension(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    packages = Packages(install, monkeypatch, "torch>=2.10", "monai>=1.6,<2")
    asked = {}

    class PyTorchUtilsLogic:
        def installTorch(self, **options: Any) -> object:
            asked.update(options)
            packages.got("extension")(["torch>=2.10"])
            return object()

    _pytorch_extension(monkeypatch, PyTorchUtilsLogic)
    monkeypatch.setattr(install, "_installed", lambda name: None)
    monkeypatch.setattr(slicer.packaging, "pip_ensure", packages.got("pip_ensure"))
    assert install.ensure(confirm=never) is True
    assert packages.calls == [("extension", ["torch>=2.10"]), ("pip_ensure", ["monai>=1.6,<2"])]
    assert asked == {"askConfirmation": True, "torchVersionRequirement": ">=2.10"}


def test_a_failed_installation_of_torch_is_the_same_sentence(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class PyTorchUtilsLogic:
        def installTorch(self, **options: Any) -> object:
            raise subprocess.CalledProcessError(1, "pip")

    Packages(install, monkeypatch, "torch>=2.10")
    _pytorch_extension(monkeypatch, PyTorchUtilsLogic)
    monkeypatch.setattr(install, "_installed", lambda name: None)
    with pytest.raises(MissingPackage, match=r"could not be installed; Slicer's error log says why\."):
        install.ensure(confirm=never)


def test_an_older_torch_is_replaced_only_after_asking(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = Packages(install, monkeypatch, "torch>=2.10")

    class PyTorchUtilsLogic:
        def installTorch(self, **options: Any) -> object:
            packages.got("extension")(["torch>=2.10"])
            return object()

    _pytorch_extension(monkeypatch, PyTorchUtilsLogic)
    monkeypatch.setattr(install, "_installed", lambda name: "2.4.1")
    questions: list[str] = []
    with pytest.raises(MissingPackage, match="nothing was installed"):
        install.ensure(confirm=questions.append)
    assert "torch 2.4.1 is installed; MedAE needs torch >=2.10" in questions[0] and not packages.calls
    assert install.ensure(confirm=lambda question: True) is True


def _pytorch_extension(monkeypatch: pytest.MonkeyPatch, logic: type) -> None:
    module = types.ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = logic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)


@pytest.mark.parametrize(("installed", "sentence"), [(True, "next start of Slicer"), (False, "could not be installed")])
def test_without_the_pytorch_extension_it_is_offered(
    install: Any, monkeypatch: pytest.MonkeyPatch, installed: bool, sentence: str
) -> None:
    import slicer

    Packages(install, monkeypatch, "torch>=2.10")
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    wanted, questions = [], []

    class Extensions:
        interactive = True

        def installExtensionFromServer(self, name: str, restart: bool) -> bool:
            wanted.append((name, restart, self.interactive))
            return installed

    monkeypatch.setattr(type(slicer.app), "extensionsManagerModel", lambda app: Extensions(), raising=False)

    def confirm(question: str) -> bool:
        questions.append(question)
        return True

    with pytest.raises(MissingPackage, match=sentence):
        install.ensure(confirm=confirm)
    assert wanted == [("PyTorch", False, False)]
    assert len(questions) == 1


def test_offline_everything_comes_from_the_folder_of_wheels(
    install: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import slicer

    packages = Packages(install, monkeypatch, "torch>=2.10", "monai>=1.6,<2")
    monkeypatch.setattr(slicer.util, "pip_install", packages.got("pip_install"), raising=False)
    assert install.ensure(str(tmp_path), confirm=lambda question: True) is True
    options = ["--no-index", "--find-links", str(tmp_path)]
    assert packages.calls == [("pip_install", [*options, "torch>=2.10", "monai>=1.6,<2"])]


def test_a_folder_of_wheels_that_lacks_some_is_not_answered_with_the_advice_to_choose_one(
    install: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import slicer

    def fail(*arguments: Any, **options: Any) -> None:
        raise subprocess.CalledProcessError(1, "pip")

    Packages(install, monkeypatch, "torch>=2.10", "monai>=1.6,<2")
    monkeypatch.setattr(slicer.util, "pip_install", fail, raising=False)
    with pytest.raises(MissingPackage) as caught:
        install.ensure(str(tmp_path), confirm=lambda question: True)
    assert f"torch, monai could not be installed from {tmp_path}" in str(caught.value)
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    assert python in caught.value.next_step and "README.md" in caught.value.next_step
    assert "internet" not in caught.value.next_step and "choose" not in caught.value.next_step


def test_a_folder_of_wheels_that_does_not_exist_is_refused(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Packages(install, monkeypatch, "torch>=2.10")
    with pytest.raises(MissingPackage, match="/no/such/folder does not exist"):
        install.ensure("/no/such/folder", confirm=never)


def test_a_failed_installation_is_one_sentence_and_a_next_step(
    install: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import slicer

    def fail(*arguments: Any, **options: Any) -> None:
        raise subprocess.CalledProcessError(1, "pip")

    Packages(install, monkeypatch, "monai>=1.6,<2")
    monkeypatch.setattr(slicer.packaging, "pip_ensure", fail)
    with pytest.raises(MissingPackage, match=r"could not be installed; Slicer's error log says why\.") as caught:
        install.ensure(confirm=never)
    assert "folder of wheel files" in caught.value.next_step


def test_an_older_slicer_without_slicer_packaging_uses_pip_install_after_asking(
    install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer

    packages = Packages(install, monkeypatch, "monai>=1.6,<2")
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.setattr(slicer.util, "pip_install", packages.got("pip_install"), raising=False)
    with pytest.raises(MissingPackage, match="nothing was installed"):
        install.ensure(confirm=lambda question: False)
    assert install.ensure(confirm=lambda question: True) is True
    assert packages.calls == [("pip_install", ["monai>=1.6,<2"])]


def test_an_older_slicer_finds_out_itself_what_is_missing(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    lines = ["numpy>=2.0", "numpy>=900", "no-such-package-at-all>=1"]
    assert install.missing(lines) == ["numpy>=900", "no-such-package-at-all>=1"]


def test_what_is_still_missing_after_the_installation_is_told(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    Packages(install, monkeypatch, "monai>=1.6,<2")
    monkeypatch.setattr(slicer.packaging, "pip_ensure", lambda *arguments, **options: None)
    with pytest.raises(MissingPackage, match="still missing"):
        install.ensure(confirm=never)
