"""The loader: its whole state is how many batches the trainer has used."""

from collections.abc import Iterator

from distill.batches import Batch, Batches


class Loader:
    """Batches `used` to `steps`, in order.

    Batch k is a function of (seed, k), so to resume is to start at another k. Stock Lightning in the
    middle of an epoch drops a quarter of the rows and repeats another quarter.

    Args:
        batches: Where they come from.
        steps: How many in all.
    """

    def __init__(self, batches: Batches, steps: int) -> None:
        self._batches = batches
        self._steps = steps
        self.used = 0
        """Batches that the trainer has finished; what it has fetched ahead is not counted."""

    def __len__(self) -> int:
        """Steps in all, those already done included."""
        return self._steps

    def __iter__(self) -> Iterator[Batch]:
        """From the first unused batch on."""
        for step in range(self.used, self._steps):
            yield self._batches.batch(step)

    def state_dict(self) -> dict[str, int]:
        """For the checkpoint."""
        return {"used": self.used}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """From the checkpoint."""
        self.used = state["used"]
