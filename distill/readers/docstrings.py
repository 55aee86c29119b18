"""A docstring, in any of its dialects, as a summary and plain prose."""

import inspect
import re

DROPPED_SECTIONS = re.compile(
    r"(example )?usage|examples?|doctests?|references|see also|attributes|methods|other parameters|warns|todo"
)
"""Sections without prose, or whose prose is about something else."""

DROPPED_DIRECTIVES = re.compile(
    r"\.\.\s+(version\w+|deprecated|math|code|plot|image|figure|test|ipython|doctest|_|\[|rubric|autosummary|table"
    r"|list-table|csv-table|toctree|seealso|only|include|literalinclude|highlight|sourcecode)"
)

_UNDERLINE = re.compile(r"^\s*([-=~^*#+`])\1{2,}\s*$")
_GOOGLE = re.compile(
    r"^\s{0,4}(args|arguments|parameters|keyword arguments|returns?|yields|raises|notes?|(?:example )?usage|examples?"
    r"|attributes|references|see also|todo):{1,2}\s*$",
    re.IGNORECASE,
)
_PARAMETER = re.compile(r"^\s*(?::param )?(\*{0,2}\w+(?:, ?\*{0,2}\w+)*) ?: +(\S.*?)\.?$")
_DIRECTIVE = re.compile(r"^\.\. \w+::\s*")
_SIGNATURE = re.compile(r"^[\w.]+\(.*\)\s*(->.*)?$")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'(]?[A-Z])")
_ABBREVIATION = re.compile(r"(e\.g|i\.e|etc|vs|cf|approx|resp|Eq|Fig|No|Ref|al)\.$")
_MARKUP = (
    (re.compile(r":[\w:+-]+:`~?([^`<]+?)(?:\s*<[^`]*>)?`"), r"\1"),  # :role:`text <target>`
    (re.compile(r"`([^`<]+?)\s*<[^`]+>`_+"), r"\1"),  # `text <target>`_
    (re.compile(r"``+([^`]*)``+"), r"\1"),
    (re.compile(r"`~?([^`]*)`_*"), r"\1"),
    (re.compile(r"\*\*([^*\n]+)\*\*"), r"\1"),
    (re.compile(r"(?<![\w*])\*([^*\s][^*\n]*?)\*(?![\w*])"), r"\1"),
    (re.compile(r"\[[\w.]+\]_"), ""),
    (re.compile(r"\|([\w ]+)\|"), r"\1"),
    (re.compile(r"\s*--+\s*"), " - "),
    (re.compile(r"\\(.)"), r"\1"),
    (re.compile(r"::(?=\s|$)"), ":"),
    (re.compile(r"\s+"), " "),
)


def plain(text: str) -> str:
    """A text without reStructuredText marks, on one line."""
    for pattern, instead in _MARKUP:
        text = pattern.sub(instead, text)
    return text.strip()


def sentences(text: str) -> list[str]:
    """The sentences of a text on one line; not cut after abbreviations."""
    found: list[str] = []
    for piece in _SENTENCE.split(text):
        if found and _ABBREVIATION.search(found[-1]):
            found[-1] += " " + piece
        else:
            found.append(piece)
    return found


def cut(text: str, words: int) -> str:
    """The start of a text: whole sentences while they fit, at least half of the words; else cut inside one."""
    taken: list[str] = []
    for sentence in sentences(text):
        more = sentence.split()
        if len(taken) + len(more) > words:
            return " ".join(taken if len(taken) >= words / 2 else (taken + more)[:words])
        taken += more
    return " ".join(taken)


def split(docstring: str) -> tuple[str, str]:
    """A docstring as its summary (first sentence) and the prose below it; either may be empty."""
    blocks = _blocks(inspect.cleandoc(docstring).expandtabs().splitlines())
    while blocks and _SIGNATURE.match(blocks[0]):
        blocks = blocks[1:]
    if not blocks:
        return "", ""
    first, *more = sentences(plain(blocks[0]))
    below = [block if block.endswith((".", ":", "!", "?")) else block.rstrip(",") + "." for block in blocks[1:]]
    return first, plain(" ".join([*more, *below]))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _headings(lines: list[str]) -> dict[int, str]:
    """The lines that are headings, in lower case: underlined, or a word of Google's style with a colon."""
    underlined = (at for at, line in enumerate(lines[1:]) if _UNDERLINE.match(line) and lines[at].strip())
    google = (at for at, line in enumerate(lines) if _GOOGLE.match(line))
    return {at: lines[at].strip(" :").lower() for headings in (underlined, google) for at in headings}


def _blocks(lines: list[str]) -> list[str]:
    """Paragraphs of prose: code, doctests, directives and sections without prose are left out."""
    headings = _headings(lines)
    blocks: list[list[str]] = [[]]
    at, section_dropped = 0, False
    while at < len(lines):
        line = lines[at].strip()
        if line.startswith(">>>"):
            at = _after_doctest(lines, at)
        elif DROPPED_DIRECTIVES.match(line):
            at = _after_indented(lines, at)
        else:
            if at in headings:
                section_dropped = bool(DROPPED_SECTIONS.fullmatch(headings[at]))
            if not line or at in headings:
                blocks.append([])
            elif not section_dropped and not _UNDERLINE.match(line):
                # The type of a parameter becomes a sentence of its own.
                blocks[-1].append(_PARAMETER.sub(r"\1: \2.", _DIRECTIVE.sub("", line)))
            at = _after_indented(lines, at) if line.endswith("::") else at + 1
    return [" ".join(block) for block in blocks if block]


def _after_doctest(lines: list[str], at: int) -> int:
    while at < len(lines) and lines[at].strip():
        at += 1
    return at


def _after_indented(lines: list[str], at: int) -> int:
    indent = _indent(lines[at])
    at += 1
    while at < len(lines) and (not lines[at].strip() or _indent(lines[at]) > indent):
        at += 1
    return at
