"""Made-up examples: what is asked, and which answers are kept."""

import re

import numpy as np
import pytest

from distill import synthesis
from distill.synthesis import SHAPES, Group

LONG = "It had rained for a week before the river rose above the old bridge and took the mill away."
OTHER = "The mill was built when the valley still grew wheat, and it ground flour for nine villages around."


@pytest.mark.parametrize("group", [group for group, shape in SHAPES.items() if shape.about])
def test_a_list_of_tasks_is_begun_with_three_that_differ(group: Group) -> None:
    """Harm: the model is shown one task three times and goes on with it."""
    asked = synthesis.brainstorm(group, (1, 2))
    shown = re.findall(r"^Task: (.+)$", asked, re.MULTILINE)
    assert len(set(shown)) == 3
    assert set(shown) <= set(SHAPES[group].tasks)
    assert asked.endswith("\nTask:")
    assert asked == synthesis.brainstorm(group, (1, 2)) != synthesis.brainstorm(group, (1, 3))


def test_tasks_are_read_and_what_is_none_is_counted() -> None:
    """Harm: half a sentence, or the prompt's own example, becomes the instruction of a thousand records."""
    known = SHAPES["short_long"].tasks[0].upper()
    written = (
        f" Given a bird's call, name the bird.\nTask: too short\nTask: {known}\nTask: given one Query: two three\n"
    )
    written += (
        "Task: " + "long " * 31 + "\nTask: Find the law that a joke breaks.\nand what follows\nTask: Given the na"
    )
    found, dropped = synthesis.tasks(written)
    assert found == ["Given a bird's call, name the bird.", "Find the law that a joke breaks."]
    assert dropped == {"wrong length": 3, "unfinished": 0, "leaked": 2}
    assert synthesis.tasks(" Find the one\nTask: Given the name of a small") == (
        [], {"wrong length": 1, "unfinished": 1, "leaked": 0},
    )  # fmt: skip
    assert synthesis.unique([*found, "find the law, that a joke breaks", "Another one of them."]) == [
        *found, "Another one of them.",
    ]  # fmt: skip


@pytest.mark.parametrize("group", list(SHAPES))
def test_a_prompts_own_examples_could_have_been_written(group: Group) -> None:
    """Harm: the model is shown a form that the parser refuses, or that breaks the rules for what it writes."""
    shape = SHAPES[group]
    shown = re.findall(r"^Query:(.*?)(?:\n\n|\Z)", shape.prompt.shared, re.MULTILINE | re.DOTALL)
    assert len(shown) >= 1
    for example in shown:
        record = synthesis.parse(example, group)
        assert record is not None, example
        assert bool(record[2]) == shape.has_negative
        assert synthesis.fault(record, group) in ("leaked", None), record  # it is the prompt's own, after all
    asked = synthesis.ask(group, "Find a thing.", ["Czech"], 200, np.random.default_rng(0))
    assert "Language: Czech." in asked and asked.endswith("\nQuery:")
    assert "{" not in asked
    assert ("Find a thing." in asked) == bool(shape.about)


def test_constraints_are_drawn_anew_and_within_the_limit() -> None:
    """Harm: all records are asked for alike, or documents longer than the model may write."""
    random = np.random.default_rng(0)
    asked = [synthesis.ask("short_long", "t", ["English", "Czech"], 200, random) for _ in range(200)]
    words = {int(found[1]) for text in asked if (found := re.search(r"about (\d+) words", text))}
    assert words == {50, 100, 200}
    for name in ("kind", "length", "clarity", "level"):
        assert all(any(value in text for text in asked) for value in synthesis.DRAWN[name])
    assert 60 < sum("Czech" in text for text in asked) < 140


@pytest.mark.parametrize(
    ("group", "written", "kept"),
    [
        ("short_long", f" q w\nPositive: {LONG}\nNegative: {OTHER}\n", ("q w", LONG, OTHER)),
        ("short_long", f" q\nPositive: {LONG}\n still {LONG}\nNegative: n", ("q", f"{LONG} still {LONG}", "n")),
        ("short_long", f" q\nPositive: {LONG}", None),
        ("short_long", f" q\nNegative: {LONG}\nPositive: {OTHER}", None),
        ("short_long", f" q\nPositive: {LONG}\nNegative: {OTHER}\nPositive: {LONG}", None),
        ("short_long", f" q\nPositive: {LONG}\nNegative: ", None),
        ("short_long", f"\nPositive: {LONG}\nNegative: {OTHER}", None),
        ("short_short", " q\nPositive: p", ("q", "p", "")),
        ("short_short", " q\nPositive: p\nNegative: n", None),
        ("short_short", " q\nPositive: p\nTask: Find another.\nQuery: r", None),
        ("short_short", " a Prepositive: case\nPositive: p", ("a Prepositive: case", "p", "")),
    ],
)
def test_a_record_has_each_field_once_and_in_order(group: Group, written: str, kept: tuple[str, ...] | None) -> None:
    """Harm: a negative is trained on as a positive, or two records run into one."""
    assert synthesis.parse(written, group) == kept


FAULTS: list[tuple[Group, tuple[str, str, str], str | None]] = [
    ("short_long", ("when was the flood", LONG, OTHER), None),
    ("short_long", ("when was the flood", "In May.", OTHER), "wrong length"),
    ("short_long", ("word " * 41, LONG, OTHER), "wrong length"),
    ("short_long", ("...", LONG, OTHER), "wrong length"),
    ("short_long", ("when was the flood", "round and round we go " * 5, OTHER), "repeats itself"),
    ("short_long", ("white powder on the leaves of my cucumber plants", LONG, OTHER), "leaked"),
    (
        "short_long",
        ("when was the flood", LONG, "The mill was built when the valley still grew wheat, and it"),
        "unfinished",
    ),
    ("short_long", ("\u6d2a\u6c34\u4f55\u65f6", "\u6c34" * 160 + ".", "\u78e8" * 160 + "."), None),
    ("short_short", ("\u0915\u0940", "\u0915\u093f", ""), None),
    ("short_long", ("rained for a WEEK", LONG, OTHER), "copied"),
    ("short_long", ("when was the flood", LONG, LONG.upper()), "same twice"),
    ("long_short", (LONG, "weather", "crime"), None),
    ("long_short", (LONG, "the river", "crime"), "copied"),
    ("long_short", (LONG, "weather", "Mill"), "copied"),
    ("long_short", ("A short text.", "weather", "crime"), "wrong length"),
    ("short_short", ("a large cat", "tiger", ""), None),
    ("short_short", ("tiger", "Tiger!", ""), "same twice"),
    ("sts", ("a boy eats", "a child has lunch", "a boy sleeps"), None),
]


@pytest.mark.parametrize(("group", "record", "rule"), FAULTS)
def test_each_rule(group: Group, record: tuple[str, str, str], rule: str | None) -> None:
    """Harm: what teaches nothing, or the wrong thing, is trained on."""
    assert synthesis.fault(record, group) == rule
