"""The same training on several processes: torchrun starts them, each takes its share of every batch."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from MedAELib.errors import BadInput


class Loss(nn.Module):
    """A network with its objective: what goes in is a batch, what comes out the loss, so that DDP sees every weight."""

    def __init__(self, network: nn.Module, objective: Callable[[nn.Module, tuple[Tensor, ...]], Tensor]) -> None:
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, *batch: Tensor) -> Tensor:
        """The loss of a batch, a scalar."""
        return self.objective(self.network, batch)


@contextmanager
def processes(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes if torchrun started any; gives this one's device, such as cuda:1 for "cuda"."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or torch.distributed.is_initialized():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
        wait_for_all()  # nobody leaves while another still needs its answer
    finally:
        gc.collect()  # networks that were shared hold the group, whose threads must end before the process does
        torch.distributed.destroy_process_group()


def rank_and_world() -> tuple[int, int]:
    """The number of this process and how many there are: 0 and 1 without torchrun."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def shared(network: nn.Module, objective: Callable[[nn.Module, tuple[Tensor, ...]], Tensor]) -> nn.Module:
    """The loss of a network, whose gradient is the mean over all processes where there are several."""
    loss = Loss(network, objective)
    if rank_and_world()[1] == 1:
        return loss
    return DistributedDataParallel(loss, broadcast_buffers=False, find_unused_parameters=True)


def shareable(samples: int) -> int:
    """So many samples of a batch, or as many more as it takes to give every process the same number, at least one."""
    world = rank_and_world()[1]
    return -(-samples // world) * world


def own_share(batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """This process' samples of a batch. Raises BadInput when it cannot be shared evenly: its mean would be another."""
    rank, world = rank_and_world()
    if len(batch[0]) % world:
        raise BadInput(
            f"A batch of {len(batch[0])} samples cannot be shared by {world} processes.",
            "Start as many processes as divide the batch.",
        )
    return tuple(part[rank::world] for part in batch)


def agreed(flag: bool, device: torch.device) -> bool:
    """Whether the flag is up in any of the processes."""
    return _over_all(float(flag), "MAX", device) > 0


def least(number: int, device: torch.device) -> int:
    """The smallest of the numbers that the processes have."""
    return int(_over_all(float(number), "MIN", device))


def mean(number: float, device: torch.device) -> float:
    """The mean of the numbers that the processes have."""
    world = rank_and_world()[1]
    return number if world == 1 else _over_all(number, "SUM", device) / world


def mean_over_all(number: Tensor) -> Tensor:
    """The mean of the numbers that the processes have, without a gradient; with one process the number itself.

    Where a loss is divided by how much is known, each has to divide by this: by its own, as much as another process
    knows less, its samples would count less.
    """
    world = rank_and_world()[1]
    if world == 1:
        return number
    shared_number = _shared_number(number.device).copy_(number)
    torch.distributed.all_reduce(shared_number)
    return (shared_number / world).to(number.dtype)


def _over_all(number: float, operation: str, device: torch.device) -> float:
    if rank_and_world()[1] == 1:
        return number
    shared_number = _shared_number(device).fill_(number)
    torch.distributed.all_reduce(shared_number, getattr(torch.distributed.ReduceOp, operation))
    return float(shared_number)


@cache
def _shared_number(device: torch.device) -> Tensor:
    """Kept, not made each time: if the thread that communicates held the last reference to a tensor of Python's, it
    would ask for the interpreter to let it go, and abort the process where that is ending.
    """
    return torch.zeros((), dtype=torch.float64, device=device)


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if rank_and_world()[1] > 1:
        torch.distributed.barrier()
