"""The causal mask is off in every family that is offered, and where it is not, that is said."""

import pytest
import torch
import transformers

from distill.bidirectional import attend_both_ways, check_bidirectional
from distill.errors import Refused

SIZES = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0, "eos_token_id": 1,
    "bos_token_id": 2, "initializer_range": 0.3,
}  # fmt: skip
FAMILIES = ("mistral", "ministral", "llama", "qwen2", "qwen3", "gemma3_text", "phi3")


def backbone(family: str, attention: str) -> transformers.PreTrainedModel:
    config = transformers.AutoConfig.for_model(family, **SIZES)
    torch.manual_seed(4)
    model: transformers.PreTrainedModel = transformers.AutoModel.from_config(config, attn_implementation=attention)
    return model.eval()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_token_sees_those_behind_it(family: str, attention: str) -> None:
    """Harm: an upgrade of transformers makes teachers causal again, wholly or only where texts are padded."""
    model = backbone(family, attention)
    with pytest.raises(Refused, match="stays causal"):
        check_bidirectional(model, 1)
    attend_both_ways(model, 1)
    ids = torch.tensor([[5, 6, 7, 8, 9], [5, 6, 7, 8, 10]])
    for side in (None, "right", "left"):
        pads = {None: (0, 0), "right": (0, 3), "left": (3, 0)}[side]
        mask = torch.nn.functional.pad(torch.ones_like(ids), pads)
        for training in (False, True):
            model.train(training)
            with torch.no_grad():
                states = model(input_ids=torch.nn.functional.pad(ids, pads), attention_mask=mask).last_hidden_state
            moved = (states[0] - states[1]).abs().amax(1)
            assert (moved[mask[0].bool()] > 1e-5).all(), (side, training)


def test_layers_that_read_one_way_are_refused() -> None:
    """Harm: a hybrid passes the check, since its other layers see both ways, and is half of what it says."""
    config = transformers.AutoConfig.for_model("qwen3_next", **SIZES, num_experts=2, num_experts_per_tok=1)
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    with pytest.raises(Refused, match="layers of the kind linear_attention"):
        attend_both_ways(model, 1)
