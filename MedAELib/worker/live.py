"""What a training says while it runs and asks in between: its curve, a picture of a held-out slice, whether to end."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arrays import PARTIAL
from .protocol import Measured

if TYPE_CHECKING:
    import numpy as np

MODEL = "model"
"""Folder in a run folder: the model that a training made."""
ONNX = "network.onnx"
"""File in a run folder: the network of a model for other programs."""
PICTURE = Path("live") / "picture.npy"
"""In a run folder: the picture of a held-out slice [i, j], what was shown beside what became of it, in 0 to 1."""
LARGEST_PICTURE = 1 << 22
"""Numbers in it."""
_MOST_WAITING = 10_000


class Live:
    """The worker's side of a training in `run`. `send(event)` says whether there was room for it."""

    def __init__(self, run: Path, send: Callable[[Measured], bool], asked: Callable[[], bool]) -> None:
        self.run = run
        self._send, self._asked = send, asked
        self._waiting: deque[Measured] = deque(maxlen=_MOST_WAITING)
        self._pictures = 0

    @property
    def model(self) -> Path:
        """Where the model is to be written."""
        return self.run / MODEL

    def stop(self) -> bool:
        """Whether the user wants the training to end now, with the best so far."""
        return self._asked()

    def picture(self, array: np.ndarray[Any, np.dtype[Any]]) -> None:
        """Keep the picture for the next `measured`; written whole or not at all."""
        import numpy as np

        path = self.run / PICTURE
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(path.name + PARTIAL)
        with partial.open("wb") as file:
            np.save(file, np.ascontiguousarray(array, np.float32))
        partial.replace(path)
        self._pictures += 1

    def measured(self, step: int, steps: int, loss: float | None, held_out: float | None) -> None:
        """A point of the curve; it waits here while Slicer is too busy to read, as no point may be lost."""
        event = Measured(str(self.run), step, max(step, steps), _finite(loss), _finite(held_out), self._pictures)
        self._waiting.append(event)
        self.flush()

    def flush(self) -> None:
        """Say what waits, as far as there is room."""
        while self._waiting and self._send(self._waiting[0]):
            self._waiting.popleft()

    def rest(self) -> list[Measured]:
        """What still waits, to be said before the end of the run."""
        rest = list(self._waiting)
        self._waiting.clear()
        return rest


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def reached(run: Path) -> tuple[int, int]:
    """How many steps an interrupted training has made, and of how many; zeros where that cannot be read."""
    try:
        history, plan = (
            json.loads((run / "work" / name).read_text(encoding="utf-8")) for name in ("history.json", "plan.json")
        )
        return (int(history[-1]["step"]) if history else 0), int(plan["steps"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return 0, 0


def read_picture(run: Path) -> np.ndarray[Any, np.dtype[Any]] | None:
    """The last picture in a run folder; None when there is none or it is not what it should be."""
    import numpy as np

    path = run / PICTURE
    try:
        if path.is_symlink() or path.stat().st_size > 4 * LARGEST_PICTURE + 1000:
            return None
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError):
        return None
    good = array.ndim == 2 and array.dtype == np.float32 and 0 < array.size <= LARGEST_PICTURE
    return array if good and bool(np.isfinite(array).all()) else None
