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
