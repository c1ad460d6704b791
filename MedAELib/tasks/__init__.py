"""What a user can ask for. This table is read by the panel, so it needs neither torch nor a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskInfo:
    """A task by its name, its title and description for people, and the names of what it makes."""

    name: str
    title: str
    description: str
    outputs: tuple[str, ...]


TASKS: dict[str, TaskInfo] = {
    "denoise": TaskInfo(
        name="denoise",
        title="Denoise",
        description="Removes noise and keeps intensities: Hounsfield units stay Hounsfield units.",
        outputs=("denoised", "removed", "noise"),
    ),
    "anomaly": TaskInfo(
        name="anomaly",
        title="Unlike normal",
        description="Shows where a brain MRI is unlike the training data, as a calibrated map and a table of regions.",
        outputs=("anomaly", "regions", "typical", "residual"),
    ),
    "compress": TaskInfo(
        name="compress",
        title="Compress",
        description="Makes a compressed volume that keeps a promise, and shows what was lost.",
        outputs=("latent", "lost"),
    ),
    "translate": TaskInfo(
        name="translate",
        title="Translate",
        description="Makes another kind of scan of it, such as T2 of T1, with a model trained on registered pairs.",
        outputs=("translated", "uncertainty"),
    ),
    "features": TaskInfo(
        name="features",
        title="Features",
        description="Describes a volume or its slices in numbers, as a table, and finds similar known cases.",
        outputs=(),
    ),
    "explain": TaskInfo(
        name="explain",
        title="Explain",
        description="Shows the nearest typical scan and what differs from it, beside a median filter's.",
        outputs=("typical", "attribution"),
    ),
    "train": TaskInfo(
        name="train",
        title="Train a model",
        description="Learns a model of your own from volumes of the scene or a folder, without labels.",
        outputs=(),
    ),
}
