"""Figures are explained, or left alone."""

import pytest

from distill import legend


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("relabelled", "another positive"),
        ("seed_within 10", "first candidates"),
        ("int8 neighbours", "nearest"),
        ("temperature_for_entropy_0.6", "0.6"),
    ],
)
def test_a_known_figure_has_its_meaning(path: str, word: str) -> None:
    """Harm: a figure that decides on data reads as a variable's name."""
    assert word in legend.meaning(path)


def test_an_unknown_figure_has_none() -> None:
    """Harm: a figure of another stage is explained by what it is not."""
    assert legend.meaning("figure_of_tomorrow") == ""
