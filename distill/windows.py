"""Texts that are longer than a model reads, as several that it does read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from distill.errors import Refused
from distill.interfaces import Embedder


@dataclass(frozen=True)
class Windows:
    """Pieces of texts, one after the other."""

    pieces: list[str]
    """What is read."""
    text: Int[np.ndarray, "pieces"]
    """Which text each is of, ascending."""
    tokens: Int[np.ndarray, "pieces"]
    """How many tokens each has, without those that are put around it."""
    cut: int
    """Texts of which something stands behind their last piece."""

    def mean(self, vectors: Float[np.ndarray, "pieces dim"]) -> Float[np.ndarray, "texts dim"]:
        """Of each text the mean of its pieces' vectors, each as much as its tokens, at unit length."""
        starts = np.flatnonzero(np.diff(self.text, prepend=-1))
        summed = np.add.reduceat(vectors * np.maximum(self.tokens, 1)[:, None].astype(np.float32), starts, axis=0)
        return summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-12)


def windows(embedder: Embedder, texts: Sequence[str], count: int) -> Windows:
    """Passages in pieces of as many tokens as a model reads: whole words, as long as a word is shorter than that.

    Args:
        embedder: With a `tokenizer` that tells where its tokens stand, and a `length`.
        texts: Passages.
        count: Pieces of a text at most; what stands behind the last is not read.

    Raises:
        Refused: The model has no tokenizer that tells where tokens stand, or no length.
    """
    tokenizer, length = getattr(embedder, "tokenizer", None), getattr(embedder, "length", None)
    if length is None or not getattr(tokenizer, "is_fast", False):
        raise Refused(
            f"windows: {count}: {type(embedder).__name__} does not tell where its tokens stand; needed: a transformer "
            "with a tokenizer and a length, such as students.Encoder. Leave windows out."
        )
    assert tokenizer is not None
    room = length + 1 - len(embedder.tokenize(["a"]).ids)  # without the prompt and what stands around each text
    pieces: list[str] = []
    of, tokens, cut = [], [], 0
    placed = tokenizer(
        list(texts), add_special_tokens=False, return_offsets_mapping=True, truncation=True, max_length=room * count + 1
    )["offset_mapping"]
    for row, (text, places) in enumerate(zip(texts, placed, strict=True)):
        bounds, behind = _bounds(text, places, room, count)
        cut += behind
        for begin, end in bounds:
            # The first begins where the text does, so that a text of one piece is read as it came.
            stop = places[end][0] if end < len(places) else len(text)
            pieces.append(text[places[begin][0] if begin else 0 : stop])
            of.append(row)
            tokens.append(end - begin)
    return Windows(pieces, np.asarray(of, np.int64), np.asarray(tokens, np.int64), cut)


def _bounds(text: str, places: list[tuple[int, int]], room: int, count: int) -> tuple[list[tuple[int, int]], bool]:
    """First token of each piece and the one behind its last; and whether there are more than they hold."""
    found: list[tuple[int, int]] = []
    begin = 0
    while len(found) < count and (begin < len(places) or not found):
        end = min(begin + room, len(places))
        if end < len(places):
            possible = [at for at in range(end, begin, -1) if places[at][0] >= places[at - 1][1]]  # not within a letter
            words = (at for at in possible if _begins(text, places[at][0]))
            end = next(words, possible[0] if possible else end)
        found.append((begin, end))
        begin = end
    return found, begin < len(places)


def _begins(text: str, start: int) -> bool:
    """Does a word begin here? Tokenizers differ in whether the space before it is its own."""
    return text[start - 1].isspace() or text[start : start + 1].isspace()
