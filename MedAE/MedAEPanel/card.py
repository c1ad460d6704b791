"""The card of a model as HTML: what it was made for and trained on, how well it did, its limits, its licence."""

from html import escape

from slicer.i18n import tr as _

_NAMES = {"psnr": _("PSNR (dB)"), "ssim": "SSIM"}


def html(bundle):
    """The card of a bundle: training data, figures, limits, licence, identity."""
    parts = [f"<p><b>{escape(bundle.name)}</b> {escape(bundle.version)}<br>{escape(bundle.description)}</p>"]
    if bundle.training_data:
        parts.append(_titled(_("Trained on"), _bullets(bundle.training_data)))
    if bundle.figures:
        parts.append(_titled(_("Figures on scans it had not seen"), _figures(bundle.figures)))
    if bundle.limits:
        parts.append(_titled(_("Limits"), _bullets(bundle.limits)))
    licence = "<b>" + escape(_("Licence")) + "</b> " + escape(bundle.licence.strip())
    parts.append(f"<p>{licence}<br><b>SHA-256</b> {bundle.sha256[:16]}\u2026</p>")
    return "".join(parts)


def _titled(title, content):
    return f"<p><b>{escape(title)}</b></p>{content}"


def _bullets(texts):
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def _figures(figures, title=""):
    """Figures as tables: plain values one per row, entries of plain values a row each, deeper ones under their name."""
    plain = {name: value for name, value in figures.items() if not isinstance(value, dict)}
    flat = {name: value for name, value in figures.items() if isinstance(value, dict) and not _isDeep(value)}
    deep = {name: value for name, value in figures.items() if isinstance(value, dict) and _isDeep(value)}
    if len(flat) == 1 and not title:  # a table of one row is a list
        deep, flat = {**flat, **deep}, {}
    columns = list(dict.fromkeys(column for value in flat.values() for column in value))
    parts = [f"<p>{escape(title)}</p>"] if title and (plain or flat) else []
    if plain:
        parts.append(_table([[_name(name), value] for name, value in plain.items()]))
    if flat:
        rows = [[_name(name), *(value.get(column, "") for column in columns)] for name, value in flat.items()]
        parts.append(_table([["", *map(_name, columns)], *rows]))
    parts += [_figures(value, f"{title}, {_name(name)}" if title else _name(name)) for name, value in deep.items()]
    return "".join(parts)


def _isDeep(value):
    return any(isinstance(inner, dict) for inner in value.values())


def _table(rows):
    """A table whose words stay whole: one that is wider than the panel is scrolled."""
    cells = ("".join(f"<td>{escape(_figure(cell))}&nbsp;&nbsp;</td>" for cell in row) for row in rows)
    return '<table style="white-space:nowrap">' + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"


def _name(key):
    return _NAMES.get(str(key), str(key).replace("_", " "))


def _figure(value):
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_figure, value))
    return str(value)
