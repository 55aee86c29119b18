"""Judgements against the language model asked one pair at a time; how deep, in which parts, and what is noted."""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from distill import artifact, files, prompts, tables
from distill.errors import Refused
from distill.interfaces import LanguageModel, Reranker
from distill.stages.judge import judge
from distill.stages.label import label
from teachers import CausalLM

DEPTH = 5
ROWS = 11


class Letters(LanguageModel):
    """The next letter is guessed from how often each letter came before: a small real language model."""

    said: ClassVar[list[tuple[str, str]]] = []
    made: ClassVar[int] = 0

    def __init__(self, seed: int = 0) -> None:
        type(self).made += 1
        self._seed = seed
        self._table = np.random.default_rng(seed).normal(size=(128, 128)) * 20

    @property
    def name(self) -> str:
        """With its seed."""
        return f"letters-{self._seed}"

    def _after(self, before: str, text: str) -> float:
        counts = np.bincount([ord(letter) % 128 for letter in before], minlength=128)
        said = 0.0
        for code in (ord(letter) % 128 for letter in text):
            guessed = counts @ self._table / counts.sum()
            said += float(guessed[code] - np.log(np.exp(guessed).sum()))
            counts[code] += 1
        return said

    def complete(self, prompts: Sequence[str], **settings: object) -> list[str]:
        """Not needed here."""
        raise NotImplementedError

    def log_likelihood(self, prompts: Sequence[str], continuations: Sequence[str], *, shared: str = "") -> np.ndarray:
        """One after the other."""
        self.said.extend(zip(prompts, continuations, strict=True))
        pairs = zip(prompts, continuations, strict=True)
        return np.array([self._after(shared + prompt, text) for prompt, text in pairs], np.float32)

    def classify(self, prompts: Sequence[str], labels: Sequence[str], *, shared: str = "") -> np.ndarray:
        """One after the other."""
        raw = np.array([[self._after(shared + prompt, label) for label in labels] for prompt in prompts])
        return (raw - np.log(np.exp(raw).sum(1, keepdims=True))).astype(np.float32)


@pytest.fixture(autouse=True)
def _nothing_said() -> None:
    Letters.said.clear()
    Letters.made = 0


def finished(folder: Path, facts: dict[str, object], *parts: tuple[str, Any, dict[str, object]]) -> Path:
    """An artifact that holds these tables."""
    with artifact.claim(folder, {"verb": "made", "version": 1, "settings": {"name": folder.name}}, {}, {}):
        for number, (name, schema, columns) in enumerate(parts):
            tables.write(folder / name, schema, columns, part=number)
        artifact.finish(folder, facts)
    return folder


@pytest.fixture
def made(tmp_path: Path, texts: list[str]) -> dict[str, Path]:
    """Passages, every third with a title; eleven queries with five candidates each, in two parts."""
    count = len(texts)
    columns = {
        "source": ["ours"] * count, "key": [str(row) for row in range(count)],
        "title": ["" if row % 3 else f"Title {row}" for row in range(count)], "text": texts,
    }  # fmt: skip
    corpus = finished(tmp_path / "corpus", {}, ("passages", tables.PASSAGES, columns))
    generator = np.random.default_rng(2)
    listed = np.stack([generator.permutation(count)[:DEPTH] for _ in range(ROWS)])
    similarities = -np.sort(-generator.random((ROWS, DEPTH)).astype(np.float32), axis=1)
    schema = tables.candidates(DEPTH, {"similarities": {"scale": "cosine", "model": "Words@1"}})
    whole: dict[str, Any] = {
        "task": [f"task {row % 2}" for row in range(ROWS)], "query": [f"which is number {row}?" for row in range(ROWS)],
        "seed": listed[:, 1], "passages": listed, "twins": listed, "similarities": similarities,
        "seed_rank": np.ones(ROWS, np.int32), "seed_similarity": similarities[:, 1],
    }  # fmt: skip
    cut = [{name: column[part] for name, column in whole.items()} for part in (slice(0, 4), slice(4, ROWS))]
    facts: dict[str, object] = {"refers": {"passages": artifact.fingerprint(corpus), "queries": "some"}}
    candidates = finished(tmp_path / "candidates", facts, *(("candidates", schema, part) for part in cut))
    return {"passages": corpus, "candidates": candidates}


def lasting(facts: Mapping[str, object]) -> dict[str, object]:
    """What a stage says of its work, and not of the machine."""
    return {name: value for name, value in facts.items() if name not in ("seconds", "peak_memory_bytes")}


def judged(out: Path) -> tables.pa.Table:
    return tables.read(out, "judgements")


def shown(corpus: Path, row: int, words: int) -> str:
    """What is read of a passage: title, text, the first words of both."""
    held = tables.read(corpus, "passages").to_pylist()[row]
    return " ".join(f"{held['title']} {held['text']}".split()[:words])


def one_at_a_time(
    model: LanguageModel, made: dict[str, Path], depth: int, words: int
) -> tuple[list[list[float]], list[list[float]]]:
    """Likelihood and relevance of each pair, each asked alone; NaN beyond the depth."""
    likelihoods, relevances = [], []
    for row in tables.read(made["candidates"], "candidates").to_pylist():
        likely, relevant = [math.nan] * DEPTH, [math.nan] * DEPTH
        for place, passage in enumerate(row["passages"][:depth]):
            text, query = shown(made["passages"], passage, words), row["query"]
            before = prompts.Judging().asks_likelihood.shared + f"Passage: {text}\nQuery:"
            likely[place] = float(model.log_likelihood([before], [" " + query])[0])
            before = prompts.Judging().asks_relevance.shared + f"Query: {query}\nPassage: {text}\nAnswer:"
            relevant[place] = float(model.classify([before], [" Yes", " No"])[0, 0])
        likelihoods.append(likely)
        relevances.append(relevant)
    return likelihoods, relevances


@pytest.mark.usefixtures("fp32")
def test_judgements_equal_a_model_asked_one_pair_at_a_time(
    made: dict[str, Path], decoder: Path, tmp_path: Path
) -> None:
    """Harm: a judgement depends on the pairs that are judged beside it, or belongs to another of them."""
    model = functools.partial(CausalLM, base=str(decoder), batch_tokens=700)
    judge(**made, model=model, depth=3, words=6, part_rows=4, out=tmp_path / "out")
    wanted = one_at_a_time(model(), made, 3, 6)
    for name, expected in zip(("likelihoods", "relevances"), wanted, strict=True):
        found = tables.matrix(judged(tmp_path / "out")[name])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        assert len(set(found[:, :3].round(3).ravel().tolist())) > 0.9 * ROWS * 3  # else any order would do


@pytest.mark.parametrize("words", [1, 4, 60])
def test_the_words_of_a_passage_are_cut_and_only_the_first_are_read(
    words: int, made: dict[str, Path], tmp_path: Path
) -> None:
    """Harm: a long passage is judged by its end, or fills the memory."""
    judge(**made, model=Letters, words=words, out=tmp_path / "out")
    expected = [
        (f"Passage: {shown(made['passages'], passage, words)}\nQuery:", f" {row['query']}")
        for row in tables.read(made["candidates"], "candidates").to_pylist()
        for passage in row["passages"]
    ]
    assert Letters.said == expected
    longest = max(len(before.split()) for before, _ in Letters.said)
    assert longest == words + 2 if words < 60 else longest < words + 2


@pytest.mark.parametrize(("depth", "judges"), [(1, 1), (3, 3), (5, 5), (None, 5), (9, 5)])
def test_only_the_first_candidates_are_judged(
    depth: int | None, judges: int, made: dict[str, Path], tmp_path: Path
) -> None:
    """Harm: ten times as many pairs are paid for, or a pair that nobody judged has a number."""
    facts = judge(**made, model=Letters, depth=depth, out=tmp_path / "out")
    wanted = one_at_a_time(Letters(), made, judges, 60)
    table = judged(tmp_path / "out")
    for name, expected in zip(("likelihoods", "relevances"), wanted, strict=True):
        found = tables.matrix(table[name])
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert np.isnan(found[:, judges:]).all()
        assert table[name].null_count == 0
    assert facts["pairs"] == ROWS * judges


def test_the_candidates_stay_what_they_are(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: a judgement stands beside another query, or the teacher's own numbers are lost on the way."""
    judge(**made, model=Letters, depth=2, part_rows=3, out=tmp_path / "out")
    before, after = tables.read(made["candidates"], "candidates"), judged(tmp_path / "out")
    assert after.select(before.schema.names).to_pylist() == before.to_pylist()
    assert after.schema.names == [*before.schema.names, "likelihoods", "relevances"]


def test_what_the_numbers_mean_is_noted(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: judgements of two models or two prompts are compared, and nobody can tell them apart."""
    facts = judge(**made, model=functools.partial(Letters, seed=7), part_rows=4, out=tmp_path / "out")
    table = judged(tmp_path / "out")
    said = {"scale": "log-probability", "model": "letters-7"}
    judging = prompts.Judging()
    assert tables.scale(table, "likelihoods") == said | {"prompt": judging.asks_likelihood.digest}
    assert tables.scale(table, "relevances") == said | {"prompt": judging.asks_relevance.digest}
    assert tables.scale(table, "similarities") == {"scale": "cosine", "model": "Words@1"}
    assert (facts["model"], facts["rows"]) == ("letters-7", ROWS)
    assert facts["refers"] == artifact.facts(made["candidates"])["refers"]
    notes = tables.notes(tmp_path / "out" / "judgements")
    assert [(note["model"], note["rows"]) for note in notes] == [("letters-7", 4), ("letters-7", 4), ("letters-7", 3)]


def test_facts_say_what_the_rows_say(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: two judges seem to agree, and the share is of other rows or of candidates that neither judged."""
    facts = judge(**made, model=functools.partial(Letters, seed=2), depth=3, out=tmp_path / "out")
    rows = judged(tmp_path / "out").to_pylist()
    best = [[max(range(3), key=row[name].__getitem__) for name in ("likelihoods", "relevances")] for row in rows]
    shares = {
        "likelihoods and relevances": [likely == relevant for likely, relevant in best],
        "similarities and likelihoods": [likely == 0 for likely, _ in best],
        "similarities and relevances": [relevant == 0 for _, relevant in best],
    }
    assert facts["put_the_same_first"] == {name: round(sum(s) / ROWS, 4) for name, s in shares.items()}
    assert len(set(facts["put_the_same_first"].values())) == 3  # so that none is taken for another
    assert facts["saved"] == 0
    assert all(sum(counted["counts"]) == ROWS * 3 for counted in facts["histograms"].values())


@pytest.mark.parametrize("part_rows", [1, 3, 4, 100])
def test_parts_of_any_size_hold_the_same_rows(part_rows: int, made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: rows at the edge of a part are judged twice or not at all."""
    cut = judge(**made, model=Letters, part_rows=part_rows, out=tmp_path / "out")
    whole = judge(**made, model=Letters, out=tmp_path / "whole")
    assert judged(tmp_path / "out").equals(judged(tmp_path / "whole"))
    assert len(tables.notes(tmp_path / "out" / "judgements")) == -(-ROWS // part_rows)
    assert lasting(cut) == lasting(whole)


def test_only_a_part_that_is_missing_is_judged_anew(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: after a kill hours of judging are paid for again, or come out otherwise."""
    settings: dict[str, Any] = {**made, "model": Letters, "part_rows": 4, "out": tmp_path / "out"}
    whole = judge(**settings)
    version = artifact.version(tmp_path / "out")
    first, lost, last = (sorted((tmp_path / "out").glob(f"judgements/part-0000{number}.*")) for number in range(3))
    before = {file: file.stat().st_mtime_ns for file in (*first, *last)}
    for file in (*lost, tmp_path / "out" / "done.json"):
        file.unlink()
    Letters.said.clear()
    again = judge(**settings)
    assert [query for _, query in Letters.said] == [f" which is number {row // DEPTH}?" for row in range(20, 40)]
    assert artifact.version(tmp_path / "out") == version
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert again["pairs"] == whole["pairs"] == ROWS * DEPTH


def test_a_part_without_its_note_does_not_count(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: what was half written when the power went is read as judged."""
    settings: dict[str, Any] = {**made, "model": Letters, "part_rows": 4, "out": tmp_path / "out"}
    judge(**settings)
    version = artifact.version(tmp_path / "out")
    (tmp_path / "out" / "done.json").unlink()
    (tmp_path / "out" / "judgements" / "part-00000.json").unlink()
    (tmp_path / "out" / "judgements" / "part-00000.arrow").write_bytes(b"half")
    judge(**settings)
    assert artifact.version(tmp_path / "out") == version


def test_no_model_is_made_when_no_part_is_missing(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: a run that only lacks its last mark loads a model of gigabytes to say nothing."""
    settings: dict[str, Any] = {**made, "model": Letters, "part_rows": 4, "out": tmp_path / "out"}
    whole = judge(**settings)
    (tmp_path / "out" / "done.json").unlink()
    assert Letters.made == 1
    again = judge(**settings)
    assert Letters.made == 1
    assert lasting(again) == lasting(whole)


def test_another_model_is_refused_where_parts_are(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: half of the pairs are judged by one model and half by another."""
    settings: dict[str, Any] = {**made, "part_rows": 4, "out": tmp_path / "out"}
    judge(**settings, model=Letters)
    for name in ("done.json", "judgements/part-00002.json"):
        (tmp_path / "out" / name).unlink()
    with pytest.raises(Refused, match="was made by another recipe") as caught:
        judge(**settings, model=functools.partial(Letters, seed=1))
    assert "settings.model.init_args.seed: 0 -> 1" in str(caught.value)
    assert len(tables.notes(tmp_path / "out" / "judgements")) == 2


def test_passages_of_another_corpus_are_refused(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: each query is judged with passages that nobody found for it."""
    columns = {name: ["x"] * 60 for name in tables.PASSAGES.names}
    other = finished(tmp_path / "other", {}, ("passages", tables.PASSAGES, columns))
    with pytest.raises(Refused, match="counts rows of another table of passages"):
        judge(**{**made, "passages": other}, model=Letters, out=tmp_path / "out")
    assert Letters.made == 0
    assert not (tmp_path / "out").exists()


def test_no_input_is_changed(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: the candidates carry judgements that their own recipe does not know."""
    paths = [file for folder in made.values() for file in folder.rglob("*") if file.is_file()]
    before = {file: (files.digest(file), file.stat().st_mtime_ns) for file in paths}
    judge(**made, model=Letters, out=tmp_path / "out")
    assert {file: (files.digest(file), file.stat().st_mtime_ns) for file in paths} == before


class Overlap(Reranker):
    """A pair's logit is how many letters of the query the passage has: a small real reranker."""

    asked: ClassVar[int] = 0

    @property
    def name(self) -> str:
        """What it is."""
        return "overlap"

    def score(self, queries: Sequence[str], passages: Sequence[str]) -> np.ndarray:
        """One after the other."""
        type(self).asked += len(queries)
        return np.array(
            [len(set(a) & set(b)) + len(b) / 100 for a, b in zip(queries, passages, strict=True)], np.float32
        )


def test_a_cross_encoder_judges_each_pair(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: a logit belongs to another pair, or its column says that it is a log-probability."""
    facts = judge(**made, model=Overlap, depth=3, words=6, part_rows=4, out=tmp_path / "out")
    table = judged(tmp_path / "out")
    for row in table.to_pylist():
        texts = [shown(made["passages"], passage, 6) for passage in row["passages"][:3]]
        np.testing.assert_allclose(row["rerankings"][:3], Overlap().score([row["query"]] * 3, texts))
        assert np.isnan(row["rerankings"][3:]).all()
    assert tables.scale(table, "rerankings") == {"scale": "logit", "model": "overlap"}
    assert set(facts["put_the_same_first"]) == {"similarities and rerankings"}
    assert list(facts["histograms"]) == ["logit of the cross-encoder"]


def test_a_dear_judge_is_asked_where_the_cheap_ones_disagree(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: the cascade pays for all pairs, leaves out a disputed query, or says that it saved what it paid."""
    judge(**made, model=Overlap, part_rows=4, out=tmp_path / "cheap")
    settings: dict[str, Any] = {"passages": made["passages"], "candidates": tmp_path / "cheap", "model": Letters}
    facts = judge(**settings, asked="disputed", depth=4, part_rows=4, out=tmp_path / "out")
    whole = judge(**settings, out=tmp_path / "whole")
    rows, full = judged(tmp_path / "out").to_pylist(), judged(tmp_path / "whole").to_pylist()
    disputed = [max(range(DEPTH), key=row["rerankings"].__getitem__) != 0 for row in rows]
    assert {True, False} == set(disputed)
    for row, other, wanted in zip(rows, full, disputed, strict=True):
        for name in ("likelihoods", "relevances"):
            expected = [*other[name][:4], math.nan] if wanted else [math.nan] * DEPTH
            np.testing.assert_array_equal(row[name], expected)
    assert facts["pairs"] == 4 * sum(disputed)
    told = f"out: {4 * sum(disputed)} of {DEPTH * ROWS} pairs are to be judged ({sum(disputed)} of {ROWS} queries)"
    assert told in capsys.readouterr().out
    assert facts["saved"] == round(1 - sum(disputed) / ROWS, 4) and whole["saved"] == 0


def test_nobody_is_asked_twice_or_about_nothing(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: a second model's likelihoods replace the first one's; a cascade without a second opinion asks nobody."""
    judge(**made, model=Letters, out=tmp_path / "first")
    with pytest.raises(Refused, match="has likelihoods already"):
        judge(passages=made["passages"], candidates=tmp_path / "first", model=Letters, out=tmp_path / "out")
    with pytest.raises(Refused, match="has the opinion similarities alone"):
        judge(**made, model=Letters, asked="disputed", out=tmp_path / "out")
    told = prompts.Judging(relevance=(prompts.Rated("q", "p", answers=True),))
    with pytest.raises(Refused, match=r"prompt.relevance: needed: an example that answers"):
        judge(**made, model=Letters, prompt=told, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_where_all_agree_no_pair_is_asked(made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: a part without a dispute stops the run, or its rows are lost."""

    class Same(Overlap):
        def score(self, queries: Sequence[str], passages: Sequence[str]) -> np.ndarray:
            return -np.arange(len(queries), dtype=np.float32)

    judge(**made, model=Same, out=tmp_path / "cheap")
    settings: dict[str, Any] = {"passages": made["passages"], "candidates": tmp_path / "cheap", "asked": "disputed"}
    facts = judge(**settings, model=Letters, part_rows=4, out=tmp_path / "out")
    assert (facts["pairs"], facts["saved"], facts["rows"]) == (0, 1, ROWS)
    assert np.isnan(tables.matrix(judged(tmp_path / "out")["likelihoods"])).all()
    assert label(candidates=tmp_path / "out", out=tmp_path / "examples")["rows"] == ROWS


@pytest.mark.parametrize("said", [math.nan, math.inf])
def test_a_judge_that_gives_no_number_is_refused(said: float, made: dict[str, Path], tmp_path: Path) -> None:
    """Harm: a broken judge says NaN of all, which reads as nobody asked: all is saved, and labels are the teacher's."""

    class Broken(Overlap):
        def score(self, queries: Sequence[str], passages: Sequence[str]) -> np.ndarray:
            found = super().score(queries, passages)
            found[3::DEPTH] = said
            return found

    with pytest.raises(Refused, match=f"overlap gives {said} as rerankings of 4 of 20 pairs, the first of the query"):
        judge(**made, model=Broken, part_rows=4, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
