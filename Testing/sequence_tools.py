"""What the tests on sequences share: what the browser shows, all voxels, and the whole scene as text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from panel_fixtures import OpenPanel


@pytest.fixture
def slowly(panel: OpenPanel, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenPanel]:
    """The open panel, which copies voxels in many small steps."""
    monkeypatch.setattr("MedAEPanel.controller._SLAB_BYTES", 1 << 12)
    monkeypatch.setattr("MedAEPanel.controller._COPY_SECONDS", 0.0)
    return panel


def choose(panel: OpenPanel, sequence: Any) -> None:
    """Choose the input; the panel need not wait until it looks at it again."""
    panel.choose(sequence)
    panel.widget.panel.update()


def browser_of(sequence: Any) -> Any:
    from MedAEPanel import sequences

    return sequences.browserOf(sequence)


def shown(sequence: Any) -> Any:
    """The volume in which the browser shows the present frame of a sequence."""
    return browser_of(sequence).GetProxyNode(sequence)


def voxels(sequence: Any) -> np.ndarray:
    """All voxels of a sequence, frame by frame."""
    import slicer

    frames = (sequence.GetNthDataNode(number) for number in range(sequence.GetNumberOfDataNodes()))
    return np.stack([slicer.util.arrayFromVolume(frame) for frame in frames])


def scene_as_text() -> str:
    """Every node of the scene with all that it says, but for when it was changed and what it does not refer to."""
    import slicer

    scene = slicer.mrmlScene
    nodes = (scene.GetNthNode(number) for number in range(scene.GetNumberOfNodes()))
    said = "".join(str(node) for node in nodes if not node.IsA("vtkMRMLScriptedModuleNode"))
    return re.sub(r".*(Time: .*|Reference Count: .*|: \(none\))\n|0x\w+", "", said)
