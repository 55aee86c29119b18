"""A decoder LLM as an embedder in NV-Embed's way: no causal mask, instruction not pooled, latent attention, LoRA."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import torch
from jaxtyping import Float
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel

from distill import hub, pooling, prompts
from distill.errors import Refused, check_at_least
from distill.interfaces import Embedder, TokenRows, Tokens
from distill.runtime import best_device, computes_bf16
from teachers.latent_attention import LatentAttention


class NVEmbed(Embedder):
    r"""NV-Embed (arXiv 2405.17428) over any dense decoder that transformers knows.

    The base is frozen; LoRA adapters on all its linear layers and the pooling block are trained. Queries
    carry `Instruct: {task}\nQuery: `, passages nothing. The instruction and the beginning-of-sequence token are
    attended to and not pooled; the end-of-sequence token is kept however a text is cut.

    Args:
        base: A hub name, a folder, or `package:NAME` for weights that a Python package carries.
        revision: Full commit of a hub name.
        pooling: The paper's latent attention, or the mean of the states.
        latents: Of the latent attention; 512 in the paper.
        heads: Of the latent attention; 8 in the paper.
        rank: Of the LoRA adapters; 16 in the paper. The scale alpha is twice the rank.
        dropout: In the adapters while training; 0.1 in the paper.
        length: Tokens that a text is cut to, instruction included; 512 in the paper.
        seed: Of the initial adapters, latents, and of the base when it has no weights.
    """

    def __init__(
        self,
        base: str,
        revision: str | None = None,
        pooling: Literal["latent_attention", "mean"] = "latent_attention",
        latents: int = 512,
        heads: int = 8,
        rank: int = 16,
        dropout: float = 0.1,
        length: int = 512,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.settings = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        check_at_least(1, latents=latents, heads=heads, rank=rank)
        check_at_least(3, length=length)  # beginning, a token, end
        folder = hub.locate(base, revision)
        where = best_device()
        dtype = torch.bfloat16 if computes_bf16(where) else torch.float32
        backbone = hub.pretrained(AutoModel, folder, seed=seed, dtype=dtype)
        backbone.config.is_causal = False  # read at each forward; honoured by transformers >= 5.2
        backbone.config.use_cache = False
        adapters = LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            lora_dropout=dropout,
            target_modules="all-linear",
            task_type="FEATURE_EXTRACTION",
        )
        self.dim = int(backbone.config.hidden_size)
        self.length = length
        self.tokenizer = hub.tokenizer(folder, backbone)
        if self.tokenizer.eos_token_id is None:
            raise Refused(f"base {base}: its tokenizer has no end-of-sequence token, which is pooled. Give it one.")
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")  # peft knows its old name
            torch.manual_seed(seed)
            self.backbone = get_peft_model(backbone, adapters)
            self._adapted = [held for held in self.backbone.modules() if isinstance(held, LoraLayer)]
            self.pooling = LatentAttention(self.dim, latents, heads) if pooling == "latent_attention" else None
        self.to(where)
        check_bidirectional(self.backbone.get_base_model(), self.tokenizer.eos_token_id)

    def tokenize(self, texts: Sequence[str], tasks: Sequence[str] | None = None) -> TokenRows:
        """Beginning of sequence, instruction, text cut to the length, end of sequence."""
        before = [prompts.instruction(task) for task in tasks] if tasks is not None else [""] * len(texts)
        if not len(texts):
            return TokenRows.of([], [], self._pad)
        joined = [start + text for start, text in zip(before, texts, strict=True)]
        # A text that spells `<eos>` is a text about it: only what stands here ends a sequence.
        encoded = self.tokenizer(
            joined, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        first = [self.tokenizer.bos_token_id] if self.tokenizer.bos_token_id is not None else []
        rows, unpooled = [], []
        for number, (ids, offsets) in enumerate(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)):
            # A token that begins with the instruction's last space holds the text's first word: it is pooled.
            told = sum(1 for _, end in offsets if end <= len(before[number])) if before[number] else 0
            room = self.length - len(first) - told - 1
            if room < bool(texts[number]) and before[number]:  # an empty text leaves its end of sequence
                raise Refused(
                    f"text {number} is all instruction: {told} tokens of it fill the length of {self.length}. "
                    "Shorten the task, or raise `length`."
                )
            rows.append([*first, *ids[: self.length - len(first) - 1], self.tokenizer.eos_token_id])
            unpooled.append(len(first) + told)
        return TokenRows.of(rows, unpooled, self._pad)

    @property
    def _pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    def forward(self, tokens: Tokens) -> Float[Tensor, "texts dim"]:
        """Token states, pooled, at unit length."""
        # Each would copy its input to fp32 for autocast to copy it back: a tenth of the time.
        for layer in self._adapted:
            layer.cast_input_dtype_enabled = not torch.is_autocast_enabled(tokens.ids.device.type)
        states = self.backbone(input_ids=tokens.ids, attention_mask=tokens.attend.long()).last_hidden_state
        if self.pooling is None:
            return nn.functional.normalize(pooling.mean(states, tokens.pool), dim=-1)
        return nn.functional.normalize(self.pooling(states.float(), tokens.pool).float(), dim=-1)

    def save(self, folder: Path) -> None:
        """Write the adapters, the pooling block and the settings; the base is named, not copied."""
        adapters = {name: weight.contiguous() for name, weight in get_peft_model_state_dict(self.backbone).items()}
        save_file(adapters, folder / "adapters.safetensors")
        if self.pooling is not None:
            save_file(self.pooling.state_dict(), folder / "pooling.safetensors")
        (folder / "nv_embed.json").write_text(json.dumps(self.settings, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote, over the base that it names."""
        made = cls(**json.loads((folder / "nv_embed.json").read_bytes()))
        set_peft_model_state_dict(made.backbone, load_file(folder / "adapters.safetensors"))
        if made.pooling is not None:
            made.pooling.load_state_dict(load_file(folder / "pooling.safetensors"))
        return made


@torch.no_grad()
def check_bidirectional(backbone: nn.Module, token: int) -> None:
    """Make sure that the causal mask is off: when the last token changes, the first state must move.

    Raises:
        Refused: The architecture, or this version of transformers, stays causal without a word.
    """
    device = next(backbone.parameters()).device
    ids = torch.tensor([[1, 2, 3, token], [1, 2, 3, 4 if token != 4 else 5]], device=device)
    was = backbone.training
    states = backbone.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, 0]
    backbone.train(was)
    if torch.equal(states[0], states[1]):
        raise Refused(
            f"{type(backbone).__name__} stays causal: its first state does not see the last token although "
            "config.is_causal is False. "
            "Use a dense decoder that honours it (Mistral, Llama, Qwen2, Qwen3, Gemma3, Phi3)."
        )
