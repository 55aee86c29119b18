"""The map to the teacher's space begins where it fits: of all texts with a target, in the training's arithmetic."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from distill import encode
from distill.batches import Batch
from distill.fit.projector import ridge, solved
from distill.objective import Objective, Schedule
from distill.stages.embed import embed
from distill.stages.train import train
from students import Encoder

TEACHER = 5


@dataclass
class One:
    """The same batch at every step."""

    held: Batch

    def batch(self, step: int) -> Batch:
        """It."""
        return self.held

    def named(self, step: int) -> str:
        """It has no rows."""
        return ""

    @property
    def texts(self) -> int:
        """More than it holds."""
        return 10_000


@pytest.mark.parametrize("sides", ["passages", "queries", "both"])
def test_the_map_fits_all_that_the_teacher_has_read(encoder: Path, texts: list[str], sides: str) -> None:
    """Harm: with vectors of queries alone the map begins at random, and the first steps bend the student to it; with
    those of both, queries, which are to search the teacher's passages, have no part in it.
    """
    model = Encoder(str(encoder), length=24).eval()
    passages, queries = (model.tokenize(some).take(np.arange(30)) for some in (texts[:30], texts[30:]))
    goals = torch.randn(60, TEACHER, generator=torch.Generator().manual_seed(1))
    goals[[3, 33]] = torch.nan  # the teacher has read neither
    asked = None if sides == "passages" else goals[30:]
    told = None if sides == "queries" else goals[:30]
    made = solved(model, One(Batch(passages, told, queries, asked)), TEACHER, "fp32")
    vectors = torch.from_numpy(encode.vectors(model, model.tokenize(texts), precision="fp32"))
    there = {"passages": slice(0, 30), "queries": slice(30, 60), "both": slice(0, 60)}[sides]
    known = goals[there].isfinite().all(1)
    weight, bias = ridge(vectors[there][known], goals[there][known])
    torch.testing.assert_close(made.weight, weight, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(made.bias, bias, atol=1e-3, rtol=1e-3)


@dataclass
class Rows:
    """Ten texts a step, each a target of its own."""

    held: Batch

    def batch(self, step: int) -> Batch:
        """The next ten."""
        rows = torch.arange(step * 10, step * 10 + 10)
        assert self.held.text_targets is not None
        return Batch(self.held.texts.take(rows), self.held.text_targets[rows])

    def named(self, step: int) -> str:
        """They have no rows."""
        return ""

    @property
    def texts(self) -> int:
        """All."""
        return 60


def test_all_texts_count_and_not_the_examples_that_list_them(encoder: Path, texts: list[str]) -> None:
    """Harm: 300 examples of eight passages each start the map from 300 vectors, fewer than the student is wide."""
    model = Encoder(str(encoder), length=24).eval()
    goals = torch.randn(60, TEACHER, generator=torch.Generator().manual_seed(2))
    made = solved(model, Rows(Batch(model.tokenize(texts).take(np.arange(60)), goals)), TEACHER, "fp32")
    vectors = torch.from_numpy(encode.vectors(model, model.tokenize(texts[:60]), precision="fp32"))
    torch.testing.assert_close(made.weight, ridge(vectors, goals)[0], atol=1e-3, rtol=1e-3)


def test_fp32_is_fp32_from_the_first_map_on(
    encoder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: a training in fp32 begins with a map that was read in bf16, and is another one on another processor."""
    embed(passages=corpus, model=functools.partial(Encoder, base=str(encoder), length=24), out=tmp_path / "vectors")
    schedule = Schedule(steps=1, queries=8, precision="fp32")
    for name, has in (("one", True), ("other", False)):
        monkeypatch.setattr("distill.runtime.computes_bf16", lambda where, has=has: has)
        train(
            model=functools.partial(Encoder, base=str(encoder), layers=(0,), length=24), passages=corpus,
            vectors=(tmp_path / "vectors",), objective=Objective(contrastive=0.0, regression=1.0),
            schedule=schedule, keep_projector=True, out=tmp_path / name,
        )  # fmt: skip
    one, other = ((tmp_path / name / "projector" / "model.safetensors").read_bytes() for name in ("one", "other"))
    assert one == other
