"""run.py: what it says when something is missing, and when it makes .venv anew."""

import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

import run

Version = namedtuple("Version", "major minor micro")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """run.py works in an empty folder with a lock of nothing but pytest's own, already installed, version."""
    lock = tmp_path / "requirements-lock.txt"
    lock.write_text(f"# a comment\npytest=={pytest.__version__}\n")
    for name, value in {
        "ROOT": tmp_path,
        "LOCK": lock,
        "VENV": tmp_path / ".venv",
        "STAMP": tmp_path / ".venv" / "medae-complete",
        "LOG": tmp_path / ".venv-install.log",
    }.items():
        monkeypatch.setattr(run, name, value)
    return tmp_path


def use_this_python(project: Path) -> None:
    """A .venv whose Python is this one: as complete as the environment that the tests run in."""
    python = project / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)


@pytest.fixture
def last_words(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Call it with a function: the one line that the function says before it ends the program with status 2."""

    def ask(function: Callable[[], object]) -> str:
        with pytest.raises(SystemExit) as ended:
            function()
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    return ask


@pytest.mark.parametrize("version", [(3, 10), (3, 13), (2, 7)])
def test_a_wrong_python_ends_with_one_sentence_and_status_2(version, monkeypatch, last_words):
    monkeypatch.setattr(run.sys, "version_info", Version(*version, 1))
    assert "Python 3.11 or 3.12" in last_words(run.check_python)


def test_a_missing_volume_is_said_before_anything_is_installed(project, monkeypatch, last_words):
    monkeypatch.setattr(sys, "argv", ["run.py", "demo", str(project / "nothing.nrrd")])
    monkeypatch.setattr(run, "set_up", lambda: pytest.fail("nothing may be installed"))
    assert "nothing.nrrd does not exist" in last_words(run.main)


def test_no_venv_is_not_complete(project):
    assert not run.venv_is_complete()


def test_a_venv_made_by_hand_that_holds_the_locked_versions_is_taken_as_it_is(project):
    use_this_python(project)
    assert run.venv_is_complete()


def test_a_venv_that_lacks_a_locked_version_is_not_complete(project):
    use_this_python(project)
    run.LOCK.write_text("pytest==0.0.1\n")
    assert not run.venv_is_complete()
    run.LOCK.write_text("no-such-package-anywhere==1.0\n")
    assert not run.venv_is_complete()


def test_a_half_made_venv_is_not_complete_even_if_it_holds_everything(project):
    use_this_python(project)
    run.STAMP.write_text("unfinished\n")
    assert not run.venv_is_complete()


def test_a_changed_lock_makes_the_venv_incomplete(project):
    use_this_python(project)
    run.STAMP.write_text(run.stamp())
    assert run.venv_is_complete()
    run.LOCK.write_text(run.LOCK.read_text() + "# and a new line\n")
    assert not run.venv_is_complete()


def test_a_venv_whose_python_is_gone_is_not_complete(project):
    use_this_python(project)
    (project / ".venv" / "bin" / "python").unlink()
    assert not run.venv_is_complete()


def test_making_the_venv_deletes_what_was_there_and_leaves_no_stamp_when_pip_fails(project, monkeypatch, capsys):
    use_this_python(project)
    (project / ".venv" / "old").write_text("left over")
    run.LOG.write_text("")

    def fails_in_pip(command, doing, environment=None):
        run.LOG.write_text("pip said: no space left\n")
        (project / ".venv").mkdir(exist_ok=True)
        return "pip" not in command

    monkeypatch.setattr(run, "run_logged", fails_in_pip)
    with pytest.raises(SystemExit):
        run.make_venv()
    assert not (project / ".venv" / "old").exists()
    assert not run.venv_is_complete()
    assert "no space left" in capsys.readouterr().err


def test_missing_system_libraries_are_named_for_a_user_who_may_not_install_them(monkeypatch, last_words):
    if not sys.platform.startswith("linux"):
        pytest.skip("system libraries are looked at on Linux only")
    monkeypatch.setattr(run, "LIBRARIES", {"libdoesnotexist.so.7": "libdoesnotexist7"})
    monkeypatch.setattr(run.os, "geteuid", lambda: 1000)
    assert "libdoesnotexist7" in last_words(run.provide_system_libraries)


def test_root_gets_missing_system_libraries_installed(project, monkeypatch):
    commands = []
    monkeypatch.setattr(run, "LIBRARIES", {"libdoesnotexist.so.7": "libdoesnotexist7"})
    monkeypatch.setattr(run.sys, "platform", "linux")
    monkeypatch.setattr(run.os, "geteuid", lambda: 0)
    monkeypatch.setattr(run.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(run, "run_logged", lambda command, *_: commands.append(command) or True)
    run.provide_system_libraries()
    assert commands[0] == ["apt-get", "update"]
    assert commands[1][:2] == ["apt-get", "install"]
    assert commands[1][-1] == "libdoesnotexist7"


def test_a_python_without_venv_gets_a_sentence_with_the_package(project, monkeypatch, last_words):
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(run.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(run.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert f"sudo apt-get install python3.{sys.version_info[1]}-venv" in last_words(run.make_venv)


def test_output_of_commands_goes_to_the_log_and_failure_is_told(project, capsys):
    code = "import sys; print('many words'); sys.exit(3)"
    assert not run.run_logged([sys.executable, "-c", code], "Doing it")
    assert "many words" in run.LOG.read_text()
    said = capsys.readouterr().out
    assert "many words" not in said
    assert "Doing it: failed" in said


@pytest.mark.parametrize("given", [["-k", "volume"], ["Testing/test_volume.py", "-x"], ["--help"], []])
def test_arguments_of_test_reach_pytest_as_they_are(given, project, monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "argv", ["run.py", "test", *given])
    monkeypatch.setattr(run, "set_up", lambda: None)
    monkeypatch.setattr(run, "run", lambda *arguments: seen.extend(arguments) or 5)
    assert run.main() == 5
    assert seen[:2] == ["-m", "pytest"]
    assert seen[len(seen) - len(given) :] == given


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_a_command_that_was_killed_is_told_and_fails(project, capsys):
    use_this_python(project)
    assert run.run("-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)") == 137
    assert "ended by signal 9" in capsys.readouterr().err


def test_the_script_starts_on_an_old_python_far_enough_to_say_so():
    """No syntax that Python 3.8 cannot read stands in run.py."""
    import ast

    ast.parse(Path(run.__file__).read_text(), feature_version=(3, 8))
