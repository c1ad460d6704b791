"""The known cases that are most like a scan, as a list of links: a click opens the case at the place that is alike."""

import os
from html import escape

from slicer.i18n import tr as _

from .overlay import jumpTo

NOTHING = "<p>" + _("No similar cases yet: name a file of known cases and press Apply.") + "</p>"
_MOST = 200  # rows: a slice each of a long scan


class Similar:
    """The list in the section of the tasks that look; `say` tells the user why a case cannot be opened."""

    def __init__(self, ui, say):
        self._ui, self._say, self._rows, self._html = ui, say, [], None
        ui.similarBrowser.setOpenLinks(False)
        ui.similarBrowser.connect("anchorClicked(QUrl)", self._onLink)

    def setRows(self, rows):
        """The rows of the table of similar cases, as text by column."""
        self._rows = rows
        page = html(rows)
        if page != self._html:
            self._html = page
            self._ui.similarBrowser.setHtml(page)

    def _onLink(self, url):
        row = self._rows[int(url.fragment() if callable(url.fragment) else url.fragment)]
        node = self._find(row)
        if node is None:
            return
        import slicer

        slicer.util.setSliceViewerLayers(background=node, fit=True)
        jumpTo(node, [float(row[axis]) for axis in "ras"])

    def _find(self, row):
        """The scan of a case in the scene, loaded from its file if it is not there; None where it cannot be."""
        import slicer

        from MedAELib import nodes

        name, path = row["similar_case"], row["similar_file"]
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
            if node.GetName() == name and not nodes.provenance(node):
                return node
        if not os.path.exists(path):
            if path:
                told = _("{name} is not in the scene, and its file {path} is not there. Load it, then click again.")
            else:
                told = _("{name} is not in the scene, and no file of it is known. Load it, then click again.")
            self._say(told.format(name=name, path=path))
            return None
        try:
            return slicer.util.loadVolume(path, {"name": name})
        except RuntimeError:
            told = _("Slicer cannot open {path}. Load {name} by the module DICOM or Add Data, then click again.")
            self._say(told.format(path=path, name=name))
            return None


def html(rows):
    """The rows as a table of links, nearest first; those of many slices are cut short."""
    if not rows:
        return NOTHING
    many = any(row["item"] != rows[0]["item"] for row in rows)
    cells = []
    for number, row in enumerate(rows[:_MOST]):
        case = row["similar_case"] + (f", {row['similar_item']}" if row["similar_item"] not in ("", "volume") else "")
        mine = f"<td>{escape(row['item'])}&nbsp;&nbsp;</td>" if many else ""
        link = f'<a href="#{number}">{escape(case)}</a>'
        cells.append(f"<tr>{mine}<td>{link}&nbsp;&nbsp;</td><td>{float(row['distance']):.3g}</td></tr>")
    head = "<th align='left'>" + _("here") + "&nbsp;&nbsp;</th>" if many else ""
    head += "<th align='left'>" + _("similar case") + "</th><th>" + _("distance") + "</th>"
    left = _("{count} more stand in the table.").format(count=len(rows) - _MOST) if len(rows) > _MOST else ""
    return f"<table><tr>{head}</tr>{''.join(cells)}</table>" + (f"<p>{left}</p>" if left else "")
