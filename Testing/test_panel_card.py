"""The card of a model in the panel shows every figure as text, none as raw data."""

import re
from html import unescape
from pathlib import Path

import pytest
from panel_fixtures import OpenPanel
from panel_tools import add_scan

from MedAELib.bundle import METADATA, Bundle, bundled_models


def text_of(page: str) -> str:
    return unescape(re.sub("<[^>]+>", " ", page))


def numbers(figures: object) -> list[object]:
    if isinstance(figures, dict):
        return [number for value in figures.values() for number in numbers(value)]
    return [figures]


@pytest.mark.parametrize("bundle", bundled_models(), ids=lambda bundle: bundle.name)
def test_every_figure_of_a_bundled_model_is_in_its_card(panel: OpenPanel, bundle: Bundle) -> None:
    from MedAEPanel import card

    page = text_of(card.html(bundle))
    assert not re.search(r"[{}\[\]']", page.replace("'s", "").replace("s'", ""))
    for number in numbers(bundle.figures):
        if isinstance(number, float):
            assert f"{number:.4g}" in page


def test_markup_in_a_card_is_text(panel: OpenPanel) -> None:
    from dataclasses import replace

    from MedAEPanel import card

    bundle = replace(bundled_models()[0], description="<b>bold</b>", figures={"<i>": {"<u>": {"a": 1.0}}})
    page = card.html(bundle)
    assert "<b>bold" not in page and "<i>" not in page and "<u>" not in page


def test_a_model_that_is_made_anew_in_its_folder_shows_its_new_card(panel: OpenPanel, models: Path) -> None:
    panel.choose(add_scan())
    assert "Removes noise from CT volumes." in panel.ui.modelLabel.text
    metadata = models / "ct_denoise" / METADATA
    metadata.write_text(metadata.read_text().replace("Removes noise", "Removes more noise"))
    panel.widget.panel.update()
    assert "Removes more noise" in panel.ui.modelLabel.text
    assert "Removes more noise" in panel.ui.cardBrowser.toPlainText()
    metadata.write_text("{}")
    panel.widget.panel.update()
    assert not panel.ui.applyButton.enabled and "No model was made" in panel.ui.modelLabel.text


def test_words_of_a_table_stay_whole_in_a_narrow_panel(panel: OpenPanel) -> None:
    from PySide6.QtGui import QTextDocument

    from MedAEPanel import card

    measures = {f"measure{number}": 0.5 for number in range(10)}
    document = QTextDocument()
    document.setHtml(card._figures({"bright": measures, "dark": measures}))
    heights = []
    for width in (2000, 200):
        document.textWidth = width
        heights.append(document.size.height())
    assert heights[0] == heights[1]
