"""The one training loop, and the only door to Lightning."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import StrategyRegistry
from transformers import PreTrainedModel

from distill import attention, console, lookup
from distill.batches import Batches
from distill.errors import Refused, near
from distill.fit import together
from distill.fit.callbacks import Checkpoint, Curve, Curves, Guard, RandomStates
from distill.fit.checkpoint import AtomicCheckpointIO
from distill.fit.data import Data
from distill.fit.dev import MEASURE, Best, Dev
from distill.fit.module import Training
from distill.fit.projector import solved
from distill.interfaces import Embedder
from distill.objective import Objective, Schedule
from distill.runtime import JOINS, Runtime, computes_bf16

__all__ = ["MEASURE", "Curve", "Data", "Dev", "Guard", "RandomStates", "Training", "fit"]

CHECKPOINT_SECONDS = 60.0


def fit(
    embedder: Embedder,
    batches: Batches,
    objective: Objective,
    schedule: Schedule,
    *,
    name: str,
    folder: Path,
    teacher_dim: int | None = None,
    seed: int = 0,
    runtime: Runtime = Runtime(),
    dev: Dev | None = None,
    keep: Callable[[torch.nn.Linear], None] | None = None,
) -> tuple[Curve, int]:
    """Train an embedder in place, from its start or from the checkpoint in `folder`.

    Args:
        embedder: Its parameters that require gradients are trained.
        batches: Batch k of the training.
        objective: The losses and their weights.
        schedule: Steps, size, rate.
        name: For the progress bar.
        folder: Checkpoints go to `checkpoints/`, TensorBoard events to `logs/`.
        teacher_dim: Width of the teacher's vectors, for regression.
        seed: Of dropout.
        runtime: Devices and strategy.
        dev: What is measured every `schedule.dev_steps`; the weights that did best are kept.
        keep: What is done with the trained projector; it is dropped if None.

    Returns:
        The value of each measure at each step, and how many steps were skipped as not finite.
    """
    lightning.seed_everything(seed, verbose=False)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    projector = None
    if teacher_dim and objective.regression:  # a checkpoint holds it
        resumes = checkpoint.is_file()
        projector = (
            torch.nn.Linear(embedder.dim, teacher_dim)
            if resumes
            else solved(embedder, batches, teacher_dim, schedule.precision)
        )
    if runtime.recompute:
        _recompute(embedder)
    training = Training(embedder, objective, schedule, projector, runtime.chunk, runtime.chunk_tokens)
    data = Data(batches, schedule.steps)
    with console.bar(name, schedule.steps) as bar, _on_cpu(embedder, runtime), _compiled(embedder, runtime):
        curves, guard = Curves(bar), Guard(batches)
        best = Best(dev, schedule, runtime, curves) if dev else None
        # The checkpoint comes last: it holds what the others noted of its step.
        watching = [curves, guard, best, RandomStates(), Checkpoint(checkpoint, CHECKPOINT_SECONDS)]
        callbacks: list[lightning.Callback] = [callback for callback in watching if callback]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            with together.called(folder, JOINS), _explained(runtime):
                trainer = _trainer(schedule, folder, runtime, callbacks)
                # Lightning leaves modes as they are, and a loaded embedder is in evaluation mode.
                trainer.fit(training.train(), data, ckpt_path=str(checkpoint) if checkpoint.is_file() else None)
    if best:
        best.restore(training)
    embedder.eval()
    if keep and training.projector is not None:
        keep(training.projector)
    return curves.curve, guard.skipped


@contextmanager
def _explained(runtime: Runtime) -> Iterator[None]:
    """Devices and strategies that this machine has not, as Lightning finds out."""
    try:
        yield
    except MisconfigurationException as error:
        reason = " ".join(str(error).split())
        raise Refused(f"runtime: {runtime.devices} devices by {runtime.strategy}: {reason:.300}") from error


@contextmanager
def _on_cpu(embedder: Embedder, runtime: Runtime) -> Iterator[None]:
    """What a CPU does faster otherwise: attention in fp32, and the gradient of a table of tokens by its rows.

    Rows are for one process without a compiler: others put gradients together in ways of their own.
    """
    if torch.cuda.is_available():
        yield
        return
    alone = runtime.devices == runtime.nodes == 1 and runtime.strategy == "auto" and not runtime.compiles
    with attention.in_fp32(embedder), lookup.by_row(embedder) if alone else nullcontext():
        yield


@contextmanager
def _compiled(embedder: Embedder, runtime: Runtime) -> Iterator[None]:
    """Its backbones compiled while it trains, for lengths of any size; the same module otherwise, names and all."""
    backbones = [held for held in embedder.modules() if isinstance(held, PreTrainedModel)] if runtime.compiles else []
    if runtime.compiles and not backbones:
        raise Refused("runtime.compiles: this model has no transformer that could be compiled. Say false.")
    for held in backbones:
        held.compile(dynamic=True)
    try:
        yield
    finally:
        for held in backbones:
            held._compiled_call_impl = None


def _recompute(embedder: Embedder) -> None:
    """Keep each block's input alone for the backward pass, and compute the rest again.

    Raises:
        Refused: Its backbone cannot.
    """
    backbones = [held for held in embedder.modules() if isinstance(held, PreTrainedModel)]
    if not any(held.supports_gradient_checkpointing for held in backbones):
        raise Refused("runtime.recompute: this model's backbone cannot. Say false, or lower schedule.queries.")
    for held in backbones:
        enable = getattr(held, "activation_checkpointing_enable", held.gradient_checkpointing_enable)  # its older name
        enable({"use_reentrant": False})


def _trainer(
    schedule: Schedule, folder: Path, runtime: Runtime, callbacks: list[lightning.Callback]
) -> lightning.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if runtime.nodes > 1:
        raise Refused(
            f"runtime.nodes: {runtime.nodes}; training runs on the devices of one machine. Say 1 at this step."
        )
    known = ["auto", *StrategyRegistry.available_strategies()]
    if runtime.strategy not in known:
        raise Refused(f"runtime.strategy: Lightning has no {runtime.strategy!r}.{near(runtime.strategy, known)}")
    half = computes_bf16(device) if schedule.precision == "auto" else schedule.precision == "bf16"
    return lightning.Trainer(
        max_steps=schedule.steps,
        max_epochs=-1,
        precision="bf16-mixed" if half else "32-true",
        devices=runtime.devices,
        strategy=runtime.strategy,
        gradient_clip_val=schedule.clip or None,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=TensorBoardLogger(folder, name="logs", version="", default_hp_metric=False),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
