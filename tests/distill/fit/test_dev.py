"""Looks at a benchmark while training: what is measured, what is kept, and when it ends."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distill import benchmark, fit, models, tables
from distill.errors import Refused
from distill.fit.dev import Dev
from distill.interfaces import Embedder
from distill.objective import Schedule
from distill.runtime import Runtime
from distill.stages.train import train
from students import Encoder

LOOKS = Schedule(
    steps=7, queries=6, negatives=2, learning_rate=1e-3, warmup=1, precision="fp32",
    dev_steps=2, dev_queries=9, dev_passages=25,
)  # fmt: skip


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, torch.Tensor], float]]:
    """The weights at each look, and what came out."""
    found: list[tuple[dict[str, torch.Tensor], float]] = []
    measured = Dev.ndcg

    def noting(self: Dev, embedder: Embedder, batch_tokens: int, precision: str) -> float:
        assert not embedder.training
        value = measured(self, embedder, batch_tokens, precision)
        found.append(({name: held.clone() for name, held in embedder.state_dict().items()}, value))
        return found[-1][1]

    monkeypatch.setattr(Dev, "ndcg", noting)
    return found


def scripted(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> list[dict[str, torch.Tensor]]:
    """Looks give these values; the weights at each."""
    held: list[dict[str, torch.Tensor]] = []

    def told(self: Dev, embedder: Embedder, batch_tokens: int, precision: str) -> float:
        held.append({name: weight.clone() for name, weight in embedder.state_dict().items()})
        return values[len(held) - 1]

    monkeypatch.setattr(Dev, "ndcg", told)
    return held


def student(encoder: Path) -> functools.partial[Encoder]:
    return functools.partial(Encoder, base=str(encoder), layers=(0, 2), length=24, dropout=0.1)


def looks(folder: Path) -> list[tuple[int, float]]:
    rows = tables.read(folder, "curves").to_pylist()
    return [(row["step"], row["value"]) for row in rows if row["measure"] == fit.MEASURE]


def test_a_look_is_ndcg_on_its_passages(
    corpus: Path, encoder: Path, tmp_path: Path, seen: list[tuple[dict[str, torch.Tensor], float]]
) -> None:
    """Harm: the curve that decides which weights are kept is of other queries, passages or weights than it says."""
    out = tmp_path / "student"
    facts = train(
        model=student(encoder), passages=corpus, examples=(corpus,), schedule=LOOKS, dev=corpus, seed=3, out=out
    )
    assert looks(out) == [(step, pytest.approx(value)) for step, (_, value) in zip((0, 2, 4, 6, 7), seen, strict=True)]
    part = benchmark.sample(tables.read(corpus, "passages"), tables.read(corpus, "examples"), "corpus", 9, 25, 3)
    for weights, value in seen[1:3]:
        model = student(encoder)().eval()
        model.load_state_dict(weights)
        with torch.no_grad():
            asked, held = (
                model(rows.take(np.arange(len(rows)))).numpy()
                for rows in (
                    model.tokenize([q.text for q in part.queries], [q.task for q in part.queries]),
                    model.tokenize(part.passages),
                )
            )
        naive = []
        for query, vector in zip(part.queries, asked, strict=True):
            ranking = np.argsort(-(held @ vector), kind="stable")[:10].tolist()
            gain = sum(query.judged.get(row, 0.0) / np.log2(at + 2) for at, row in enumerate(ranking))
            ideal = sorted(query.judged.values(), reverse=True)[:10]
            naive.append(gain / sum(grade / np.log2(at + 2) for at, grade in enumerate(ideal)))
        assert value == pytest.approx(np.mean(naive), abs=1e-6)
    told = facts["dev"]
    assert isinstance(told, dict)
    best = max(seen[1:], key=lambda look: look[1])
    assert told["best"] == pytest.approx(best[1], abs=1e-5) and told["start"] == pytest.approx(seen[0][1], abs=1e-5)
    assert facts["refers"] == {"passages": facts["refers"]["passages"]}  # type: ignore[index]
    kept = models.embedder(out).state_dict()
    assert all(torch.equal(kept[name], weight) for name, weight in best[0].items())
    written = EventAccumulator(str(out / "logs")).Reload().Scalars(fit.MEASURE)
    assert [(event.step, pytest.approx(event.value)) for event in written] == looks(out)


def test_the_best_weights_are_kept_and_patience_ends(
    corpus: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: the last weights are shipped though earlier ones were better, or a training that gets worse goes on."""
    weights = scripted(monkeypatch, [0.9, 0.2, 0.5, 0.5, 0.4])
    schedule = replace(LOOKS, steps=30, patience=2)
    out = tmp_path / "student"
    settings = {"passages": corpus, "examples": (corpus,), "schedule": schedule, "dev": corpus}
    facts = train(model=student(encoder), **settings, out=out)  # type: ignore[arg-type]
    assert facts["dev"] == {"start": 0.9, "best": 0.5, "step": 4, "ended": 8}
    assert [step for step, _ in looks(out)] == [0, 2, 4, 6, 8]
    kept = models.embedder(out).state_dict()
    assert all(torch.equal(kept[name], held) for name, held in weights[2].items())
    assert not all(torch.equal(kept[name], held) for name, held in weights[4].items())


def test_a_training_that_harms_says_so(
    corpus: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: the student was better before it was trained, and the facts say that the best was kept."""
    scripted(monkeypatch, [0.9, 0.2, 0.5, 0.5, 0.4])
    settings = {"passages": corpus, "examples": (corpus,), "schedule": LOOKS, "dev": corpus}
    train(model=student(encoder), **settings, out=tmp_path / "student")  # type: ignore[arg-type]
    assert "student: nDCG@10 on dev fell from 0.900 to 0.500" in capsys.readouterr().out


def test_looking_changes_no_step(corpus: Path, encoder: Path, tmp_path: Path) -> None:
    """Harm: dropout stays off after the first look, or the look draws random numbers and the training is another."""
    settings = {"model": student(encoder), "passages": corpus, "examples": (corpus,), "seed": 2}
    train(**settings, schedule=LOOKS, dev=corpus, out=tmp_path / "looking")  # type: ignore[arg-type]
    plain = replace(LOOKS, dev_steps=100, dev_queries=200, dev_passages=2000)
    train(**settings, schedule=plain, out=tmp_path / "plain")  # type: ignore[arg-type]
    curves = [tables.read(tmp_path / name, "curves").to_pylist() for name in ("looking", "plain")]
    assert [row for row in curves[0] if row["measure"] != fit.MEASURE] == curves[1]


def test_a_sample_holds_what_is_judged(corpus: Path) -> None:
    """Harm: a positive is left out of what is searched, or a row number leads to another passage: nDCG is noise."""
    passages, examples = tables.read(corpus, "passages"), tables.read(corpus, "examples")
    texts, rows = tables.passage_texts(passages), examples.to_pylist()
    part = benchmark.sample(passages, examples, "corpus", 7, 20, 5)
    assert len(part.queries) == 7 and len(part.passages) == 20
    known = {(row["task"], row["query"]): [texts[at] for at in row["passages"]] for row in rows}
    for query in part.queries:
        judged = [part.passages[row] for row in query.judged]
        assert judged == known[query.task, query.text]
    assert set(part.passages) <= set(texts)
    again = benchmark.sample(passages, examples, "corpus", 7, 20, 5)
    assert (again.passages, again.queries) == (part.passages, part.queries)
    assert benchmark.sample(passages, examples, "corpus", 7, 20, 6).queries != part.queries
    everything = benchmark.sample(passages, examples, "corpus", 10_000, 10_000, 5)
    assert len(everything.passages) == len(passages)
    assert len(everything.queries) == sum(row["kind"] == "retrieval" for row in rows)
    few = benchmark.sample(passages, examples, "corpus", 7, 1, 5)  # all that is judged, at least
    assert {at for query in few.queries for at in query.judged} == set(range(len(few.passages)))


def test_what_would_do_nothing_is_refused(corpus: Path, encoder: Path, tmp_path: Path) -> None:
    """Harm: patience is set, dev is forgotten, and the training goes on to the end without a word."""
    settings = {"model": student(encoder), "passages": corpus, "examples": (corpus,), "out": tmp_path / "student"}
    with pytest.raises(Refused, match=r"schedule\.patience is of `dev`, and there is none"):
        train(**settings, schedule=Schedule(steps=2, patience=3))  # type: ignore[arg-type]
    with pytest.raises(Refused, match=r"chunk counts texts and runtime\.chunk_tokens tokens"):
        train(**settings, runtime=Runtime(chunk=3, chunk_tokens=50))  # type: ignore[arg-type]
    with pytest.raises(Refused, match=r"schedule\.dev_steps: 0; needed: at least 1"):
        train(**settings, schedule=replace(LOOKS, dev_steps=0), dev=corpus)  # type: ignore[arg-type]
    named = tables.read(corpus, "examples")
    alike = named.filter([kind != "retrieval" for kind in named["kind"].to_pylist()])
    with pytest.raises(Refused, match="dev holds no query to search passages with"):
        benchmark.sample(tables.read(corpus, "passages"), alike, "dev", 5, 5, 0)
