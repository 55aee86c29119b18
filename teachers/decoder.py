"""Any decoder LLM as an embedder: which way it attends, what it pools, how it is asked, what of it is trained."""

import importlib.util
import json
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self

import torch
from jaxtyping import Float
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    prepare_model_for_kbit_training,
    set_peft_model_state_dict,
)
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, BitsAndBytesConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from distill import hub, prompts, soup, surgery
from distill.bidirectional import attend_both_ways
from distill.errors import Refused, check_at_least, with_article
from distill.interfaces import Embedder, TokenRows, Tokens
from distill.runtime import best_device, computes_bf16
from teachers import poolings, published
from teachers.latent_attention import LatentAttention
from teachers.multi_layer import MultiLayer

ADAPTERS, SETTINGS = "adapters.safetensors", "decoder.json"

Trained = Literal["lora", "qlora", "all"]


class Decoder(Embedder):
    r"""A decoder LLM that embeds; the presets beside it are this with their papers' choices.

    A query carries its instruction, a passage nothing. The beginning of the sequence and the instruction are attended
    to and, unless it is said otherwise, not pooled; the end of the sequence is kept however a text is cut.

    Args:
        base: A hub name, a folder, or `package:NAME` for weights that a Python package carries.
        revision: Full commit of a hub name.
        layers: Numbers of the base's layers that are kept; all if None. For experiments that must be quick.
        attention: Whether a token sees those behind it.
        pooling: Of the last states; `multi_layer`, of the states of all layers.
        template: What stands before a query; `{task}` is its instruction.
        pool_instruction: Whether the instruction and the beginning of the sequence before it are pooled too.
        pool_beginning: Whether the beginning of a text without an instruction is pooled. The published NV-Embed does
            so, others do not: None asks the base.
        trained: Low-rank adapters on all linear layers (`lora`), the same over a base in 4 bits (`qlora`: a GPU and
            bitsandbytes), or every weight (`all`). A pooling block always is.
        latents: Of the poolings that have such; 512 in NV-Embed.
        heads: Of the poolings that attend; 8 in NV-Embed.
        rank: Of the adapters. Their scale alpha is twice the rank.
        dropout: In the adapters while training.
        length: Tokens that a text is cut to, instruction included.
        seed: Of the initial adapters and pooling block, and of the base when it has no weights.
    """

    def __init__(
        self,
        base: str,
        revision: str | None = None,
        layers: tuple[int, ...] | None = None,
        attention: Literal["bidirectional", "causal"] = "bidirectional",
        pooling: poolings.Pooling = "mean",
        template: str = prompts.QUERY,
        pool_instruction: bool = False,
        pool_beginning: bool | None = None,
        trained: Trained = "lora",
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
        if "{task}" not in template:
            raise Refused(f"template: {template!r} has no place for the instruction; needed: {{task}}.")
        self.folder = folder = hub.locate(base, revision, reads=(published.TYPE,))
        if pool_beginning is None:
            pool_beginning = published.is_published(folder)
            self.settings["pool_beginning"] = pool_beginning
        backbone = _backbone(folder, trained, seed)
        if backbone.config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
            raise Refused(
                f"base {base}: {with_article(type(backbone).__name__)} is an encoder, which sees both ways by itself. "
                "Say class_path: students.Encoder, which can teach as well, or give a decoder LLM."
            )
        if layers is not None:
            surgery.keep_layers(backbone, layers)
        self.tokenizer = hub.tokenizer(folder, backbone)
        self.dim, self.length = int(backbone.config.hidden_size), length
        if self.tokenizer.eos_token_id is None:
            raise Refused(f"base {base}: its tokenizer has no end-of-sequence token, which is pooled. Give it one.")
        self._template, self._pools_instruction, self._pools_beginning = template, pool_instruction, pool_beginning
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.backbone = backbone if trained == "all" else _adapted(backbone, trained, rank, dropout)
            self.pooling = poolings.make(
                pooling,
                width=self.dim,
                layers=int(backbone.config.num_hidden_layers),
                causal=attention == "causal",
                latents=latents,
                heads=heads,
            )
        self._layers = [held for held in self.backbone.modules() if isinstance(held, LoraLayer)]
        self.to(best_device())
        if attention == "bidirectional":
            attend_both_ways(backbone, self.tokenizer.eos_token_id)
        else:  # a base that was saved by one of ours says otherwise
            backbone.config.is_causal = True

    def tokenize(self, texts: Sequence[str], tasks: Sequence[str] | None = None) -> TokenRows:
        """Beginning of sequence, instruction, text cut to the length, end of sequence."""
        before = (
            [prompts.instruction(task, self._template) for task in tasks] if tasks is not None else [""] * len(texts)
        )
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
            pooled = self._pools_instruction if before[number] else self._pools_beginning
            unpooled.append(0 if pooled else len(first) + told)
        return TokenRows.of(rows, unpooled, self._pad)

    @property
    def _pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    def forward(self, tokens: Tokens) -> Float[Tensor, "texts dim"]:
        """Token states, pooled, at unit length."""
        # Each would copy its input to fp32 for autocast to copy it back: a tenth of the time.
        for layer in self._layers:
            layer.cast_input_dtype_enabled = not torch.is_autocast_enabled(tokens.ids.device.type)
        is_all = isinstance(self.pooling, MultiLayer)
        made = self.backbone(input_ids=tokens.ids, attention_mask=tokens.attend.long(), output_hidden_states=is_all)
        if is_all:
            pooled = self.pooling([states.float() for states in made.hidden_states[1:]], tokens.pool)
        else:
            pooled = self.pooling(made.last_hidden_state.float(), tokens.pool)
        return nn.functional.normalize(pooled.float(), dim=-1)

    def merge(self) -> None:
        """Multiply out, in place, what only training keeps apart: adapters into the base, latent attention.

        Vectors stay as they are, up to rounding. The base becomes fp32, for in bf16 most of a small change is lost.
        """
        if isinstance(self.backbone, PeftModel):
            self.backbone, self._layers = self.backbone.float().merge_and_unload(), []
            self.settings |= {"trained": "all"}
        if isinstance(self.pooling, LatentAttention):
            self.pooling = self.pooling.folded()
            self.settings |= {"pooling": "folded_latent_attention"}

    def save(self, folder: Path) -> None:
        """Write what was trained and the settings; a base that was not trained is named, not copied."""
        if isinstance(self.backbone, PeftModel):
            adapters = {
                name: held.contiguous()
                for name, held in get_peft_model_state_dict(self.backbone, save_embedding_layers=False).items()
            }
            save_file(adapters, folder / ADAPTERS)
        else:
            # Under the names of its class: a published checkpoint has others.
            self.backbone.save_pretrained(folder / "base", save_original_format=False)
            self.tokenizer.save_pretrained(folder / "base")
        if block := self.pooling.state_dict():
            save_file(block, folder / "pooling.safetensors")
        (folder / SETTINGS).write_text(json.dumps(self.settings, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote, over the base that it names or that lies beside it."""
        settings: dict[str, Any] = json.loads((folder / SETTINGS).read_bytes())
        if layers := settings.pop("layers", None):
            settings["layers"] = tuple(layers)
        if (folder / "base").is_dir():  # trained whole, and as deep as it was left
            hub.check_saved(folder / "base")
            settings = {name: held for name, held in settings.items() if name not in ("revision", "layers")}
            settings["base"] = str(folder / "base")
        made = cls(**settings)
        if (folder / ADAPTERS).is_file():
            set_peft_model_state_dict(made.backbone, load_file(folder / ADAPTERS))
        if (folder / "pooling.safetensors").is_file():
            made.pooling.load_state_dict(load_file(folder / "pooling.safetensors"))
        return made

    @classmethod
    def average(cls, folders: Sequence[Path], out: Path, spread: soup.Spread) -> None:
        """Write the mean of saved models: of adapters the mean of their products, which is theirs side by side.

        Raises:
            Refused: Adapters are of different bases.
        """
        soup.average(folders, out, spread, apart=(ADAPTERS,))
        if not (folders[0] / ADAPTERS).is_file():
            return
        told = [json.loads((folder / SETTINGS).read_bytes()) for folder in folders]
        for folder, settings in zip(folders, told, strict=True):
            for name in ("base", "revision", "layers"):
                if settings.get(name) != told[0].get(name):
                    raise Refused(
                        f"average: {folder} has adapters of {name} {settings.get(name)!r}, {folders[0]} of "
                        f"{told[0].get(name)!r}. Average trainings of one base, or whole models (`merge`)."
                    )
        save_file(_side_by_side([folder / ADAPTERS for folder in folders], spread), out / ADAPTERS)
        settings = told[0] | {"rank": sum(held["rank"] for held in told)}
        (out / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")


def _side_by_side(files: Sequence[Path], spread: soup.Spread) -> dict[str, Tensor]:
    """One adapter whose product is the mean of several ones' products; its rank is the sum of theirs."""
    made: dict[str, Tensor] = {}
    with ExitStack() as stack:
        held = [stack.enter_context(safe_open(file, "pt")) for file in files]
        for name in filter(lambda name: ".lora_A." in name, held[0].keys()):
            other = name.replace(".lora_A.", ".lora_B.")
            factors = [(each.get_tensor(name), each.get_tensor(other)) for each in held]
            made[name] = torch.cat([down for down, _ in factors])
            made[other] = torch.cat([up / len(files) for _, up in factors], 1)
            # Inner products of the products, without one of those, which is as large as a matrix of the base.
            inner = [((u.T @ v) * (d @ e.T)).sum() for d, u in factors for e, v in factors]
            gram = torch.stack(inner).double().view(len(files), len(files))
            spread.add(float(gram.diagonal().mean()), float(gram.mean()))
    return made


def _backbone(folder: Path, trained: Trained, seed: int) -> PreTrainedModel:
    """The language model without its head, in the arithmetic that its training needs."""
    where = best_device()
    # Frozen, it may be in bf16; but of a weight in bf16 a step of 1e-5 changes nothing.
    dtype = torch.bfloat16 if computes_bf16(where) and trained != "all" else torch.float32
    options = {"quantization_config": _four_bits(where)} if trained == "qlora" else {}
    if published.is_published(folder):
        made = published.language_model(folder, dtype, options)
    else:
        made = hub.pretrained(AutoModel, folder, seed=seed, dtype=dtype, options=options)
    made.config.use_cache = False
    return made


def _four_bits(where: torch.device) -> BitsAndBytesConfig:
    if where.type != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
        raise Refused("trained: qlora needs a GPU and the package bitsandbytes. Use lora, or install it there.")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _adapted(backbone: PreTrainedModel, trained: Trained, rank: int, dropout: float) -> PeftModel:
    """The language model frozen, with adapters on all its linear layers."""
    adapters = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=dropout,
        target_modules="all-linear",
        task_type="FEATURE_EXTRACTION",
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")  # peft knows its old name
        if trained == "qlora":
            backbone = prepare_model_for_kbit_training(  # type: ignore[no-untyped-call]
                backbone, use_gradient_checkpointing=False
            )
        made = get_peft_model(backbone, adapters)
    assert isinstance(made, PeftModel)
    return made
