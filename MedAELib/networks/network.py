"""What the engine and the model folder expect of every network."""

from __future__ import annotations

import math

from torch import Tensor, nn

Extras = dict[str, Tensor]


class Network(nn.Module):
    """An autoencoder: ``forward`` [b, c, ...] -> [b, c, ...] in float32, through ``encode`` and ``decode``.

    Spatial sizes must be multiples of ``stride``. ``halo`` is the reach in input voxels on each side, a multiple of
    ``stride``: a tile cut with this halo, rounded outwards to multiples of the stride and clipped at the volume's
    border, gives the voxels that the whole volume gives. ``dims`` is 2 or 3.

    A network without ``tiles`` sees a slice (2D) or a volume (3D) only as a whole; ``halo`` then says nothing. If it
    resamples what it sees to a cube of its own, ``grid`` is that cube's edge. Cell n of a spatial code lies at voxel
    n x cell + ``offset``, where a cell is the stride or, where finer and coarser codes are joined, what divides it.
    ``in_channels`` is the number of channels that go in and, reconstructed, come out. ``calls`` is how often a forward
    runs each layer.
    """

    dims: int
    stride: int
    halo: int
    tiles: bool = True
    grid: int = 0
    offset: float = 0.0
    in_channels: int = 1
    calls: int = 1

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride along each of the axes."""
        return (self.stride,) * self.dims

    @property
    def volume_strides(self) -> tuple[int, int, int]:
        """The stride along i, j and k of a volume: 1 along k for a network of slices."""
        i, j, *k = self.strides
        return i, j, k[0] if k else 1

    def encode(self, x: Tensor) -> Tensor:
        """The code of a windowed scan."""
        raise NotImplementedError

    def decode(self, code: Tensor) -> Tensor:
        """What a code stands for."""
        raise NotImplementedError

    def learn(self, x: Tensor, keys: Tensor) -> tuple[Tensor, Extras]:
        """The reconstruction as training sees it, and by name what else objectives ask for: at least the "code".

        ``keys`` [b, 2] are whole numbers: what each sample's randomness starts from, and the step of the training.
        """
        code = self.encode(x)
        return self.decode(code).float(), {"code": code}


class Wrapped(Network):
    """A network that the engine runs in the place of another one, with the other's geometry."""

    network: Network

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.dims, self.stride, self.halo, self.tiles = network.dims, network.stride, network.halo, network.tiles
        self.grid, self.offset, self.in_channels = network.grid, network.offset, network.in_channels
        self.calls = network.calls

    @property
    def strides(self) -> tuple[int, ...]:
        """The network's own."""
        return self.network.strides


class Aligned(Wrapped):
    """A network whose tiles begin at whole blocks of ``edge`` voxels, too, and see ``reach`` voxels further."""

    def __init__(self, network: Network, edge: int, reach: int) -> None:
        super().__init__(network)
        self.stride = math.lcm(network.stride, edge)
        self.halo = math.ceil((network.halo + reach) / self.stride) * self.stride

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride along each axis, a multiple of the edge of a block."""
        return (self.stride,) * self.dims


class Given(Wrapped):
    """A network whose second input (a condition, or which modalities are there) is fixed: [b, c, ...] -> [b, c, ...].

    ``second`` [n] is the same for the whole volume, so tiles are as exact as before.
    """

    second: Tensor

    def __init__(self, network: Network, second: Tensor) -> None:
        super().__init__(network)
        self.register_buffer("second", second)

    def forward(self, x: Tensor) -> Tensor:
        """What the network makes of x and its second input."""
        made: Tensor = self.network(x, self.second.expand(len(x), -1))
        return made
