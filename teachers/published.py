"""The checkpoint that NV-Embed's authors published, read into our own classes with nothing of its code.

Its layout: `embedding_model.*` is a Mistral without a head, `latent_attention_model.*` the pooling block, both in
the same safetensors files; `config.json` holds the language model's numbers under `text_config`.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from torch import Tensor
from transformers import MistralConfig, MistralModel, PreTrainedModel

from distill import hub
from distill.errors import Refused

TYPE = "nvembed"
"""What its config.json calls it."""

MODEL, BLOCK = "embedding_model.", "latent_attention_model."
"""Prefixes of its weights."""

NUMBERS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_theta",
    "bos_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip
"""What is taken over from its language model's configuration."""


def is_published(folder: Path) -> bool:
    """Whether a model folder has this layout."""
    held = json.loads((folder / "config.json").read_bytes())
    return isinstance(held, dict) and held.get("model_type") == TYPE


def language_model(folder: Path, dtype: torch.dtype, options: Mapping[str, object]) -> PreTrainedModel:
    """The language model.

    Args:
        folder: Of the checkpoint.
        dtype: That its weights become.
        options: Further arguments of transformers' `from_pretrained`.

    Raises:
        Refused: It is no Mistral, or weights of it are missing.
    """
    told = json.loads((folder / "config.json").read_bytes()).get("text_config")
    if not isinstance(told, dict) or told.get("model_type") not in ("bidir_mistral", "mistral"):
        raise Refused(
            f"{folder / 'config.json'}: text_config is not of a Mistral, which NV-Embed is. Download it again."
        )
    # The published code masks by padding alone and never applies the window that its configuration names.
    config = MistralConfig(**{name: told[name] for name in NUMBERS if name in told}, sliding_window=None)
    options = {**options, "config": config, "key_mapping": {rf"^{MODEL}": ""}}
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # it would tell of each weight of the block, which `block` reads
    try:
        return hub.pretrained(MistralModel, folder, dtype=dtype, reads=(TYPE,), options=options)
    finally:
        transformers.logging.set_verbosity(before)


def block(folder: Path) -> dict[str, Tensor]:
    """The weights of the pooling block, by the names of `LatentAttention`.

    Raises:
        Refused: There are none.
    """
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as held:
            found |= {name.removeprefix(BLOCK): held.get_tensor(name) for name in held.keys() if name.startswith(BLOCK)}  # noqa: SIM118 no mapping
    if "latents" not in found or "cross_attend_blocks.0.fn.to_q.weight" not in found:
        raise Refused(f"{folder} holds no weights {BLOCK}*. Give the folder of NV-Embed-v1 or v2.")
    return found


def sizes(block: dict[str, Tensor]) -> tuple[int, int]:
    """Latents and heads of a pooling block, from the shapes of its weights."""
    latents, width = block["latents"].shape
    return latents, block["cross_attend_blocks.0.fn.to_q.weight"].shape[0] // width
