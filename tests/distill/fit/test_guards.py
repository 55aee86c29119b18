"""What watches over a training: not-finite steps, signals."""

import functools
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
from torch import nn

from distill import artifact, files, fit, tables
from distill.batches import TextBatches
from distill.errors import Refused
from distill.fit.callbacks import Curve
from distill.interfaces import Embedder, TokenRows, Tokens
from distill.objective import Objective, Schedule
from distill.stages.train import train
from students import Encoder

STEPS = 10


class Fragile(Embedder):
    """A table of vectors; at chosen forward passes something happens to it."""

    dim = 4

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(50, 4, generator=generator))
        self.drop = nn.Dropout(0.3)
        self.seen: list[torch.Tensor] = []
        """The weights at each forward pass."""
        self.happens: Callable[[int], float] = lambda step: 1.0

    def tokenize(self, texts: Sequence[str], tasks: Sequence[str] | None = None) -> TokenRows:
        """A token for each character."""
        return TokenRows.of([[ord(c) % 50 for c in text] for text in texts], [0] * len(texts), 0)

    def forward(self, tokens: Tokens) -> torch.Tensor:
        """Mean of the vectors."""
        if not self.training:  # solving for the projector reads the texts once before
            return nn.functional.normalize(self.table[tokens.ids].mean(1), dim=-1)
        factor = self.happens(len(self.seen))
        self.seen.append(self.table.detach().clone())
        return nn.functional.normalize(self.drop(self.table[tokens.ids]).mean(1) * factor, dim=-1)

    def save(self, folder: Path) -> None:
        """Not needed here."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Not needed here."""
        raise NotImplementedError


def batches_of(model: Fragile, size: int = 4) -> TextBatches:
    texts = [chr(97 + number) * 3 for number in range(12)]
    targets = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)
    return TextBatches([model.tokenize(texts)], [targets], size, seed=0)


def run(model: Fragile, folder: Path, size: int = 4) -> tuple[Curve, int]:
    batches = batches_of(model, size)
    schedule = Schedule(steps=STEPS, learning_rate=0.1, weight_decay=0.1, precision="fp32")
    objective = Objective(contrastive=0, regression=1)
    return fit.fit(model, batches, objective, schedule, name="fragile", folder=folder, teacher_dim=6)


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A handler that must be there again afterwards."""
    held = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) == held


def test_a_step_that_is_not_finite_is_skipped(tmp_path: Path) -> None:
    """Harm: one bad batch turns all weights into NaN, and hours later a model of NaN is saved."""
    model = Fragile()
    model.happens = lambda step: float("nan") if step in (3, 6) else 1.0
    curve, skipped = run(model, tmp_path)
    assert skipped == 2
    assert model.table.isfinite().all()
    assert sorted({step for step, _, _ in curve}) == [1, 2, 3, 5, 6, 8, 9, 10]
    assert all(np.isfinite(value) for _, _, value in curve)
    for step in range(STEPS - 1):  # neither momentum nor weight decay moves the weights of a skipped step
        assert torch.equal(model.seen[step], model.seen[step + 1]) == (step in (3, 6))


def test_it_stops_when_that_goes_on(tmp_path: Path) -> None:
    """Harm: a training that diverged burns a night of GPU hours."""
    model = Fragile()
    model.happens = lambda step: float("nan") if step >= 2 else 1.0
    last = batches_of(model).named(7)
    assert last.startswith("rows ")
    told = f"^the gradient was not finite at 6 steps in a row, the last at step 8 \\({last}\\). Lower schedule\\.learn"
    with pytest.raises(Refused, match=told):
        run(model, tmp_path)
    assert len(model.seen) == 8


def test_a_batch_that_is_left_out_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: a text that breaks the model is left out epoch after epoch, and nobody learns which."""
    model = Fragile()
    model.happens = lambda step: float("nan") if step == 3 else 1.0
    run(model, tmp_path)
    named = batches_of(model).named(3)
    assert f"the gradient is not finite, and left out, at step 4 ({named})" in capsys.readouterr().out


class OneVector(Fragile):
    """Gives every text the same vector, from a step on."""

    since = 0

    def forward(self, tokens: Tokens) -> torch.Tensor:
        """What is near the mean of all vectors, for any text."""
        made = super().forward(tokens)
        if len(self.seen) <= self.since:
            return made
        return nn.functional.normalize(self.table.mean(0) + 1e-3 * made, dim=-1)


def test_a_model_that_tells_no_text_from_another_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: all texts get one vector, the loss is a fine flat line, and the night's training is worth nothing."""
    monkeypatch.setattr("test_guards.STEPS", 80)
    model = OneVector()
    model.since = 7
    with pytest.raises(
        Refused, match=r"^all vectors of a batch were nearly one at 50 steps in a row .* step 57 \(rows"
    ):
        run(model, tmp_path)
    monkeypatch.setattr("test_guards.STEPS", 30)
    model.seen, model.since = [], 0
    run(model, tmp_path / "short")  # a short spell, as a model that begins so may have


def test_one_text_a_step_is_no_collapse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: a vector alone lies near itself, and a training with one text a step is stopped."""
    monkeypatch.setattr("test_guards.STEPS", 60)
    model = Fragile()
    run(model, tmp_path, size=1)
    assert len(model.seen) == 60


def test_a_training_without_one_finite_step_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: a short training of NaN alone passes for finished, with the weights that it began with."""
    monkeypatch.setattr("test_guards.STEPS", 3)
    model = Fragile()
    model.happens = lambda step: float("nan")
    with pytest.raises(Refused, match="at none of 3 steps"):
        run(model, tmp_path)


def test_a_training_that_ends_in_ruin_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: the last steps are left out since nothing is finite any more, and weights of NaN are saved as a model."""
    monkeypatch.setattr("test_guards.STEPS", 3)
    model = Fragile()

    def ruined(step: int) -> float:
        if step == 2:
            model.table.data.fill_(float("nan"))
        return 1.0

    model.happens = ruined
    with pytest.raises(Refused, match="the weights are not finite after the last step"):
        run(model, tmp_path)


def test_queries_that_are_compared_with_nothing_are_told(corpus: Path, encoder: Path, tmp_path: Path) -> None:
    """Harm: twelve questions with one answer among them: the loss is zero at each step, and the training is "done"."""
    columns = {
        "kind": ["retrieval"] * 12, "task": ["find it"] * 12, "query": list("abcdefghijkl"), "passages": [[0]] * 12,
        "scores": [[]] * 12, "in_batch": [True] * 12, "symmetric": [False] * 12, "group": [-1] * 12,
        "origin": [-1] * 12,
    }  # fmt: skip
    tables.write(tmp_path / "one" / "examples", tables.EXAMPLES, columns)
    files.write_json(tmp_path / "one" / "recipe.json", {"verb": "ingest", "version": 1, "settings": {}})
    artifact.finish(tmp_path / "one", {"refers": {"passages": artifact.fingerprint(corpus), "queries": "none"}})
    call = functools.partial(train, model=functools.partial(Encoder, str(encoder)), passages=corpus)
    with pytest.raises(Refused, match="in 3 steps no query had any"):
        call(examples=(tmp_path / "one",), schedule=Schedule(steps=3, queries=4), out=tmp_path / "out")


def test_a_signal_saves_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """Harm: a cluster that takes its machine back takes the work with it."""
    whole = Fragile()
    curve, _ = run(whole, tmp_path / "whole")
    stopped = Fragile()

    def stop(step: int) -> float:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return 1.0

    stopped.happens = stop
    with pytest.raises(Refused, match=r"^stopped by a signal at step 4; run again to go on from there\.$"):
        run(stopped, tmp_path / "stopped")
    assert (tmp_path / "stopped" / "checkpoints" / "last.ckpt").is_file()
    resumed = Fragile()
    again, _ = run(resumed, tmp_path / "stopped")
    assert len(resumed.seen) == STEPS - 4
    assert again == curve
    assert torch.equal(resumed.table, whole.table)


def test_a_finished_training_does_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: killed between its last step and its mark of completeness, a training adds steps when it is resumed."""
    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", 0.0)
    first = Fragile()
    curve, _ = run(first, tmp_path)
    again = Fragile()
    assert run(again, tmp_path) == (curve, 0)
    assert again.seen == [] and torch.equal(again.table, first.table)
