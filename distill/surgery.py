"""Smaller models out of larger ones, whatever their architecture."""

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel

from distill.errors import Refused


def keep_layers(backbone: PreTrainedModel, layers: Sequence[int]) -> None:
    """Cut a transformer down to some of its layers, in place.

    Raises:
        Refused: A layer is not there or is named twice, or the layers cannot be found.
    """
    holder = getattr(backbone, "encoder", backbone)
    name = next((name for name in ("layer", "layers") if isinstance(getattr(holder, name, None), nn.ModuleList)), None)
    if name is None:
        raise Refused(f"layers: cannot find the layers of {type(backbone).__name__}. Leave `layers` out.")
    held = getattr(holder, name)
    check_layers(layers, len(held))
    setattr(holder, name, nn.ModuleList([held[layer] for layer in layers]))
    backbone.config.num_hidden_layers = len(layers)
    if getattr(backbone.config, "layer_types", None):
        backbone.config.layer_types = [backbone.config.layer_types[layer] for layer in layers]


def check_layers(layers: Sequence[int], count: int) -> None:
    """Make sure that layers are among so many.

    Raises:
        Refused: One is not there, or is named twice, or there are none.
    """
    if len(set(layers)) < len(layers) or not all(0 <= layer < count for layer in layers) or not layers:
        raise Refused(f"layers: {list(layers)}; needed: different numbers from 0 to {count - 1}.")
