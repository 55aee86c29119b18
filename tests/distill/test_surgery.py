"""Layers are taken out whole, or not at all."""

from pathlib import Path

import pytest
import torch
import transformers

from distill.errors import Refused
from distill.surgery import keep_layers


def test_an_architecture_without_such_layers_is_refused() -> None:
    """Harm: layers stay where they are, and the student is as large as its base."""
    config = transformers.DistilBertConfig(vocab_size=20, dim=16, n_layers=2, n_heads=2, hidden_dim=16)
    with pytest.raises(Refused, match="cannot find the layers of DistilBertModel"):
        keep_layers(transformers.DistilBertModel(config), (0,))


def test_other_families_are_thinned_too(tmp_path: Path) -> None:
    """Harm: layers of a kind (local, global) swap their kind when some are taken out."""
    config = transformers.ModernBertConfig(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=4, num_attention_heads=2,
        global_attn_every_n_layers=3, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
    )  # fmt: skip
    model = transformers.ModernBertModel(config)
    kinds = list(config.layer_types)
    keep_layers(model, (0, 1, 3))
    assert model.config.layer_types == [kinds[0], kinds[1], kinds[3]] != kinds[:3]
    model.save_pretrained(tmp_path)
    back = transformers.ModernBertModel.from_pretrained(tmp_path)
    ids = torch.arange(3, 11)[None]
    with torch.inference_mode():
        made = [held.eval()(input_ids=ids).last_hidden_state for held in (model, back)]
    torch.testing.assert_close(made[0], made[1])


@pytest.mark.parametrize("layers", [(1, 3), (3, 0)])
def test_layers_that_would_be_loaded_as_others_are_refused(layers: tuple[int, ...]) -> None:
    """Harm: ModernBERT's layer 0 has no norm before it: another in its place is saved, exported and loaded without
    the norm that it was trained with; moved, it cannot be loaded at all, after all steps.
    """
    config = transformers.ModernBertConfig(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=4, num_attention_heads=2,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
    )  # fmt: skip
    with pytest.raises(Refused, match=r"attn_norm.*Keep its layer 0, as the first"):
        keep_layers(transformers.ModernBertModel(config), layers)


def test_what_layers_do_with_positions_stays_theirs(tmp_path: Path) -> None:
    """Harm: SmolLM3's layers without positions are others once the trained student is loaded."""
    config = transformers.SmolLM3Config(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=1, pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.5,
        use_cache=False,
    )  # fmt: skip
    model = transformers.SmolLM3Model(config)
    keep_layers(model, (1, 3))
    assert model.config.no_rope_layers == [1, 0]
    model.save_pretrained(tmp_path)
    back = transformers.SmolLM3Model.from_pretrained(tmp_path)
    ids = torch.arange(3, 11)[None]
    with torch.inference_mode():
        made = [held.eval()(input_ids=ids).last_hidden_state for held in (model, back)]
    torch.testing.assert_close(made[0], made[1])
