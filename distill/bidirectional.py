"""Which way a decoder attends: the switch, and the proof at each start that it was heard."""

import torch
from torch import nn
from transformers import PreTrainedModel

from distill.errors import Refused

DENSE = "Use a dense decoder that honours it (Mistral, Ministral, Llama, Qwen2, Qwen3, Gemma3, Phi3)."


def attend_both_ways(backbone: PreTrainedModel, token: int) -> None:
    """Take the causal mask off a decoder, and make sure that it is off.

    Args:
        backbone: Changed in place.
        token: The id of a token that it knows.

    Raises:
        Refused: The architecture, or this version of transformers, stays causal, wholly or in some layers.
    """
    kinds = set(getattr(backbone.config, "layer_types", None) or ())
    if one_way := sorted(kind for kind in kinds if "attention" not in kind or kind.startswith("linear")):
        # The check below would pass, for the other layers see both ways.
        raise Refused(
            f"{type(backbone).__name__} has layers of the kind {one_way[0]}, which read from left to right. {DENSE}"
        )
    backbone.config.is_causal = False  # read at each forward; honoured by transformers >= 5.2
    check_bidirectional(backbone, token)


@torch.no_grad()
def check_bidirectional(backbone: nn.Module, token: int) -> None:
    """Make sure that the causal mask is off: when the last token changes, the first state must move.

    Asked with and without padding, for the two take different ways through the library.

    Raises:
        Refused: The first state stays as it is.
    """
    device = next(backbone.parameters()).device
    ids = torch.tensor([[1, 2, 3, token], [1, 2, 3, 4 if token != 4 else 5]], device=device)
    was = backbone.training
    backbone.eval()
    for padding in (0, 2):
        padded = nn.functional.pad(ids, (0, padding), value=token)
        mask = nn.functional.pad(torch.ones_like(ids), (0, padding))
        states = backbone(input_ids=padded, attention_mask=mask).last_hidden_state[:, 0]
        if torch.equal(states[0], states[1]):
            raise Refused(
                f"{type(backbone).__name__} stays causal{' where a text is padded' if padding else ''}: its first "
                f"state does not see the last token although config.is_causal is False. {DENSE}"
            )
    backbone.train(was)
