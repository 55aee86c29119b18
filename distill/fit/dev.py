"""A look at a benchmark every so many steps: the curve, the weights that did best, the end when nothing gets better."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from distill import encode, metrics, search
from distill.benchmark import Benchmark
from distill.fit.callbacks import Curves
from distill.fit.module import Training
from distill.interfaces import Embedder, TokenRows
from distill.metrics import Grades
from distill.objective import Schedule
from distill.runtime import Runtime

MEASURE = f"dev_ndcg@{metrics.CUT}"
"""Name of the curve."""


@dataclass(frozen=True)
class Dev:
    """The queries of a benchmark with the passages that they search, tokenised once."""

    queries: TokenRows
    passages: TokenRows
    judged: Sequence[Grades]

    @classmethod
    def of(cls, benchmark: Benchmark, embedder: Embedder) -> "Dev":
        """The retrieval of a benchmark, as an embedder reads it."""
        asked = benchmark.queries
        return cls(
            embedder.tokenize([query.text for query in asked], [query.task for query in asked]),
            embedder.tokenize(benchmark.passages),
            [query.judged for query in asked],
        )

    def ndcg(self, embedder: Embedder, batch_tokens: int | None, precision: str) -> float:
        """Mean nDCG@10 of an embedder in evaluation mode."""
        asked, held = (
            encode.vectors(embedder, rows, batch_tokens=batch_tokens, precision=precision)
            for rows in (self.queries, self.passages)
        )
        if not np.isfinite(asked).all() or not np.isfinite(held).all():
            return 0.0  # the guard of the steps says why, and stops
        rows, _ = search.top_k(asked, held, min(metrics.CUT, len(held)))
        return float(metrics.retrieval(rows, self.judged, metrics.CUT)[f"ndcg@{metrics.CUT}"].mean())


class Best(lightning.Callback):
    """Measures every so many steps, keeps the weights of the best look, and stops when patience is at its end.

    What it knows is part of each checkpoint, the best weights too, so a resumed training ends in the same bits.

    Args:
        dev: What is measured on.
        schedule: How often, with how much patience, and in which arithmetic.
        runtime: How much is read at once.
        curves: Where each look is noted.
    """

    def __init__(self, dev: Dev, schedule: Schedule, runtime: Runtime, curves: Curves) -> None:
        self._dev, self._schedule, self._runtime, self._curves = dev, schedule, runtime, curves
        self._best, self._worse, self._ended = -math.inf, 0, False
        self._weights: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """The best look and its weights."""
        return {"best": self._best, "worse": self._worse, "ended": self._ended, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Those up to the checkpoint."""
        self._best, self._worse, self._ended = (state_dict[name] for name in ("best", "worse", "ended"))
        self._weights = state_dict["weights"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Look at the start, to be compared with; it is no candidate. A training that had ended stays so."""
        trainer.should_stop = trainer.should_stop or self._ended
        if not trainer.global_step:
            self._look(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Look when it is time, and after the last step."""
        step = trainer.global_step
        if step % self._schedule.dev_steps and step < self._schedule.steps:
            return
        value = self._look(trainer, pl_module)
        if value > self._best:
            self._best, self._worse, self._weights = value, 0, _trained(pl_module)
        else:
            self._worse += 1
        self._ended = 0 < self._schedule.patience <= self._worse
        trainer.should_stop = trainer.should_stop or self._ended

    def _look(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> float:
        assert isinstance(pl_module, Training)
        embedder = pl_module.embedder.eval()
        found = self._dev.ndcg(embedder, self._runtime.batch_tokens, self._schedule.precision)
        embedder.train()
        value = float(trainer.strategy.broadcast(found))  # devices round apart, and must end together
        self._curves.note(trainer, MEASURE, value)
        return value

    def restore(self, training: Training) -> None:
        """Put the weights of the best look in place of the last ones."""
        held = dict(training.named_parameters())
        with torch.no_grad():
            for name, weight in self._weights.items():
                held[name].copy_(weight)


def _trained(module: lightning.LightningModule) -> dict[str, Tensor]:
    """Copies of what is trained, in the memory of the processor."""
    return {name: p.detach().to("cpu", copy=True) for name, p in module.named_parameters() if p.requires_grad}
