"""Colours in the panel can be read on a light and on a dark base, as Slicer's two styles have them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from panel_fixtures import OpenPanel
from panel_tools import ROOT, add_scan

BASES = {"light": "#ffffff", "grey": "#f0f0f0", "dark": "#232323", "slate": "#353535"}
LEAST = 4.5  # contrast that the Web Content Accessibility Guidelines ask of text
COLOUR = re.compile("#[0-9a-f]{6}")
_VIEWS = ("compare.py", "learning.py")  # colours of bars and curves, which nobody reads


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, 0..1."""
    shares = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, 1..21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.fixture
def base(request: Any, slicer_host: Any) -> Any:
    """Slicer with a palette of this base; the palette before is restored."""
    import qt

    before, palette = qt.QPalette(qt.QApplication.palette()), qt.QPalette(qt.QApplication.palette())
    palette.setColor(qt.QPalette.Base, qt.QColor(request.param))
    palette.setColor(qt.QPalette.Text, qt.QColor("#ffffff" if luminance(request.param) < 0.2 else "#000000"))
    qt.QApplication.setPalette(palette)
    yield request.param
    qt.QApplication.setPalette(before)


@pytest.mark.parametrize("base", list(BASES.values()), ids=list(BASES), indirect=True)
def test_trust_figures_can_be_read_on_every_base(base: str, panel: OpenPanel) -> None:
    from MedAEPanel import trust

    panel.choose(add_scan())
    panel.ui.trustCheckBox.checked = True
    panel.run()
    dark = trust.isDark(panel.ui.trustBrowser)
    assert dark == (luminance(base) < 0.2)
    rows = [{"name": "n", "verdict": verdict, "explanation": "why"} for verdict in ("good", "look", "poor", "")]
    found = COLOUR.findall(trust.html("As a whole", rows, dark))
    assert len(set(found)) == 3  # only marks have colours of their own
    assert all(contrast(colour, base) >= LEAST for colour in found)
    shown = COLOUR.findall(panel.ui.trustBrowser.toHtml())
    assert shown and set(shown) <= set(found)


def test_no_other_text_of_the_panel_has_a_colour_without_its_background() -> None:
    from MedAEPanel import compressing, trust

    style = compressing.WARNING_STYLE
    ground, text = (re.search(rf"(?<!-){name}: (#\w+)", style) for name in ("background-color", "color"))
    assert ground and text and contrast(ground[1], text[1]) >= LEAST
    known = {*COLOUR.findall(style), *(each for marks in trust._COLORS.values() for each in marks.values())}
    folder = ROOT / "MedAE" / "MedAEPanel"
    for path in (*folder.glob("*.py"), *Path(ROOT / "Resources" / "UI").glob("*.ui")):
        if path.name not in _VIEWS:
            assert set(COLOUR.findall(path.read_text().lower())) <= known, path.name
