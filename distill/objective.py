"""What a training minimises and how long: plain settings, beside no heavy library."""

from dataclasses import dataclass
from typing import Literal

LOSSES: dict[str, tuple[str, ...]] = {
    "contrastive": ("examples",),
    "kl": ("examples", "scores"),
    "matrix": ("examples", "vectors"),
    "margin_mse": ("examples", "scores"),
    "cosent": ("examples", "grades"),
    "regression": ("vectors",),
    "relational": ("vectors",),
    "spread": (),
}
"""What each loss needs: examples, lists of them with scores, pairs of them with a grade, a teacher's vectors; or only
what is read for the others."""


LEAST_TEMPERATURE = 0.005
"""Of a learned one: below it, one passage is all that counts."""


@dataclass(frozen=True)
class Objective:
    """What training minimises: a weighted sum of the losses (`LOSSES`) whose weight is not zero."""

    contrastive: float = 1.0
    """Weight of InfoNCE: the positive against the passages that may be negatives."""
    kl: float = 0.0
    """Weight of the KL divergence from the teacher's distribution over each query's own list."""
    matrix: float = 0.0
    """Weight of the KL divergence from the teacher's distribution over all passages of the batch, by the cosines of its
    `vectors` of queries and passages (Jasper-Token-Compression-600M)."""
    margin_mse: float = 0.0
    """Weight of MarginMSE (arXiv 2010.02666): by how much the positive is ahead of each negative of its own list."""
    regression: float = 0.0
    """Weight of the distance to the teacher's vector, through a projector that is dropped afterwards: of queries,
    positives and hard negatives alike (EmbeddingGemma and F2LLM 1, jina-v5 2, beside a contrastive part of 1)."""
    distance: Literal["cosine", "l2"] = "cosine"
    """Of the regression: one minus the cosine (jina-v5, Jasper), or the squared Euclidean distance (LEAF)."""
    relational: float = 0.0
    """Weight of the mean squared difference between the student's and the teacher's cosines of all couples of texts of
    the batch; needs no projector (Stella and Jasper: 200, beside a regression of 10)."""
    temperature: float = 0.02
    """Of the contrastive part. Published recipes: 0.01 to 0.05."""
    student_temperature: float = 0.05
    """Of the student's cosines in the KL part, and in CoSENT."""
    teacher_temperature: float | Literal["auto"] = "auto"
    """Of the teacher's scores in the KL part; auto seeks a mean entropy of 0.6 ln(list length)."""
    matrix_temperature: float | Literal["auto"] = "auto"
    """Of the cosines of both in the matrix part; auto as above, over what a batch holds of passages. One for both: with
    two, a student learns first of all to spread its cosines otherwise than its teacher."""
    margin_scale: float = 1.0
    """Divides the teacher's margins in MarginMSE: 1 where its scores are cosines; a cross-encoder's logits lie ten
    times further apart than a student's cosines can."""
    in_batch: bool | Literal["all"] = True
    """May passages of batch-mates be negatives, where the row allows it? NV-Embed: in stage 1 only. `all`: whatever the
    row and its class say, which NV-Embed measured and found to cost classification the most."""
    unique_ids: bool = False
    """Whether a labelled text and the texts it is listed with begin with a number of their own, so that batch-mates of
    its class can be told from them and all of the batch may be negatives (Gecko, arXiv 2403.20327, which puts it at
    the end, where a text that is cut would lose it)."""
    same_tower: bool = False
    """May batch-mates' queries be negatives of a query too, where the row allows it? Gecko: yes."""
    margin: float | None = None
    """A negative whose cosine is above the positive's by more than this is taken for a false one and left out
    (Qwen3-Embedding: 0.1). None leaves none out."""
    hardness: float = 0.0
    """A negative counts exp(hardness x its cosine) times (EmbeddingGemma: 5)."""
    learn_temperature: bool = False
    """Whether `temperature` is where a learned one begins."""
    cosent: float = 0.0
    """Weight of CoSENT over pairs with a score (read with `benchmark: true`): alike pairs above less alike ones."""
    spread: float = 0.0
    """Weight of the spread-out regulariser (EmbeddingGemma): squared cosines of different queries, and of passages."""
    widths: tuple[int, ...] = ()
    """Shorter vectors, so many first numbers of the whole, on which the losses but `regression` are taken too, each as
    much as on the whole (Matryoshka, arXiv 2205.13147)."""

    def needs(self, what: str) -> list[str]:
        """The losses that have a weight and need this (`LOSSES`)."""
        return [name for name, needed in LOSSES.items() if what in needed and getattr(self, name)]


@dataclass(frozen=True)
class Schedule:
    """How long, how large, how fast."""

    steps: int = 1000
    """Optimizer steps."""
    queries: int = 64
    """Queries (for regression: texts) a step, over all devices."""
    by_task: bool = False
    """Whether all queries of a step are of one task (F2LLM); else tasks are blended (NV-Embed)."""
    balance: float = 1.0
    """A task's share of the queries is its share of the examples to this power: 1 leaves it, 0 makes all alike."""
    near: int = 0
    """Queries of a step are drawn from so many that `vectors` say are near, so that batch-mates' passages are harder
    negatives (after TAS-Balanced, arXiv 2104.06967). 0: from all."""
    negatives: int = 7
    """Hard negatives drawn from each list for a step."""
    learning_rate: float = 2e-5
    """Peak; falls linearly to zero."""
    warmup: int = 50
    """Steps of linear rise, at most a tenth of all."""
    weight_decay: float = 0.01
    """Of matrices; biases and norms have none."""
    clip: float = 1.0
    """Largest norm of a gradient."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic: bf16 autocast where the processor computes in it, or fp32."""
    dev_steps: int = 100
    """Steps between two looks at `dev`."""
    dev_queries: int = 200
    """Queries of `dev` that are asked at a look, drawn at random."""
    dev_passages: int = 2000
    """Passages that they search: those that are judged for them, and others drawn at random."""
    patience: int = 0
    """Looks at `dev` in a row that may be no better than the best before training ends. 0: it goes on to the end."""
