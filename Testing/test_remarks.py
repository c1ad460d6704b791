"""What a user hears of a finished run besides its result."""

import pytest

from MedAELib.remarks import remarks
from MedAELib.terminal import tell


@pytest.mark.parametrize(("adapted", "said"), [(True, "was used so"), (False, "was used unchanged")])
def test_a_run_says_whether_the_model_adapted(adapted: bool, said: str, capsys) -> None:
    tell({"adapted": adapted, "warnings": ["It is doubtful."]})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and said in lines[0] and lines[1] == "medae: note: It is doubtful."


def test_what_was_left_out_is_said_with_the_reason() -> None:
    told = {"warnings": [], "left_out": {"attribution": "The code is not continuous."}}
    assert remarks(told) == ["No attribution: The code is not continuous."]
    assert remarks({"warnings": []}) == []
