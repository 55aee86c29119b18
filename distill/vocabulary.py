"""A tokenizer with fewer tokens that reads kept texts exactly as before; refused where that cannot be shown.

Why the texts are read alike, for each kind of tokenizer, when every token that they need is kept:

- WordPiece takes the longest token that fits. It was kept, and no longer one can have come.
- BPE joins the pair that ranks first. Kept are all ways to build each kept token, in their order, so of the pairs that
  were joined none is missing, and of the others none has come before them.
- Unigram takes the likeliest way to cut. It was kept, no way has come, and the token with the least score, which says
  what an unknown character costs, is kept too.

Besides, every text is read by both, and one difference refuses the whole. What else a model may be given is still
read, in shorter pieces: single characters are kept, or, where the tokenizer falls back to bytes, those.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from distill import tables
from distill.errors import Refused

Texts = Callable[[], Iterable[Sequence[str]]]
"""Gives texts anew at each call, some at a time."""

BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class Pruned:
    """A smaller tokenizer, and where its tokens come from."""

    tokenizer: PreTrainedTokenizerBase
    ids: Int[np.ndarray, "kept"]
    """The id that each token had, rising: its row in the model's table."""
    counts: Int[np.ndarray, "kept"]
    """How often the texts have each."""
    texts: int
    """Texts that both tokenizers were seen to read alike."""


def texts_of(folders: Sequence[Path], prompts: Sequence[str] = ("",)) -> Texts:
    """The passages and queries of artifacts, after each of some prompts."""

    def read() -> Iterator[list[str]]:
        for folder in folders:
            for held in tables.every_text(folder):
                yield from ([prompt + text for text in held] for prompt in dict.fromkeys(prompts))

    return read


def prune(tokenizer: PreTrainedTokenizerBase, texts: Texts) -> Pruned:
    """A tokenizer without the tokens that texts do not need.

    Args:
        tokenizer: A fast one; left as it is.
        texts: What must be read as before.

    Raises:
        Refused: It is of a kind for which nothing can be shown, or a text is read otherwise.
    """
    whole = _plain(_backend(tokenizer).to_str())
    described = json.loads(whole.to_str())
    counts = np.zeros(max(tokenizer.get_vocab().values()) + 1, np.int64)
    for some in texts():
        for ids in _read(whole, some):
            np.add.at(counts, ids, 1)
    if not counts.any():
        raise Refused("vocabulary: there are no texts to keep. Name artifacts that hold passages or queries.")
    kept = _kept(described, {int(i) for i in np.flatnonzero(counts)})
    small = Tokenizer.from_str(json.dumps(_renumbered(described, kept)))
    seen = _check(whole, small, kept, texts)
    return Pruned(wrapped(small, tokenizer), kept, counts[kept], seen)


def _plain(described: str) -> Tokenizer:
    """A copy that neither cuts nor pads."""
    made = Tokenizer.from_str(described)
    made.no_truncation()
    made.no_padding()
    return made


def _read(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [one.ids for one in tokenizer.encode_batch_fast(list(texts))]


def _check(whole: Tokenizer, small: Tokenizer, kept: Int[np.ndarray, "kept"], texts: Texts) -> int:
    """Read every text with both.

    Returns:
        How many there were.

    Raises:
        Refused: One is read otherwise.
    """
    seen = 0
    for some in texts():
        for text, before, after in zip(some, _read(whole, some), _read(small, some), strict=True):
            if before != kept[after].tolist():
                raise Refused(
                    f"vocabulary: with fewer tokens {text[:60]!r} is read otherwise. Leave `vocabulary` out, or take "
                    "another base."
                )
        seen += len(some)
    return seen


def _kept(described: Mapping[str, Any], used: set[int]) -> Int[np.ndarray, "kept"]:
    """Ids of the tokens that stay, rising."""
    model = described["model"]
    added = {int(token["id"]) for token in described["added_tokens"]}
    kinds: dict[str, Callable[[Mapping[str, Any], set[int]], set[int]]] = {
        "WordPiece": _kept_pieces,
        "BPE": _kept_merges,
        "Unigram": _kept_scores,
    }
    if model["type"] not in kinds:
        raise Refused(
            f"vocabulary: of {model['type']} tokenizers it cannot be shown that texts are read as before; of "
            f"{', '.join(kinds)} it can. Leave `vocabulary` out."
        )
    return np.array(sorted(kinds[model["type"]](model, used) | added), np.int64)


def _kept_pieces(model: Mapping[str, Any], used: set[int]) -> set[int]:
    """WordPiece: what is used, and single characters at the beginning and inside of a word."""
    inside = model["continuing_subword_prefix"]
    single = {i for token, i in model["vocab"].items() if len(token.removeprefix(inside)) == 1}
    return used | single | {model["vocab"][model["unk_token"]]}


def _kept_merges(model: Mapping[str, Any], used: set[int]) -> set[int]:
    """BPE: what is used, all that it can be built from, and single characters, or bytes instead of them."""
    if model.get("dropout") or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise Refused(
            "vocabulary: of a BPE tokenizer with dropout, or with a mark for the inside or the end of words, it cannot "
            "be shown that texts are read as before. Leave `vocabulary` out."
        )
    vocabulary = model["vocab"]
    names = {i: token for token, i in vocabulary.items()}
    built: dict[str, list[str]] = {}
    for one, other in _merges(model):
        built.setdefault(one + other, []).extend((one, other))
    kept: set[str] = set()
    left = [names[i] for i in used if i in names] + _characters(vocabulary, bool(model.get("byte_fallback")))
    left += [model["unk_token"]] if model.get("unk_token") in vocabulary else []
    while left:
        if (token := left.pop()) not in kept:
            kept.add(token)
            left += built.get(token, [])
    return used | {vocabulary[token] for token in kept}


def _kept_scores(model: Mapping[str, Any], used: set[int]) -> set[int]:
    """Unigram: what is used, the token with the least score, and single characters, or bytes instead of them."""
    vocabulary = {token: i for i, (token, _) in enumerate(model["vocab"])}
    least = min(range(len(model["vocab"])), key=lambda i: model["vocab"][i][1])
    unknown = {model["unk_id"]} if model.get("unk_id") is not None else set()
    single = _characters(vocabulary, bool(model.get("byte_fallback")))
    return used | {least} | unknown | {vocabulary[token] for token in single}


def _characters(vocabulary: Mapping[str, int], falls_back: bool) -> list[str]:
    """The tokens that any text can be read by."""
    if falls_back:
        return [token for token in vocabulary if BYTE.fullmatch(token)]
    return [token for token in vocabulary if len(token) == 1]


def _merges(model: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Pairs that are joined; older files have them as one text."""
    for pair in model["merges"]:
        one, other = pair.split(" ") if isinstance(pair, str) else pair
        yield one, other


def _renumbered(described: Mapping[str, Any], kept: Int[np.ndarray, "kept"]) -> dict[str, Any]:
    """A tokenizer's description with the kept tokens alone, numbered from 0 in the order they had."""
    new = {int(old): place for place, old in enumerate(kept)}
    model = dict(described["model"])
    if isinstance(model["vocab"], Mapping):
        model["vocab"] = {token: new[i] for token, i in model["vocab"].items() if i in new}
        if "merges" in model:
            held = model["vocab"]
            model["merges"] = [
                [one, other] for one, other in _merges(model) if one in held and other in held and one + other in held
            ]
    else:
        model["vocab"] = [model["vocab"][i] for i in kept if i < len(model["vocab"])]
        if model.get("unk_id") is not None:
            model["unk_id"] = new[model["unk_id"]]
    added = [token | {"id": new[token["id"]]} for token in described["added_tokens"]]
    after = _renumbered_after(described["post_processor"], new)
    return {**described, "model": model, "added_tokens": added, "post_processor": after}


def _renumbered_after(held: Any, new: Mapping[int, int]) -> Any:  # noqa: ANN401 JSON
    """What is put around a text: everywhere in it, `ids` are ids, and `cls` and `sep` pairs of a token and its id."""
    if isinstance(held, Mapping):
        made = {name: _renumbered_after(value, new) for name, value in held.items()}
        for name, value in held.items():
            if name == "ids":
                made[name] = [new[i] for i in value]
            elif name in ("cls", "sep") and isinstance(value, list):
                made[name] = [value[0], new[value[1]]]
        return made
    return [_renumbered_after(value, new) for value in held] if isinstance(held, list) else held


def bare(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The same tokenizer without what it puts around a text."""
    described = json.loads(_plain(_backend(tokenizer).to_str()).to_str())
    return wrapped(Tokenizer.from_str(json.dumps(described | {"post_processor": None})), tokenizer)


def _backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise Refused(f"vocabulary: {type(tokenizer).__name__} has no tokenizer.json. Convert it to a fast tokenizer.")
    return tokenizer.backend_tokenizer


def wrapped(small: Tokenizer, like: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A tokenizer as transformers has it, with the special tokens and habits of another."""
    return PreTrainedTokenizerFast(
        tokenizer_object=small,
        model_max_length=like.model_max_length,
        padding_side=like.padding_side,
        truncation_side=like.truncation_side,
        model_input_names=like.model_input_names,
        clean_up_tokenization_spaces=False,
        **like.special_tokens_map,
    )
