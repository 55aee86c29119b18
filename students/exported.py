"""An exported folder, run by ONNX Runtime without torch's model: what the user will get."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from distill import onnx_graph, portable
from distill.errors import Refused
from distill.interfaces import Embedder, TokenRows, Tokens


class Exported(Embedder):
    """The model in an exported folder, on the CPU, with as many threads as torch may use.

    Args:
        folder: An export step, or the folder `model` that it holds, wherever that was copied to.
        file: Which of its ONNX files runs; `onnx/model_quantized.onnx` is the one in int8.
    """

    space = ""
    """The model whose vectors these are compared with; empty if it is this one."""

    def __init__(self, folder: Path, file: str = "onnx/model.onnx") -> None:
        super().__init__()
        held = folder / "model" if (folder / "model").is_dir() else folder
        self.written = portable.read(held)
        self.file = held / file
        self.dim, self.space = self.written.dim, self.written.space
        self._session = onnx_graph.session(self.file, torch.get_num_threads())
        self._threads = torch.get_num_threads()
        self.file_bytes = self.file.stat().st_size

    def tokenize(self, texts: Sequence[str], tasks: Sequence[str] | None = None) -> TokenRows:
        """Texts to token ids, each after its side's prompt, as the folder's own files say."""
        return self.written.tokenize(texts, "document" if tasks is None else "query")

    def forward(self, tokens: Tokens) -> Float[Tensor, "texts dim"]:
        """The output `sentence_embedding`."""
        if torch.get_num_threads() != self._threads:  # a session's threads are fixed when it begins
            self._threads = torch.get_num_threads()
            self._session = onnx_graph.session(self.file, self._threads)
        return torch.from_numpy(onnx_graph.run(self._session, tokens)).to(tokens.ids.device)

    def save(self, folder: Path) -> None:
        """Refused.

        Raises:
            Refused: An export is saved already, and cannot be trained.
        """
        raise Refused(f"{self.file} is an export: it is saved already, and cannot be trained. Copy its folder.")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The fp32 model of an exported folder."""
        return cls(folder)
