"""A model folder (MONAI bundle with safetensors), read as data: nothing in it is ever executed. Needs no torch."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from .atomic import restore_folder, restore_folders
from .errors import BadModel
from .plain import as_float, check_values, is_plain, is_program, parse
from .threads import side_by_side

METADATA = "configs/metadata.json"
WEIGHTS = "models/model.safetensors"
CARD = "docs/README.md"
LICENCE = "LICENSE"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LARGEST_TEXT = 1 << 20
LARGEST_WEIGHTS = 1 << 30
MOST_FUSED = 8  # modalities in one network

NOISE_KINDS = ("white noise", "correlated noise")


@dataclass(frozen=True)
class Window:
    """How intensities become the numbers a network sees: `(x - low) / (high - low)`, linear and never clipped.

    kind "fixed": `low` and `high` are intensities (Hounsfield units for CT).
    kind "percentile": `low` is the intensity that becomes 0, `high` the percentile (0..100) that becomes 1.
    kinds "white noise", "correlated noise": `low` is the intensity that becomes 0; `high` times the deviation of the
    scan's own noise above it is what becomes 1.
    """

    kind: str
    low: float
    high: float

    def __post_init__(self) -> None:
        _as_floats(self)
        numbers = math.isfinite(self.low) and math.isfinite(self.high)
        largest = {**dict.fromkeys(NOISE_KINDS, math.inf), "percentile": 100}.get(self.kind, 0)
        fits = self.high > self.low if self.kind == "fixed" else 0 < self.high <= largest
        if not (numbers and fits):
            raise BadModel(f"The intensity window {self.kind!r:.60} {self.low} .. {self.high} is not valid.")


@dataclass(frozen=True)
class Kind:
    """A kind of scan that a translating model takes or makes: its name (such as T1), the window in which it is seen,
    and the intensities that 0 and 1 stand for in what is made: those of the training scans, on average.

    `standard` are the quantiles that a scan's tissue is brought to before the network sees it (none: it is not)."""

    name: str
    modality: str
    window: Window
    low: float
    high: float
    standard: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _as_floats(self)
        object.__setattr__(self, "standard", tuple(map(as_float, self.standard)))
        _check_modality(self.modality)
        if not 1 <= len(self.name) <= 64:
            raise BadModel("A kind of scan must have a short name.")
        if len(self.standard) > 99 or any(not 0 <= a < b for a, b in pairwise((*self.standard, 100))):
            raise BadModel(f"The standard intensities of {self.name} do not rise.")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.high > self.low):
            raise BadModel(f"The intensities {self.low} .. {self.high} of {self.name} are not valid.")


@dataclass(frozen=True)
class Spec:
    """What a model is, apart from its weights; the same JSON on disk and in the panel.

    `kinds` are the scans that a translating model knows: first what it takes, last what it makes; a network that fuses
    several takes and makes each of them. Other models have none. `modalities` are the names of the channels of a model
    that fuses without translating, in their order; empty in models of earlier versions.
    """

    network: str
    arguments: Mapping[str, Any]
    dims: int
    task: str
    modality: str
    window: Window
    kinds: tuple[Kind, ...] = ()
    modalities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.dims not in (2, 3):
            raise BadModel(f"A model works on 2 or 3 dimensions, not {self.dims!r:.60}.")
        _check_modality(self.modality)
        if len({kind.name for kind in self.kinds}) < len(self.kinds) or len(self.kinds) == 1:
            raise BadModel("A translating model knows two or more kinds of scan, each by a name of its own.")
        names = self.modalities
        if len(set(names)) < len(names) or any(not 1 <= len(name) <= 64 for name in names):
            raise BadModel("Each modality that a model fuses must have a short name of its own.")
        number = fused_number(self)
        if names and not (fuses(self) and number == len(names)):
            raise BadModel(f"The model names {len(names)} modalities, but its network fuses another number.")


def fuses(spec: Spec) -> bool:
    """Whether a translating model takes several kinds of scan, of which any may be missing, and makes each of them."""
    return "fusion" in (spec.network, spec.arguments.get("network"))


def fused_number(spec: Spec) -> int:
    """How many scans of a subject the network takes at once: 1..8 where it fuses, else 1. Raises BadModel."""
    if not fuses(spec):
        return 1
    own = spec.arguments if spec.network == "fusion" else spec.arguments.get("arguments")
    if not isinstance(own, Mapping | None):
        raise BadModel("The arguments of the networks that an ensemble holds must be a table.")
    number = (own or {}).get("modalities", 1)
    if type(number) is not int or not 1 <= number <= MOST_FUSED:
        raise BadModel(f"A network fuses 1 to {MOST_FUSED} modalities, a whole number, and not {number!r:.60}.")
    return number


def _as_floats(value: Window | Kind) -> None:
    """Whole numbers as what they are read back as, so that a saved model keeps its hash."""
    object.__setattr__(value, "low", as_float(value.low))
    object.__setattr__(value, "high", as_float(value.high))


def _check_modality(modality: str) -> None:
    if modality not in ("CT", "MR", "any"):
        raise BadModel(f"The modality {modality!r:.60} is none of CT, MR, any.")


@dataclass(frozen=True)
class Bundle:
    """A model folder that has been read and checked: what the panel shows and what `Model.load` builds from."""

    name: str
    folder: Path
    spec: Spec
    version: str
    description: str
    card: str
    licence: str
    sha256: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)  # what a task needs to read the network's answer
    limits: tuple[str, ...] = ()
    training_data: tuple[str, ...] = ()
    weakness: str = ""  # why it is not good enough to help, where it says so of itself: runs with it tell that, too

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / WEIGHTS


@functools.cache
def models_folder() -> Path:
    """Where the bundled models are: Resources/Models beside the library, in the source tree and where installed."""
    return Path(__file__).resolve().parent.parent / "Resources" / "Models"


def bundled_folders() -> list[Path]:
    """The folders of the models that came with MedAE, by name."""
    restore_folders(models_folder())
    return sorted(path.parent.parent for path in models_folder().glob(f"*/{METADATA}"))


def bundled_models(task: str | None = None) -> list[Bundle]:
    """The models that came with MedAE, by name; only those for one task when it is given. Raises BadModel."""
    bundles = side_by_side(read_bundle, bundled_folders())
    return [bundle for bundle in bundles if task is None or bundle.spec.task == task]


def own_models_folder() -> Path:
    """The folder of the user's own models: that of MEDAE_MODELS, else where this system keeps a program's data."""
    chosen, home = os.environ.get("MEDAE_MODELS"), Path.home()
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / "MedAE" / "models"


def own_folders(parent: Path | None = None) -> list[Path]:
    """The folders of the user's own models, by name; without those that are half-written."""
    parent = parent or own_models_folder()
    restore_folders(parent)
    return sorted(path.parent.parent for path in parent.glob(f"[!.]*/{METADATA}"))


def find_bundle(name_or_folder: str | Path) -> Bundle:
    """The bundled model of this name, else the user's own, else the model in this folder. Raises BadModel if none."""
    text = str(name_or_folder)
    bundled = {folder.name: folder for folder in bundled_folders()}
    named = {**{folder.name: folder for folder in own_folders()}, **bundled}
    if text in named:
        return read_bundle(named[text])
    restore_folder(Path(text))
    try:
        is_folder = Path(text).is_dir()
    except (OSError, ValueError):  # a name that no file system takes
        is_folder = False
    if is_folder:
        return read_bundle(Path(text))
    known = ", ".join(named) or "none"
    if is_name(text) and (models_folder() / text).is_dir():
        raise BadModel(f"{text} is the codec's model, which does nothing but compress.", f"Name another: {known}.")
    raise BadModel(f"There is no model {text!r}.", f"Name a model folder, or one of these: {known}.")


def read_bundle(folder: str | Path) -> Bundle:
    """Read a model folder as data and check it: metadata, licence, card, and the SHA-256 of specification and weights.

    Raises BadModel, with the file that is wrong, when anything is missing, malformed, too large, outside the folder
    (a link) or differs from its hash.
    """
    folder = Path(folder)
    restore_folder(folder)
    metadata = _read_json(folder, METADATA)
    own = metadata.get("medae")
    if not isinstance(own, dict):
        raise BadModel(f"{folder / METADATA} has no 'medae' section, so it is not a MedAE model.")
    try:
        spec = read_spec(own)
        texts = {key: _text(own, key) for key in ("name", "sha256")}
        version, description = _text(metadata, "version"), _text(metadata, "description")
        limits, training_data = _texts(own, "limits"), _texts(own, "training_data")
        figures, calibration = _table(own, "figures"), _table(own, "calibration")
        weakness = _text(own, "weakness") if "weakness" in own else ""
    except BadModel as error:
        raise BadModel(f"{folder / METADATA} cannot be used: {str(error).rstrip('.')}.") from None
    if not is_name(texts["name"]):
        raise BadModel(f"{folder / METADATA} names the model {texts['name']!r:.60}, which is not a plain name.")
    found = identity(spec, read_inside(folder, WEIGHTS, LARGEST_WEIGHTS).read_bytes())
    if found != texts["sha256"]:
        raise BadModel(f"The weights or the specification in {folder} differ from their SHA-256, so they are not used.")
    return Bundle(
        folder=folder,
        spec=spec,
        version=version,
        description=description,
        figures=figures,
        calibration=calibration,
        limits=limits,
        training_data=training_data,
        weakness=weakness,
        card=_read_text(folder, CARD),
        licence=_read_text(folder, LICENCE).split("\n")[0],
        name=texts["name"],
        sha256=found,
    )


def is_name(text: str) -> bool:
    """Whether a text may be the name of a model: a plain file name of letters, digits, '-', '_' and '.'."""
    return bool(_NAME.fullmatch(text))


def identity(spec: Spec, weights: bytes) -> str:
    """SHA-256 (hexadecimal) of everything that decides what a model computes: its specification and its weights."""
    canonical = json.dumps(spec_to_json(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode() + b"\n" + weights).hexdigest()


def spec_to_json(spec: Spec) -> dict[str, Any]:
    """The specification as plain JSON values; without kinds of scan and names of modalities where there are none."""
    found = {
        **asdict(spec),
        "arguments": dict(spec.arguments),
        "kinds": [{**asdict(kind), "standard": list(kind.standard)} for kind in spec.kinds],
    }
    found["modalities"] = list(spec.modalities)
    return {name: value for name, value in found.items() if value or name not in ("kinds", "modalities")}


def read_spec(own: Mapping[str, Any]) -> Spec:
    """The specification from the 'medae' section of the metadata. Raises BadModel."""
    try:
        check_values(own)
    except BadModel as error:
        raise BadModel(f"its specification {error}") from None
    arguments, dims, kinds = own.get("arguments"), own.get("dims"), own.get("kinds", [])
    if not isinstance(arguments, dict) or is_program(arguments) or not is_plain(arguments):
        raise BadModel("'arguments' must be plain values")
    if not isinstance(dims, int) or isinstance(dims, bool):
        raise BadModel("'dims' must be 2 or 3")
    modalities = _texts(own, "modalities")
    if len(modalities) > MOST_FUSED:
        raise BadModel(f"'modalities' must be at most {MOST_FUSED} texts")
    if not isinstance(kinds, list) or len(kinds) > MOST_FUSED or not all(isinstance(kind, dict) for kind in kinds):
        raise BadModel(f"'kinds' must be a list of at most {MOST_FUSED} tables")
    return Spec(
        network=_text(own, "network"),
        arguments=arguments,
        dims=dims,
        task=_text(own, "task"),
        modality=_text(own, "modality"),
        window=_window(own),
        kinds=tuple(map(_kind, kinds)),
        modalities=modalities,
    )


def _window(own: Mapping[str, Any]) -> Window:
    window = own.get("window")
    if not isinstance(window, dict) or set(window) != {"kind", "low", "high"}:
        raise BadModel("'window' must have exactly kind, low and high")
    return Window(_text(window, "kind"), _number(window, "low"), _number(window, "high"))


def _kind(own: Mapping[str, Any]) -> Kind:
    standard = own.get("standard", [])
    if not isinstance(standard, list) or any(isinstance(v, bool) or not isinstance(v, int | float) for v in standard):
        raise BadModel("'standard' must be a list of numbers")
    low, high, rising = _number(own, "low"), _number(own, "high"), tuple(map(float, standard))
    return Kind(_text(own, "name"), _text(own, "modality"), _window(own), low, high, rising)


def _number(table: Mapping[str, Any], key: str) -> float:
    value = table.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadModel("'window' limits must be numbers")
    return float(value)


def _table(own: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = own.get(key, {})
    if not isinstance(found, dict):
        raise BadModel(f"'{key}' is not a table")
    return found


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value or not is_plain(value):
        raise BadModel(f"'{key}' must be a text without control characters")
    return value


def _texts(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and is_plain(item) for item in value):
        raise BadModel(f"'{key}' must be a list of texts without control characters")
    return tuple(value)


def read_inside(folder: Path, name: str, largest: int) -> Path:
    """The path of a file of the bundle; never one that a link brings in from elsewhere, and never a huge one."""
    path = folder / name
    if not path.is_file():
        raise BadModel(f"{path} is missing, so the model cannot be used.")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadModel(f"{path} is a link to a file outside the model's folder, so the model is not used.")
    if path.stat().st_size > largest:
        raise BadModel(f"{path} is larger than {largest >> 20} MiB, so the model is not used.")
    return path


def _read_text(folder: Path, name: str) -> str:
    path = read_inside(folder, name, _LARGEST_TEXT)
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError):
        raise BadModel(f"{path} cannot be read as text.") from None


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    text = _read_text(folder, name)
    try:
        value = parse(text)
    except BadModel as error:
        raise BadModel(f"{folder / name} {error}, so the model is not used.") from None
    if not isinstance(value, dict):
        raise BadModel(f"{folder / name} is not a JSON table.")
    return value
