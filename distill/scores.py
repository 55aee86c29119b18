"""A teacher's scores: their spread, their entropy, and the temperature that gives a wanted entropy."""

import numpy as np
from jaxtyping import Bool, Float

from distill.errors import Refused


def entropies(
    scores: Float[np.ndarray, "lists listed"], present: Bool[np.ndarray, "lists listed"], temperature: float
) -> Float[np.ndarray, "lists"]:
    """Entropy of each list's softmax, in nats; zero for a list without a score."""
    held = np.where(present, scores.astype(np.float64), -np.inf)
    top = np.where(present.any(1), held.max(1, initial=-np.inf), 0.0)
    weights = np.exp((held - top[:, None]) / temperature)
    shares = weights / np.maximum(weights.sum(1, keepdims=True), 1.0)
    return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(1)


def auto_temperature(
    scores: Float[np.ndarray, "lists listed"], present: Bool[np.ndarray, "lists listed"], share: float = 0.6
) -> float:
    """The temperature at which the lists' mean entropy is `share` of the largest possible, ln(length).

    Published settings differ a hundredfold in temperature and agree in this: they leave 3 to 14
    candidates in play. Found by bisection, so the scale of the scores does not matter. Lists of equal
    scores are left out: no temperature changes them.

    Raises:
        Refused: The scores say nothing: all are equal within each list, there is no list of two, or so
            many share the first place that no temperature gives the entropy.
    """
    spread = np.where(present, scores, -np.inf).max(1, initial=-np.inf) - np.where(present, scores, np.inf).min(
        1, initial=np.inf
    )
    useful = spread > 0
    if not useful.any():
        raise Refused(
            "teacher_temperature: the scores of every list are equal or missing, so they teach nothing. "
            "Label with more negatives or with other scores."
        )
    kept, there = scores[useful], present[useful]
    wanted = share * np.log(there.sum(1)).mean()
    low, high = float(spread[useful].min()) * 1e-6, float(spread[useful].max()) * 1e3
    if entropies(kept, there, low).mean() > wanted:
        raise Refused(
            "teacher_temperature: too many scores share the first place of their list for auto. "
            "Label with other scores, or give a temperature."
        )
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if entropies(kept, there, middle).mean() < wanted else (low, middle)
    return high


def histogram(values: Float[np.ndarray, "values"], bins: int = 30) -> dict[str, list[float]]:
    """Counts between edges, for a figure."""
    finite = values[np.isfinite(values)].astype(np.float64)  # so few bins always fit between two numbers of fp32
    counts, edges = np.histogram(finite, bins=bins)
    return {"edges": [round(float(edge), 6) for edge in edges], "counts": [int(count) for count in counts]}
