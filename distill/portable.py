"""The sentence-transformers folder that old and new readers load.

Newer libraries write newer names: module types under `sentence_transformers.base`, a pooling mode
in one word, a tokenizer class that transformers 4 does not know. They still read the names below.
"""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill.errors import Refused
from distill.interfaces import Embedder, TokenRows

MODULES = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
STATIC = {"StaticEmbedding": "", "Normalize": "2_Normalize"}
"""The same of a table: its module pools by itself. `1_Pooling` is written there too, for readers of the ONNX files."""
PROJECTOR, PROJECTED = "3_Dense", "4_Normalize"
"""What stands behind those of a student that leads into its teacher's space."""
NEEDED = ("tokenizer.json", "config_sentence_transformers.json", "sentence_bert_config.json", "1_Pooling/config.json")
"""What a program without our code reads of them."""
POOLING_MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


@dataclass(frozen=True)
class Portable:
    """A model in parts: the mean of a transformer's states, or of the rows of a table, at unit length."""

    backbone: PreTrainedModel | nn.Embedding
    """Gives `last_hidden_state`, or a row for each token; its mean under the attention mask, prompt included, is the
    vector."""
    tokenizer: PreTrainedTokenizerBase
    length: int
    """Tokens that a text is cut to."""
    query_prompt: str
    """Said before a query."""
    passage_prompt: str
    """Said before a passage."""
    dim: int
    """Width of a vector."""
    projector: nn.Linear | None = None
    """From unit vectors to those of another model, which are brought to unit length again."""
    space: str = ""
    """That model."""


def required() -> list[str]:
    """Names of the parts that every model must have."""
    return [field.name for field in fields(Portable) if field.default is MISSING]


def parts(model: Embedder) -> Portable:
    """A model's parts, which it offers as attributes of these names.

    Raises:
        Refused: It consists of something else, such as a teacher's latent attention.
    """
    names = [field.name for field in fields(Portable)]
    if absent := [name for name in required() if not hasattr(model, name)]:
        raise Refused(
            f"{type(model).__name__} has no {', '.join(absent)}: it cannot be written as a mean-pooled transformer. "
            "Export a student such as students.Encoder."
        )
    found = Portable(**{name: getattr(model, name) for name in names if hasattr(model, name)})
    if not hasattr(found.tokenizer, "backend_tokenizer"):
        raise Refused(
            f"{type(found.tokenizer).__name__} has no tokenizer.json, which most readers need. "
            "Convert it to a fast tokenizer and train from that."
        )
    return found


def write(model: Portable, folder: Path) -> None:
    """Write everything but the ONNX files and the card into an existing folder."""
    modules = list(_write_weights(model, folder).items())
    _write_tokenizer(model, folder)
    for file in folder.glob("*.safetensors"):
        file.chmod((folder / "tokenizer.json").stat().st_mode)  # safetensors lets nobody else read what it writes
    if model.projector is not None:
        modules += [("Dense", PROJECTOR), ("Normalize", PROJECTED)]
        _write_projector(model.projector, model.space, folder)
    _json(folder / "modules.json", [_module(number, name, path) for number, (name, path) in enumerate(modules)])
    _json(folder / "sentence_bert_config.json", {"max_seq_length": model.length, "do_lower_case": False})
    _json(folder / "config_sentence_transformers.json", _settings(model))
    for path, settings in ((MODULES["Pooling"], _pooling(pooled(model))), (MODULES["Normalize"], {})):
        (folder / path).mkdir()  # with a file in it: an empty folder does not survive git, nor some archives
        _json(folder / path / "config.json", settings)


def pooled(model: Portable) -> int:
    """Width of the mean of the states, which a projector may change."""
    return model.dim if model.projector is None else model.projector.in_features


def _write_projector(projector: nn.Linear, space: str, folder: Path) -> None:
    """Write the module `Dense`, in names that old readers know too, and the second `Normalize`."""
    for path in (PROJECTOR, PROJECTED):
        (folder / path).mkdir()
    identity = "torch.nn.modules.linear.Identity"
    shape = {"in_features": projector.in_features, "out_features": projector.out_features, "bias": True}
    _json(folder / PROJECTOR / "config.json", shape | {"activation_function": identity})
    _json(folder / PROJECTOR / "space.json", {"space": space})
    _json(folder / PROJECTED / "config.json", {})
    held = {f"linear.{name}": tensor.contiguous() for name, tensor in projector.state_dict().items()}
    file = folder / PROJECTOR / "model.safetensors"
    save_file(held, file)
    file.chmod((folder / "tokenizer.json").stat().st_mode)


def _write_weights(model: Portable, folder: Path) -> Mapping[str, str]:
    """Write what computes.

    Returns:
        The modules that read it, with their folders.
    """
    if isinstance(model.backbone, nn.Embedding):
        save_file({"embedding.weight": model.backbone.weight.detach().contiguous()}, folder / "model.safetensors")
        return STATIC
    model.backbone.save_pretrained(folder)
    _amend(folder / "config.json", {"pad_token_id": model.tokenizer.pad_token_id})
    return MODULES


def _module(number: int, name: str, path: str) -> dict[str, object]:
    return {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}


def _settings(model: Portable) -> dict[str, object]:
    return {
        "prompts": {"query": model.query_prompt, "document": model.passage_prompt},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }


def _pooling(dim: int) -> dict[str, object]:
    # Every mode is spelled out: TEI refuses a file that leaves one to its default.
    modes = {f"pooling_mode_{mode}": mode == "mean_tokens" for mode in POOLING_MODES}
    return {"word_embedding_dimension": dim, **modes, "include_prompt": True}


def _write_tokenizer(model: Portable, folder: Path) -> None:
    """Write the tokenizer so that it cuts and pads rightly even where nobody tells it to."""
    held = model.tokenizer
    alone = Tokenizer.from_str(held.backend_tokenizer.to_str())  # the model's own is left as it is
    alone.enable_truncation(model.length)
    alone.enable_padding(pad_id=held.pad_token_id, pad_token=held.pad_token)
    alone.save(str(folder / "tokenizer.json"))
    # Lists of further tokens are left out: they are in tokenizer.json, and some readers take only texts here.
    named = held.special_tokens_map.items()
    special = {name: str(token) for name, token in named if not isinstance(token, (list, tuple))}
    _json(folder / "special_tokens_map.json", special)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.length,
        "model_input_names": input_names(model),
        "padding_side": "right",
        "truncation_side": "right",
        "clean_up_tokenization_spaces": False,
    }
    _json(folder / "tokenizer_config.json", settings | special)


def input_names(model: Portable) -> list[str]:
    """What the backbone is given; token types only where both it and its tokenizer know them."""
    accepted = inspect.signature(model.backbone.forward).parameters
    typed = "token_type_ids" in accepted and "token_type_ids" in model.tokenizer.model_input_names
    return ["input_ids", "attention_mask", *(["token_type_ids"] if typed else [])]


def _amend(file: Path, changes: Mapping[str, object]) -> None:
    _json(file, json.loads(file.read_bytes()) | changes)


def _json(file: Path, value: Mapping[str, object] | Sequence[object]) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class Written:
    """What a written folder says of itself: all that a program without our code has to go by."""

    tokenizer: Tokenizer
    prompts: Mapping[str, str]
    length: int
    dim: int
    space: str = ""
    """The model whose vectors those of the folder are compared with; empty if it is its own."""

    def tokenize(self, texts: Sequence[str], side: str) -> TokenRows:
        """Texts to token ids.

        Args:
            texts: What to embed.
            side: A name among the prompts: `query` or `document`.
        """
        encoded = self.tokenizer.encode_batch_fast([self.prompts[side] + text for text in texts])
        pad = self.tokenizer.padding["pad_id"] if self.tokenizer.padding else 0
        rows = [[i for i, seen in zip(one.ids, one.attention_mask, strict=True) if seen] for one in encoded]
        return TokenRows.of(rows, [0] * len(rows), int(pad))


def read(folder: Path) -> Written:
    """What `write` wrote.

    Raises:
        Refused: The folder lacks one of its files, or one cannot be read.
    """
    if absent := [name for name in NEEDED if not (folder / name).is_file()]:
        raise Refused(f"{folder} has no {', '.join(absent)}: it is no exported model. Name an export step.")
    try:
        settings, cut, pooling = (json.loads((folder / name).read_bytes()) for name in NEEDED[1:])
        tokenizer = Tokenizer.from_file(str(folder / NEEDED[0]))
        tokenizer.enable_truncation(cut["max_seq_length"])
        dim, space = pooling["word_embedding_dimension"], ""
        if (folder / PROJECTOR).is_dir():
            dim = json.loads((folder / PROJECTOR / "config.json").read_bytes())["out_features"]
            space = json.loads((folder / PROJECTOR / "space.json").read_bytes())["space"]
        return Written(tokenizer, settings["prompts"], cut["max_seq_length"], dim, space)
    except Exception as error:  # tokenizers raises nothing more precise
        raise Refused(f"{folder} cannot be read ({type(error).__name__}: {error}). Export the model again.") from error
