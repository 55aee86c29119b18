"""The one exception for a user's mistake, and for work that must not be done."""

import difflib
from collections.abc import Sequence


class Refused(Exception):
    """What came, what was needed, what to do; the command line prints the text alone and exits with 1."""


def near(name: str, names: Sequence[str]) -> str:
    """A hint for a message, when a name is almost one of some others."""
    found = difflib.get_close_matches(name, names, 1)
    return f" Did you mean {found[0]!r}?" if found else ""


def with_article(name: str) -> str:
    """The name of a class with its article: an Encoder, an NVEmbed, a Decoder."""
    is_spelt = name[:2].isupper() and name[0] in "FHLMNRSX"  # letter by letter: en, vee
    return f"{'an' if is_spelt or name[:1].lower() in 'aeio' else 'a'} {name}"


def check_at_least(least: int, **values: int) -> None:
    """Make sure that numbers are large enough to mean anything.

    Raises:
        Refused: One is smaller than that.
    """
    for name, value in values.items():
        if value < least:
            raise Refused(f"{name}: {value}; needed: at least {least}.")
