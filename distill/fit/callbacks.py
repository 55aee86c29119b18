"""What watches over a training: random states, the checkpoint in time, curves, guards."""

import math
import random
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from distill import console
from distill.batches import Batches
from distill.console import Bar
from distill.errors import Refused

Curve = list[tuple[int, str, float]]

ALIKE = 0.999
"""Mean cosine of two vectors of a batch above which a model tells its texts no longer apart."""

TOLD = 3
"""Steps left out that are named one by one; the others are counted."""

CURE = "Lower schedule.learning_rate, or raise objective.temperature."


class RandomStates(lightning.Callback):
    """Saves in every checkpoint the random states that dropout draws from, which Lightning leaves out."""

    def __init__(self) -> None:
        self._states: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """As tensors and plain values, so that the checkpoint loads with `weights_only`."""
        numpy = np.random.get_state(legacy=True)  # noqa: NPY002 a library may draw from it
        assert isinstance(numpy, tuple)
        python = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": [numpy[0], torch.from_numpy(np.asarray(numpy[1]).astype(np.int64)), *map(float, numpy[2:])],
            "python": [python[0], list(python[1]), python[2]],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until the first batch: what happens before it may draw numbers."""
        self._states = state_dict

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Restore them before the first batch after loading."""
        if self._states is None:
            return
        held, self._states = self._states, None
        torch.set_rng_state(held["torch"])
        if held["cuda"]:
            torch.cuda.set_rng_state_all(held["cuda"])
        name, keys, *rest = held["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), int(rest[0]), int(rest[1]), rest[2]))  # noqa: NPY002
        random.setstate((held["python"][0], tuple(held["python"][1]), held["python"][2]))


class Checkpoint(lightning.Callback):
    """Saves a checkpoint every so often, and when the process is told to stop.

    Args:
        file: The checkpoint; the next one replaces it.
        seconds: Between two.
    """

    def __init__(self, file: Path, seconds: float) -> None:
        self._file, self._seconds = file, seconds
        self._saved = time.monotonic()
        self._stop = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """On SIGTERM finish the step and save; a second one leaves at once."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._stop = True
            signal.signal(number, signal.SIG_DFL)

        try:
            signal.signal(signal.SIGTERM, stop)
        except ValueError:  # not the main thread: its owner handles signals
            return

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Save when it is time."""
        # All processes save together, and stop together when one is told to.
        agreed = trainer.strategy.reduce_boolean_decision
        stop = agreed(self._stop, all=False)
        if stop or agreed(time.monotonic() - self._saved > self._seconds, all=False):
            trainer.save_checkpoint(self._file)
            self._saved = time.monotonic()
        if stop:
            raise Refused(f"stopped by a signal at step {trainer.global_step}; run again to go on from there.")


class Curves(lightning.Callback):
    """Keeps every logged measure of every step, across resumes, and moves the progress bar."""

    def __init__(self, bar: Bar) -> None:
        self.curve: Curve = []
        self._bar = bar

    def state_dict(self) -> dict[str, Any]:
        """The curves so far."""
        return {"curve": [list(point) for point in self.curve]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The curves up to the checkpoint."""
        self.curve = [(int(step), str(measure), float(value)) for step, measure, value in state_dict["curve"]]

    def note(self, trainer: lightning.Trainer, measure: str, value: float) -> None:
        """Keep what was measured after a step, beside what the step logged itself."""
        self.curve.append((trainer.global_step, measure, value))
        for logger in trainer.loggers:
            logger.log_metrics({measure: value}, trainer.global_step)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the steps that were done before."""
        if trainer.global_step:
            self._bar.resume(trainer.global_step)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Note what was logged; a step that is skipped has nothing to show."""
        # What Lightning holds is of an earlier step where this one did not measure it.
        measured = {name: float(value) for name, value in getattr(pl_module, "measured", {}).items()}
        logged = {name: value for name, value in measured.items() if math.isfinite(value)}
        self.curve += [(trainer.global_step, name, value) for name, value in sorted(logged.items())]
        self._bar.step(1, " ".join(f"{name} {value:.3f}" for name, value in logged.items()))


class Guard(lightning.Callback):
    """Skips a step whose gradient is not finite; stops when that goes on, and where there is nothing to learn.

    Args:
        batches: Name the rows of a step.
        patience: Steps in a row that may be skipped.
        alike: Steps in a row at which all vectors of a batch may lie together (`ALIKE`); and, from the first on, at
            which queries may be compared with nothing.
    """

    def __init__(self, batches: Batches, patience: int = 5, alike: int = 50) -> None:
        self.skipped = 0
        self._row = self._alike_row = 0
        self._compared = False
        self._batches, self._patience, self._alike = batches, patience, alike

    def state_dict(self) -> dict[str, int]:
        """The counts."""
        return {"skipped": self.skipped, "row": self._row, "alike": self._alike_row, "compared": self._compared}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """The counts up to the checkpoint."""
        self.skipped, self._row = state_dict["skipped"], state_dict["row"]
        self._alike_row, self._compared = state_dict["alike"], bool(state_dict["compared"])

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Drop the gradients of a step that would spoil the weights; momentum and decay wait with them."""
        trained = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if all_finite([p.grad for p in trained]):
            self._row = 0
            return
        self.skipped, self._row = self.skipped + 1, self._row + 1
        step = self._named(trainer.global_step)
        if self._row > self._patience:
            raise Refused(f"the gradient was not finite at {self._row} steps in a row, the last at {step}. " + CURE)
        if self.skipped <= TOLD and trainer.is_global_zero:
            console.say(f"the gradient is not finite, and left out, at {step}", "yellow")
        for parameter in trained:
            parameter.grad = None  # a gradient of zero would still be a step, by momentum

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Refuse to go on with a model that tells no text from another."""
        cosine = getattr(pl_module, "mean_cosine", None)
        self._alike_row = self._alike_row + 1 if cosine is not None and cosine > ALIKE else 0
        if self._alike_row >= self._alike:
            raise Refused(
                f"all vectors of a batch were nearly one at {self._alike_row} steps in a row (mean cosine of two "
                f"{cosine:.4f}), the last at {self._named(trainer.global_step - 1)}. Lower schedule.learning_rate, "
                "give objective.spread a weight, or look at the texts: are they all alike?"
            )
        self._compared |= getattr(pl_module, "measured", {}).keys() != {"contrastive"}  # ACCURACY comes with a rival
        if not self._compared and trainer.global_step in (self._alike, trainer.max_steps):
            raise Refused(
                f"objective.contrastive sets a query's positive against other passages, and in {trainer.global_step} "
                "steps no query had any: its batch-mates' are none (other classes, one positive for all, or a query a "
                "step) and it has no hard negatives. Mine some, or raise schedule.queries."
            )

    def _named(self, step: int) -> str:
        """A step, counted from 1 as in curves, with what it read."""
        return f"step {step + 1} ({self._batches.named(step)})"

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Refuse a training that was too short to be stopped above: it never took a step, or one that ruined it."""
        if self.skipped == trainer.global_step:
            raise Refused(f"the gradient was finite at none of {self.skipped} steps. " + CURE)
        if not all_finite([held for held in pl_module.parameters() if held.requires_grad]):
            raise Refused("the weights are not finite after the last step. " + CURE)


def all_finite(gradients: list[Tensor]) -> bool:
    """Whether there is no infinity and no NaN in any of them."""
    if not gradients:
        return True
    norms = torch.stack(torch._foreach_norm(gradients))
    return bool(norms.isfinite().all())
