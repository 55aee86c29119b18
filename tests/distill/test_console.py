"""What is printed: no secret, nothing swallowed, and a sign of life without a terminal."""

import io

import pytest
from rich.console import Console

from distill import console


def printed(monkeypatch: pytest.MonkeyPatch, *, terminal: bool = False) -> io.StringIO:
    """Everything printed from here on."""
    stream = io.StringIO()
    monkeypatch.setattr(
        console, "console", Console(file=stream, force_terminal=terminal, highlight=False, soft_wrap=True, width=200)
    )
    return stream


TOKEN = "hf_" + "AbCdEfGhIj" * 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"cannot read https://user:{TOKEN}@host/x", "cannot read https://user:hf_[redacted]@host/x"),
        (f"key sk-proj-{'a1_B' * 9}, again", "key sk-[redacted], again"),
        (f"ghp_{'x' * 36} gho_{'y' * 36}", "ghp_[redacted] gho_[redacted]"),
        (f"Authorization: Bearer {'eyJ' * 9}.{'p' * 40}.{'s-_' * 9}", "Authorization: Bearer [redacted]"),
        ("a task-specific and risk-adjusted-embedding-model", "a task-specific and risk-adjusted-embedding-model"),
        ("hf_hub_download(repo)", "hf_hub_download(repo)"),
    ],
)
def test_secrets_are_redacted_and_words_are_not(text: str, shown: str) -> None:
    """Harm: a token in a log that is shared; or an error message that is unreadable for no reason."""
    assert console.redacted(text) == shown


def test_secrets_of_the_environment_are_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: a key of no known form, or one that begins with another, is printed."""
    monkeypatch.setenv("MY_API_KEY", "abcdefgh")
    monkeypatch.setenv("other_password", "abcdefgh-and-more")
    monkeypatch.setenv("SHORT_TOKEN", "true")
    assert console.redacted("abcdefgh-and-more abcdefgh true") == "[redacted] [redacted] true"


def test_every_way_to_print_redacts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: a secret leaves by the door that was forgotten."""
    stream = printed(monkeypatch)
    console.say(TOKEN)
    console.table(TOKEN, ["name"], [[TOKEN]])
    with console.bar("work", 1) as bar:
        bar.step(1, TOKEN)
    console.complain(TOKEN)
    shown = stream.getvalue() + capsys.readouterr().err
    assert TOKEN not in shown
    assert shown.count("hf_[redacted]") == 5


def test_brackets_are_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: `list[int]` in an error is taken for markup and vanishes, or `[/]` stops the program."""
    stream = printed(monkeypatch)
    console.say("list[int] [/] [red]x")
    console.table("of [all]", ["[key]", "value"], [["dict[str]", "[/]"]])
    for text in ("list[int] [/] [red]x", "of [all]", "[key]", "dict[str]", "[/]"):
        assert text in stream.getvalue()


def test_columns_that_say_nothing_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: on a narrow terminal empty columns break the full ones into pieces."""
    stream = printed(monkeypatch)
    console.table("t", ["name", "empty", "dashes", "some"], [["a", "", "-", "-"], ["b", "", "-", 0]])
    assert "empty" not in stream.getvalue() and "dashes" not in stream.getvalue()
    assert [line.split()[1::2] for line in stream.getvalue().splitlines() if "│" in line][-2:] == [
        ["a", "-"],
        ["b", "0"],
    ]
    console.table("t", ["name", "value"], [])
    assert "value" in stream.getvalue()


def test_lines_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: a path in a log is broken over two lines and cannot be copied."""
    stream = printed(monkeypatch)
    console.say("word " * 200)
    assert stream.getvalue() == "word " * 200 + "\n"


def test_bar_without_a_terminal_prints_a_line_at_each_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: a job in a batch system is silent for a day, or fills the disk with lines."""
    stream = printed(monkeypatch)
    with console.bar("work", 1234) as bar:
        for _ in range(1234):
            bar.step(note="fast")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "  work: 124 of 1,234, fast"
    assert lines[-1] == "  work: 1,234 of 1,234, fast"
    assert len(lines) == 10


def test_work_that_goes_on_says_so_however_little_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: whoever starts a killed training again cannot see that nothing was lost."""
    stream = printed(monkeypatch)
    with console.bar("work", 30) as bar:
        bar.resume(2)
        bar.step(1)
    assert stream.getvalue().splitlines() == ["  work: 2 of 30, resumed", "  work: 3 of 30"]


@pytest.mark.parametrize(("total", "step", "lines"), [(10, 1, 10), (3, 1, 3), (100, 100, 1), (4, 7, 1), (0, 1, 1)])
def test_bar_of_any_size(total: int, step: int, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: rounding skips a tenth, and an estimate that was too low prints a line a row from there on."""
    stream = printed(monkeypatch)
    with console.bar("work", total) as bar:
        for _ in range(max(total, 20) // step + 1):
            bar.step(step)
    assert len(stream.getvalue().splitlines()) == lines


def test_bar_on_a_terminal_shows_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: the bar stands still, or a note in brackets stops it."""
    stream = printed(monkeypatch, terminal=True)
    with console.bar("work [all]", 20) as bar:
        bar.step(20, "loss [/] 0.5")
    assert "work [all]" in stream.getvalue()
    assert "20/20" in stream.getvalue()
    assert "loss [/] 0.5" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (89.4, "89 s"), (89.6, "1 min 30 s"), (200, "3 min 20 s"), (5399, "89 min 59 s"),
     (5400, "1 h 30 min"), (18_720, "5 h 12 min"), (3_600_000, "1,000 h 00 min")],
)  # fmt: skip
def test_duration(seconds: float, shown: str) -> None:
    """Harm: 60 seconds after 59 minutes, or a plan whose hours cannot be read."""
    assert console.duration(seconds) == shown
