"""The trust figures of a result as the panel shows them: the verdict first, then a line with a mark for each figure."""

from html import escape

from slicer.i18n import tr as _

# Of the marks, on a light and on a dark base; all other text has the colour that Slicer's style gives it.
_COLORS = {
    False: {"good": "#1b6e20", "look": "#8a5000", "poor": "#b71c1c"},
    True: {"good": "#81c784", "look": "#ffb74d", "poor": "#ff8a80"},
}
_DARK = 128  # lightness of a base, 0..255, below which it is dark
_MARKS = {"good": "\N{HEAVY CHECK MARK}", "look": "\N{WHITE CIRCLE}", "poor": "\N{HEAVY BALLOT X}"}
_NOT_MEASURED = _("Not measured. Tick ‘Measure how far the result can be trusted’ before you press Apply.")  # noqa: RUF001
NOTHING = f"<p>{_NOT_MEASURED}</p>"


def isDark(widget):
    """Whether text in a widget is bright on dark, as in Slicer's dark style."""
    import qt

    return widget.palette.color(qt.QPalette.Base).lightness() < _DARK


def html(verdict, rows, dark=False):
    """The rows of the trust table as HTML, for a dark base or a light one; what to do when there are none."""
    if not rows:
        return NOTHING
    return f"<p><b>{escape(verdict)}</b></p>" + "".join(_line(row, _COLORS[dark]) for row in rows)


def _line(row, colors):
    verdict = row.get("verdict", "")
    mark = _MARKS.get(verdict, "\N{EN DASH}")
    if verdict in colors:
        mark = f'<span style="color:{colors[verdict]}">{mark}</span>'
    amount = " ".join(part for part in (_written(row.get("value", "")), row.get("unit", "")) if part)
    return (
        f"<p>{mark} <b>{escape(row.get('name', ''))}</b> {escape(amount)}<br>"
        f"<small>{escape(row.get('explanation', ''))}</small></p>"
    )


def _written(value):
    try:
        return f"{float(value):.3g}".replace("-", "\N{MINUS SIGN}")
    except ValueError:
        return value
