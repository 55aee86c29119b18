"""One training in several processes: who starts whom, and how a batch is shared so that its numbers stay the same."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

LIGHTNINGS = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
"""What Lightning leaves in the environment when it starts processes; with it there, it would start none again."""


@contextmanager
def called(folder: Path, variable: str) -> Iterator[None]:
    """Tell the processes that Lightning starts, by this same command line, for which training they are.

    Args:
        folder: The artifact that is trained.
        variable: Of the environment, that says so.
    """
    names = (*LIGHTNINGS, variable)
    before = {name: os.environ.get(name) for name in names}
    os.environ[variable] = str(folder.absolute())
    try:
        yield
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def places(texts: int, processes: int) -> Int[Tensor, "processes share"]:
    """Which texts each process embeds: every so-manieth; the last ones once more where they do not divide."""
    share = -(-texts // processes)
    return torch.arange(share * processes).clamp(max=texts - 1).view(share, processes).T


def joined(vectors: Float[Tensor, "processes share dim"], texts: int) -> Float[Tensor, "texts dim"]:
    """The vectors of all texts of a batch, in order, from what each process made of its places."""
    return vectors.transpose(0, 1).flatten(0, 1)[:texts]
