"""What the words of a licence ask of those who use a model."""

import pytest

from distill import licences


@pytest.mark.parametrize(
    "licence",
    [
        "cc-by-nc-4.0", "CC-BY-NC-SA-3.0", "CC BY-NC-ND 4.0", "cc_by_nc", "Creative Commons Attribution-NonCommercial",
        "PolyForm-Noncommercial-1.0.0", "NCGL-UK-2.0", "non commercial use", "MS MARCO (research only)",
        "research and education only", "research-only", "for research purposes only", "for academic use only",
        "Only for non-profit research", "for research and non-commercial use only", "non-commercial and research use",
        "solely for educational purposes", "personal use only", "not for commercial use", "no commercial use",
        "may not be used commercially", "commercial use is strictly prohibited", "Commercial use requires permission",
        "fair-noncommercial-research-license", "Llama Research License", "Mistral Non-Production License",
        "intel-research", "apple-amlr",
    ],
)  # fmt: skip
def test_wordings_that_forbid_commercial_use_are_known(licence: str) -> None:
    """Harm: a company ships what its sources forbid to sell, for the licence says so in other words."""
    assert licences.forbids_commerce(licence)


@pytest.mark.parametrize(
    "licence",
    [
        "apache-2.0", "MIT", "CC-BY-4.0", "CC-BY-SA-4.0, OANC", "CC0-1.0", "PSF-2.0, BSD-3-Clause", "NCSA", "gemma",
        "GPL-2.0-only", "AGPL-3.0-only", "AFL-3.0", "Academic Free License 3.0", "ECL-2.0", "llama3.1", "openrail", "",
        "Educational Community License", "unknown", "not stated", "commercial and non-commercial use",
        "research and commercial use", "no restrictions on commercial use", "Apache-2.0; CC-BY-4.0",
    ],
)  # fmt: skip
def test_others_are_not_accused(licence: str) -> None:
    """Harm: a free model is left unused, and warnings that are often wrong are no longer read."""
    assert not licences.forbids_commerce(licence)


@pytest.mark.parametrize(
    ("licence", "known"),
    [("", False), ("Unknown", False), ("not stated", False), ("other", False), ("mit", True), ("None-such 1.0", True)],
)
def test_a_licence_that_says_nothing_is_not_known(licence: str, known: bool) -> None:
    """Harm: `other`, as hubs file the rest under, passes for a licence that somebody has read."""
    assert licences.is_known(licence) == known


def test_a_source_under_two_licences_keeps_both() -> None:
    """Harm: of two files of one name the stricter licence is lost."""
    first = licences.united({"a.jsonl": "MIT"}, {"a.jsonl": "CC-BY-NC-4.0", "b": "CC0"})
    assert first == {"a.jsonl": "MIT; CC-BY-NC-4.0", "b": "CC0"}
    assert licences.united(first, {"a.jsonl": "CC-BY-NC-4.0; MIT"}) == first
    assert licences.united(first, {"a.jsonl": "not stated"})["a.jsonl"] == "MIT; CC-BY-NC-4.0; not stated"


def test_warnings_name_each_source_that_binds() -> None:
    """Harm: of five sources one forbids, and nobody can tell which to take out."""
    held = {
        "web": "MIT",
        "forum": "MIT; cc-by-nc-4.0",
        "marco": "research only",
        "imdb": "unknown",
        "own": "MIT; not stated",
    }
    bound, unknown = licences.warnings(held)
    assert bound == "For non-commercial use, or research, only: forum (MIT; cc-by-nc-4.0), marco (research only)."
    assert unknown.startswith("The licence is not known of: imdb, own.")
    assert licences.warnings({"web": "MIT"}) == []


@pytest.mark.parametrize("held", [{"package:gemma-3-270m": "gemma"}, {"google/embeddinggemma-300m": "unknown"}])
def test_gemmas_terms_are_told(held: dict[str, str]) -> None:
    """Harm: a student trained on Gemma's outputs is under terms that its own base does not show."""
    assert "Gemma Terms of Use" in licences.warnings(held)[0]
