"""Benchmark text in training text: what must be found, what must not, and a naive loop that agrees."""

import random

from distill import overlap

WORDS = [f"word{number}" for number in range(3000)]


def text(seed: int, words: int = 40) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def naive(benchmark: list[str], given: str) -> bool:
    """Sets of runs, one loop a text."""

    def runs(sentence: str) -> set[tuple[str, ...]]:
        words = sentence.split()
        return {tuple(words[at : at + 8]) for at in range(len(words) - 7)}

    own, every = runs(given), [runs(sentence) for sentence in benchmark]
    shared = len(own & set().union(*every))
    held = any(other and len(own & other) >= 0.5 * len(other) for other in every)
    return given in benchmark or bool(own and shared >= 0.5 * len(own)) or held


def test_case_and_punctuation_do_not_hide_a_text() -> None:
    """Harm: a benchmark's question in other capitals is trained on, and the score is a lie."""
    held = overlap.index([[["How do I sort a list?"], ["Straße nach Köln"]]])
    found = overlap.find(held, ["how do i SORT a list", "STRASSE\nnach -- Köln!", "how do I sort a tuple", "", "?!"])
    assert found.same[:, 0].tolist() == [True, True, False, False, False]
    assert not found.partly.any()


def test_agrees_with_a_loop_over_sets() -> None:
    """Harm: a slip in the hashing or in the borders between texts lets copies through."""
    benchmark = [text(number) for number in range(30)]
    mixed = []
    for number in range(200):
        share = random.Random(number).randrange(0, 41)
        words = benchmark[number % 30].split()[:share] + text(1000 + number).split()[share:]
        mixed.append(" ".join(words))
    held = overlap.index([[benchmark[:7], benchmark[7:8], benchmark[8:]]])
    found = overlap.find(held, mixed)
    expected = [naive(benchmark, given) for given in mixed]
    assert (found.same | found.partly)[:, 0].tolist() == expected
    assert 20 < sum(expected) < 180


def test_each_benchmark_is_told_apart_as_if_it_were_alone() -> None:
    """Harm: a card says that a benchmark was in the training texts and it was another; or of two, only one is named."""
    shared = [text(number) for number in range(500, 505)]
    benchmarks = [
        [text(number) for number in range(10)] + shared,
        [],
        [text(20 + number) for number in range(8)] + shared,
    ]
    every = [given for benchmark in benchmarks for given in benchmark]
    mixed = []
    for number in range(300):
        share = random.Random(number).randrange(0, 41)
        mixed.append(" ".join(every[number % len(every)].split()[:share] + text(1000 + number).split()[share:]))
    found = overlap.find(overlap.index([each[:4], each[4:]] for each in benchmarks), mixed)
    for number, benchmark in enumerate(benchmarks):
        same = [given in benchmark for given in mixed]
        assert found.same[:, number].tolist() == same
        expected = [naive(benchmark, given) and not copied for given, copied in zip(mixed, same, strict=True)]
        assert found.partly[:, number].tolist() == expected
    both = (found.same | found.partly)[:, [0, 2]].all(1)
    assert both.sum() > 10 and not found.partly[:, 1].any()


def test_a_text_that_several_benchmarks_share_out_is_found_and_counted_once() -> None:
    """Harm: text that is nothing but pieces of benchmarks passes, for no single one holds half of it."""
    first, second, third = text(1, 200), text(2, 200), text(3, 200)
    pieces = [" ".join(each.split()[50:place]) for each, place in ((first, 70), (second, 75), (third, 70))]
    found = overlap.find(overlap.index([[[first]], [[second]], [[third]]]), [" ".join([*pieces, text(9, 10)]), text(4)])
    assert not found.same.any()
    assert found.partly.tolist() == [[False, True, False], [False] * 3]


def test_a_copy_inside_a_long_text_is_found() -> None:
    """Harm: a benchmark passage inside a longer training passage goes unseen: its share of that is small."""
    benchmark = text(1, 30)
    held = overlap.index([[[benchmark, text(2)]]])
    found = overlap.find(held, [f"{text(3, 300)} {benchmark} {text(4, 300)}", text(5, 600)])
    assert found.partly[:, 0].tolist() == [True, False]


def test_runs_do_not_cross_texts() -> None:
    """Harm: the end of one text and the start of the next count as a run that neither holds."""
    words = text(1, 8).split()
    held = overlap.index([[[" ".join(words)]]])
    assert not overlap.find(held, [" ".join(words[:4]), " ".join(words[4:])]).partly.any()


def test_nothing_on_either_side() -> None:
    """Harm: an empty benchmark or an empty batch stops the work with an index error."""
    nothing = overlap.index([])
    assert not overlap.find(nothing, [text(1), "two words"]).same.any()
    assert overlap.find(overlap.index([[[text(1)]]]), []).partly.shape == (0, 1)
    assert overlap.find(overlap.index([[], [["two words"]]]), ["two words"]).same.tolist() == [[False, True]]
    assert overlap.find(nothing, ["a"]).partly.shape == (1, 0)


def test_a_question_that_a_passage_of_the_benchmark_quotes_is_found() -> None:
    """Harm: a benchmark's question passes inside a longer text, since a page of the benchmark begins with it too."""
    asked = text(1, 12)
    page = f"{text(2, 60)} {asked} {text(3, 60)}"
    given = f"{text(4, 100)} {asked} {text(5, 100)}"
    for benchmark in ([page, asked], [asked, page]):
        assert naive(benchmark, given)
        assert overlap.find(overlap.index([[benchmark]]), [given]).partly.tolist() == [[True]]
    assert not overlap.find(overlap.index([[[page]]]), [given]).partly.any()
