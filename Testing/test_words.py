"""Words and facts that must not stand in the project: machine paths, package hosts, claims beyond research use."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SKIPPED_FOLDERS = {"__pycache__", "build", "demo-output"}
TEXT = {".py", ".md", ".txt", ".toml", ".json", ".ui", ".cmake", ".svg", ".yml", ".yaml", ".cfg", ""}

# Written in pieces, so that this file does not contain what it looks for.
HOMES = ["/ro" + "ot/", "/ho" + r"me/\w", r"C:\\Us" + "ers"]
MACHINE_PATHS = "|".join([*HOMES, re.escape(str(ROOT)), re.escape(f"{ROOT.parent}/shared")])
PACKAGE_HOSTS = "|".join(["py" + r"pi\.org", "python" + "hosted", r"registry\." + "npm", r"deb\.deb" + "ian"])
CLAIMS = "|".join(["diag" + "nos", r"\babnor" + "mal", r"\bpatho" + "log", "clinical" + "ly validated"])
NOT_A_CLAIM = r"research (use|only)|not for"


def text_files() -> list[Path]:
    found = []
    for path in sorted(ROOT.rglob("*")):
        inside = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") and part != ".ci" for part in inside)
        if hidden or SKIPPED_FOLDERS & set(inside):
            continue
        if path.is_file() and path.suffix in TEXT and path.stat().st_size < 1_000_000:
            found.append(path)
    return found


def places(pattern: str, files: list[Path]) -> list[str]:
    """Every line of the files in which the pattern occurs, as "file:line: text"."""
    expression = re.compile(pattern, re.IGNORECASE)
    found = []
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if expression.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    return found


@pytest.mark.parametrize(
    ("what", "pattern"),
    [("a path of one machine", MACHINE_PATHS), ("a package registry's host", PACKAGE_HOSTS)],
    ids=["machine path", "package host"],
)
def test_no_file_names(what: str, pattern: str) -> None:
    assert places(pattern, text_files()) == []


def shown_to_users() -> list[Path]:
    """What a user reads: README, docs, panel, library messages, model cards."""
    shown = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "Resources").rglob("*")]
    shown += [*(ROOT / "MedAE").rglob("*.py"), *(ROOT / "MedAELib").rglob("*.py")]
    return [path for path in shown if path.is_file() and path.suffix in TEXT]


def test_results_are_never_called_by_a_medical_judgement() -> None:
    """The one allowed place is the sentence that says what MedAE is not for."""
    found = [line for line in places(CLAIMS, shown_to_users()) if not re.search(NOT_A_CLAIM, line, re.IGNORECASE)]
    assert found == []


@pytest.mark.parametrize("name", ["README.md", "Resources/UI/MedAE.ui"])
def test_research_use_is_said_once_and_plainly(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert len(re.findall(r"research use", text, re.IGNORECASE)) == 1


def test_nothing_is_sent_or_fetched_over_the_network() -> None:
    """The library and the module open no connection; the packages are installed by Slicer's own installer."""
    network = r"^\s*(import|from) (urllib\.request|requests|http\.client|socket|ftplib|smtplib)\b"
    assert places(network, [*(ROOT / "MedAELib").rglob("*.py"), *(ROOT / "MedAE").rglob("*.py")]) == []


def test_the_readme_names_every_bundled_model_and_every_file_it_links_to() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for folder in (ROOT / "Resources" / "Models").glob("*/"):
        assert f"`{folder.name}`" in text, f"README.md does not name the model {folder.name}"
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), f"README.md links to {target}"


def test_the_troubleshooting_chapter_quotes_sentences_that_medae_says() -> None:
    chapter = (ROOT / "README.md").read_text(encoding="utf-8").split("## Troubleshooting")[1].split("\n## ")[0]
    sources = [*(ROOT / "MedAELib").rglob("*.py"), *(ROOT / "MedAE").rglob("*.py"), ROOT / "run.py"]
    said = "".join(path.read_text(encoding="utf-8") for path in sources)
    quotes = re.findall(r"^\| \*([^*]+)\*", chapter, re.MULTILINE)
    assert len(quotes) > 5
    for quote in quotes:
        assert quote.strip("… ") in said, f"nothing says '{quote}'"
