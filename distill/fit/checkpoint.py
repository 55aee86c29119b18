"""Checkpoints that survive being killed: written beside their place, flushed, renamed."""

import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from distill import files
from distill.errors import Refused


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes all of a checkpoint or nothing; reads tensors and plain values only, never code.

    Stock Lightning writes its temporary file to another folder and does not flush: a kill can leave half a file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write, flush, rename."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(Path(path)) as part:
            torch.save(checkpoint, part)

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True) -> Any:  # noqa: ANN401
        """Read without running anything.

        Raises:
            Refused: It is no checkpoint, or a harmed one.
        """
        try:
            return torch.load(path, map_location=map_location, weights_only=True)
        except (EOFError, RuntimeError, pickle.UnpicklingError, OSError) as error:
            raise Refused(f"{path} cannot be read. To train from the start, say --again and the step.") from error
