"""Compressed volumes in the scene: text nodes that tell what is known of them and that keep a .maez file, see holding.

A text node keeps .mrb scenes whole, which a vector volume of many components does not.
"""

import json
import re
from dataclasses import replace
from html import escape
from pathlib import Path

from slicer.i18n import tr as _

from . import holding

OUTPUT = "latent"  # the output's name in provenance, by which a latent is told from other text nodes
_CLASS = "vtkMRMLTextNode"
_TRANSFORM_ROLE = "MedAE.transform"
_LONGEST = 2000  # characters of a text: Slicer shows all of it as a tooltip, and a file may say much of itself
_MODES = {
    "lossless": _("bit for bit"), "max-error": _("no voxel off by more than {bound:g}"),
    "psnr": _("at least {decibels:g} dB"), "ratio": _("at least {times:g} times smaller"),
}  # fmt: skip


def isLatent(node):
    """Whether a node is a compressed volume."""
    return node is not None and node.IsA(_CLASS) and node.GetAttribute("MedAE.output") == OUTPUT


def make(data, place, name, provenance, original=None):
    """A new compressed volume in the scene, beside `original`; what is needed to decode it into the same place."""
    import slicer

    from MedAELib import nodes

    watch()
    scene = slicer.mrmlScene
    node = slicer.vtkMRMLTextNode()
    node.SetName(scene.GenerateUniqueName(name))
    node.SetForceCreateStorageNode(node.CreateStorageNodeAlways)  # else the Save dialog would not offer it as .maez
    nodes.stamp(node, {**provenance, "output": OUTPUT, "place": place.to_json()}, original)
    node.SetText(figuresText(node))
    node.SetDescription(_("A volume compressed by MedAE; decode it in the module MedAE, or save it as .maez"))
    holding.hold(node, holding.encoded(data))
    scene.AddNode(node)  # complete: selectors look at its attributes when it comes
    transform = scene.GetNodeByID(place.transform_id) if place.transform_id else None
    if transform is not None:
        node.SetNodeReferenceID(_TRANSFORM_ROLE, transform.GetID())
    nodes.stand_beside(node, original)
    return node


def watch():
    """Keep compressed volumes whole whatever happens to the scene, and bring those of earlier versions up to date."""
    holding.watch(_update)
    _update()


def _update():
    """Take the files out of the texts where earlier versions kept them."""
    import slicer

    for node in slicer.util.getNodesByClass(_CLASS):
        if isLatent(node) and not holding.holds(node):
            holding.hold(node, node.GetText() or "")
            storage = node.GetStorageNode()
            if storage is not None:  # the scene as it was saved still needs its text file
                node.SetAndObserveStorageNodeID(None)
                slicer.mrmlScene.RemoveNode(storage)
            node.SetForceCreateStorageNode(node.CreateStorageNodeAlways)
            node.SetText(figuresText(node))


def read(path):
    """A .maez file as a compressed volume in the scene; nothing is decoded. Raises BadInput for any other file."""
    from MedAELib import nodes
    from MedAELib.codec.container import read_container

    container = read_container(Path(path))
    container.check_whole()
    header = container.header
    shown = header.get("display") if isinstance(header.get("display"), dict) else {}
    window, level = (shown.get(key) for key in ("window", "level"))
    known = _finite(window) and _finite(level) and window > 0
    name = header["volume"]["name"] or Path(path).stem
    place = nodes.Place(name=name, window=window if known else None, level=level if known else None)
    data = Path(path).read_bytes()
    return make(data, place, Path(path).stem, _told(container, len(data)))


def write(node, path):
    """Write the .maez file of a compressed volume, wholly or not at all. Raises MedAEError."""
    from MedAELib.codec.container import save_bytes

    save_bytes(bytesOf(node), Path(path))


def bytesOf(node):
    """The .maez file of a compressed volume. Raises BadInput when somebody has deleted or changed it."""
    from MedAELib.errors import BadInput

    data = holding.dataOf(node)
    if data is None:
        sentence = _("'{name}' holds no compressed volume: its data were deleted or changed.")
        raise BadInput(sentence.format(name=node.GetName()), _("Load the file or the scene again."))
    return data


def placeOf(node):
    """Where the decoded volume belongs and how it is shown."""
    from MedAELib import nodes

    try:
        place = nodes.Place.from_json(json.loads(node.GetAttribute("MedAE.place") or "{}"))
    except (ValueError, TypeError, AttributeError):
        place = nodes.Place(name=node.GetName())
    transform = node.GetNodeReference(_TRANSFORM_ROLE)
    found = ("", "") if transform is None else (transform.GetID(), transform.GetName())
    return replace(place, transform_id=found[0], transform_name=found[1])


def originalOf(node):
    """What the results of a run on this node stand beside: of a compressed volume its input, while that is there."""
    from MedAELib import nodes

    return (nodes.input_of(node) or node) if isLatent(node) else node


def showOpened(volume):
    """Show a volume that came from a file, as Slicer shows whatever is opened."""
    import slicer

    if slicer.app.layoutManager() is not None:
        slicer.util.setSliceViewerLayers(background=volume, fit=True)


def figuresHtml(node):
    """What a compressed volume keeps and costs, as two columns of HTML."""
    cells = (f"<tr><td>{escape(name)}&nbsp;&nbsp;</td><td>{escape(text)}</td></tr>" for name, text in _figures(node))
    return f"<table>{''.join(cells)}</table>"


def figuresText(node):
    """The same as plain text, with the model: what the user reads in the tooltip of its row in Data."""
    model = str(_attributes(node).get("model") or "")
    rows = [(_("Compressed by MedAE"), ""), *_figures(node), *([(_("Model"), model)] if model else [])]
    return "\n".join(f"{name}: {text}" if text else name for name, text in rows)[:_LONGEST]


def _figures(node):
    """What a compressed volume keeps and costs, as names with their texts."""
    told = _attributes(node)
    rows = [(_("Promise"), _promise(told.get("mode")))]
    if "bytes" in told:
        size = _bytesText(told["bytes"])
        if "ratio" in told:
            size = _("{size}, {times:.3g} times smaller").format(size=size, times=told["ratio"])
        rows.append((_("Size"), size))
    if "bitsPerVoxel" in told:
        rows.append((_("Bits per voxel"), f"{told['bitsPerVoxel']:.3g}"))
    exact = told.get("maxError") == 0
    if exact:
        rows.append((_("Difference"), _("none: every voxel comes back bit for bit")))
    elif "maxError" in told:
        units = told.get("units") or _("grey values")
        rows += [
            ("PSNR", _number(told.get("psnr"), " dB", 4)), ("SSIM", _number(told.get("ssim"), "", 4)),
            (_("Largest error"), f"{told['maxError']:.4g} {units}"),
        ]  # fmt: skip
    return [(name, text) for name, text in rows if text]


def modeOf(node):
    """The promise of a compressed volume, as its header says it; empty when that cannot be read."""
    mode = _attributes(node).get("mode")
    return mode if isinstance(mode, dict) else {}


def warningOf(node):
    """What the guidance on lossy compression has against this one; empty for a lossless one."""
    from MedAELib.codec.guidance import guidance, guidance_ratio

    told = _attributes(node)
    lossless = told.get("maxError") == 0 or modeOf(node).get("kind") == "lossless"
    if lossless or not told.get("bitsPerVoxel"):
        return ""
    return guidance(str(told.get("modality", "")), guidance_ratio(told["bitsPerVoxel"]))


def _told(container, size):
    """What the header of a file of so many bytes says, as a run does; what no writer would say is left out."""
    from math import prod

    header = container.header
    mode = {key: value for key, value in header["mode"].items() if isinstance(value, str) or _finite(value)}
    told = {"mode": mode, "model": header["model"]["name"], "modelSHA256": header["model"]["sha256"]}
    volume, figures = header["volume"], header.get("figures")
    voxels = prod(volume["shape"])
    width = {"bool": 1}.get(volume["dtype"]) or int(re.sub("[^0-9]", "", volume["dtype"])[:2] or 16) // 8
    told |= {"bytes": size, "ratio": voxels * width / size, "bitsPerVoxel": 8 * size / voxels}
    told |= {"inputName": volume["name"], "modality": volume["modality"]}
    if volume["modality"] == "CT":
        told["units"] = "HU"
    for name, attribute in (("psnr", "psnr"), ("ssim", "ssim"), ("max_error", "maxError")):
        value = figures.get(name) if isinstance(figures, dict) else None
        if _finite(value):
            told[attribute] = value
    return told


def _finite(value):
    """Whether a value of a header is a number that can be told: 1e999 is read as infinite."""
    return type(value) in (int, float) and -1e300 < value < 1e300


def _attributes(node):
    """The provenance of a node, numbers and tables as such; what cannot be read is left out."""
    from MedAELib import nodes

    found = {}
    for name, text in nodes.provenance(node).items():
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    numbers = ("bytes", "ratio", "bitsPerVoxel", "psnr", "ssim", "maxError")
    return {k: v for k, v in found.items() if k not in numbers or type(v) in (int, float)}


def _promise(mode):
    try:
        return _MODES[mode["kind"]].format(**mode)
    except (KeyError, TypeError, ValueError):
        return ""


def _number(value, unit, digits):
    return "" if value is None else f"{value:.{digits}g}{unit}"


def _bytesText(size):
    for factor, unit in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return _("{size} bytes").format(size=size)
