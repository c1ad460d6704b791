"""What the name of a scan tells of its kind: one rule for training and for what comes after it."""

import pytest

from MedAELib.naming import people_told, told_kind, told_kinds, without_kind

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
    ("file", "people"),
    [
        ("p0_T1post.nii.gz", ("p0_", "p0_")),
        ("p0_FLAIR3D.nii.gz", ("p0_", "p0_")),
        ("T1post_p0.nii.gz", ("", "_p0")),
        ("brainT1001.nii", ("brain", "brain001")),
        ("T1/p0_T1.nii", ("/p0_", "/p0_")),
        ("T1.nii", ("", "")),
        ("p0.nii", ("", "")),
    ],
)
def test_what_is_beside_the_word_of_the_kind_may_tell_who_it_is(file, people):
    assert people_told(file, KINDS) == people
