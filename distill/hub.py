"""The only door to model weights: pinned, checked, safetensors, and never with code from elsewhere."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from distill import unpack
from distill.console import console, say
from distill.errors import Refused, near, with_article

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
_WANTED = ("*.safetensors", "*.json", "tokenizer*", "vocab*", "merges.txt", "*.model", "README.md", "LICENSE*")
_UNWANTED = ("consolidated*", "original/*", "onnx/*", "openvino/*")  # the same weights again, for other programs
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Size:
    """How large a model is: what its computing and its memory are reckoned from."""

    parameters: int
    """All of them; tied ones once."""
    embedding_parameters: int
    """Those in lookup tables, which cost memory and next to no computing."""
    layers: int
    """Transformer blocks."""
    width: int
    """Of the hidden states."""


_SIZES = {
    "package:gemma-3-270m": Size(268_098_176, 167_772_160, 18, 640),
    "package:all-MiniLM-L6-v2": Size(22_713_216, 11_917_824, 6, 384),
    "package:all-mpnet-base-v2": Size(109_486_464, 23_839_872, 12, 768),
    "mistralai/Mistral-7B-v0.1": Size(7_241_732_096, 131_072_000, 32, 4096),
    "Qwen/Qwen3-0.6B": Size(596_049_920, 155_582_464, 28, 1024),
    "Qwen/Qwen3-1.7B": Size(1_720_574_976, 311_164_928, 28, 2048),
    "Qwen/Qwen3-4B": Size(4_022_468_096, 388_956_160, 36, 2560),
    "Qwen/Qwen3-8B": Size(8_190_735_360, 622_329_856, 36, 4096),
    "Qwen/Qwen3-Embedding-0.6B": Size(595_776_512, 155_309_056, 28, 1024),
    "Qwen/Qwen3-Embedding-4B": Size(4_021_774_336, 388_262_400, 36, 2560),
    "Qwen/Qwen3-Embedding-8B": Size(7_567_295_488, 621_219_840, 36, 4096),
    "google/gemma-3-270m": Size(268_098_176, 167_772_160, 18, 640),
    "nreimers/MiniLM-L6-H384-uncased": Size(22_713_216, 11_917_824, 6, 384),
    "sentence-transformers/all-MiniLM-L6-v2": Size(22_713_216, 11_917_824, 6, 384),
    "microsoft/MiniLM-L12-H384-uncased": Size(33_360_000, 11_917_824, 12, 384),
    "google-bert/bert-base-uncased": Size(109_482_240, 23_835_648, 12, 768),
    "sentence-transformers/all-mpnet-base-v2": Size(109_486_464, 23_839_872, 12, 768),
    "answerdotai/ModernBERT-base": Size(149_014_272, 38_682_624, 22, 768),
}
"""Of models that an estimate may be asked about before any of their files is here; counted as `size` counts."""


def locate(base: str, revision: str | None = None, reads: Sequence[str] = ()) -> Path:
    """A folder with the configuration, the tokenizer and the weights of a model, scanned.

    Args:
        base: A folder, a hub name (`org/name`), or `package:NAME` for weights that a Python package carries.
        revision: Full commit of a hub name; a branch or a tag may move.
        reads: As for `scan`.

    Raises:
        Refused: It is not there, is not pinned, or holds what must not be loaded.
    """
    check(base, revision)
    if base.startswith("package:"):
        folder = unpack.unpacked(base.removeprefix("package:"))
    else:
        folder = Path(base) if Path(base).is_dir() else _from_hub(base, str(revision))
    scan(folder, reads)
    return folder


def check(base: str, revision: str | None = None) -> None:
    """Make sure that a name can be that of a model, and is pinned; nothing is fetched.

    Raises:
        Refused: It is neither a package, nor a folder, nor a hub name with a full commit.
    """
    packages = [f"package:{name}" for name in unpack.PACKAGES]
    is_here = base.startswith("package:") or Path(base).is_dir()
    if is_here and revision is not None:
        raise Refused(f"{base}: revision {revision!r} is of a hub name, and this is none. Leave it out.")
    if base.startswith("package:") and base not in packages:
        raise Refused(f"{base} is unknown; needed one of {', '.join(packages)}.{near(base, packages)}")
    if is_here:
        return
    if not _HUB_NAME.fullmatch(base):
        raise Refused(
            f"{base!r} is no model: needed a folder that exists, a hub name like org/name with a full commit "
            f"as `revision`, or one of {', '.join(packages)}."
        )
    if revision is None or not _COMMIT.fullmatch(revision):
        raise Refused(
            f"{base}: revision is {revision!r}; needed the full commit, 40 hexadecimal digits, because a branch or a "
            f"tag may move. It is at the top of https://huggingface.co/{base}/commits/main."
        )


def check_start(base: str, model: object, revision: str | None = None) -> None:
    """Make sure that a student begins as one model: a base, or what a step has trained.

    Raises:
        Refused: There are both, or neither; or a commit of what has none.
    """
    if model is not None and revision is not None:
        raise Refused(f"revision: {revision}; that is of a base on the hub, and a step has none. Leave it out.")
    if bool(base) == (model is not None):
        raise Refused(f"base: {base!r}, model: {model}; needed: one of the two. A student begins as one model.")


def _from_hub(name: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=list(_WANTED), ignore_patterns=list(_UNWANTED))
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise Refused(
            f"{name} at {revision} cannot be fetched ({reason}). If there is no network, download it elsewhere and "
            "give `base` the folder; if it asks for consent, give it on its page and log in with `hf auth login`."
        ) from error


def scan(folder: Path, reads: Sequence[str] = ()) -> None:
    """Make sure that nothing in a model folder can bring code with it.

    Args:
        folder: Of a model.
        reads: Model types whose config.json the caller reads by itself: what leads to code there leads nowhere.

    Raises:
        Refused: No configuration, a key that leads to code, or weights only in pickles.
    """
    if not (folder / "config.json").is_file():
        raise Refused(f"{folder} has no config.json. Needed a folder that holds a transformers model.")
    held = _read(folder / "config.json")
    is_ours = isinstance(held, dict) and held.get("model_type") in reads
    for beside in sorted(folder.glob("*config*.json")):
        if is_ours and beside.name == "config.json":
            continue
        if found := next(_dangers(_read(beside)), None):
            raise Refused(
                f"{beside}: {found} can make loading run code from elsewhere. Remove the key if the "
                "architecture is one that transformers knows; otherwise use another model."
            )
    if (folder / "adapter_config.json").is_file():
        raise Refused(f"{folder} holds an adapter, which names its base by itself. Merge it and save the whole model.")
    if not has_weights(folder):
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
        if pickles:
            raise Refused(
                f"{folder} holds its weights only as {pickles[0]}, and loading that can run any code. "
                "Convert it to safetensors on a machine you can throw away."
            )
        if (folder / "model.safetensors.index.json").is_file():
            raise Refused(f"{folder} lists weights that are not there. Download it again.")


def check_saved(folder: Path) -> None:
    """Refuse a model that was saved and has lost its weights; it would begin at random.

    Raises:
        Refused: There is no safetensors file.
    """
    if not has_weights(folder):
        raise Refused(
            f"{folder} holds no weights, and was saved with some. Copy its *.safetensors too, or train again."
        )


def has_weights(folder: Path) -> bool:
    """Whether a model folder holds weights, and not only a configuration to begin from."""
    return any(folder.glob("*.safetensors"))


def _read(file: Path) -> object:
    try:
        return json.loads(file.read_bytes())
    except ValueError as error:
        raise Refused(f"{file} cannot be read ({error}). Download the model again.") from error


def _dangers(value: object, at: str = "") -> Iterator[str]:
    """Keys at any depth that make a loader run code from a hub or from the folder itself."""
    if isinstance(value, Mapping):
        for key, held in value.items():
            name = f"{at}.{key}".lstrip(".")
            to_hub = key.endswith("_implementation") and isinstance(held, str) and "/" in held
            if key in ("auto_map", "trust_remote_code", "custom_pipelines") or key.endswith("_internal") or to_hub:
                yield name
            yield from _dangers(held, name)
    elif isinstance(value, list):
        for held in value:
            yield from _dangers(held, at)


def pretrained(
    auto_class: type[Any],
    folder: Path,
    *,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    reads: Sequence[str] = (),
    options: Mapping[str, object] | None = None,
) -> "transformers.PreTrainedModel":
    """A model from a folder; one without weights begins at random.

    Args:
        auto_class: One of transformers' AutoModel classes, or a class of a model.
        folder: As from `locate`.
        seed: Of weights that the folder does not hold.
        dtype: As the weights are stored, if None.
        reads: As for `scan`.
        options: Further arguments of transformers' `from_pretrained`, where there are weights.

    Raises:
        Refused: The folder is unsafe, or it lacks weights of this kind of model.
    """
    scan(folder, reads)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), loading(folder):
        torch.manual_seed(seed)
        if has_weights(folder):
            return _stored(auto_class, folder, dtype, options or {})
        return _random(auto_class, folder, seed, dtype)


def tokenizer(folder: Path, model: "transformers.PreTrainedModel") -> "transformers.PreTrainedTokenizerBase":
    """The tokenizer of a model's folder.

    Raises:
        Refused: There is none, or it knows more tokens than the model.
    """
    with loading(folder):
        found: transformers.PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        table = model.get_input_embeddings()
        assert isinstance(table, torch.nn.Embedding)
        known = table.num_embeddings
        if not found.get_vocab() or max(found.get_vocab().values()) >= known:
            raise Refused(
                f"{folder}: its tokenizer has {len(found)} tokens, its model {known}. Give a folder whose two belong "
                "together."
            )
    return found


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """A broken folder brings up errors of every kind, deep inside libraries: one sentence of them all."""
    try:
        yield
    except Refused:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise Refused(
            f"{folder} cannot be loaded ({type(error).__name__}: {reason:.300}). Make it or download it again."
        ) from error


def _random(
    auto_class: type[Any], folder: Path, seed: int, dtype: torch.dtype | None
) -> "transformers.PreTrainedModel":
    say(f"{folder} holds no weights: beginning at random with seed {seed}")
    model: transformers.PreTrainedModel = auto_class.from_config(config(folder), dtype=dtype or torch.float32)
    return model


def _stored(
    auto_class: type[Any], folder: Path, dtype: torch.dtype | None, options: Mapping[str, object]
) -> "transformers.PreTrainedModel":
    if not console.is_terminal:
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model: transformers.PreTrainedModel
    model, found = auto_class.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=dtype or "auto",
        output_loading_info=True,
        **options,
    )
    missing = sorted(name for name in found["missing_keys"] if "pooler" not in name)  # BERT's, which nothing here reads
    if missing:
        raise Refused(
            f"{folder} lacks {len(missing)} weights of {with_article(type(model).__name__)}, {missing[0]} among them; "
            "they would be random. Give a folder that was saved from this kind of model."
        )
    return model


def config(folder: Path) -> "transformers.PretrainedConfig":
    """The configuration of a model's folder.

    Raises:
        Refused: It cannot be read.
    """
    with loading(folder):
        config: transformers.PretrainedConfig = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    return config


def check_length(model: "transformers.PreTrainedModel", length: int) -> None:
    """Make sure that a model reads so many tokens; its weights are not looked at.

    Raises:
        Refused: It has fewer places.
    """
    most = _longest(model)
    if most is not None and length > most:
        raise Refused(f"length: {length}; this base reads at most {most} tokens. Lower `length`.")


def check_prompts(tokenizer: "transformers.PreTrainedTokenizerBase", prompts: Sequence[str], length: int) -> None:
    """Make sure that a text still fits behind each prompt.

    Raises:
        Refused: A prompt fills the length, and all texts would be read as one.
    """
    for prompt in prompts:
        count = len(tokenizer(prompt + " a")["input_ids"]) if prompt else 0
        if count > length:
            raise Refused(
                f"length: {length}; the prompt {prompt!r:.80} needs {count}, one token of a text and what stands "
                "around it included. Raise `length`, or shorten the prompt."
            )


def _longest(model: "transformers.PreTrainedModel") -> int | None:
    """The most tokens that a model reads; RoBERTa and MPNet count them from behind the padding's number."""
    for name, table in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(table, torch.nn.Embedding):
            return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    return getattr(model.config, "max_position_embeddings", None)


def size(base: str, revision: str | None = None) -> Size:
    """How large a model is, without its weights and without asking any hub.

    Raises:
        Refused: None of its files is here and it is not in the table.
    """
    if base in _SIZES:
        return _SIZES[base]
    folder = _here(base, revision)
    if folder is None:
        raise Refused(
            f"{base} is not here, so its size is not known. Download it first: "
            f"`hf download {base} --revision {revision or 'COMMIT'}`, or give `base` a folder."
        )
    scan(folder)
    held = config(folder)
    speaks = any(name.endswith("ForCausalLM") for name in held.architectures or [])
    with torch.device("meta"):
        kind: Any = transformers.AutoModelForCausalLM if speaks else transformers.AutoModel
        model: torch.nn.Module = kind.from_config(held)
    tables = {p for module in model.modules() if isinstance(module, torch.nn.Embedding) for p in module.parameters()}
    return Size(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        embedding_parameters=sum(parameter.numel() for parameter in tables),
        layers=held.num_hidden_layers,
        width=held.hidden_size,
    )


def outline(base: str, revision: str | None = None) -> "transformers.PreTrainedModel | None":
    """A transformer without its weights, to try what is to be made of it; None if its files are not on this machine.

    Raises:
        Refused: Its files would run code of their own, or cannot be read.
    """
    if (folder := _here(base, revision)) is None or not (folder / "config.json").is_file():
        return None
    scan(folder)
    held = config(folder)
    with loading(folder), torch.device("meta"):
        made: transformers.PreTrainedModel = transformers.AutoModel.from_config(held)
    return made


def _here(base: str, revision: str | None) -> Path | None:
    """The folder of a model whose files are on this machine already."""
    if Path(base).is_dir():
        return Path(base)
    if base.startswith("package:"):
        folder = unpack.cache() / base.removeprefix("package:")
        return folder if folder.is_dir() else None
    if not _HUB_NAME.fullmatch(base) or revision is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    held = try_to_load_from_cache(base, "config.json", revision=revision)
    return Path(held).parent if isinstance(held, str) else None


def licence(base: str, revision: str | None = None) -> str:
    """The licence that a model says it is under, as its README's front matter has it; "unknown" if it does not."""
    if base.startswith("package:"):
        named = base.removeprefix("package:")
        return unpack.PACKAGES[named].licence if named in unpack.PACKAGES else "unknown"
    folder = _here(base, revision)
    if folder is None or not (folder / "README.md").is_file():
        return "unknown"
    front = re.match(r"---\n(.*?)\n---", (folder / "README.md").read_text(errors="replace"), re.DOTALL)
    said = re.search(r"^license:[ \t]*['\"]?([^'\"\s]+)", front[1], re.MULTILINE) if front else None
    return said[1] if said else "unknown"
