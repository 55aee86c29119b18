"""Losses: functions of scores or of vectors, never of models. Several share one forward pass as a weighted sum."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def contrastive(
    scores: Float[Tensor, "queries passages"],
    positive: Int[Tensor, "queries"],
    allowed: Bool[Tensor, "queries passages"],
    temperature: float | Float[Tensor, ""],
    hardness: float = 0.0,
) -> Float[Tensor, ""]:
    """InfoNCE (arXiv 2405.17428, equation 1): cross entropy of the positive among the allowed passages.

    Args:
        scores: Cosines.
        positive: Each query's positive, a column of `scores`; it counts whether allowed or not.
        allowed: Which passages may count against a query.
        temperature: Divides the cosines.
        hardness: A negative counts exp(hardness x its cosine) times (EmbeddingGemma, arXiv 2509.20354); that factor
            has no gradient.
    """
    kept = allowed.scatter(1, positive[:, None], True)
    logits = scores.float() / temperature
    if hardness:
        logits = logits + (hardness * scores.detach().float()).scatter(1, positive[:, None], 0.0)
    return nn.functional.cross_entropy(logits.masked_fill(~kept, float("-inf")), positive)


def true_negatives(
    scores: Float[Tensor, "queries passages"],
    positive: Int[Tensor, "queries"],
    allowed: Bool[Tensor, "queries passages"],
    margin: float,
) -> Bool[Tensor, "queries passages"]:
    """Of the allowed passages, those that are not above the positive by more than the margin.

    What a half-trained model itself holds to be righter than the right one is likely not wrong (Qwen3-Embedding,
    arXiv 2506.05176).
    """
    return allowed & (scores <= scores.gather(1, positive[:, None]) + margin)


def cosent(scores: Float[Tensor, "pairs"], grades: Float[Tensor, "pairs"], temperature: float) -> Float[Tensor, ""]:
    """CoSENT: log(1 + the sum of exp(less alike - more alike)) over all couples of pairs with different grades.

    Args:
        scores: Cosines of the pairs.
        grades: How alike they are, on any scale.
        temperature: Divides the cosines; 0.05 in sentence-transformers.
    """
    logits = scores.float() / temperature
    wrong = (logits[None, :] - logits[:, None])[grades[:, None] > grades[None, :]]
    return torch.cat([wrong, wrong.new_zeros(1)]).logsumexp(0)


def spread(vectors: Float[Tensor, "texts dim"]) -> Float[Tensor, ""]:
    """Mean squared cosine of different texts (global orthogonal regularisation, arXiv 1708.06320)."""
    if len(vectors) < 2:
        return vectors.sum() * 0.0
    with torch.autocast(vectors.device.type, enabled=False):
        squared = (vectors @ vectors.T).square()
    return (squared.sum() - squared.diagonal().sum()) / (len(vectors) * (len(vectors) - 1))


def kl(
    scores: Float[Tensor, "queries listed"],
    targets: Float[Tensor, "queries listed"],
    present: Bool[Tensor, "queries listed"],
    temperature: float,
    teacher_temperature: float,
) -> Float[Tensor, ""]:
    """KL divergence from the teacher's to the student's distribution over each list; zero when they are equal.

    There is no factor of temperature squared: at 0.05 it would divide the gradient by 400.

    Args:
        scores: The student's cosines of each query with its own list.
        targets: The teacher's raw scores, on any scale.
        present: Where the lists, which differ in length, have a passage. Lists of one are left out.
        temperature: Divides the student's cosines.
        teacher_temperature: Divides the teacher's scores.
    """
    useful = present.sum(1) > 1
    if not useful.any():
        return scores.sum() * 0.0
    absent = ~present[useful]
    told = (targets[useful].float() / teacher_temperature).masked_fill(absent, float("-inf")).log_softmax(1)
    said = (scores[useful].float() / temperature).masked_fill(absent, float("-inf")).log_softmax(1)
    each = (told.exp() * (told - said)).masked_fill(absent, 0.0)  # 0 times (-inf - -inf) would be NaN
    return each.sum(1).mean()


def margin_mse(
    scores: Float[Tensor, "queries listed"],
    targets: Float[Tensor, "queries listed"],
    present: Bool[Tensor, "queries listed"],
    scale: float,
) -> Float[Tensor, ""]:
    """MarginMSE (arXiv 2010.02666): mean squared difference of the student's and the teacher's margins.

    A margin is by how much the positive is ahead of one negative of its own list. Each negative counts once, so
    that a longer list counts more.

    Args:
        scores: The student's cosines of each query with its own list, the positive first.
        targets: The teacher's raw scores, on any scale.
        present: Where there is a score. A list whose positive has none is left out.
        scale: Divides the teacher's margins; a student's, of cosines, are within -2 and 2.
    """
    counted = present[:, :1] & present[:, 1:]
    if not counted.any():
        return scores.sum() * 0.0
    said, told = (values.float()[:, :1] - values.float()[:, 1:] for values in (scores, targets))
    return (said - told / scale)[counted].square().mean()


def regression(
    vectors: Float[Tensor, "texts dim"],
    targets: Float[Tensor, "texts dim"],
    distance: Literal["cosine", "l2"] = "cosine",
) -> Float[Tensor, ""]:
    """Mean distance to the teacher's vector; zero if there is none.

    Args:
        vectors: The student's, in the teacher's space, of any length.
        targets: The teacher's.
        distance: One minus the cosine, or the squared Euclidean distance (LEAF, arXiv 2509.12539), which sees lengths
            too. Of unit vectors the second is twice the first.
    """
    if not len(vectors):
        return vectors.sum()  # a mean of nothing is NaN, and the step would be lost
    made, wanted = vectors.float(), targets.float()
    if distance == "l2":
        return (made - wanted).square().sum(-1).mean()
    return (1 - nn.functional.cosine_similarity(made, wanted, dim=-1)).mean()


def relational(
    cosines: Float[Tensor, "texts texts"], targets: Float[Tensor, "texts texts"], present: Bool[Tensor, "texts texts"]
) -> Float[Tensor, ""]:
    """Mean squared difference of the student's and the teacher's cosines of all couples of texts.

    L_sim of Stella and Jasper (arXiv 2412.19048). It needs neither a projector nor a common width.

    Args:
        cosines: The student's.
        targets: The teacher's.
        present: Of which couples the teacher's is known.
    """
    if not present.any():
        return cosines.sum() * 0.0
    return (cosines.float() - targets.float())[present].square().mean()


def all_scores(
    queries: Float[Tensor, "queries dim"], passages: Float[Tensor, "passages dim"]
) -> Float[Tensor, "queries passages"]:
    """Cosine of each query with each passage, in fp32."""
    with torch.autocast(queries.device.type, enabled=False):  # bf16 keeps two decimals: a tenth of a logit at 0.02
        return queries @ passages.T


def listed_scores(
    queries: Float[Tensor, "queries dim"],
    passages: Float[Tensor, "passages dim"],
    listed: Int[Tensor, "queries listed"],
) -> Float[Tensor, "queries listed"]:
    """Cosine of each query with its own list; places without a passage (-1) hold an arbitrary number."""
    with torch.autocast(queries.device.type, enabled=False):
        return torch.einsum("qd,qld->ql", queries, passages[listed.clamp(min=0)])
