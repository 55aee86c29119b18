"""Texts that nearly repeat one another: what counts as one, against sets of runs and loops over all pairs."""

import random
import time

import numpy as np
import pytest

from distill import duplicates
from distill.duplicates import alike, firsts, signatures
from distill.errors import Refused

WORDS = [f"word{number}" for number in range(3000)]

FOG = (
    "Fog forms over the river when cold air from the hills slides down in the night and cools the damp air above the"
    " water, which was warmed during the day."
)
MIST = "河面上的雾在夜里形成。冷空气从山上流下来。使水面上的湿空气变冷。"


def text(seed: int, words: int = 40) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def edited(given: str, seed: int, changes: int) -> str:
    """A text with some of its words replaced."""
    draw, words = random.Random(seed), given.split()
    for place in draw.sample(range(len(words)), changes):
        words[place] = f"other{draw.randrange(10**6)}"
    return " ".join(words)


def jaccard(one: str, other: str) -> float:
    """Sets of runs of three words; texts of plain lower-case words."""

    def runs(given: str) -> set[tuple[str, ...]]:
        words = given.split()
        return {tuple(words[at : at + 3]) for at in range(max(1, len(words) - 2))}

    return len(runs(one) & runs(other)) / len(runs(one) | runs(other))


def naive(signed: np.ndarray, share: float) -> list[int]:
    """All earlier texts in a loop; the first that is near enough, and the first of that."""
    found: list[int] = []
    for row in range(len(signed)):
        near = [other for other in range(row) if (signed[row] == signed[other]).sum() >= share * signed.shape[1]]
        found.append(found[near[0]] if near else row)
    return found


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        (FOG, FOG.upper().replace(",", " -- ").replace(" ", "\n"), 1, 1),
        (FOG, FOG.replace("hills", "slopes"), 0.6, 0.95),  # 3 of 28 runs differ: 25 / 31
        (FOG, " ".join(reversed(FOG.split())), 0, 0.1),
        (FOG, "Cold air slides down from the hills in the night; over the river, it makes fog.", 0, 0.2),
        (FOG, "A heron stands still in shallow water until a fish comes near its feet.", 0, 0.1),
        ("fog", "Fog.", 1, 1),
        ("fog", "bog", 0, 0.1),
        ("what is fog", "What is fog?", 1, 1),
        ("what is fog", "what is", 0, 0.1),
        ("cafe\u0301 no\u0308el au lait", "CAF\u00c9 N\u00d6EL AU LAIT", 1, 1),
        ("\uff26\uff2f\uff27", "fog", 1, 1),
        ("", "  \n", 1, 1),
        ("", "fog", 0, 0.1),
        ("+++", "---", 0, 0.1),
        (MIST, MIST.replace("。", " "), 1, 1),
        (MIST, MIST.replace("夜里", "夜间"), 0.6, 0.95),  # 3 of 27 runs differ: 24 / 30
        (MIST, "苍鹭站在浅水里一动不动。直到鱼游到它的脚边。", 0, 0.1),
    ],
)  # fmt: skip
def test_how_alike_two_texts_are(one: str, other: str, low: float, high: float) -> None:
    """Harm: a copy in other capitals passes for a new text, or every Chinese clause and every sign is one word."""
    assert low <= alike(*signatures([one, other])) <= high


def test_agrees_with_sets_of_runs() -> None:
    """Harm: runs cross texts, or the hashes are so poor that the estimate is off by more than chance."""
    ones = [text(number, 20 + number % 150) for number in range(1000)]
    others = [edited(given, number, 1 + number % 8) for number, given in enumerate(ones)]
    exact = np.array([jaccard(*pair) for pair in zip(ones, others, strict=True)])
    estimated = alike(signatures(ones), signatures(others))
    error = estimated - exact
    spread = np.sqrt(exact * (1 - exact) / duplicates.HASHES)
    assert abs(error.mean()) < 0.005
    assert np.abs(error[exact == 0]).max(initial=0) == 0
    assert 0.9 < (error[exact > 0] / spread[exact > 0]).std() < 1.1
    # So a threshold of 0.8 finds nearly all above 0.9 and nearly none below 0.65; between, it is a draw.
    assert (estimated[exact >= 0.9] >= 0.8).mean() > 0.98
    assert (estimated[exact < 0.65] >= 0.8).mean() < 0.02
    assert min((exact >= 0.9).sum(), (exact < 0.65).sum()) > 100


def test_a_signature_is_its_texts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: work that was killed and goes on, or in other parts, keeps other texts."""
    texts = [text(number, number % 9) for number in range(60)] + [FOG, "", "?!", "雾", "\ud800", "fog"]
    whole = signatures(texts)
    np.testing.assert_array_equal(whole[::-1], signatures(texts[::-1]))
    np.testing.assert_array_equal(whole, np.concatenate([signatures([given]) for given in texts]))
    monkeypatch.setattr(duplicates, "_CHARACTERS", 50)
    np.testing.assert_array_equal(whole, signatures(texts))
    assert signatures([]).shape == (0, duplicates.HASHES)


def test_a_signature_is_the_same_in_every_process_and_version() -> None:
    """Harm: another process, or the next release, finds other duplicates with the same recipe."""
    stored = [[2021373363, 1048633965], [4049343927, 3009269506]]
    assert signatures(["how does fog form", "fog"])[:, :2].tolist() == stored


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 0.9, 1.0])
def test_firsts_agree_with_a_loop_over_all_pairs(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: bands miss a pair, a chain ends half-way, or a text follows one that comes after it."""
    monkeypatch.setattr(duplicates, "_PAIRS", 7)
    texts = [text(number % 40) for number in range(80)]
    texts += [edited(texts[number % 60], number, number % 5) for number in range(200)]
    texts += [edited(texts[-1 - number], number, 1) for number in range(60)]  # chains
    random.Random(0).shuffle(texts)
    signed = signatures(texts)
    found = firsts(signed, share)
    assert found.tolist() == naive(signed, share)
    assert 40 <= len(set(found.tolist())) < len(texts)
    np.testing.assert_array_equal(firsts(signed[:170], share), found[:170])  # what follows changes nothing


def test_a_chain_leads_to_its_first_text() -> None:
    """Harm: of three versions of a text, each near the next, two are kept."""
    chain = [text(1, 60)]
    for number in range(6):
        words = chain[-1].split()
        words[10 * number] = "changed"
        chain.append(" ".join(words))
    signed = signatures(["fog", *chain])
    assert alike(signed[1], signed[-1]) < 0.8
    assert firsts(signed).tolist() == [0, *[1] * 7]
    assert len(set(firsts(signed[[0, 1, 7]]).tolist())) == 3


def test_crowds_cost_no_more_than_their_size() -> None:
    """Harm: boilerplate that 100,000 texts repeat, or nearly repeat, is compared pair by pair for days."""
    same = np.repeat(signatures([FOG]), 100_000, 0)
    begun = time.perf_counter()
    assert not firsts(same).any()
    form = "what is the price of {} in the old town of the north when it rains in the morning and nobody is at the door"
    crowd = signatures([form.format(text(number, 2)) for number in range(20_000)])
    found = firsts(crowd, 0.75)
    assert time.perf_counter() - begun < 20  # 2 s on one core; 200 million pairs take minutes
    assert len(set(found.tolist())) < 2000


def test_many_short_texts_take_seconds() -> None:
    """Harm: the queries of a corpus take longer to compare than to write."""
    texts = [text(number, 4 + number % 12) for number in range(20_000)]
    begun = time.perf_counter()
    found = firsts(signatures(texts + texts))
    assert time.perf_counter() - begun < 15  # 0.5 s on one core
    np.testing.assert_array_equal(found[20_000:], found[:20_000])


def test_a_share_that_is_none_is_refused() -> None:
    """Harm: 80 in place of 0.8 finds nothing; 0 makes all texts one."""
    for share in (0, -0.1, 80, float("nan")):
        with pytest.raises(Refused, match=r"share .*; needed: above 0, at most 1"):
            firsts(signatures(["fog"]), share)
    assert firsts(signatures([])).shape == (0,)
