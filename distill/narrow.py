"""A narrower encoder cut out of a wider one: some hidden dimensions, some heads, some units of each layer.

Weight selection (arXiv 2311.18823) in transformers of BERT's build: every tensor of the narrow model is a part of the
wide one's. A hidden dimension is the same in all layers, for they add to one stream; heads are kept whole, with the
size that they have; units (of the feed-forward network) and heads are chosen layer by layer.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from distill.errors import Refused
from distill.surgery import spaced

Rule = Literal["norm", "even"]
"""How dimensions, heads and units are chosen: those with the largest weights, or evenly spaced ones."""

Kind = Literal["hidden", "heads", "queries_keys_values", "units", "gated_units", "each_head", ""]
"""What an axis of a tensor counts; the empty one is kept whole."""

AXES: tuple[tuple[str, tuple[Kind, ...]], ...] = (
    (r"relative_attention_bias$", ("", "each_head")),
    (r"embeddings\.\w+_embeddings$", ("", "hidden")),
    (r"\.(query|key|value|attn\.[qkv])$", ("heads", "hidden")),
    (r"\.Wqkv$", ("queries_keys_values", "hidden")),
    (r"\.(attention\.output\.dense|attn\.o|attn\.Wo)$", ("hidden", "heads")),
    (r"\.(intermediate\.dense)$", ("units", "hidden")),
    (r"\.mlp\.Wi$", ("gated_units", "hidden")),
    (r"\.(output\.dense|mlp\.Wo)$", ("hidden", "units")),
    (r"(^|[._])(LayerNorm|norm)$", ("hidden",)),
    (r"^pooler\.dense$", ("hidden", "hidden")),
)
"""Axes of a module's weight, by the end of its name; of its bias, the first. The first line that fits counts."""

ROWS: Mapping[Kind, Mapping[Kind, int]] = {
    "hidden": {"hidden": 1},
    "heads": {"heads": 1, "queries_keys_values": 3},
    "units": {"units": 1, "gated_units": 2},
}
"""What is chosen; the axes that count it, and how many times one after the other."""

Places = Int[Tensor, "kept"]


def narrowed(backbone: PreTrainedModel, width: int, rule: Rule = "norm") -> PreTrainedModel:
    """A model of the same depth with fewer hidden dimensions, and heads and units in proportion.

    Args:
        backbone: A transformer of BERT's, RoBERTa's, MPNet's or ModernBERT's build; left as it is.
        width: Hidden dimensions of the new one: so many whole heads.
        rule: How what is kept is chosen.

    Raises:
        Refused: The width is no multiple of a head's, or not smaller; or the architecture is another.
    """
    config = backbone.config
    check(backbone, width)
    made = type(backbone)(config_of(config, width))
    axes = {name: _axes(name, backbone) for name in made.state_dict()}
    weights = backbone.state_dict()
    places = _Places(weights, axes, config, made.config, rule)
    kept = {name: _cut(weights[name], axes[name], places, _layer(name)) for name in axes}
    made.load_state_dict(kept)
    return made


def check(backbone: PreTrainedModel, width: int) -> None:
    """Make sure that a model can be made so narrow; its weights are not looked at.

    Raises:
        Refused: The width is no multiple of a head's, or not smaller; or the architecture is another.
    """
    check_width(backbone.config, width)
    for name in backbone.state_dict():
        _axes(name, backbone)


def check_width(config: PreTrainedConfig, width: int) -> None:
    """Make sure that a model of this configuration can have so many hidden dimensions.

    Raises:
        Refused: The width is no multiple of a head's, or not smaller than it is.
    """
    counted = all(isinstance(getattr(config, name, None), int) for name in ("num_attention_heads", "intermediate_size"))
    # ELECTRA's tables are narrower than its layers.
    alike = getattr(config, "embedding_size", config.hidden_size) == config.hidden_size
    if not counted or not alike or getattr(config, "head_dim", None):
        raise Refused(f"width: {config.model_type} is not of BERT's build, which alone is made narrower. Leave it out.")
    each = config.hidden_size // config.num_attention_heads
    if width % each or not each <= width < config.hidden_size:
        raise Refused(
            f"width: {width}; needed: a multiple of {each} (a head, which is kept whole) below {config.hidden_size}."
        )


def config_of(config: PreTrainedConfig, width: int) -> PreTrainedConfig:
    """The configuration of the narrower model."""
    made = copy.deepcopy(config)
    made.hidden_size = width
    made.num_attention_heads = config.num_attention_heads * width // config.hidden_size
    made.intermediate_size = round(config.intermediate_size * width / config.hidden_size)
    return made


def _layer(name: str) -> str:
    """The number of the layer that a tensor belongs to; empty for none."""
    found = re.search(r"\.layers?\.(\d+)\.", f".{name}")
    return found[1] if found else ""


def _axes(name: str, backbone: PreTrainedModel) -> tuple[Kind, ...]:
    module, _, which = name.rpartition(".")
    for pattern, axes in AXES:
        if re.search(pattern, module):
            return axes if which == "weight" else axes[:1]
    raise Refused(
        f"width: {type(backbone).__name__} holds {name}, which is not of BERT's build. Leave `width` out, or take "
        "another base."
    )


def _cut(tensor: Tensor, axes: tuple[Kind, ...], places: "_Places", layer: str) -> Tensor:
    for axis, kind in enumerate(axes):
        if kind:
            tensor = tensor.index_select(axis, places.of(kind, layer))
    return tensor.clone()


class _Places:
    """Which places of each kind of axis are kept."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        axes: Mapping[str, tuple[Kind, ...]],
        wide: PreTrainedConfig,
        slim: PreTrainedConfig,
        rule: Rule,
    ) -> None:
        self._weights, self._axes, self._wide, self._slim, self._rule = weights, axes, wide, slim, rule
        self._each = wide.hidden_size // wide.num_attention_heads
        # A bias for each head that all layers share: their heads must be the same ones.
        self._shares_heads = any("each_head" in found for found in axes.values())
        self._found: dict[tuple[Kind, str], Places] = {}

    def of(self, kind: Kind, layer: str) -> Places:
        """Places along an axis of this kind, in a layer, rising."""
        at = "" if kind == "hidden" or (self._shares_heads and kind in ("heads", "each_head")) else layer
        if (kind, at) not in self._found:
            self._found[kind, at] = self._make(kind, at)
        return self._found[kind, at]

    def _make(self, kind: Kind, layer: str) -> Places:
        if kind == "hidden":
            return self._best("hidden", layer, self._wide.hidden_size, self._slim.hidden_size)
        if kind == "each_head":
            return self._best("heads", layer, self._wide.num_attention_heads, self._slim.num_attention_heads)
        if kind == "units":
            return self._best("units", layer, self._wide.intermediate_size, self._slim.intermediate_size)
        if kind == "gated_units":  # inputs of all units, then gates of all
            units = self.of("units", layer)
            return torch.cat([units, units + self._wide.intermediate_size])
        inside = (self.of("each_head", layer)[:, None] * self._each + torch.arange(self._each)).flatten()
        if kind == "heads":
            return inside
        return torch.cat([inside + part * self._wide.hidden_size for part in range(3)])

    def _best(self, kind: Kind, layer: str, count: int, kept: int) -> Places:
        if self._rule == "even":
            return torch.tensor(spaced(count, kept))
        return self._weight(kind, layer, count).topk(kept).indices.sort().values

    def _weight(self, kind: Kind, layer: str, count: int) -> Float[Tensor, "count"]:
        """Of each place, its share of the squares of all tensors with such an axis; each tensor counts alike."""
        total = torch.zeros(count, dtype=torch.float64)
        for tensor, axis, parts in self._with(kind, layer):
            squares = tensor.double().square().movedim(axis, 0).flatten(1).sum(1)
            total += squares.view(parts, count, -1).sum((0, 2)) / squares.sum().clamp(min=1e-30)
        return total

    def _with(self, kind: Kind, layer: str) -> Iterator[tuple[Tensor, int, int]]:
        """Matrices with an axis of a kind, in a layer or in all; which axis; and how many such it is a row of."""
        for name, axes in self._axes.items():
            if not layer or _layer(name) == layer:
                for axis, found in enumerate(axes):
                    if self._weights[name].ndim > 1 and found in ROWS[kind]:
                        yield self._weights[name], axis, ROWS[kind][found]
