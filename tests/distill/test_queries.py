"""Each rule that a written query may break, and what passes."""

from collections import Counter

import pytest

from distill import prompts, queries

PASSAGE = "list.sort() sorts the list in place, using only < comparisons between items."
SHARED = prompts.Writing().prompt.shared


def completion(query: str, task: str = "Given a question, find the passage that answers it.") -> str:
    return f" {task}\nQuery: {query}"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (" Find the answer.\nQuery: how to sort a list", ("Find the answer.", "how to sort a list")),
        ("Find  it.\r\nQuery:how to sort\r\n", ("Find it.", "how to sort")),
        (" Find it.\nQuery: how to sort\nPassage: another one", ("Find it.", "how to sort")),
        (" Find it. Query: on one line", ("Find it.", "on one line")),
        (" Find it.\n Query:\nhow to sort", ("Find it.", "how to sort")),
        (" Find the answer.", None),
        ("\nQuery: no task is there", None),
        (" Find it.\nQuery:  \n", None),
        ("", None),
        (" Find it.\nPassage: a new passage\nKind: search result\nQuery: how to sort", None),
    ],
)
def test_completion_is_parsed(written: str, expected: tuple[str, str] | None) -> None:
    """Harm: half a completion becomes a query, or the fields of a second example become its task."""
    assert queries.parse(written) == expected


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("how do I order the items of a list", None),
        ("sorts the list in reverse", None),
        ("sort list", "wrong length"),
        (" ".join(["word"] * 41), "wrong length"),
        (" ".join(["word"] * 40), None),
        ("? ! ...", "wrong length"),
        ("sorts the list in place", "copied"),
        ("LIST SORT() sorts -- the list", "copied"),
        ("sort the list in place", None),  # words are compared whole: `sort` is not in the passage
        ("ts the list in place", None),
        ("insert item x into a sorted list with bisect insort", "leaked"),
        ("Insert item x into a sorted list, with bisect insort!", "leaked"),
        ("how to sort Passage: a list", "leaked"),
        ("Query: how to sort lists", "leaked"),
        ("how to sort Kind: search result", "leaked"),
        ("how to sort Task: find it", "leaked"),
    ],
)
def test_fault_names_the_rule(query: str, rule: str | None) -> None:
    """Harm: a query that repeats its passage, or an example of the prompt, teaches to match words."""
    assert queries.fault("Find the documentation.", query, PASSAGE, SHARED) == rule


@pytest.mark.parametrize(
    ("query", "passage", "rule"),
    [
        ("wie sortiere ich eine Liste in Python, ohne sie zu kopieren", PASSAGE, "another language"),
        ("comment trier une liste sans en faire une copie", PASSAGE, "another language"),
        (
            "如何在不复制的情况下 对列表进行排序 请告诉我好的方法 谢谢你们大家",
            PASSAGE,
            "another language",
        ),
        ("wie sortiere ich eine Liste", "Diese Methode ordnet die Liste an Ort und Stelle, ohne eine Kopie.", None),
        ("list.sort key=str.lower reverse", PASSAGE, None),  # names of a program are no language
        ("sort liste python", PASSAGE, None),  # too few letters to tell
    ],
    ids=str,
)
def test_a_query_is_in_the_language_of_its_passage(query: str, passage: str, rule: str | None) -> None:
    """Harm: a model that drifts into another language teaches the student to match across, or good queries are lost."""
    assert queries.fault("Find the documentation.", query, passage, SHARED) == rule


def test_a_task_that_runs_on_is_dropped() -> None:
    """Harm: an instruction fills the teacher's length, and the run stops at that row an hour later."""
    for words, rule in ((20, None), (21, "wrong length")):
        assert queries.fault(" ".join(["word"] * words), "how do I order a list", PASSAGE, SHARED) == rule


@pytest.mark.parametrize(
    ("task", "query", "rule"),
    [
        ("Given a diagnosis, find a passage that answers it.", "How do I find a passage that answers it?", True),
        ("Given a question, find the passage that answers it.", "The passage that answers: the question.", True),
        ("Given a question, find the correct answer.", "the correct answer", True),  # the whole, though it is short
        ("Given a question, find the correct answer.", "where may I find the correct answer now", True),  # 4 words of 8
        ("Given a question, find the correct answer.", "where may I find the correct answer just now", False),
        ("Given a claim, find a passage that supports it.", "how do I find a passage on tides", False),  # three
        ("Given a question on sorting, find the answer.", "what is the answer to a question on sorting lists", False),
        ("Given a question on sorting, find the answer.", "sorting lists", False),
    ],
)
def test_a_query_that_asks_for_its_task_is_dropped(task: str, query: str, rule: bool) -> None:
    """Harm: a query that any passage answers is trained on; a small writer makes up to a fifth of such."""
    assert queries.echoes(task, query) == rule
    assert queries.echoes(task.upper(), f"  {query.upper()} !") == rule  # neither case nor marks hide it


def test_usable_keeps_and_counts() -> None:
    """Harm: rows vanish without a count, or a kept query is filed under another passage."""
    good = ["how do I order the items of a list", "what compares two items while sorting"]
    written = [
        completion(good[0]),
        "nothing of use",
        completion("two words"),
        completion("wie ordnet man die Eintr\u00e4ge einer Liste ohne sie zu kopieren"),
        completion("sorts the list in place"),
        completion("how do I clip the values of a numpy array to an interval?"),
        completion(good[1]),
        completion("How do I find the passage that answers it?"),
    ]
    kept, dropped = queries.usable(written, [PASSAGE] * len(written), SHARED)
    task = "Given a question, find the passage that answers it."
    assert kept == [(0, task, good[0]), (6, task, good[1])]
    assert dropped == dict.fromkeys(queries.RULES, 1)


def test_lists_of_other_lengths_are_an_error() -> None:
    """Harm: a completion is lost and every later query is filed under its neighbour's passage."""
    with pytest.raises(ValueError, match="zip"):
        queries.usable([completion("how do I order a list")], [PASSAGE] * 2, SHARED)


def test_kinds_are_drawn_alike_and_by_the_seed() -> None:
    """Harm: one kind of query is all there is, or the same recipe makes other queries."""
    drawn = queries.kinds(prompts.KINDS, 4000, (3, 1))
    assert drawn == queries.kinds(prompts.KINDS, 4000, (3, 1)) != queries.kinds(prompts.KINDS, 4000, (3, 2))
    counts = Counter(drawn)
    assert set(counts) == set(prompts.KINDS)
    assert all(900 < count < 1100 for count in counts.values())


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("什么方法可以排列元素", None),
        ("排序", "wrong length"),
        ("列" * 41, "wrong length"),
        ("就地排序列表", "copied"),
    ],
    ids=["usable", "two letters", "41 letters", "copied"],
)
def test_where_no_spaces_part_words_letters_are_counted(query: str, rule: str | None) -> None:
    """Harm: of a Chinese, Japanese or Thai corpus every query is too short, and the advice is a stronger model."""
    passage = "该方法就地排序列表。只比较元素。"
    assert queries.fault("Find it.", query, passage, SHARED) == rule
