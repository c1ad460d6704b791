"""What the engine and the model folder expect of every network."""

from __future__ import annotations

from torch import Tensor, nn


class Network(nn.Module):
    """An autoencoder: ``forward`` [b, c, ...] -> [b, c, ...] in float32, through ``encode`` and ``decode``.

    Spatial sizes must be multiples of ``stride``. ``halo`` is the reach in input voxels on each side, a multiple of
    ``stride``: a tile cut with this halo, rounded outwards to multiples of the stride and clipped at the volume's
    border, gives the voxels that the whole volume gives. ``dims`` is 2 or 3.
    """

    dims: int
    stride: int
    halo: int

    def encode(self, x: Tensor) -> Tensor:
        """The code of a windowed scan."""
        raise NotImplementedError

    def decode(self, code: Tensor) -> Tensor:
        """What a code stands for."""
        raise NotImplementedError
