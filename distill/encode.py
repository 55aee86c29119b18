"""Texts to vectors with any embedder: sorted by length, batched by a token budget, given back in order."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from distill.console import Bar
from distill.errors import Refused
from distill.interfaces import Embedder, TokenRows
from distill.runtime import autocast, device, tokens_at_once


def batches(lengths: Int[np.ndarray, "texts"], batch_tokens: int) -> Iterator[Int[np.ndarray, "chosen"]]:
    """Rows grouped by length so that no batch holds more than `batch_tokens` tokens, padding included.

    The longest come first, so that a batch too large for the memory fails at once. A text longer
    than the budget is a batch of its own.
    """
    order = np.argsort(-lengths, kind="stable")
    at = 0
    while at < len(order):
        fit = max(1, batch_tokens // max(1, int(lengths[order[at]])))
        yield order[at : at + fit]
        at += fit


def texts(
    embedder: Embedder, given: Sequence[str], *, task: str | None = None, batch_tokens: int | None = None
) -> Float[np.ndarray, "texts dim"]:
    """Unit vectors of texts: their products are cosines.

    Args:
        embedder: As `distill.models.embedder` gives it.
        given: Passages; or queries, if `task` is said.
        task: What is asked, such as "Given a question, retrieve passages that answer it": the one that it was trained
            with, or a like one. Of a student, whose queries carry none, the empty text.
        batch_tokens: Tokens that are read at once, padding included; None goes by the device, as in `Runtime`.

    Raises:
        Refused: A text stands alone, or the task leaves no room for one.
    """
    if isinstance(given, str):  # a list of its letters
        raise Refused(f"texts: {given!r:.60} is one text; needed: a list of texts.")
    rows = embedder.tokenize(given, None if task is None else [task] * len(given))
    return vectors(embedder, rows, batch_tokens=batch_tokens)


@torch.inference_mode()
def vectors(
    embedder: Embedder,
    rows: TokenRows,
    *,
    batch_tokens: int | None = None,
    precision: str = "auto",
    bar: Bar | None = None,
) -> Float[np.ndarray, "texts dim"]:
    """Unit vectors of tokenised texts, in their order.

    Args:
        embedder: In evaluation mode; stays on its device.
        rows: What its `tokenize` gave.
        batch_tokens: Tokens that are read at once, padding included; None goes by the device, as in `Runtime`.
        precision: `auto` (bf16 where the processor computes in it, else fp32), `bf16` or `fp32`.
        bar: Moved by each text.
    """
    found = np.empty((len(rows), embedder.dim), np.float32)
    where = device(embedder)
    for chosen in batches(rows.lengths, batch_tokens or tokens_at_once(where)):
        with autocast(where, precision):
            made = embedder(rows.take(chosen).to(where))
        found[chosen] = made.float().cpu().numpy()
        if bar:
            bar.step(len(chosen))
    return found
