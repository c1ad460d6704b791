"""Which kind of data a file holds, by its name, as Slicer's readers decide it."""

from __future__ import annotations

# The longer ending comes first: ".seg.nrrd" before ".nrrd".
_ENDINGS = (
    ("SceneFile", (".mrb", ".mrml")),
    ("SegmentationFile", (".seg.nrrd", ".seg.nhdr")),
    ("MarkupsFile", (".mrk.json", ".fcsv")),
    ("ColorTableFile", (".ctbl",)),
    ("TransformFile", (".h5", ".tfm")),
    ("ModelFile", (".stl", ".vtp", ".obj", ".ply")),
    ("TableFile", (".csv", ".tsv")),
    ("TextFile", (".txt", ".json")),
    (
        "VolumeFile",
        (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".img", ".dcm", ".tif", ".tiff", ".png", ".jpg"),
    ),
)
NODE_CLASSES = {
    "SegmentationFile": "vtkMRMLSegmentationNode",
    "TableFile": "vtkMRMLTableNode",
    "TextFile": "vtkMRMLTextNode",
    "ColorTableFile": "vtkMRMLColorTableNode",
    "TransformFile": "vtkMRMLTransformNode",
    "ModelFile": "vtkMRMLModelNode",
}


def file_type(name: str) -> str:
    """Slicer's name of the file's type; "NoFile" when nothing reads it."""
    lower = str(name).lower()
    for kind, endings in _ENDINGS:
        if lower.endswith(endings):
            return kind
    return "NoFile"


def extension(name: str) -> str:
    """The ending that belongs to the type, such as ".nii.gz"."""
    lower = str(name).lower()
    known = (ending for _kind, endings in _ENDINGS for ending in endings if lower.endswith(ending))
    return next(known, "")


def node_name(name: str) -> str:
    """File name without folder and ending: the name of the node read from it."""
    base = str(name).replace("\\", "/").rsplit("/", 1)[-1]
    ending = extension(base)
    return base[: -len(ending)] if ending else base.rsplit(".", 1)[0]
