"""A report as sections of blocks, and the same blocks as one self-contained HTML page or as Markdown."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

NONE = "\u2013"
"""What a table says where there is nothing to say."""


INTERVAL = re.compile(r" (\[[^\[\]]+, [^\[\]]+\])$")
SMALL = r"<small> \1</small>"
WORD = re.compile(r"\S{16,}")
SEAM = re.compile(r"(?<=[_/@:=])(?=\w)|(?<=\.)(?=[A-Za-z_])")
"""Where a long name is broken if there is no room for it: after punctuation, and not in a number."""
LONG = 32
"""Letters without a seam that are broken anywhere."""


class Block(ABC):
    """Something a section holds."""

    @abstractmethod
    def html(self) -> str:
        """The block as HTML."""

    @abstractmethod
    def markdown(self) -> str:
        """The block as Markdown."""


def plain(text: object) -> str:
    """A text that Markdown cannot take for structure."""
    kept = escape(str(text), quote=False).replace("|", "\\|").replace("`", "\\`")
    return " ".join(kept.split())


def soft(text: str) -> str:
    """A text as HTML whose long names break at their seams."""
    return WORD.sub(lambda word: SEAM.sub("<wbr>", word[0]), escape(text))


@dataclass(frozen=True)
class Text(Block):
    """A paragraph."""

    text: str

    def html(self) -> str:
        """A paragraph."""
        return f"<p>{escape(self.text)}</p>"

    def markdown(self) -> str:
        """A paragraph."""
        return plain(self.text)


@dataclass(frozen=True)
class Noted:
    """A cell with what it means, in small letters below it."""

    text: str
    note: str = ""

    def __str__(self) -> str:
        """The two in one line."""
        return f"{self.text} ({self.note})" if self.note else self.text


@dataclass(frozen=True)
class Table(Block):
    """Columns and rows; the first column to the left, the others to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    strong: Sequence[int] = ()
    """Rows that the eye should find first."""
    words: bool = False
    """Whether cells are words, set to the left and broken, rather than numbers."""

    def html(self) -> str:
        """A table that scrolls by itself where the screen is narrow; its caption stays."""
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in self.columns)
        body = "".join(self._row(number, row) for number, row in enumerate(self.rows))
        named = escape(self.caption or ", ".join(self.columns))
        caption = f'<p class="caption">{escape(self.caption)}</p>' if self.caption else ""
        kind = ' class="words"' if self.words else ""
        return (
            f'{caption}<div class="wide" role="region" aria-label="{named}" tabindex="0"><table{kind}>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def _row(self, number: int, row: Sequence[object]) -> str:
        first, *others = (self._cell(cell) for cell in row)
        # An interval goes below its value: a table of measures stays narrow enough for a page.
        cells = "".join(f"<td{kind}>{INTERVAL.sub(SMALL, cell)}</td>" for kind, cell in others)
        strong = ' class="strong"' if number in self.strong else ""
        return f'<tr{strong}><th scope="row"{first[0]}>{first[1]}</th>{cells}</tr>'

    def _cell(self, cell: object) -> tuple[str, str]:
        """The class that a cell needs, and what it says."""
        text, note = (cell.text, cell.note) if isinstance(cell, Noted) else (str(cell), "")
        said = soft(text) if self.words else escape(text)
        is_long = self.words and max(map(len, re.split(r"\s|<wbr>", said))) > LONG
        return ' class="long"' if is_long else "", said + (f"<small> {soft(note)}</small>" if note else "")

    def markdown(self) -> str:
        """A pipe table."""
        align = ["---", *(["---" if self.words else "---:"] * (len(self.columns) - 1))]
        lines = [
            [plain(column) for column in self.columns],
            align,
            *([plain(cell) for cell in row] for row in self.rows),
        ]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"**{plain(self.caption)}**\n\n{table}" if self.caption else table


@dataclass(frozen=True)
class Figures(Block):
    """Drawings with captions, side by side where there is room; the page only."""

    drawn: Sequence[tuple[str, str]]
    """Caption and SVG."""

    def html(self) -> str:
        """A grid of figures."""
        shown = "".join(f"<figure><figcaption>{escape(name)}</figcaption>{svg}</figure>" for name, svg in self.drawn)
        return f'<div class="figures">{shown}</div>'

    def markdown(self) -> str:
        """Nothing: the numbers are in the tables."""
        return ""


@dataclass(frozen=True)
class Numbers(Block):
    """A few large numbers under a name, each with what it says."""

    name: str
    shown: Sequence[tuple[str, str]]
    """The number, and what it says."""

    def html(self) -> str:
        """Cards in a row."""
        cards = "".join(f"<div><b>{escape(number)}</b><span>{escape(said)}</span></div>" for number, said in self.shown)
        return f'<div class="numbers"><h3>{escape(self.name)}</h3>{cards}</div>'

    def markdown(self) -> str:
        """A list."""
        lines = [f"- **{plain(number)}** {plain(said)}" for number, said in self.shown]
        return "\n".join([f"**{plain(self.name)}**", "", *lines])


Verdict = Literal["shown", "refuted", "open", "unmeasured"]

SIGNS: dict[Verdict, tuple[str, str]] = {
    "shown": ("✓", "shown"),
    "refuted": ("✗", "refuted"),
    "open": ("?", "undecided"),
    "unmeasured": (NONE, "not measured"),
}


@dataclass(frozen=True)
class Verdicts(Block):
    """What was claimed, and what the numbers say of it."""

    said: Sequence[tuple[Verdict, str]]

    def html(self) -> str:
        """A list with a sign and a word before each sentence."""
        lines = "".join(
            f'<li class="{verdict}"><b><i aria-hidden="true">{SIGNS[verdict][0]}</i> {SIGNS[verdict][1]}</b>'
            f"<span>{escape(text)}</span></li>"
            for verdict, text in self.said
        )
        return f'<ul class="verdicts">{lines}</ul>'

    def markdown(self) -> str:
        """A list."""
        return "\n".join(f"- {SIGNS[verdict][0]} **{SIGNS[verdict][1]}**: {plain(text)}" for verdict, text in self.said)


@dataclass(frozen=True)
class Sample(Block):
    """A row of data with its texts."""

    name: str
    texts: Sequence[tuple[str, str]]
    """What it is, and the text."""

    def html(self) -> str:
        """A list of terms."""
        terms = "".join(f"<dt>{escape(name)}</dt><dd>{soft(text)}</dd>" for name, text in self.texts)
        return f'<article class="sample"><h3>{escape(self.name)}</h3><dl>{terms}</dl></article>'

    def markdown(self) -> str:
        """A nested list."""
        return "\n".join(
            [f"- **{plain(self.name)}**", *(f"  - *{plain(name)}*: {plain(text)}" for name, text in self.texts)]
        )


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]
    folded: bool = False
    """Whether the page shows it only when asked."""

    def html(self) -> str:
        """A section."""
        body = "\n".join(block.html() for block in self.blocks)
        title = escape(self.title)
        if self.folded:
            return f"<details><summary>{title}</summary>\n{body}\n</details>"
        return f"<section><h2>{title}</h2>\n{body}\n</section>"

    def markdown(self) -> str:
        """A heading and its blocks."""
        return "\n\n".join([f"## {plain(self.title)}", *(text for block in self.blocks if (text := block.markdown()))])


@dataclass(frozen=True)
class Page:
    """A title, what stands below it, and sections."""

    title: str
    lead: str
    cautions: Sequence[str] = ()
    """Without which the title would mislead: a sentence each."""
    sections: list[Section] = field(default_factory=list)

    def html(self) -> str:
        """One page that asks the network for nothing."""
        body = "\n".join(section.html() for section in self.sections if section.blocks)
        cautions = "".join(f'<p class="caution">{escape(text)}</p>' for text in self.cautions)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
            f'<header><h1>{escape(self.title)}</h1><p class="lead">{escape(self.lead)}</p>{cautions}</header>\n'
            f"{body}\n</main>\n</body>\n</html>\n"
        )

    def markdown(self) -> str:
        """The same without figures."""
        parts = [f"# {plain(self.title)}", plain(self.lead), *(f"> {plain(text)}" for text in self.cautions)]
        return "\n\n".join([*parts, *(section.markdown() for section in self.sections if section.blocks)]) + "\n"


STYLE = """
:root { color-scheme: light dark; --paper: #fcfcfa; --raised: #f3f2ee; --ink: #1d1f21; --muted: #66696c;
  --rule: #dddbd4;
  --mark: #a9b4bf; --accent: #17608f; --band: #17608f33; --shade: #1d1f2128;
  --good: #1f6f3d; --bad: #ad2f24; --open: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --paper: #15171a; --raised: #1f2226; --ink: #e7e6e2; --muted: #9a9da1;
  --rule: #34383d; --mark: #566270; --accent: #6bb7e6; --band: #6bb7e633; --shade: #000000b0; --good: #74c78d;
  --bad: #f08b7f; --open: #e0b153; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; text-wrap: balance; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .7rem; padding-top: .9rem; border-top: 1px solid var(--rule); }
h3 { font-size: .95rem; margin: 0 0 .4rem; }
p { max-width: 44rem; margin: .5rem 0; }
.lead { color: var(--muted); margin: 0 0 1.2rem; overflow-wrap: anywhere; }
header { margin-bottom: 1.6rem; }
.caution { border-left: 3px solid var(--open); padding-left: .8rem; }
header + section h2 { margin-top: 0; }
.numbers { display: grid; grid-template-columns: repeat(3, 1fr); gap: .6rem;
  margin: 0 0 1rem; }
.numbers h3 { grid-column: 1 / -1; margin: .4rem 0 -.2rem; }
.numbers div { background: var(--raised); border-radius: 6px; padding: .7rem .9rem; }
.numbers b { display: block; font-size: 1.7rem; line-height: 1.15; color: var(--accent);
  font-variant-numeric: tabular-nums; }
.numbers span { display: block; font-size: .82rem; line-height: 1.35; color: var(--muted); margin-top: .2rem; }
.verdicts { list-style: none; margin: 1rem 0; padding: 0; }
.verdicts li { display: grid; grid-template-columns: 8rem 1fr; gap: .2rem .8rem; padding: .45rem 0;
  border-top: 1px solid var(--rule); }
.verdicts i { font-style: normal; display: inline-block; width: 1.1em; }
.verdicts .shown b { color: var(--good); } .verdicts .refuted b { color: var(--bad); }
.verdicts .open b { color: var(--open); } .verdicts .unmeasured { color: var(--muted); }
.wide { overflow-x: auto; margin: .8rem 0 1.4rem;
  background: linear-gradient(to left, var(--paper) 50%, transparent) right / 3rem 100% no-repeat local,
    linear-gradient(to left, var(--shade), transparent) right / 1rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; min-width: 100%; }
.caption { font-size: .86rem; font-weight: 600; margin: .8rem 0 0; }
.caption + .wide { margin-top: .4rem; }
th, td { text-align: right; padding: .35rem .7rem; border-bottom: 1px solid var(--rule); white-space: nowrap;
  font-weight: 400; }
th:first-child { text-align: left; padding-left: 0; position: sticky; left: 0; background: var(--paper); }
thead th { color: var(--muted); font-size: .8rem; vertical-align: bottom; }
td small, th small { display: block; font-size: .76rem; color: var(--muted); font-weight: 400; }
tr.strong > * { font-weight: 650; color: var(--accent); }
table.words th, table.words td { text-align: left; vertical-align: top; }
table.words th, table.words td { white-space: normal; }
table.words th:first-child { position: static; background: none; }
table.words .long { overflow-wrap: anywhere; min-width: 12rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1.2rem 2rem;
  margin: .8rem 0 1.4rem; }
figure { margin: 0; min-width: 0; max-width: 32rem; }
figcaption { font-size: .86rem; font-weight: 600; margin-bottom: .4rem; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font: 11px system-ui, sans-serif; fill: var(--ink); font-variant-numeric: tabular-nums; }
svg text.name { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }
svg text.muted { fill: var(--muted); } svg text.strong { font-weight: 650; fill: var(--accent); }
.grid { stroke: var(--rule); stroke-width: 1; } .axis { stroke: var(--muted); stroke-width: 1; }
.mark { fill: var(--mark); } .mark.strong { fill: var(--accent); }
.leader { stroke: var(--muted); stroke-width: .8; }
.whisker { stroke: var(--ink); stroke-width: 1.2; opacity: .7; }
.line { fill: none; stroke: var(--accent); stroke-width: 1.6; stroke-linejoin: round; } .band { fill: var(--band); }
.sample { border-left: 3px solid var(--rule); padding: .1rem 0 .1rem .9rem; margin: 1rem 0; }
.sample h3 { overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: fit-content(17rem) 1fr; gap: .3rem .9rem; margin: 0; font-size: .88rem; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; white-space: pre-line; }
details { border-top: 1px solid var(--rule); padding: .6rem 0; }
summary { cursor: pointer; font-weight: 600; }
@media (max-width: 34rem) { table.words th, table.words td { padding: .35rem .3rem; }
  table.words th:first-child { padding-left: 0; }
  dl, .verdicts li { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; }
  h1 { font-size: 1.4rem; } .numbers { grid-template-columns: 1fr 1fr; }
  .numbers h3 + div { grid-column: 1 / -1; } .numbers b { font-size: 1.35rem; } }
@media print { .wide { overflow: visible; background: none; }
  details::details-content { display: block; content-visibility: visible; } }
"""
