"""What licences ask of those who use a model: read off their names, as people write them."""

import re
from collections.abc import Mapping

UNKNOWN = "unknown"
NOT_STATED = "not stated"

_UNTOLD = ("", UNKNOWN, NOT_STATED, "other", "none", "unspecified")  # "other" is what model hubs file the rest under

_FIELD = r"(?:research|academ(?:ic|ia)|education(?:al)?|teaching|scien(?:ce|tific)|personal|private|evaluation)"
_FREE = re.compile(  # "commercial and non-commercial use" allows both
    r"(?<!non )(?<!no )(?<!not )\bcommercial(?: use)? (?:and|or) (?:non ?commercial|research)\b"
    r"|\b(?:non ?commercial|research)(?: use)? (?:and|or) commercial\b"
)
_BOUND = re.compile(
    r"\bnc\b|\bncgl\b|\bnon ?commercial|\bnon ?production|\b(?:mnpl|mrl|nscl|apple amlr)"
    r"|\b(?:not?|never) (?:(?:for|be|used|intended|allowed|permitted|in|any) ){0,4}commercial"
    r"|\bcommercial (?:use|usage|purposes)(?: is| are)?(?: strictly)? (?:not|prohibited|forbidden|excluded|requires)\b"
    rf"|\b{_FIELD}(?: \w+){{0,4}} only\b|\b(?:only|solely|exclusively)(?: \w+){{0,4}} {_FIELD}\b"
    r"|\b(?:research|academic|evaluation)(?: use)?(?: only)? licen[cs]e\b|\b(?:intel|h) research\b"
)


def forbids_commerce(licence: str) -> bool:
    """Whether the words of a licence, or its short name, allow no commercial use; silence allows it.

    >>> forbids_commerce("CC-BY-NC-4.0"), forbids_commerce("MS MARCO (research only)"), forbids_commerce("NCSA")
    (True, True, False)
    """
    plain = _plain(licence)
    return bool(_BOUND.search(_FREE.sub(" ", plain)))


def is_known(licence: str) -> bool:
    """Whether a licence says anything."""
    return _plain(licence) not in _UNTOLD


def _plain(licence: str) -> str:
    return re.sub(r"[\W_]+", " ", licence.casefold()).strip()


def united(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    """The licence of each source of either; of one that has two, both, with a semicolon between."""
    found = dict(first)
    for source, licence in second.items():
        told = [*found.get(source, licence).split("; "), *licence.split("; ")]
        found[source] = "; ".join(dict.fromkeys(told))
    return found


def warnings(licences: Mapping[str, str]) -> list[str]:
    """What the licences of a model's sources ask of those who use it, a sentence or two each.

    Args:
        licences: Of each source.
    """
    said = []
    if any("gemma" in f"{source} {licence}".casefold() for source, licence in licences.items()):
        said.append(
            "A Gemma model wrote, judged or embedded training data, or was trained further. The Gemma Terms of Use "
            "count models trained on Gemma's outputs to act like it as derivatives: treat this model as under those "
            "terms (https://ai.google.dev/gemma/terms)."
        )
    parts = {source: licence.split("; ") for source, licence in licences.items()}
    bound = [f"{source} ({licences[source]})" for source, held in parts.items() if any(map(forbids_commerce, held))]
    if bound:
        said.append(f"For non-commercial use, or research, only: {', '.join(sorted(bound))}.")
    unknown = sorted(source for source, held in parts.items() if not all(map(is_known, held)))
    if unknown:
        said.append(f"The licence is not known of: {', '.join(unknown)}. Ask before this goes to others.")
    return said
