"""Smaller models out of larger ones, whatever their architecture: fewer layers, fewer tokens, no weight at all."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import nn
from transformers import PreTrainedModel

from distill.errors import Refused

TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id")
"""Ids that a configuration names."""


def spaced(count: int, kept: int) -> tuple[int, ...]:
    """So many numbers below `count`, evenly spaced from the first to the last.

    Of 12 layers 6 are 0, 2, 4, 7, 9, 11, as in DistilBERT (arXiv 1910.01108 and its code); one alone is the first.
    """
    return tuple(round(place * (count - 1) / max(kept - 1, 1)) for place in range(kept))


def chosen(layers: Sequence[int] | int, count: int) -> tuple[int, ...]:
    """Numbers of the layers that are kept, of so many: as given, or so many of them evenly spaced.

    Raises:
        Refused: One is not there, or is named twice, or there are none.
    """
    check_layers(layers, count)
    return spaced(count, layers) if isinstance(layers, int) else tuple(layers)


def keep_layers(backbone: PreTrainedModel, layers: Sequence[int] | int) -> None:
    """Cut a transformer down to some of its layers, in place.

    Args:
        backbone: Changed.
        layers: Numbers of those that are kept, in order; or how many, evenly spaced.

    Raises:
        Refused: A layer is not there or is named twice, the layers cannot be found, or whoever loads the model would
            build other ones.
    """
    if (found := layers_of(backbone)) is None:
        raise Refused(f"layers: cannot find the layers of {type(backbone).__name__}. Leave `layers` out.")
    holder, name = found
    held = getattr(holder, name)
    kept = chosen(layers, len(held))
    setattr(holder, name, nn.ModuleList([held[layer] for layer in kept]))
    backbone.config.num_hidden_layers = len(kept)
    for setting, values in vars(backbone.config).items():  # of each layer: its kind, whether it sees positions
        if "layer" in setting and isinstance(values, list) and len(values) == len(held):
            setattr(backbone.config, setting, [values[layer] for layer in kept])
    _check_built_alike(backbone, kept)


def layers_of(backbone: PreTrainedModel) -> tuple[nn.Module, str] | None:
    """The module that holds a transformer's layers, and the name of their list in it; None if it is not known."""
    holder = getattr(backbone, "encoder", backbone)
    names = [name for name in ("layer", "layers") if isinstance(getattr(holder, name, None), nn.ModuleList)]
    return (holder, names[0]) if names else None


def _check_built_alike(backbone: PreTrainedModel, kept: Sequence[int]) -> None:
    """Make sure that a model of this configuration has these tensors: it is what the saved ones are loaded into."""
    with torch.device("meta"):
        built = type(backbone)(backbone.config).state_dict()
    held = backbone.state_dict()
    if apart := sorted(built.keys() ^ held.keys()):
        raise Refused(
            f"layers: {list(kept)}; {type(backbone).__name__} builds layers by their places, so these could not be "
            f"loaded again ({apart[0]}). Keep its layer 0, as the first."
        )


def check_layers(layers: Sequence[int] | int, count: int) -> None:
    """Make sure that layers are among so many.

    Raises:
        Refused: One is not there, or is named twice, or there are none.
    """
    if isinstance(layers, int):
        if not 1 <= layers <= count:
            raise Refused(f"layers: {layers}; needed: from 1 to {count} of them, or a list of their numbers.")
        return
    if len(set(layers)) < len(layers) or not all(0 <= layer < count for layer in layers) or not layers:
        raise Refused(f"layers: {list(layers)}; needed: different numbers from 0 to {count - 1}, or how many.")


def keep_tokens(backbone: PreTrainedModel, ids: Int[np.ndarray, "kept"]) -> PreTrainedModel:
    """A model with some rows of its table of tokens; what was row `ids[i]` is row i.

    Args:
        backbone: Used up: the result has its weights.
        ids: Rows that are kept, rising.
    """
    table = backbone.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    # In place: some tables scale what is looked up, and are no plain nn.Embedding.
    table.weight = nn.Parameter(table.weight.detach()[torch.from_numpy(ids)].clone())
    table.num_embeddings = len(ids)
    new = {int(old): place for place, old in enumerate(ids)}
    backbone.config.vocab_size = len(ids)
    for name in TOKENS:
        if (old := getattr(backbone.config, name, None)) is not None:
            setattr(backbone.config, name, _renumbered(old, new))
    # Made anew from its configuration, as whoever loads it will: some classes count positions from the padding's id.
    made = type(backbone)(backbone.config)
    made.load_state_dict(backbone.state_dict())
    return made


def _renumbered(old: Any, new: dict[int, int]) -> Any:  # noqa: ANN401 an id, or several
    return [new[each] for each in old if each in new] if isinstance(old, list) else new.get(old)


def forget(backbone: PreTrainedModel, seed: int) -> PreTrainedModel:
    """A model of the same shape with random weights, as its own class begins."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return type(backbone)(backbone.config)


def set_dropout(backbone: PreTrainedModel, share: float) -> None:
    """Dropout at one share wherever the architecture has some, and in its configuration, so that it is saved."""
    for name, value in backbone.config.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(backbone.config, name, share)
    for part in backbone.modules():
        if isinstance(part, nn.Dropout):
            part.p = share
        for name, value in list(vars(part).items()):  # where it is handed to a function
            if "dropout" in name and isinstance(value, float):
                setattr(part, name, share)
