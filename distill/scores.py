"""A teacher's scores: their spread, their entropy, and the temperature that gives a wanted entropy."""

import numpy as np
from jaxtyping import Bool, Float

from distill.errors import Refused


def entropies(
    scores: Float[np.ndarray, "lists listed"], present: Bool[np.ndarray, "lists listed"], temperature: float
) -> Float[np.ndarray, "lists"]:
    """Entropy of each list's softmax, in nats."""
    logits = np.where(present, scores / temperature, -np.inf)
    logits = logits - logits.max(1, keepdims=True)
    weights = np.exp(logits)
    shares = weights / weights.sum(1, keepdims=True)
    return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(1)


def auto_temperature(
    scores: Float[np.ndarray, "lists listed"], present: Bool[np.ndarray, "lists listed"], share: float = 0.6
) -> float:
    """The temperature at which the lists' mean entropy is `share` of the largest possible, ln(length).

    Published settings differ a hundredfold in temperature and agree in this: they leave 3 to 14
    candidates in play. Found by bisection, so the scale of the scores does not matter.

    Raises:
        Refused: The scores say nothing: all are equal within each list, or there is no list of two.
    """
    useful = present.sum(1) > 1
    kept, there = scores[useful], present[useful]
    spread = np.where(there, kept, -np.inf).max(1, initial=-np.inf) - np.where(there, kept, np.inf).min(
        1, initial=np.inf
    )
    if not len(kept) or not np.any(spread > 0):
        raise Refused(
            "teacher_temperature: the scores of every list are equal or missing, so they teach nothing. "
            "Label with more negatives or with other scores."
        )
    wanted = share * np.log(there.sum(1)).mean()
    low, high = float(spread.max()) * 1e-6, float(spread.max()) * 1e3
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if entropies(kept, there, middle).mean() < wanted else (low, middle)
    return high


def histogram(values: Float[np.ndarray, "values"], bins: int = 30) -> dict[str, list[float]]:
    """Counts between edges, for a figure."""
    counts, edges = np.histogram(values[np.isfinite(values)], bins=bins)
    return {"edges": [round(float(edge), 6) for edge in edges], "counts": [int(count) for count in counts]}
