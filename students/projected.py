"""A student in its teacher's space: its queries find passages that the teacher embedded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill import models, projection
from distill.errors import Refused
from distill.interfaces import Embedder, TokenRows, Tokens


class Projected(Embedder):
    """A trained student with its projector, which gives vectors of the teacher's space and width.

    The passages may then be embedded by the teacher, once and offline, and the queries by the student (LEAF, arXiv
    2509.12539: half a point of nDCG above the student alone).

    Args:
        model: The step that trained the student and kept its projector (`keep_projector: true`).
    """

    space = ""
    """The model whose vectors these are compared with, as `embed` names it."""

    # What `distill.portable` writes a student from; of a student that has them.
    backbone: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    length: int
    query_prompt: str
    passage_prompt: str
    dim: int
    projector: nn.Linear

    def __init__(self, model: Path) -> None:
        super().__init__()
        self.projector, self.space = projection.load(model)
        self.student = models.embedder(model)
        self.dim = self.projector.out_features
        for name in ("backbone", "tokenizer", "length", "query_prompt", "passage_prompt"):
            if hasattr(self.student, name):
                setattr(self, name, getattr(self.student, name))
        self.requires_grad_(False)  # it cannot be saved, so it is not to be trained

    def tokenize(self, texts: Sequence[str], tasks: Sequence[str] | None = None) -> TokenRows:
        """As the student does."""
        return self.student.tokenize(texts, tasks)

    def forward(self, tokens: Tokens) -> Float[Tensor, "texts dim"]:
        """The student's unit vectors, projected, at unit length."""
        return nn.functional.normalize(self.projector(self.student(tokens)), dim=-1)

    def save(self, folder: Path) -> None:
        """Refused.

        Raises:
            Refused: It is a student and a projector that are saved already.
        """
        raise Refused("students.Projected is saved already, by the step that it names. Train or export that.")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The step that trained the student."""
        return cls(folder)
