"""The command line of the models: `python -m MedAELib models list|check|import|export|rename|remove`. No torch here."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from . import library
from .bundle import Bundle, bundled_folders, find_bundle, models_folder, own_folders, own_models_folder, read_bundle
from .codec import model_file as codec
from .codec.model_file import CodecModel
from .errors import BadInput, MedAEError

_FOLDER = "the folder of your own models; default: that of MEDAE_MODELS, else in your user data"


def add_models(commands: Any) -> None:
    """Add the command and its actions to a command line's sub-commands."""
    about = "list, check and manage models"
    models = commands.add_parser("models", help=about, description=about.capitalize() + ".").add_subparsers(
        required=True, metavar="ACTION"
    )

    def add(name: str, run: Any, about: str) -> Any:
        parser = models.add_parser(name, help=about, description=about.capitalize() + ".")
        parser.add_argument("--models", dest="folder", type=Path, metavar="FOLDER", help=_FOLDER)
        parser.set_defaults(run=run)
        return parser

    add("list", _list, "the bundled models and your own, with the room that they take")
    check = add("check", _check, "check that models are whole and can be built")
    check.add_argument("names", nargs="*", metavar="NAME|FOLDER", help="default: all bundled models")
    imported = add("import", _import, "copy a model folder or zip file into your own models")
    imported.add_argument("source", type=Path, metavar="FOLDER|FILE.zip", help="the model")
    imported.add_argument("--name", default="", help="another name for it")
    exported = add("export", _export, "write a model as a MONAI bundle, or its network as ONNX")
    exported.add_argument("name", metavar="NAME|FOLDER", help="the model")
    exported.add_argument("target", nargs="?", type=Path, metavar="FOLDER|FILE.zip", help="a new folder or a zip file")
    exported.add_argument("--onnx", type=Path, metavar="FILE.onnx", help="the network in a fixed number of voxels")
    exported.add_argument("--size", type=int, nargs="+", metavar="VOXELS", help="ONNX: edges of its input; default: 64")
    renamed = add("rename", _rename, "give a model of your own another name")
    renamed.add_argument("name", metavar="NAME", help="what it is called now")
    renamed.add_argument("new", metavar="NEW-NAME", help="letters, digits, '-', '_' and '.', at most 64")
    removed = add("remove", _remove, "delete a model of your own for good")
    removed.add_argument("name", metavar="NAME", help="the model")
    removed.add_argument("--yes", action="store_true", help="really; without it nothing is deleted")


def _find(options: argparse.Namespace, name: str) -> Bundle:
    """The model of that name: in the user's folder, which the options may say, else bundled, else a folder itself."""
    own = (options.folder or own_models_folder()) / name
    return read_bundle(own) if name and own.is_dir() else find_bundle(name)


def _codec() -> CodecModel | None:
    """The first of the codec's models, after all of them were compared with their SHA-256; None where there is none."""
    if not (models_folder() / codec.BUNDLED).is_dir():
        return None
    for load in (codec.load_front_model, codec.load_subband_model, codec.load_restoration_model):
        load()
    codec.load_subband_model(None, codec.EARLIER_SUBBAND)
    codec.load_restoration_model(None, codec.EARLIER_RESTORATION)
    return codec.load_codec_model()


def _list(options: argparse.Namespace) -> int:
    if options.folder is not None and not options.folder.is_dir():
        raise BadInput(f"{options.folder} is not a folder.", "Name the folder of your models with --models.")
    bundles, status = [], 0
    for folder in [*bundled_folders(), *own_folders(options.folder)]:
        try:
            bundles.append(read_bundle(folder))
        except MedAEError as fault:
            status = _told(fault)
    for bundle in bundles:
        print(
            f"{bundle.name}\t{bundle.spec.task}\t{bundle.spec.modality} {bundle.spec.dims}D\t{bundle.sha256[:12]}\t"
            f"{library.disk_use(bundle.folder) / 1e6:.1f} MB\t{bundle.description}"
        )
    try:
        model = _codec()
    except MedAEError as fault:
        return _told(fault)
    if model is not None:
        size = f"{library.disk_use(models_folder() / model.name) / 1e6:.1f} MB"
        print(f"{model.name}\tcompress\tany 2D, 3D\t{model.sha256[:12]}\t{size}\tPredicts the voxels of .maez files.")
    return status


def _check(options: argparse.Namespace) -> int:
    from .model import Model

    status = 0
    for name in options.names or [folder.name for folder in bundled_folders()]:
        if name == codec.BUNDLED:
            continue
        try:
            bundle = _find(options, name)
            Model.load(bundle.folder)
        except MedAEError as fault:
            status = _told(fault)
            continue
        print(f"{bundle.name}\tis whole\t{bundle.sha256}")
    if not options.names or codec.BUNDLED in options.names:
        try:
            if (model := _codec()) is not None:
                print(f"{model.name}\tis whole\t{model.sha256}")
        except MedAEError as fault:
            status = _told(fault)
    return status


def _told(fault: MedAEError) -> int:
    """Tell of a model that cannot be used while others still follow; the exit status in the end."""
    print(f"medae: {fault}", file=sys.stderr)
    return 2


def _import(options: argparse.Namespace) -> int:
    from .model import Model

    bundle = library.import_model(options.source, options.folder, options.name, lambda copy: Model.load(copy.folder))
    print(f"{bundle.name}: {bundle.folder}, {bundle.sha256[:12]}")
    return 0


def _export(options: argparse.Namespace) -> int:
    if options.target is None and options.onnx is None:
        raise BadInput("Nothing to write to is named.", "Name a folder, a .zip file, or --onnx FILE.onnx.")
    bundle = _find(options, options.name)
    if options.target is not None:
        print(f"{bundle.name}: {library.export_model(bundle, options.target)}")
    if options.onnx is not None:
        from .onnx_file import export_onnx

        said = export_onnx(bundle.folder, options.onnx, options.size)
        print(f"{bundle.name}: {options.onnx}, {said}")
    return 0


def _rename(options: argparse.Namespace) -> int:
    before = _find(options, options.name)
    bundle = library.rename_model(before, options.new, options.folder)
    print(f"{before.name} is now {bundle.name}: {bundle.folder}")
    return 0


def _remove(options: argparse.Namespace) -> int:
    bundle = _find(options, options.name)
    size = library.disk_use(bundle.folder)
    if not options.yes:
        raise BadInput(f"{bundle.folder} ({size / 1e6:.1f} MB) would be deleted for good.", "Say --yes to do so.")
    library.remove_model(bundle, options.folder)
    print(f"{bundle.name} is removed; {size / 1e6:.1f} MB are free again")
    return 0
