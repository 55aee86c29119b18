"""The gradient of a table of tokens while training on a CPU: of the rows that were read, and whole once a step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


@contextmanager
def by_row(model: nn.Module) -> Iterator[None]:
    """The transformers in a model learn their tables of tokens row by row meanwhile; gradients end as they would.

    A step is read in groups of like length, and for each PyTorch makes a gradient of the whole table, zeros nearly
    everywhere, and adds it to the others'. Of 30,522 tokens and 384 numbers that is a sixth of a step (docs/log.md).
    """
    found = (part.get_input_embeddings() for part in model.modules() if isinstance(part, PreTrainedModel))
    tables = {table for table in found if isinstance(table, nn.Embedding) and table.weight.requires_grad}
    hooks = [table.weight.register_post_accumulate_grad_hook(_whole) for table in tables]
    for table in tables:
        table.sparse = True
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for table in tables:
            table.sparse = False


def _whole(weight: Tensor) -> None:
    """Clipping and fused optimizers take no gradient of rows."""
    if weight.grad is not None and weight.grad.layout == torch.sparse_coo:
        weight.grad = weight.grad.to_dense()
