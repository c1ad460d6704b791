"""What the name of a scan tells of its kind: one rule for training and for what comes after it."""

import pytest

from MedAELib.naming import person_told, told_kind, told_kinds, without_kind, without_kind_folders

KINDS = ("T1", "T1c", "T2", "FLAIR")


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("brain_t1.nii.gz", ["T1"]),
        ("brainT1", ["T1"]),
        ("patient12_t2w", ["T2"]),
        ("t1c.nrrd", ["T1c"]),
        ("scan-T1-registered to-T2", ["T1", "T2"]),
        ("visit FLAIR of T2", ["FLAIR", "T2"]),
        ("dart1 swift2", []),
        ("", []),
    ],
)
def test_a_name_tells_kinds_where_a_word_begins_or_as_they_are_written(name, kinds):
    assert told_kinds(name, KINDS) == kinds
    assert told_kind(name, KINDS) == (kinds[-1] if kinds else "")


@pytest.mark.parametrize(
    ("files", "common"),
    [
        (["a/p1_T1.nii.gz", "a/p1_flair.nii", "a/p1_T1c.NRRD", "a/p1_"], "a/p1_"),
        (["p1/T1.nii.gz", "p1/T2", "p1/FLAIR.mha"], "p1/"),
        (["T1/scan_T2.nii"], "T1/scan_"),
        (["p1_T1W.nii.gz", "p1_t2w.nii", "p1_FLAIR.nii", "p1_T1wi", "p1_T2-weighted.nrrd", "p1_T1_w", "p1_T1"], "p1_"),
        (["T1w_p1.nii.gz", "FLAIR_p1.nii.gz", "T2 weighted_p1.nii"], "_p1"),
        (["p1_T1post.nii"], "p1_post"),
        (["p1_T1_week2.nii", "p1_FLAIR_week2.nii"], "p1__week2"),
        (["p1_T1walter.nii"], "p1_walter"),
    ],
)
def test_files_of_a_subject_have_the_rest_of_their_names_in_common(files, common):
    assert {without_kind(file, KINDS) for file in files} == {common}


@pytest.mark.parametrize(
    ("file", "person"),
    [
        ("p0_T1post.nii.gz", "p0"), ("p0_T2_FLAIR.nii", "p0"), ("p0_3DT1.nii", "p0"), ("p0_rT2.nii", "p0"),
        ("p0_FLAIR3D.nii.gz", "p0"), ("T1post_p0.nii.gz", "p0"), ("T1_MPRAGE_p0.nii", "p0"), ("T1/P0_T1.nii", "p0"),
        ("p0_T1_abc.nii", "p0"), ("brain_T1_anna.nii", "brain-anna"), ("UCL_T1_001.nii", "ucl-001"),
        ("p0/T1w_raw/scan_T1.nii", "p0/scan"), ("brainT1001.nii", ""), ("T1.nii", ""), ("p0.nii", ""),
    ],
)  # fmt: skip
def test_what_is_beside_the_words_of_the_kind_may_tell_who_it_is(file, person):
    assert person_told(file, KINDS) == person


@pytest.mark.parametrize("name", ["p0_T2_FLAIR.nii", "p0_T2-FLAIR.nii", "p0_T2FLAIR.nii", "p0_T2w_FLAIR.nii"])
def test_a_flair_is_a_t2_itself(name):
    assert told_kind(name, KINDS) == "FLAIR" and without_kind(name, KINDS) == "p0_"
    assert without_kind("p0_T1_T2.nii", KINDS) == "p0_T1_"


def test_folders_of_a_kind_are_left_out():
    for folder in ("T1", "t1w_raw", "T2_FLAIR/raw"):
        assert without_kind_folders(f"{folder}/p0_T1.nii", KINDS).split("/")[-1:] == ["p0_T1.nii"]
    assert without_kind_folders("T1/p0_T1.nii", KINDS) == without_kind_folders("t1w_raw/p0_T1.nii", KINDS)
    assert without_kind_folders("p0/T1/a.nii", KINDS) == "p0/T1/a.nii"
