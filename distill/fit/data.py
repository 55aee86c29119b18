"""The data module and its loader, whose whole state is how many batches the trainer has used."""

from collections.abc import Callable, Iterator

import lightning

from distill.batches import Batch, Batches


class Loader:
    """Batches `used` to `steps`, in order.

    Batch k is a function of (seed, k), so to resume is to start at another k. Stock Lightning in the
    middle of an epoch drops a quarter of the rows and repeats another quarter.

    Args:
        batches: Where they come from.
        steps: How many in all.
        finished: How many the trainer has finished; what it has fetched ahead is not counted.
    """

    def __init__(self, batches: Batches, steps: int, finished: Callable[[], int]) -> None:
        self._batches, self._steps, self._finished = batches, steps, finished
        self._used = 0

    def __len__(self) -> int:
        """Steps in all, those already done included."""
        return self._steps

    def __iter__(self) -> Iterator[Batch]:
        """From the first unused batch on."""
        for step in range(self._used, self._steps):
            yield self._batches.batch(step)

    def state_dict(self) -> dict[str, int]:
        """For the checkpoint."""
        return {"used": self._finished()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """From the checkpoint."""
        self._used = state["used"]


class Data(lightning.LightningDataModule):
    """Batches for any `lightning.Trainer`: one epoch is the whole training, and a checkpoint knows the next batch.

    Args:
        batches: Where they come from, such as `distill.stages.train.prepared`.
        steps: How many in all: those of the schedule.
    """

    def __init__(self, batches: Batches, steps: int) -> None:
        super().__init__()
        self._batches, self._steps = batches, steps

    def train_dataloader(self) -> Loader:
        """All batches, each made when it is asked for."""
        return Loader(self._batches, self._steps, self._finished)

    def _finished(self) -> int:
        assert self.trainer is not None
        return int(self.trainer.global_step * self.trainer.accumulate_grad_batches)
