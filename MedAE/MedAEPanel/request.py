"""What Apply asks for: a task, its parameters, the nodes that it reads and those that receive its results."""

from dataclasses import dataclass, field

from .target import PREVIEW_TITLES, TITLES, Target


@dataclass
class Request:
    """A task on a volume or sequence node. `outputs` maps each wanted output to a node, or to None for a new one; those
    of a sequence are always new.

    `slab` (axis, start, stop) restricts its results to some slices of a volume. The worker reads all of it: how strong
    the noise is, the whole volume tells. A task that reads several volumes, or none, has them by name in `inputs`; one
    whose result is no node has a `goal` (see `goals.ModelTarget`).
    """

    inputNode: object
    task: str
    parameters: dict
    outputs: dict = field(default_factory=dict)
    slab: tuple | None = None
    inputs: dict | None = None
    goal: object = None

    def nodes(self):
        """The nodes that are read, by the names of the inputs."""
        return {"input": self.inputNode} if self.inputs is None else self.inputs

    def told(self):
        """The parameters as the worker is told them."""
        return {**self.parameters, "slab": list(self.slab)} if self.slab else self.parameters

    def target(self):
        """Where the result belongs. Raises BadInput for outputs that cannot receive it."""
        if self.goal is not None:
            return self.goal
        return Target.of(self.inputNode, self.outputs, PREVIEW_TITLES if self.slab else TITLES)
