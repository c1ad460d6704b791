"""What the results of a fusion are called: those of a further modality end in its name, as file names can hold it."""

from __future__ import annotations

import re
from collections.abc import Sequence

MARK = "_of_"
_LONGEST = 16


def plain_name(output: str) -> str:
    """What an output is, whichever of the scans that a model fuses it is of."""
    return output.partition(MARK)[0]


def endings(modalities: Sequence[str]) -> dict[str, str]:
    """How the outputs of each modality end, by its name: "_of_t2"; no two are alike."""
    words = [re.sub("[^a-z0-9]+", "_", name.lower()).strip("_")[:_LONGEST] for name in modalities]
    if "" in words or len(set(words)) < len(words):
        words = [f"{word}_{number}".strip("_") for number, word in enumerate(words, 1)]
    return {name: MARK + word for name, word in zip(modalities, words, strict=True)}
