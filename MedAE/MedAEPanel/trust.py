"""The trust figures of a result as the panel shows them: the verdict first, then a coloured line for each figure."""

from html import escape

from slicer.i18n import tr as _

_COLORS = {"good": "#2e7d32", "look": "#b26a00", "poor": "#c62828"}
_MARKS = {"good": "\N{HEAVY CHECK MARK}", "look": "\N{WHITE CIRCLE}", "poor": "\N{HEAVY BALLOT X}"}
_NOT_MEASURED = _("Not measured. Tick ‘Measure how far the result can be trusted’ before you press Apply.")  # noqa: RUF001
NOTHING = f"<p>{_NOT_MEASURED}</p>"


def html(verdict, rows):
    """The rows of the trust table as HTML; what to do when there are none."""
    if not rows:
        return NOTHING
    return f"<p><b>{escape(verdict)}</b></p>" + "".join(_line(row) for row in rows)


def _line(row):
    verdict = row.get("verdict", "")
    color, mark = _COLORS.get(verdict, "#555555"), _MARKS.get(verdict, "\N{EN DASH}")
    amount = " ".join(part for part in (_written(row.get("value", "")), row.get("unit", "")) if part)
    return (
        f'<p><span style="color:{color}">{mark}</span> <b>{escape(row.get("name", ""))}</b> {escape(amount)}<br>'
        f'<span style="color:#555555">{escape(row.get("explanation", ""))}</span></p>'
    )


def _written(value):
    try:
        return f"{float(value):.3g}".replace("-", "\N{MINUS SIGN}")
    except ValueError:
        return value
