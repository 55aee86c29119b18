"""A teacher's scores: their spread, their entropy, and the temperature that gives a wanted entropy."""

import contextlib

import numpy as np
from jaxtyping import Bool, Float

from distill.errors import Refused

HARDEST, SOFTEST = 0.05, 0.99
"""Shares of the largest entropy within which targets teach. Published settings: 0.13 (SimLM) to 0.89 (CADET)."""

LEAST_MARGIN, MOST_MARGIN = 0.01, 2.0
"""Between which the widest margins lie that a student of cosines can learn."""


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
    kept, there = _ranked(scores, present)
    if not len(kept):
        raise Refused(
            "the teacher's scores of every list are equal or missing, so they teach nothing. Give lists with different "
            "ones."
        )
    wanted = share * np.log(there.sum(1)).mean()
    spread = np.where(there, kept, -np.inf).max(1) - np.where(there, kept, np.inf).min(1)
    low, high = float(spread.min()) * 1e-6, float(spread.max()) * 1e3
    if entropies(kept, there, low).mean() > wanted:
        raise Refused(
            "too many of the teacher's scores share the first place of their list for auto. Give other scores, or a "
            "temperature."
        )
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if entropies(kept, there, middle).mean() < wanted else (low, middle)
    return high


def check_targets(
    scores: Float[np.ndarray, "lists listed"], present: Bool[np.ndarray, "lists listed"], temperature: float, name: str
) -> float:
    """The mean entropy of the targets at a temperature, in nats, of the lists whose scores are not all equal.

    Args:
        scores: The teacher's.
        present: Where there is one.
        temperature: Divides them.
        name: Of the setting, for the error.

    Raises:
        Refused: One passage takes all of each list, or all have an equal share: neither teaches what the scores say.
    """
    listed, there = _ranked(scores, present)
    if not len(listed):
        raise Refused(f"{name}: the teacher's scores of every list are equal or missing, so they teach nothing.")
    entropy, most = float(entropies(listed, there, temperature).mean()), float(np.log(there.sum(1)).mean())
    if HARDEST * most <= entropy <= SOFTEST * most:
        return entropy
    wrong, cure = ("one passage takes all", "raise") if entropy < HARDEST * most else ("all are alike", "lower")
    automatic = ""
    with contextlib.suppress(Refused):
        automatic = f", or say auto, which would be {auto_temperature(scores, present):.3g}"
    raise Refused(
        f"{name}: {temperature:.3g}: in the teacher's targets {wrong}: their mean entropy is {entropy:.3f} nats, of "
        f"{most:.3f} at most; needed: {HARDEST:.0%} to {SOFTEST:.0%} of that. To teach what the scores say, {cure} it"
        f"{automatic}."
    )


def check_margins(
    scores: Float[np.ndarray, "lists listed"], present: Bool[np.ndarray, "lists listed"], scale: float, name: str
) -> None:
    """Make sure that the teacher's margins, divided by a scale, are such as two cosines can have.

    Args:
        scores: The teacher's, each list with its positive first.
        present: Where there is one.
        scale: Divides the margins.
        name: Of the setting, for the error.

    Raises:
        Refused: They are larger than any two cosines lie apart, or too small to tell passages apart.
    """
    margins = np.abs(scores[:, :1].astype(np.float64) - scores[:, 1:])[present[:, :1] & present[:, 1:]]
    widest = float(np.quantile(margins, 0.99)) if len(margins) else 0.0
    if not widest:
        raise Refused(f"{name}: the teacher's scores of every list are equal or missing, so they teach nothing.")
    if LEAST_MARGIN <= widest / scale <= MOST_MARGIN:
        return
    wrong = "no two cosines differ by more than 2" if widest > scale else "a student can hardly tell that from nothing"
    raise Refused(
        f"{name}: {scale:.3g}: the teacher's margins, so divided, reach {widest / scale:.3g} (99 of 100 are below), "
        f"and {wrong}. With {widest:.2g} they reach 1."
    )


def _ranked(
    scores: Float[np.ndarray, "lists listed"], present: Bool[np.ndarray, "lists listed"]
) -> tuple[Float[np.ndarray, "useful listed"], Bool[np.ndarray, "useful listed"]]:
    """The lists whose scores are not all equal: no temperature changes the others."""
    high = np.where(present, scores, -np.inf).max(1, initial=-np.inf)
    low = np.where(present, scores, np.inf).min(1, initial=np.inf)
    return scores[high > low], present[high > low]


def histogram(values: Float[np.ndarray, "values"], bins: int = 30) -> dict[str, list[float]]:
    """Counts between edges, for a figure."""
    finite = values[np.isfinite(values)].astype(np.float64)  # so few bins always fit between two numbers of fp32
    counts, edges = np.histogram(finite, bins=bins)
    return {"edges": [round(float(edge), 6) for edge in edges], "counts": [int(count) for count in counts]}
