"""Slicer's volume nodes as values, and results as nodes beside their input: the only library file that knows Slicer."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import slicer
import vtk
from vtk.util import numpy_support

from .errors import BadInput, OutOfMemory
from .volume import Volume

PREFIX = "MedAE."  # of every attribute and reference role that MedAE sets on a node
INPUT_ROLE = "MedAE.input"
COLORS = "MedAE removed noise"  # the diverging colour table, one per scene

_REFUSED = {
    "vtkMRMLLabelMapVolumeNode": "is a label map, not a scan; choose the scan that it was drawn on",
    "vtkMRMLSegmentationNode": "is a segmentation, not a scan; choose the scan that it was drawn on",
    "vtkMRMLSequenceNode": "is a sequence of volumes; choose one frame of it in the Sequences module first",
    "vtkMRMLMultiVolumeNode": "holds several volumes; choose one frame of it first",
    "vtkMRMLDiffusionWeightedVolumeNode": "is a diffusion series; choose one of its volumes first",
    "vtkMRMLDiffusionTensorVolumeNode": "holds tensors, not grey values; choose a scan",
}
# What Slicer's writers take; anything else becomes a volume that can be shown but not saved, and then no .mrb at all.
_STORABLE = ("uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")
_WIDER = {"bool": "uint8", "int8": "int16", "float16": "float32"}


@dataclass(frozen=True)
class Place:
    """Where a result belongs and how it is shown: taken from the input before the work starts, kept as JSON with it.

    `window` and `level` are intensities; `world` is the 4x4 of a linear parent transform, row by row.
    """

    node_id: str = ""
    name: str = "volume"
    transform_id: str = ""
    transform_name: str = ""
    world: tuple[float, ...] | None = None
    window: float | None = None
    level: float | None = None
    color_id: str = ""
    interpolate: bool = True

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Place:
        """The place that `to_json` described; unknown keys are left out."""
        known = {key: value for key, value in values.items() if key in Place.__dataclass_fields__}
        return Place(**{**known, "world": tuple(known["world"]) if known.get("world") else None})


def read(node: Any, called: str = "") -> Volume:
    """The voxels and the position of a volume node; the voxels are the node's own memory, read-only, never copied.

    Scalar volumes give one channel, vector volumes one channel per component. A parent transform is left aside: the
    affine is the node's IJKToRAS. Raises BadInput, naming the node (as `called`, or by its name), for anything else and
    for a node without voxels.
    """
    if node is None:
        raise BadInput("No volume is selected.", "Choose the volume to work on.")
    called = called or f"'{node.GetName() or node.GetID()}'"
    if node.GetClassName() in _REFUSED:
        raise BadInput(f"{called} {_REFUSED[node.GetClassName()]}.")
    if node.GetClassName() not in ("vtkMRMLScalarVolumeNode", "vtkMRMLVectorVolumeNode"):
        raise BadInput(f"{called} is not a volume.")
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        raise BadInput(f"{called} holds no voxels.", "Load the scan again, or choose another volume.")
    array = slicer.util.arrayFromVolume(node).T
    array = array[np.newaxis] if array.ndim == 3 else array
    return Volume(array, affine_of(node), {"name": node.GetName() or "", "modality": modality_of(node)})


def read_scan(node: Any, called: str = "") -> Volume:
    """As `read`, for a task that works on grey values. Raises BadInput when a voxel holds several values."""
    volume = read(node, called)
    if volume.channels > 1:
        called = called or f"'{volume.name}'"
        raise BadInput(f"{called} has {volume.channels} values per voxel; choose a grey-value scan.")
    return volume


def affine_of(node: Any) -> npt.NDArray[np.float64]:
    """The node's IJKToRAS as a 4x4 array, without its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def modality_of(node: Any) -> str:
    """What DICOM said of the node, "CT" or "MR"; empty when it did not come from DICOM or is not in the scene."""
    if node is None or node.GetScene() is not slicer.mrmlScene:
        return ""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
    found = str(hierarchy.GetItemAttribute(item, "DICOM.Modality") or "") if item else ""
    return found if found in ("CT", "MR") else ""


def place_of(node: Any) -> Place:
    """What a result takes over from its input node."""
    parent, display = node.GetParentTransformNode(), node.GetDisplayNode()
    world = None
    if parent is not None and parent.IsTransformToWorldLinear():
        matrix = vtk.vtkMatrix4x4()
        parent.GetMatrixTransformToWorld(matrix)
        world = tuple(matrix.GetElement(row, column) for row in range(4) for column in range(4))
    shown = display is not None and display.IsA("vtkMRMLScalarVolumeDisplayNode")
    return Place(
        node_id=node.GetID(), name=node.GetName() or "volume", world=world,
        transform_id=parent.GetID() if parent else "", transform_name=parent.GetName() if parent else "",
        window=display.GetWindow() if shown else None, level=display.GetLevel() if shown else None,
        color_id=display.GetColorNodeID() or "" if shown else "",
        interpolate=bool(display.GetInterpolate()) if shown else True,
    )  # fmt: skip


def storable(array: npt.NDArray[Any]) -> np.dtype[Any]:
    """The nearest voxel type to the array's own that Slicer can show and save without losing values."""
    dtype = array.dtype
    if dtype.name in _STORABLE:
        return dtype.newbyteorder("=")
    if dtype.name in _WIDER:
        return np.dtype(_WIDER[dtype.name])
    low, high = array.min(), array.max()
    for name in ("int32", "uint32"):
        if dtype.kind in "iu" and np.iinfo(name).min <= low and high <= np.iinfo(name).max:
            return np.dtype(name)
    return np.dtype("float64")


class Filling:
    """An image (vtkImageData) that is filled from a one-channel volume slab by slab, so that no step takes long.

    `step` copies about `max_bytes` and returns whether everything is there; `fraction` is 0..1. Raises OutOfMemory.
    """

    def __init__(self, volume: Volume) -> None:
        if volume.channels != 1:
            raise BadInput(f"The result has {volume.channels} values per voxel instead of one.")
        self._source = volume.array[0].T  # [k, j, i], as VTK keeps voxels
        dtype = storable(self._source)
        self.image = vtk.vtkImageData()
        self.image.SetDimensions(*volume.shape)
        try:
            self.image.AllocateScalars(numpy_support.get_vtk_array_type(dtype), 1)
        except MemoryError:
            raise OutOfMemory("There is not enough memory left in Slicer for the result.") from None
        scalars = self.image.GetPointData().GetScalars()
        if scalars is None or scalars.GetNumberOfTuples() != self._source.size:
            raise OutOfMemory("There is not enough memory left in Slicer for the result.")
        self._target = numpy_support.vtk_to_numpy(scalars).reshape(self._source.shape)
        # Cutting across the slowest axis of the source reads each page of a memory-mapped file once.
        self._axis = int(np.argmax(np.abs(self._source.strides)))
        self._done = 0

    @property
    def fraction(self) -> float:
        """How much has been copied, 0..1."""
        return self._done / self._source.shape[self._axis]

    def step(self, max_bytes: int = 8 << 20) -> bool:
        """Copy the next slab; True when the image is complete."""
        length = self._source.shape[self._axis]
        thickness = max(1, max_bytes * length // max(1, self._target.nbytes))
        slab = [slice(None)] * 3
        slab[self._axis] = slice(self._done, self._done + thickness)
        self._target[tuple(slab)] = self._source[tuple(slab)]
        self._done = min(length, self._done + thickness)
        return self._done == length

    def spread(self) -> float:
        """The value that 99.5 % of a sample of the voxels stay below in magnitude: the half window of removed noise."""
        steps = tuple(slice(None, None, max(1, size // 64)) for size in self._source.shape)
        sample = np.abs(self._source[steps].astype(np.float64))
        return float(np.percentile(sample, 99.5)) or float(sample.max()) or 1.0


@contextlib.contextmanager
def batch() -> Iterator[None]:
    """One change of the scene for everybody who watches it."""
    scene = slicer.mrmlScene
    scene.StartState(slicer.vtkMRMLScene.BatchProcessState)
    try:
        yield
    finally:
        scene.EndState(slicer.vtkMRMLScene.BatchProcessState)


def write(
    image: Any, affine: npt.NDArray[np.float64], place: Place, name: str,
    node: Any = None, original: Any = None, removed_window: float | None = None, top: float | None = None,
) -> Any:  # fmt: skip
    """Put a filled image into the scene: into `node` when it is given, else into a new node called `name`.

    IJKToRAS is `affine`; parent transform, window, level and colours are those of `place`; in the subject hierarchy the
    result stands beside `original`, the input node (None when it is gone). `removed_window` (an intensity) makes it
    a map of removed noise: diverging colours, white at 0, saturated at plus and minus that value; `top` makes it a map
    of amounts: grey from 0, white at that value. The input is never touched. Raises BadInput when `node` is the input
    itself.
    """
    if node is not None and node is original:
        raise BadInput(f"'{node.GetName()}' is the input, which MedAE never overwrites.", "Choose another output.")
    scene = slicer.mrmlScene
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    put(node, affine, place, original)
    show_like(node, place, image, removed_window, top)
    node.SetAndObserveImageData(image)
    stand_beside(node, original)
    return node


def put(node: Any, affine: npt.NDArray[np.float64], place: Place, original: Any = None) -> None:
    """Put a volume node where a result belongs: `affine` is its IJKToRAS, the parent transform is that of `place`."""
    scene = slicer.mrmlScene
    parent = scene.GetNodeByID(place.transform_id) if place.transform_id else None
    if parent is not None and parent.GetName() != place.transform_name and original is None:
        parent = None  # another scene: the same ID means another transform
    if parent is None and original is None and place.world:
        affine = np.reshape(place.world, (4, 4)) @ affine
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(affine, dtype=np.float64).ravel().tolist())
    node.SetIJKToRASMatrix(matrix)
    node.SetAndObserveTransformNodeID(parent.GetID() if parent is not None else None)


def show_like(
    node: Any, place: Place, image: Any, removed_window: float | None = None, top: float | None = None
) -> None:
    """Set up the display before the node has its voxels: Slicer's automatic window takes a second on a large volume."""
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    if display is None:
        return
    display.AutoWindowLevelOff()
    if removed_window is not None:
        display.SetAndObserveColorNodeID(removed_noise_colors().GetID())
        display.SetWindowLevel(2 * removed_window, 0.0)
    elif top is not None:
        display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
        display.SetWindowLevel(top, top / 2)
    elif place.window is not None and place.level is not None:
        if place.color_id and slicer.mrmlScene.GetNodeByID(place.color_id) is not None:
            display.SetAndObserveColorNodeID(place.color_id)
        display.SetWindowLevel(place.window, place.level)
    else:
        low, high = image.GetScalarRange()
        display.SetWindowLevel(max(high - low, 1e-6), (low + high) / 2)
    display.SetInterpolate(place.interpolate)


def stand_beside(node: Any, original: Any) -> None:
    """Give the node the same parent in the subject hierarchy as the input: the same study or folder."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    beside = hierarchy.GetItemByDataNode(original) if original is not None else 0
    parent = hierarchy.GetItemParent(beside) if beside else hierarchy.GetSceneItemID()
    item = hierarchy.GetItemByDataNode(node)
    if not item:
        hierarchy.CreateItem(parent, node)
    elif beside:
        hierarchy.SetItemParent(item, parent)


def write_table(name: str, rows: list[Mapping[str, Any]], original: Any = None) -> Any:
    """A new table node beside `original`, one column for every key of the first row, in the order of the rows."""
    scene = slicer.mrmlScene
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(name))
    table = vtk.vtkTable()
    for key in rows[0] if rows else ():
        values = [row.get(key) for row in rows]
        column: Any = vtk.vtkDoubleArray() if all(type(v) in (int, float) for v in values) else vtk.vtkStringArray()
        column.SetName(key)
        for value in values:
            column.InsertNextValue(value if isinstance(column, vtk.vtkDoubleArray) else _cell(value))
        table.AddColumn(column)
    node.SetAndObserveTable(table)
    stand_beside(node, original)
    return node


def table_rows(node: Any) -> list[dict[str, str]]:
    """The rows of a table node as text, by column name."""
    table = node.GetTable()
    names = [table.GetColumnName(column) for column in range(table.GetNumberOfColumns())]
    return [
        {name: table.GetValueByName(row, name).ToString() for name in names} for row in range(table.GetNumberOfRows())
    ]


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def removed_noise_colors() -> Any:
    """The scene's diverging colours: blue below zero, white at zero, red above; made once, saved with the scene."""
    ends = np.array([[0.02, 0.19, 0.38], [0.26, 0.58, 0.77], [1, 1, 1], [0.84, 0.38, 0.30], [0.40, 0.0, 0.12]])
    # 127 and 128 are both white, so that the value 0 has no colour of its own sign.
    places = [min(n, 127) / 127 / 2 if n < 128 else 0.5 + (n - 128) / 127 / 2 for n in range(256)]
    named = [f"{n - 127.5:+.1f}" for n in range(256)]
    told = "Removed noise: blue where the input was darker, red where it was brighter"
    return color_table("removed noise", COLORS, told, ends, places, named)


def color_table(
    kind: str, title: str, description: str, ends: npt.NDArray[np.float64], places: Sequence[float],
    named: Sequence[str],
) -> Any:  # fmt: skip
    """The scene's colour table of a kind, made once and saved with the scene: 256 named colours.

    `ends` [n, 3] are the colours, red, green, blue, that lie evenly between the places 0 and 1.
    """
    for node in slicer.util.getNodesByClass("vtkMRMLColorTableNode"):
        if node.GetAttribute(PREFIX + "colors") == kind and node.GetNumberOfColors() == len(places):
            return node
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", title)
    node.SetTypeToUser()
    node.SetAttribute("Category", "MedAE")
    node.SetAttribute(PREFIX + "colors", kind)
    node.SetDescription(description)
    node.SetNumberOfColors(len(places))
    for index, (place, name) in enumerate(zip(places, named, strict=True)):
        at = place * (len(ends) - 1)
        red, green, blue = (float(np.interp(at, range(len(ends)), ends[:, channel])) for channel in range(3))
        node.SetColor(index, name, red, green, blue, 1.0)
    node.SetHideFromEditors(0)
    return node


def stamp(node: Any, provenance: Mapping[str, Any], original: Any = None) -> None:
    """Write provenance onto a result, text as it is and everything else as JSON, and a reference to the input.

    What an earlier run wrote onto the same node is taken away: a verdict must not outlive the result it judged.
    """
    for name in [name for name in node.GetAttributeNames() if name.startswith(PREFIX)]:
        node.RemoveAttribute(name)
    for key, value in provenance.items():
        plain = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        node.SetAttribute(PREFIX + key, plain)
    if original is not None:
        node.SetNodeReferenceID(INPUT_ROLE, original.GetID())
    else:
        node.RemoveNodeReferenceIDs(INPUT_ROLE)


def provenance(node: Any) -> dict[str, str]:
    """What `stamp` wrote, without the prefix; empty for a node that MedAE did not make."""
    names = node.GetAttributeNames()
    return {name[len(PREFIX) :]: node.GetAttribute(name) for name in names if name.startswith(PREFIX)}


def input_of(node: Any) -> Any:
    """The input that a result was made from, or None when it is gone."""
    return node.GetNodeReference(INPUT_ROLE) if node is not None else None


def results_of(node: Any) -> dict[str, Any]:
    """The newest results in the scene that were made from an input, by output name ("denoised", "removed", ...)."""
    found: dict[str, Any] = {}
    kinds = ("vtkMRMLScalarVolumeNode", "vtkMRMLSequenceNode", "vtkMRMLTableNode", "vtkMRMLSegmentationNode")
    for other in (node for kind in kinds for node in slicer.util.getNodesByClass(kind)):
        if input_of(other) is not node:
            continue
        told = provenance(other)
        newest = found.get(told.get("output", ""))
        if newest is None or told.get("date", "") >= provenance(newest).get("date", ""):
            found[told.get("output", "")] = other
    return found
