"""All that the panel says can be translated: it is wrapped for Slicer's translators, and follows Slicer's language."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from panel_tools import MODULE, add_scan
from translation_lint import lint_source

ROOT = Path(__file__).resolve().parents[1]
FILES = [path for path in sorted((ROOT / "MedAE").rglob("*.py")) if path.name != "selftest.py"]

BAD = {
    "label.setText('No model yet')": "wrap it",
    "button.toolTip = 'Run the task'": "wrap it",
    "label.text = 'Stopping' if stopping else _('Stop')": "wrap it",
    "label.text = told or f'Working on {name}'": "wrap it",
    "label.text = '{} volumes'.format(count)": "wrap it",
    "self.state, self.stage = 'running', 'Reading the volume'": "wrap it",
    "raise BadInput(_('It is empty.'), 'Choose another one')": "wrap it",
    "confirm(f'{count} packages are missing' + _('Install them?'))": "wrap it",
    "NOTHING = '<p>No region lies above it.</p>'": "wrap it",
    "def problem():\n    return f'The model {name} cannot be used.'": "wrap it",
    "_(f'{name} is done')": "one literal text",
    "_(TITLE)": "one literal text",
    "html = f'<b>{_(\"Limits\")}</b>'": "in an f-string",
    "_('Stopping\\N{HORIZONTAL ELLIPSIS}')": "write the character itself",
    "_('It\\u2019s done')": "write the character itself",
    "for _, name in pairs:\n    pass": "another name",
    "act(lambda _: None)": "another name",
}
GOOD = '''
"""A docstring is no text for the user."""
import logging
from slicer.i18n import tr as _

ATTRIBUTE = "MedAE.output"
logging.warning("MedAE: %s", "This is for developers alone.")
label.setText(_("It's \\"done\\"\\n"))
label.text = _("{count} volumes of {people} subjects.").format(count=3, people=2)
label.text = f"{told} {percent} %" if told else ""
label.text = "<p>" + _("Nothing was found.") + "</p>"
spinBox.suffix = " HU"
node.SetName(f"{name} removed noise")
first, _second = pair
raise BadInput(_("'{name}' is empty.").format(name=name))
'''


@pytest.mark.parametrize(("source", "finding"), BAD.items(), ids=range(len(BAD)))
def test_what_a_translator_never_sees_is_found(source: str, finding: str) -> None:
    found = lint_source(source, "a.py")
    assert len(found) == 1 and finding in found[0], found


def test_what_is_wrapped_and_what_is_no_text_for_the_user_passes() -> None:
    assert lint_source(GOOD) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_translator_sees_all_that_the_panel_says(path: Path) -> None:
    assert lint_source(path.read_text(encoding="utf-8"), path.name) == []


@pytest.fixture
def marked(slicer_host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A language in which every text begins with a mark, and a panel that is loaded in it."""
    import slicer

    from SlicerHost.module_loader import load_module

    load_module(MODULE)
    for path in (ROOT / "MedAE" / "MedAEPanel").glob("*.py"):  # all of it, so that no marked part is left behind
        importlib.import_module(f"MedAEPanel.{path.stem}" if path.stem != "__init__" else "MedAEPanel")
    monkeypatch.setattr(slicer.i18n, "tr", lambda text: f"\N{DAGGER}{text}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "MedAEPanel"]:
        monkeypatch.delitem(sys.modules, name)


def test_the_panel_speaks_slicers_language(marked: None, request: pytest.FixtureRequest) -> None:
    panel = request.getfixturevalue("panel")
    ui = panel.ui
    assert ui.applyButton.toolTip == "\N{DAGGER}Choose a volume first."
    panel.run(add_scan())
    said = [ui.statusLabel.text, ui.inputLabel.text, ui.applyButton.text, ui.applyButton.toolTip]
    said += [ui.beforeButton.toolTip, ui.sideBySideButton.toolTip, ui.probeOutputHeading.text]
    for box in (ui.precisionComboBox, ui.promiseComboBox, ui.featuresPerComboBox):
        said += [box.itemText(index) for index in range(box.count)]
    panel.parameters.task = "train"
    for box in (ui.trainSourceComboBox, ui.trainGoalComboBox, ui.trainObjectiveComboBox, ui.trainSizeComboBox):
        said += [box.itemText(index) for index in range(box.count)]
    said += [ui.problemLabel.text, ui.trainStopButton.text]
    assert [text for text in said if "\N{DAGGER}" not in text] == []
