"""What the self-test works on: a generated scan and sequence, and whether this computer can run the worker at all."""


def phantom(name="phantom", size=(32, 28, 20), seed=7):
    """A ball of soft tissue in air as a volume node: Hounsfield units, noise of 30 HU, oblique in the patient."""
    import numpy as np
    import slicer

    k, j, i = np.mgrid[: size[2], : size[1], : size[0]]
    radius = sum(((axis - n / 2) / (n / 2)) ** 2 for axis, n in zip((i, j, k), size)) ** 0.5
    noise = np.random.default_rng(seed).normal(0, 30, radius.shape)
    turn, spacing = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]), np.diag([0.8, 0.8, 2.0])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ spacing, (-20, 30, -40)
    voxels = (np.where(radius < 0.8, 40, -1000) + noise).astype(np.int16)
    return slicer.util.addVolumeFromArray(voxels, ijkToRAS=affine, name=name)


def phantomHead(name="head", size=(48, 56, 44), spacing=3.0):
    """A ball like a brain with a bright spot, as a volume node of MRI magnitudes, and the spot in RAS millimetres."""
    import numpy as np
    import slicer

    k, j, i = np.mgrid[: size[2], : size[1], : size[0]]
    radius = sum(((axis - (n - 1) / 2) * spacing) ** 2 for axis, n in zip((i, j, k), size)) ** 0.5
    inside = radius < 58
    voxels = np.where(inside, 500 + 20 * np.sin(i / 2) * np.sin(j / 3), 5)
    voxels += np.random.default_rng(3).normal(0, 10, voxels.shape)
    middle = np.array(size) // 2 + [8, 2, 3]
    voxels[((i - middle[0]) ** 2 + (j - middle[1]) ** 2 + (k - middle[2]) ** 2) < 7] += 400
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = (-70, -80, -60)
    node = slicer.util.addVolumeFromArray(np.abs(voxels).astype(np.float32), ijkToRAS=affine, name=name)
    return node, (affine @ [*middle, 1])[:3]


def phantomSequence(name="phantoms", frames=3, size=(32, 28, 20)):
    """Frames of such a ball as a sequence node, and the browser that plays it."""
    import slicer

    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequence.SetIndexName("time")
    sequence.SetIndexUnit("s")
    for number in range(frames):
        frame = phantom(f"{name} {number}", size, seed=number)
        sequence.SetDataNodeAtValue(frame, str(1.5 * number))
        slicer.mrmlScene.RemoveNode(frame)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{name} browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    return sequence, browser


def cardOfTraining(logic, scans):
    """The card of a small model that is trained in three steps, in a folder that is gone afterwards."""
    import os
    import tempfile
    from unittest import mock

    from MedAELib.bundle import read_bundle

    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {"MEDAE_MODELS": folder}):
        return read_bundle(logic.train(scans, "self-test", "plain", size="small", steps=3, device="cpu")).card


def whyNoWorker():
    """Why the worker cannot run here; empty when it can."""
    from MedAELib.bundle import bundled_models

    from . import install

    lacking = install.missing(install.requirements())
    if lacking:
        return f"these Python packages are not installed: {', '.join(lacking)}"
    return "" if bundled_models("denoise") else "no model is bundled"
