"""The module and the data in a `lightning.Trainer` of one's own."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from distill import fit
from distill.objective import Objective, Schedule
from distill.stages.train import prepared
from students import Encoder

SCHEDULE = Schedule(steps=8, queries=6, negatives=2, learning_rate=1e-3, warmup=1)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Lightning advises whoever calls it bare."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        yield


class Watch(lightning.Callback):
    """The loss of each step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, *rest: object) -> None:
        self.losses.append(float(outputs["loss"]))


def trained(
    encoder: Path, corpus: Path, folder: Path, limit: int | None, resume: Path | None = None
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses and weights of a training of at most so many steps by a bare trainer."""
    lightning.seed_everything(4, verbose=False)
    student = Encoder(base=str(encoder), length=24)
    batches, objective, _ = prepared(
        student, passages=corpus, examples=(corpus,), objective=Objective(), schedule=SCHEDULE, cache=folder / "tokens"
    )
    watch = Watch()
    trainer = lightning.Trainer(
        max_epochs=1, max_steps=limit or -1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
        callbacks=[watch, fit.RandomStates(), ModelCheckpoint(folder, every_n_train_steps=1, filename="{step}")],
    )  # fmt: skip
    module = fit.Training(student, objective, SCHEDULE).train()
    trainer.fit(module, fit.Data(batches, SCHEDULE.steps), ckpt_path=str(resume) if resume else None)
    return watch.losses, {name: held.clone() for name, held in student.state_dict().items()}


def test_a_bare_trainer_goes_on_where_it_stopped(encoder: Path, corpus: Path, tmp_path: Path) -> None:
    """Harm: whoever brings a Trainer resumes at other batches, as stock Lightning does: some twice, some never."""
    whole, weights = trained(encoder, corpus, tmp_path / "whole", None)
    assert len(whole) == SCHEDULE.steps
    begun, _ = trained(encoder, corpus, tmp_path / "cut", 3)
    rest, resumed = trained(encoder, corpus, tmp_path / "cut", None, next((tmp_path / "cut").glob("*step=3.ckpt")))
    assert begun + rest == whole
    assert all(torch.equal(resumed[name], held) for name, held in weights.items())
