"""The entry for Slicer's Extensions Index and the extension's metadata, by the rules that the index checks."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENTRY = ROOT / "ExtensionsIndex" / "MedAE.json"

# The keys that schema 1.0.2 of the index knows, and the type of each; no other key is allowed.
KEYS = {
    "$schema": str,
    "category": str,
    "scm_url": str,
    "scm_revision": str,
    "scm_type": str,
    "build_dependencies": list,
    "build_subdirectory": str,
    "dicom_support_rule": str,
    "enabled": bool,
    "tier": int,
}
CATEGORIES = {"Filtering", "Image Synthesis", "Segmentation", "Pipelines", "Quantification"}


@pytest.fixture
def entry() -> dict[str, Any]:
    return json.loads(ENTRY.read_text(encoding="utf-8"))


@pytest.fixture
def metadata() -> dict[str, str]:
    """The EXTENSION_* variables of CMakeLists.txt, and the project's name, read as the index reads them."""
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    found = dict(re.findall(r'^set\(EXTENSION_(\w+) "([^"]*)"\)$', text, re.MULTILINE))
    return {**found, "PROJECT": re.findall(r"project\s*\(\s*([^\s)]+)", text)[0]}


def picture_of(url: str) -> Path:
    """The file of this project that a URL into its repository shows."""
    return ROOT / url.split("/main/", 1)[1]


def test_entry_has_only_known_keys_of_the_right_type(entry: dict[str, Any]) -> None:
    assert {"$schema", "category", "scm_url"} <= entry.keys() <= KEYS.keys()
    for key, value in entry.items():
        assert type(value) is KEYS[key], f"{key} must be of type {KEYS[key].__name__}"
    assert 1 <= entry["tier"] <= 5
    assert entry["category"] in CATEGORIES
    assert all(isinstance(name, str) for name in entry["build_dependencies"])
    assert re.search(r"/slicer-extension-catalog-entry-schema-v1\.0\.[012]\.json#?$", entry["$schema"])


def test_entry_is_plain_json_with_unix_line_ends() -> None:
    data = ENTRY.read_bytes()
    assert b"\r" not in data and data.endswith(b"}\n") and data.isascii()


def test_names_follow_the_rules_of_the_index(entry: dict[str, Any], metadata: dict[str, str]) -> None:
    assert metadata["PROJECT"] == ENTRY.stem
    assert not ENTRY.stem.startswith("Slicer")
    assert entry["scm_url"].startswith("https://")
    assert entry["scm_url"].removesuffix(".git").rsplit("/", 1)[1] == f"Slicer{ENTRY.stem}"


def test_entry_and_cmake_say_the_same(entry: dict[str, Any], metadata: dict[str, str]) -> None:
    assert metadata["DEPENDS"].split() == entry["build_dependencies"] == ["PyTorch"]
    assert metadata["CATEGORY"] == entry["category"]
    assert metadata["HOMEPAGE"] == entry["scm_url"].removesuffix(".git")


def test_description_can_be_understood_by_someone_who_does_not_know_the_method(metadata: dict[str, str]) -> None:
    description = metadata["DESCRIPTION"]
    assert 100 < len(description) < 600
    assert "research use" in description
    assert not re.search(r"\b(latent|U-Net|convolution\w*|tensor|inference|MONAI)\b", description, re.IGNORECASE)


def test_icon_and_screenshots_are_pictures_of_this_project(metadata: dict[str, str]) -> None:
    urls = [metadata["ICONURL"], *metadata["SCREENSHOTURLS"].split()]
    assert len(urls) >= 2
    repository = metadata["HOMEPAGE"].split("github.com/")[1]
    for url in urls:
        assert url.startswith("https://") and f"/{repository}/main/" in url
        assert picture_of(url).read_bytes().startswith(b"\x89PNG\r\n\x1a\n"), f"{url} shows no PNG of this project"


def test_icon_is_128_pixels_square(metadata: dict[str, str]) -> None:
    header = picture_of(metadata["ICONURL"]).read_bytes()[16:24]
    assert (int.from_bytes(header[:4]), int.from_bytes(header[4:])) == (128, 128)


def test_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


def test_readme_has_what_the_index_asks_for() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for heading in ("Tutorial", "Install in Slicer", "Privacy", "Limits", "Troubleshooting"):
        assert re.search(rf"^##+ .*{heading}", text, re.MULTILINE), f"README.md has no chapter '{heading}'"
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert pictures
    for name in pictures:
        assert (ROOT / name).is_file(), f"README.md shows {name}, which does not exist"
