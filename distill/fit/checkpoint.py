"""Checkpoints that survive being killed: written beside their place, flushed, renamed."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from distill import artifact


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes all of a checkpoint or nothing; reads tensors and plain values only, never code.

    Stock Lightning writes its temporary file to another folder and does not flush: a kill can leave half a file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write, flush, rename."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with artifact.replacing(Path(path)) as part:
            torch.save(checkpoint, part)

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True) -> Any:  # noqa: ANN401
        """Read without running anything."""
        return torch.load(path, map_location=map_location, weights_only=True)
