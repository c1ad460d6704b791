"""`python -m SlicerHost path/to/Module.py`: load the module, open its panel, run its own tests."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import host, problems


def main(arguments: list[str] | None = None) -> int:
    """Return 0 when everything passed, 1 after a failed test or a problem that the host saw, 2 for a wrong path."""
    parser = argparse.ArgumentParser(prog="python -m SlicerHost", description=__doc__)
    parser.add_argument("module", type=Path, help="the module's .py file")
    parser.add_argument("--screenshots", type=Path, metavar="DIR", help="write pictures of panel and slice views")
    options = parser.parse_args(arguments)
    if not options.module.is_file():
        print(f"There is no module file {options.module}.", file=sys.stderr)
        return 2
    host.start()
    from . import module_loader, runner

    print(f"base classes: {host.base_classes}")
    module = module_loader.load_module(options.module)
    module_loader.open_panel(module)
    seen = problems.take()
    result = runner.run_module_tests(module)
    if options.screenshots is not None:
        _take_pictures(module, options.screenshots)
    module_loader.close_panel(module)
    seen += problems.take()
    for problem in seen:
        print(f"host: {problem}")
    return 0 if result.wasSuccessful() and not seen else 1


def _take_pictures(module: object, folder: Path) -> None:
    import slicer

    from . import module_loader, pictures

    widget = module_loader.open_panel(module)  # type: ignore[arg-type]
    pictures.grab_widget(widget.parent, folder / "panel.png")
    for name in slicer.app.layoutManager().sliceViewNames():
        pictures.save_png(pictures.render_slice(name), folder / f"{name.lower()}.png")
    print(f"pictures are in {folder}")


if __name__ == "__main__":
    sys.exit(main())
