"""A narrower encoder is a part of the wider one, tensor by tensor, with its heads whole."""

import pytest
import torch
import transformers
from torch import Tensor

from distill.errors import Refused
from distill.narrow import narrowed

SHAPE = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
IDS = torch.arange(5, 25).view(2, 10)


def bert(**changes: object) -> transformers.PreTrainedModel:
    config = transformers.BertConfig(**SHAPE, initializer_range=0.3, max_position_embeddings=32, **changes)
    torch.manual_seed(3)
    return transformers.BertModel(config).eval()


def mpnet() -> transformers.PreTrainedModel:
    config = transformers.MPNetConfig(**SHAPE, initializer_range=0.3, max_position_embeddings=34)
    torch.manual_seed(3)
    return transformers.MPNetModel(config).eval()


def modern() -> transformers.PreTrainedModel:
    special = {name: 1 for name in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")}
    config = transformers.ModernBertConfig(**SHAPE, initializer_range=0.3, **special)
    torch.manual_seed(3)
    return transformers.ModernBertModel(config).eval()


def states(model: transformers.PreTrainedModel) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state
    return found


def test_a_bert_is_cut_as_by_hand() -> None:
    """Harm: rows of one head are mixed with another's, and the start is as good as random, without a word."""
    wide = bert()
    slim = narrowed(wide, 16, "even")
    hidden = [0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31]  # round(i * 31 / 15)
    heads = [*range(8), *range(24, 32)]  # the first and the last of four
    units = [round(i * 47 / 23) for i in range(24)]
    held, was = slim.state_dict(), wide.state_dict()
    for layer in ("encoder.layer.0.", "encoder.layer.1."):
        for part, rows, columns in (
            ("attention.self.query", heads, hidden),
            ("attention.self.value", heads, hidden),
            ("attention.output.dense", hidden, heads),
            ("intermediate.dense", units, hidden),
            ("output.dense", hidden, units),
        ):
            name = layer + part
            assert torch.equal(held[f"{name}.weight"], was[f"{name}.weight"][rows][:, columns])
            assert torch.equal(held[f"{name}.bias"], was[f"{name}.bias"][rows])
        assert torch.equal(held[f"{layer}output.LayerNorm.weight"], was[f"{layer}output.LayerNorm.weight"][hidden])
    for table in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        assert torch.equal(held[f"embeddings.{table}.weight"], was[f"embeddings.{table}.weight"][:, hidden])
    assert (slim.config.hidden_size, slim.config.num_attention_heads, slim.config.intermediate_size) == (16, 2, 24)


@pytest.mark.parametrize("make", [bert, mpnet, modern])
@pytest.mark.parametrize("rule", ["norm", "even"])
def test_every_weight_is_one_of_the_wide_models(make: object, rule: str) -> None:
    """Harm: a dimension, a head or a unit is taken from one tensor and another from the next, in some architecture."""
    assert callable(make)
    wide = make()
    slim = narrowed(wide, 16, rule)  # type: ignore[arg-type]
    for name, held in slim.state_dict().items():
        flat = set(wide.state_dict()[name].flatten().tolist())
        assert set(held.flatten().tolist()) <= flat, name
    assert states(slim).shape == (2, 10, 16) and states(slim).isfinite().all()


@pytest.mark.parametrize("make", [bert, mpnet, modern])
def test_heads_and_units_without_weight_are_those_that_go(make: object) -> None:
    """Harm: heads and units that do the work are cut, and dead ones kept; or a layer's choice is another's."""
    assert callable(make)
    wide = make()
    head = {bert: 3, mpnet: 1, modern: 2}[make]  # type: ignore[index]
    with torch.no_grad():
        for name, held in wide.state_dict().items():
            rows = range(head * 8, head * 8 + 8)
            if any(part in name for part in ("self.query", "self.key", "self.value", "attn.q", "attn.k", "attn.v")):
                held[rows] = 0
            elif "Wqkv" in name:
                held[[part * 32 + row for part in range(3) for row in rows]] = 0
            elif "attention.output.dense.weight" in name or "attn.o.weight" in name or "attn.Wo" in name:
                held[:, rows] = 0
            elif "intermediate.dense" in name or "mlp.Wi" in name:
                held[1::2] = 0
            elif "output.dense.weight" in name or "mlp.Wo" in name:
                held[:, 1::2] = 0
    slim = narrowed(wide, 16, "norm")
    for name, held in slim.state_dict().items():
        if held.ndim == 2 and any(part in name for part in ("attn.", "attention.", "intermediate", "mlp.", "output")):
            assert (held.abs().sum(1) > 0).all() and (held.abs().sum(0) > 0).all(), name


def test_the_bias_of_a_head_stays_with_its_head() -> None:
    """Harm: MPNet's relative positions, which all layers share, are those of heads that were cut."""
    wide = mpnet()
    slim = narrowed(wide, 16)
    bias, was = (model.state_dict()["encoder.relative_attention_bias.weight"] for model in (slim, wide))
    kept = [next(head for head in range(4) if torch.equal(bias[:, at], was[:, head])) for at in range(2)]
    rows = [row for head in kept for row in range(head * 8, head * 8 + 8)]
    for layer in range(2):
        name = f"encoder.layer.{layer}.attention.attn.q.bias"
        assert torch.equal(slim.state_dict()[name], wide.state_dict()[name][rows])
        value = f"encoder.layer.{layer}.attention.attn.v.weight"
        assert set(slim.state_dict()[value][0].tolist()) <= set(wide.state_dict()[value][rows[0]].tolist())


@pytest.mark.parametrize("width", [12, 32, 40, 0, -8])
def test_a_width_that_would_split_a_head_is_refused(width: int) -> None:
    """Harm: a head of half the size attends to nothing it learned."""
    with pytest.raises(Refused, match=r"needed: a multiple of 8 .* below 32"):
        narrowed(bert(), width)


def test_other_architectures_are_refused() -> None:
    """Harm: weights that no rule names are left as they come, and are random."""
    config = transformers.Gemma3TextConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, head_dim=8, intermediate_size=16
    )
    with pytest.raises(Refused, match="not of BERT's build"):
        narrowed(transformers.Gemma3TextModel(config), 8)
    config = transformers.AlbertConfig(
        vocab_size=20, embedding_size=16, hidden_size=16, num_attention_heads=2, intermediate_size=16
    )
    with pytest.raises(Refused, match=r"AlbertModel holds .*not of BERT's build"):
        narrowed(transformers.AlbertModel(config), 8)
    # Neither counts its units as BERT does, or has tables as wide as its layers: once an error deep inside.
    for other in (
        transformers.GPT2Config(vocab_size=20, n_embd=16, n_layer=1, n_head=2),
        transformers.ElectraConfig(
            vocab_size=20, embedding_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2
        ),
    ):
        with pytest.raises(Refused, match="not of BERT's build"):
            narrowed(transformers.AutoModel.from_config(other), 8)
