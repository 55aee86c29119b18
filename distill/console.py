"""What a person sees: progress bars, tables, log lines, with secrets redacted."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

console = Console(highlight=False, soft_wrap=True, emoji=False)  # line :100: is no picture

NOTHING = ("", "-", "\u2013")
"""Cells that say nothing."""

# Long enough not to take `task-specific` or `hf_hub_download` for secrets.
_SECRET = re.compile(r"\b(hf_|gh[a-z]_|github_pat_|sk-|Bearer )[\w\-.~+/=]{16,}")
_SECRET_NAMES = re.compile(r"TOKEN|KEY|SECRET|PASSWORD", re.IGNORECASE)


def redacted(text: str) -> str:
    """A text without the secrets of this environment."""
    held = [value for name, value in os.environ.items() if _SECRET_NAMES.search(name) and len(value) >= 8]
    for value in sorted(held, key=len, reverse=True):  # one may begin with another
        text = text.replace(value, "[redacted]")
    return _SECRET.sub(r"\1[redacted]", text)


def say(text: str, style: str | None = None) -> None:
    """One line."""
    console.print(redacted(text), style=style, markup=False)


def complain(text: str) -> None:
    """One line on standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True, emoji=False).print(redacted(text), style="red", markup=False)


class Bar:
    """A bar that has been started; `step` moves it."""

    def __init__(self, progress: Progress | None, name: str, total: int) -> None:
        self._progress, self._name, self._total, self._done, self._said = progress, name, total, 0, 0
        self._task = progress.add_task(name, total=total, note="") if progress else None

    def step(self, amount: int = 1, note: str = "") -> None:
        """Move on, with a few words behind the bar; when not a terminal, a line at each tenth."""
        self._done += amount
        tenths = min(10, 10 * self._done // max(self._total, 1))
        if self._progress and self._task is not None:
            self._progress.update(self._task, advance=amount, note=note)
        elif tenths > self._said:
            self._said = tenths
            say(f"  {self._name}: {self._done:,} of {self._total:,}{f', {note}' if note else ''}")

    def resume(self, done: int) -> None:
        """Begin where an earlier run stopped, and say so: that is told however little was done."""
        self._said = -1
        self.step(done, "resumed")


@contextmanager
def bar(name: str, total: int) -> Iterator[Bar]:
    """A progress bar over `total` things: how many, how long, how long still; plain lines when not a terminal."""
    if not console.is_terminal:
        yield Bar(None, name, total)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        yield Bar(progress, name, total)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table; the first column to the left, the others to the right; columns that say nothing are left out."""
    cells = [[redacted(str(value)) for value in row] for row in rows]
    told = [number for number in range(len(columns)) if not cells or any(row[number] not in NOTHING for row in cells)]
    # As Text, so that words in brackets are shown and not taken for markup.
    shown = Table(title=Text(redacted(title)), title_justify="left", header_style="bold")
    for number in told:
        # A name cut short is no name; what is broken into two lines is read all the same.
        shown.add_column(Text(columns[number]), justify="left" if number == 0 else "right", no_wrap=number == 0)
    for row in cells:
        shown.add_row(*(Text(row[number]) for number in told))
    console.print(shown)


def duration(seconds: float) -> str:
    """A time as people say it: 42 s, 3 min 20 s, 5 h 12 min."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    if whole < 5400:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"
