"""The command line: `python -m MedAELib denoise|train|...`; every fault is one line and exit status 2."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .anomaly import calibrate
from .anomaly import command as anomaly
from .codec.command import add_commands as add_codec
from .errors import Cancelled
from .explain import command as explain_command
from .features import command as features
from .files import check_holds, save_all
from .models_command import add_models
from .plain import plain_text
from .terminal import (
    Terminal,
    add_paths,
    add_run_options,
    check_paths,
    clear_line,
    ending,
    named_path,
    report_file,
    run_parameters,
    table_text,
    tell,
)
from .training.command import add_train
from .training.federated.command import add_federate
from .translation import command as translation
from .volume import Volume


class _Parser(argparse.ArgumentParser):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.register("type", Path, named_path)  # for every path of every command
        self.set_defaults(parser=self)  # of the command that was called, in the end

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, or 2 after a fault that was told in one line, or 130 when interrupted."""
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:  # told by the command itself, whose help lists what there is
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except (KeyboardInterrupt, Cancelled):
        clear_line()
        print("medae: cancelled; no file is half-written", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 2
    except Exception as error:
        from .worker.failures import explain

        fault = explain(error)
        clear_line()
        print(plain_text(f"medae: {fault} {fault.next_step}".rstrip()), file=sys.stderr)
        return 2


def _parser() -> _Parser:
    parser = _Parser(prog="python -m MedAELib", description="Autoencoders for CT and MRI. For research use.")
    parser.add_argument("--version", action="version", version=f"MedAE {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    denoise = commands.add_parser(
        "denoise", help="remove noise from a volume", description="Remove noise from a volume."
    )
    add_paths(denoise)
    denoise.add_argument(
        "--model", default="", metavar="NAME|FOLDER", help="default: the bundled model that fits the input"
    )
    add_run_options(denoise)
    denoise.add_argument("--strength", type=float, default=1.0, help="0 (nothing) to 1 (all noise, default)")
    denoise.add_argument(
        "--adapt", type=int, default=0, metavar="SECONDS",
        help="let the model learn from this volume first (MR only, of at least 8 slices and 48 voxels along one side)",
    )  # fmt: skip
    denoise.add_argument(
        "--passes", type=int, default=0, metavar="1|2|4|8",
        help="mirror images that the result is the mean over: more are slower and better; default: by the size",
    )  # fmt: skip
    denoise.add_argument("--removed", type=Path, metavar="FILE", help="also write what was removed")
    denoise.add_argument(
        "--noise", type=Path, metavar="FILE", help="also write the strength of the noise at each voxel"
    )
    denoise.add_argument(
        "--trust", type=ending(".csv"), metavar="FILE.csv", help="also measure how far the result can be trusted"
    )
    denoise.set_defaults(run=_denoise)
    anomaly.add_to(commands)
    calibrate.add_to(commands)
    features.add_to(commands)
    explain_command.add_to(commands)
    add_codec(commands)
    translation.add_to(commands)
    add_train(commands)
    add_federate(commands)
    add_models(commands)
    return parser


def _denoise(options: argparse.Namespace) -> int:
    volumes = {"denoised": options.output, "removed": options.removed, "noise": options.noise}
    check_paths([options.input], list(volumes.values()), [options.report, options.trust])
    volume = Volume.load(options.input, options.series)
    for name, path in volumes.items():
        if path is not None:
            check_holds(path, volume.array.shape, volume.array.dtype.name if name == "denoised" else "float32")
    from .tasks.run import run_task

    parameters = {
        **run_parameters(options),
        "strength": options.strength,
        "adapt": options.adapt,
        "passes": options.passes,
        "removed": options.removed is not None,
        "noise": options.noise is not None,
        "trust": options.trust is not None,
    }
    result = run_task("denoise", {"input": volume}, parameters, progress=Terminal())
    report = result.report
    tell(report)
    table = {options.trust: table_text(report["trust"])} if options.trust is not None else {}
    written = {path: result.outputs[name] for name, path in volumes.items() if path is not None}
    save_all(written, table | report_file(report, options))
    print(
        f"{options.output}: noise {report['noise_before']:g} -> {report['noise_after']:g} {report['units']}".rstrip()
        + f", {report['model']}, {report['device']}, {report['seconds']:.1f} s"
    )
    if options.trust is not None:
        print(report["verdict"])
    return 0


def _interrupted(*_: object) -> NoReturn:
    """A polite request to end, as from a job scheduler: everything is put in order as after Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupted)
    sys.exit(main())
