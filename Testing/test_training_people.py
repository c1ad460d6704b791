"""Files of several kinds of scan: which are one case, and that nobody is in two parts however they are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from volumes import blob

from MedAELib import Volume
from MedAELib.features.cases import cases_of as rows_of
from MedAELib.training.folder import Case, cases_of, read_folder

KINDS = ("T1", "T2", "FLAIR")


def read(folder: Path, names: list[str], subject: str = "") -> tuple[dict[str, Case], list[str]]:
    """The cases by name of files of these names, and what was told."""
    for name in names:
        path = folder / "scans" / f"{name}.nii"
        path.parent.mkdir(parents=True, exist_ok=True)
        Volume(blob(0, (8, 8, 6))[None], np.eye(4)).save(path)
    told: list[str] = []
    cases = read_folder(folder / "scans", folder / "cache", KINDS, subject, told.append, remark=told.append)
    return {case.name.removesuffix(".nii"): case for case in cases}, told


def channels(cases: dict[str, Case]) -> dict[str, int]:
    """How many kinds of scan each case has."""
    return {name: int(np.isfinite(case.voxels).any((1, 2, 3)).sum()) for name, case in cases.items()}


@pytest.mark.parametrize("kinds", [("T1W", "T2W", "FLAIR"), ("T1w", "T2_w", "FLAIR"), ("T1-weighted", "t2WI", "flair")])
def test_the_whole_word_of_a_weighting_tells_the_kind(tmp_path, kinds):
    names = [f"p{n}_{kind}" for n in range(3) for kind in kinds]
    cases, told = read(tmp_path, names)
    assert channels(cases) == {"p0_": 3, "p1_": 3, "p2_": 3} and not told
    assert len({case.subject for case in cases.values()}) == 3
    assert [row.name for row in rows_of([Path(f"{name}.nii") for name in names], KINDS)] == ["p0", "p1", "p2"]


@pytest.mark.parametrize(
    "kinds",
    [("T1post", "T2", "FLAIR3D"), ("T1_MPRAGE", "T2_TSE", "FLAIR_SPC"), ("T1 post", "T2", "FLAIR")],
)
@pytest.mark.parametrize("people", [1, 3])
def test_cases_named_alike_but_for_what_follows_the_kind_are_of_one_subject_which_is_told(tmp_path, kinds, people):
    cases, told = read(tmp_path, [f"p{n}_{kind}" for n in range(people) for kind in kinds])
    assert len(cases) > people
    whose = {case.subject: set() for case in cases.values()}
    for name, case in cases.items():
        whose[case.subject].add(name[:3])
    assert sorted(map(sorted, whose.values())) == [[f"p{n}_"] for n in range(people)]
    assert len(told) == 1 and "are taken as two cases of one subject" in told[0] and "--subject" in told[0]


@pytest.mark.parametrize(
    "names",
    [
        ["T1post_{}", "T2_{}", "FLAIR_{}"],
        ["T1/{}_T1", "T2/{}_T2", "FLAIR/{}_FLAIR"],
        ["{}_T1/scan_T1", "{}_T2/scan_T2", "{}_FLAIR/scan_FLAIR"],
    ],
)
def test_nobody_is_two_subjects_where_the_kind_is_before_the_name_or_in_a_folder(tmp_path, names):
    cases, told = read(tmp_path, [name.format(f"p{n}") for n in range(3) for name in names])
    for n in range(3):
        assert len({case.subject for name, case in cases.items() if f"p{n}" in name}) == 1
    assert len(told) == 1


def test_a_second_scan_of_a_kind_is_of_the_same_person(tmp_path):
    cases, told = read(tmp_path, [f"p{n}_{kind}" for n in range(4) for kind in ("T1", "T1post", "T2", "T2_FLAIR")])
    assert len(cases) == 8 and channels(cases)["p0_"] == 3
    assert len({case.subject for case in cases.values()}) == 4 and "of one subject (and so are 3 more)" in told[0]
    for n in range(4):
        assert len({case.subject for name, case in cases.items() if name.startswith(f"p{n}_")}) == 1


def test_folders_of_a_kind_are_nobody(tmp_path):
    cases, _ = read(tmp_path, [f"{kind}/p{n}_{kind}" for n in range(4) for kind in KINDS])
    assert len({case.subject for case in cases.values()}) == 4


@pytest.mark.parametrize(
    "names",
    [
        [f"{site}_{kind}_{n + 50 * shift:03d}" for site in ("UCL", "MGH") for shift, kind in enumerate(KINDS)
         for n in range(3)],
        ["brain_T1_anna", "brain_T2_bob", "brain_T2_dora", "head_T1_eve"],
    ],
)  # fmt: skip
def test_strangers_of_one_site_are_not_joined(tmp_path, names):
    cases, _ = read(tmp_path, names)
    assert len({case.subject for case in cases.values()}) == len(names)


@pytest.mark.parametrize(
    "name", ["brain_{}_{}", "{}_{}", "{}-{}", "study{}{}", "{1}_{0}", "{1}_{0}_v1", "brain{}anna{}"]
)
def test_people_stay_apart_whose_files_are_named_alike(tmp_path, name):
    names = [name.format(kind, f"00{n}") for n in range(4) for kind in KINDS]
    names.remove(name.format("T2", "002"))
    cases, told = read(tmp_path, names)
    assert sorted(channels(cases).values()) == [2, 3, 3, 3] and not told
    assert len({case.subject for case in cases.values()}) == 4


def test_a_pattern_says_who_is_who_and_cases_that_all_miss_a_kind_are_told(tmp_path):
    names = ["a1_T1post", "a1_FLAIR", "a2_T1post", "a2_FLAIR"]
    cases, _ = read(tmp_path, names, "^(.)")
    assert {case.subject for case in cases.values()} == {"a"}
    cases, told = read(tmp_path / "else", [f"p{n}_{kind}" for n in range(3) for kind in KINDS[:2]])
    assert len({case.subject for case in cases.values()}) == 3
    assert told == ["No case has all of T1, T2, FLAIR: the files of one must be named alike but for these."]


def test_volumes_of_a_scene_are_told_in_the_same_way():
    def cases(subjects: dict[str, str], *names: str) -> tuple[list[Case], list[str]]:
        told: list[str] = []
        volumes = {name: Volume(blob(0, (8, 8, 6))[None], np.eye(4), {"name": name}) for name in names}
        return cases_of(volumes, subjects, told.append, KINDS, told.append), told

    made, told = cases({}, "p0 T1W", "p0 T2w", "p0 FLAIR", "p1 T1w", "p1 T2w", "p1 FLAIR")
    assert [case.name.strip() for case in made] == ["p0", "p1"] and not told
    assert len({case.subject for case in made}) == 2
    made, told = cases({}, "p0 T1post", "p0 FLAIR", "p1 T1post", "p1 FLAIR")
    assert len(made) == 4 and len({case.subject for case in made}) == 2 and "of one subject" in told[0]
    made, _ = cases({"p0 T1post": "A", "p0 FLAIR": "B"}, "p0 T1post", "p0 FLAIR")
    assert {case.subject for case in made} == {"A", "B"}
