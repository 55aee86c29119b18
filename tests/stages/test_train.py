"""What a training is given to train on, row by row, against loops; what it refuses, what it reuses, what it tells."""

import functools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from distill import artifact, files, fit, models, tables
from distill.batches import Batch, Batches, ExampleBatches, TextBatches
from distill.errors import Refused
from distill.interfaces import Embedder, TokenRows, Tokens
from distill.objective import Objective, Schedule
from distill.stages import train as module
from distill.stages.embed import embed
from distill.stages.train import train
from students import Encoder

REGRESSION = Objective(contrastive=0.0, regression=1.0)
SHORT = Schedule(steps=2, queries=4, negatives=10, learning_rate=1e-3, warmup=1, precision="fp32")
MARK = "\1"  # between a task and its query: tells what was read with an instruction


class Letters(Embedder):
    """A vector a letter and place, averaged: a small real embedder, whose tokens tell what was read."""

    read: ClassVar[list[str]] = []

    def __init__(self, dim: int = 6, seed: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.drop = nn.Dropout(dropout)
        self.table = nn.Embedding(128, dim)
        self.table.weight.data = torch.randn(128, dim, generator=torch.Generator().manual_seed(seed))

    def tokenize(self, texts: Sequence[str], tasks: Sequence[str] | None = None) -> TokenRows:
        """A token a letter."""
        whole = list(texts) if tasks is None else [task + MARK + text for task, text in zip(tasks, texts, strict=True)]
        self.read.extend(whole)
        return TokenRows.of([[ord(letter) for letter in text] for text in whole], [0] * len(whole), 0)

    def forward(self, tokens: Tokens) -> torch.Tensor:
        """Mean over letters, each weighted by its place, so that no two texts are alike."""
        places = torch.arange(tokens.ids.shape[1]).add(1).reciprocal()[:, None] * tokens.pool.unsqueeze(-1)
        return nn.functional.normalize((self.drop(self.table(tokens.ids)) * places).sum(1), dim=-1)

    def save(self, folder: Path) -> None:
        """Its table."""
        save_file(self.state_dict(), folder / "model.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        held = load_file(folder / "model.safetensors")
        made = cls(dim=held["table.weight"].shape[1])
        made.load_state_dict(held)
        return made


TEACHER = functools.partial(Letters, dim=9, seed=7)


def said(tokens: Tokens) -> list[str]:
    """The texts of a batch, from its tokens."""
    rows = zip(tokens.ids.tolist(), tokens.attend.tolist(), strict=True)
    return ["".join(chr(letter) for letter, there in zip(*row, strict=True) if there) for row in rows]


@functools.cache
@torch.inference_mode()
def taught(whole: str) -> np.ndarray:
    """The teacher's vector of one text, as `embed` stores it."""
    found: np.ndarray = TEACHER()(TEACHER().tokenize([whole]).take(np.zeros(1, np.int64))).numpy()[0]
    return found.astype(np.float16).astype(np.float32)


def finished(folder: Path, verb: str, **facts: object) -> Path:
    """An artifact with the tables already written into it."""
    files.write_json(folder / "recipe.json", {"verb": verb, "version": 1, "settings": {"name": folder.name}})
    artifact.finish(folder, facts)
    return folder


@pytest.fixture(scope="module")
def run(corpus: Path, texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries written for the corpus, examples with scores made of them, and a teacher's vectors of all."""
    folder = tmp_path_factory.mktemp("run")
    words = [" ".join(text.split()[:1:-1]) for text in texts[:24]]
    tasks = [f"task {row % 3}" for row in range(24)]
    tables.write(folder / "asked" / "queries", tables.QUERIES, {"task": tasks, "query": words, "seed": range(24)})
    passages = {"passages": artifact.fingerprint(corpus)}
    finished(folder / "asked", "generate", refers=passages)
    generator = np.random.default_rng(5)
    rows = generator.permutation(24)[:20].tolist()  # four queries have no example, and no row stands at its own place
    lists = [[row, *(generator.permutation(30)[:2] + 30).tolist()] for row in rows]
    lists[3] = lists[3][:1]  # alone, and no negatives from the batch: it cannot be used
    columns: dict[str, object] = {
        "kind": ["retrieval"] * 20 + ["sts", "clustering"],
        "task": [tasks[row] for row in rows] + ["alike", "the same"],
        "query": [words[row] for row in rows] + ["one of a pair", "one of another pair"],
        "passages": [*lists, [0, 31], [50, 1]],
        "scores": [generator.random(len(listed)).tolist() for listed in lists] + [[], []],
        "in_batch": [at != 3 for at in range(20)] + [True] * 2,
        "symmetric": [False] * 20 + [True] * 2,
        "group": [-1] * 22,
        "origin": [*rows, -1, -1],
    }
    tables.write(folder / "examples" / "examples", tables.EXAMPLES, columns)
    queries = {"queries": artifact.fingerprint(folder / "asked")}
    finished(folder / "examples", "label", refers=passages | queries)
    embed(model=TEACHER, passages=corpus, part_rows=25, out=folder / "passage_vectors")
    embed(model=TEACHER, queries=corpus, out=folder / "corpus_vectors")
    embed(model=TEACHER, queries=folder / "asked", part_rows=7, out=folder / "asked_vectors")
    return folder


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Batches]:
    """What each training is given to train on; it is trained on all the same."""
    held: list[Batches] = []
    original = fit.fit

    def noting(embedder: Embedder, batches: Batches, *rest: object, **named: object) -> object:
        held.append(batches)
        return original(embedder, batches, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(fit, "fit", noting)
    return held


def examples(*folders: Path) -> list[dict[str, object]]:
    return [row for folder in folders for row in tables.read(folder, "examples").to_pylist()]


def asked(row: Mapping[str, object]) -> str:
    return f"{row['task']}{MARK}{row['query']}"


def naive(row: Mapping[str, object], texts: Sequence[str]) -> dict[str, float]:
    """What one example lists, as it is read, with its scores."""
    before = f"{row['task']}{MARK}" if row["symmetric"] else ""
    listed, scores = row["passages"], row["scores"]
    assert isinstance(listed, list) and isinstance(scores, list)
    return dict(zip([before + texts[at] for at in listed], scores or [math.nan] * len(listed), strict=True))


def epoch(batches: Batches) -> list[Batch]:
    """Every batch once."""
    assert isinstance(batches, (ExampleBatches, TextBatches))
    rows, size = (
        (batches.texts, batches.size) if isinstance(batches, TextBatches) else (batches.rows, batches.sampler.size)
    )
    return [batches.batch(step) for step in range(rows // size)]


@pytest.mark.parametrize("chunk", [20_000, 3])
def test_every_example_has_its_own_passages_scores_and_vectors(
    chunk: int, run: Path, corpus: Path, tmp_path: Path, given: list[Batches], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: a student is taught another text's vector or score: it trains, the loss falls, and the model is worse."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    folders = (run / "examples", corpus)
    facts = train(
        model=Letters, passages=corpus, examples=folders,
        vectors=(run / "asked_vectors", run / "passage_vectors", run / "corpus_vectors"),
        objective=Objective(regression=1.0, kl=1.0), schedule=SHORT, out=tmp_path / "out",
    )  # fmt: skip
    texts = tables.passage_texts(tables.read(corpus, "passages"))
    rows = [row for row in examples(*folders) if len(naive(row, texts)) > 1 or row["in_batch"]]
    assert facts["examples"] == len(rows) == given[0].rows
    assert facts["dropped"] == {"another kind": 0, "nothing to compare with": 1, "given with negatives elsewhere": 0}
    wanted = {asked(row): row for row in rows}
    assert len(wanted) == len(rows)
    met: Counter[str] = Counter()
    for batch in epoch(given[0]):
        assert batch.queries is not None and batch.listed is not None and batch.scores is not None
        assert batch.query_targets is not None and batch.text_targets is not None
        passages = said(batch.texts)
        for text, target in zip(passages, batch.text_targets.numpy(), strict=True):
            expected = np.full(9, np.nan) if MARK in text else taught(text)  # the teacher read none as a query
            np.testing.assert_allclose(target, expected, atol=1e-3)
            met["read as a query" if MARK in text else "bare"] += 1
        each = zip(said(batch.queries), batch.query_targets.numpy(), batch.listed, batch.scores, strict=True)
        for query, target, listed, scores in each:
            row = wanted[query]
            known = row["origin"] != -1
            np.testing.assert_allclose(target, taught(query) if known else np.full(9, np.nan), atol=1e-3)
            found = {passages[at]: float(score) for at, score in zip(listed, scores, strict=True) if at >= 0}
            assert found == pytest.approx(naive(row, texts), nan_ok=True)
            assert next(iter(found)) == next(iter(naive(row, texts)))  # the positive is first
            met["with a vector" if known else "without"] += 1
    assert min(met[name] for name in ("bare", "read as a query", "with a vector", "without")) > 0
    assert met["with a vector"] + met["without"] == SHORT.queries * (len(rows) // SHORT.queries)


@pytest.mark.parametrize("chunk", [20_000, 3])
def test_every_text_has_its_own_vector(
    chunk: int, run: Path, corpus: Path, tmp_path: Path, given: list[Batches], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: vectors are matched to tables by the order of their names, and every text learns another's."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    facts = train(
        model=Letters, passages=corpus, queries=(run / "asked", corpus),
        vectors=(run / "corpus_vectors", run / "passage_vectors", run / "asked_vectors"),
        objective=REGRESSION, schedule=Schedule(steps=2, queries=1, precision="fp32"), out=tmp_path / "out",
    )  # fmt: skip
    rows = [row for folder in (run / "asked", corpus) for row in tables.read(folder, "queries").to_pylist()]
    passages = tables.passage_texts(tables.read(corpus, "passages"))
    assert facts["texts"] == len(rows) + len(passages)
    met: Counter[str] = Counter()
    for batch in epoch(given[0]):
        assert batch.text_targets is not None
        for text, target in zip(said(batch.texts), batch.text_targets.numpy(), strict=True):
            np.testing.assert_allclose(target, taught(text), atol=1e-3)
            met[text] += 1
    assert met == Counter([asked(row) for row in rows] + passages)


def test_queries_without_vectors_are_left_out_of_the_regression_alone(
    run: Path, corpus: Path, tmp_path: Path, given: list[Batches]
) -> None:
    """Harm: row numbers of one artifact's queries pick vectors of another's."""
    train(
        model=Letters, passages=corpus, examples=(corpus, run / "examples"), vectors=(run / "asked_vectors",),
        objective=Objective(regression=1.0), schedule=SHORT, out=tmp_path / "out",
    )  # fmt: skip
    known = {asked(row) for row in examples(run / "examples") if row["origin"] != -1}
    found: dict[str, np.ndarray] = {}
    for batch in epoch(given[0]):
        assert batch.queries is not None and batch.query_targets is not None and batch.text_targets is None
        found |= dict(zip(said(batch.queries), batch.query_targets.numpy(), strict=True))
    assert 0 < len(known & found.keys()) < len(found)
    for query, target in found.items():
        np.testing.assert_allclose(target, taught(query) if query in known else np.full(9, np.nan), atol=1e-3)


def test_only_the_kinds_that_are_named_are_trained_on(
    run: Path, corpus: Path, tmp_path: Path, given: list[Batches]
) -> None:
    """Harm: a stage that is to leave classes and clusters out trains on them."""
    folders = (corpus, run / "examples")
    facts = train(
        model=Letters, passages=corpus, examples=folders, kinds=("classification", "sts"), schedule=SHORT,
        out=tmp_path / "out",
    )  # fmt: skip
    rows = examples(*folders)
    wanted = {asked(row) for row in rows if row["kind"] in ("classification", "sts")}
    assert 0 < len(wanted) < len(rows)
    assert facts["examples"] == len(wanted)
    assert facts["dropped"] == {
        "another kind": len(rows) - len(wanted),
        "nothing to compare with": 0,
        "given with negatives elsewhere": 0,
    }
    read = {query for batch in epoch(given[0]) if batch.queries is not None for query in said(batch.queries)}
    assert read <= wanted
    assert len(read) == len(wanted) - len(wanted) % SHORT.queries


def curve(folder: Path, measure: str) -> list[float]:
    return [row["value"] for row in tables.read(folder, "curves").to_pylist() if row["measure"] == measure]


def test_facts_are_those_of_the_training(run: Path, corpus: Path, tmp_path: Path) -> None:
    """Harm: a report shows the loss of the first step, or numbers that no file bears out."""
    facts = train(
        model=Letters, passages=corpus, queries=(run / "asked",),
        vectors=(run / "asked_vectors", run / "passage_vectors"), objective=REGRESSION, schedule=SHORT,
        out=tmp_path / "out",
    )  # fmt: skip
    held = tables.read(tmp_path / "out", "curves").to_pylist()
    assert [row["step"] for row in held if row["measure"] == "regression"] == [1, 2]
    last = {row["measure"]: pytest.approx(row["value"], abs=1e-5) for row in held if row["step"] == 2}
    assert facts["last"] == last
    assert facts["skipped_steps"] == 0
    assert facts["refers"] == {"passages": artifact.fingerprint(corpus)}
    assert artifact.facts(tmp_path / "out") == facts


@torch.inference_mode()
def naive_kl(batch: Batch, temperature: float) -> float:
    """Of a fresh student, one list at a time."""
    assert batch.queries is not None and batch.listed is not None and batch.scores is not None
    passages, found = Letters()(batch.texts), []
    for query, listed, scores in zip(Letters()(batch.queries), batch.listed, batch.scores, strict=True):
        there = listed[scores.isfinite()]
        if len(there) > 1:
            told = (scores[scores.isfinite()] / temperature).softmax(0)
            student = (passages[there] @ query / 0.05).log_softmax(0)
            found.append(float((told * (told.log() - student)).sum()))
    return float(np.mean(found))


def test_the_temperature_that_is_told_is_the_one_used(
    run: Path, corpus: Path, tmp_path: Path, given: list[Batches]
) -> None:
    """Harm: a temperature is sought and told, and another one is trained with: nobody can repeat it by hand."""
    facts = train(
        model=Letters, passages=corpus, examples=(run / "examples",), objective=Objective(contrastive=0.0, kl=1.0),
        schedule=SHORT, out=tmp_path / "out",
    )  # fmt: skip
    found = facts["teacher_temperature"]
    assert isinstance(found, float)
    entropies, largest = [], []
    for row in examples(run / "examples"):
        scores = np.array(row["scores"])
        if len(scores) > 1:
            shares = np.exp(scores / found) / np.exp(scores / found).sum()
            entropies.append(-(shares * np.log(shares)).sum())
            largest.append(math.log(len(shares)))
    assert len(entropies) == 19
    assert facts["teacher_entropy"] == pytest.approx(np.mean(entropies), abs=1e-3)
    assert np.mean(entropies) == pytest.approx(0.6 * np.mean(largest), abs=1e-3)
    first = epoch(given[0])[0]
    assert curve(tmp_path / "out", "kl")[0] == pytest.approx(naive_kl(first, found), rel=1e-3)
    assert naive_kl(first, found) != pytest.approx(naive_kl(first, 2 * found), rel=1e-2)


@torch.inference_mode()
def naive_matrices(batches: Batches, steps: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Of each query that the teacher has read: its and a fresh student's cosines with the passages it has read."""
    told, said_of_them = [], []
    for step in range(steps):
        batch = batches.batch(step)
        assert batch.queries is not None and batch.query_targets is not None
        passages = [text for text in said(batch.texts) if MARK not in text]
        student = Letters()(Letters().tokenize(passages).take(np.arange(len(passages)))).numpy()
        asked = Letters()(batch.queries).numpy()
        for query, vector, target in zip(said(batch.queries), asked, batch.query_targets, strict=True):
            if target.isfinite().all():
                told.append(np.array([taught(query) @ taught(text) for text in passages]))
                said_of_them.append(student @ vector)
    return told, said_of_them


def test_the_matrix_is_the_teachers_and_its_temperature_the_one_that_is_told(
    run: Path, corpus: Path, tmp_path: Path, given: list[Batches]
) -> None:
    """Harm: a temperature that was sought for lists of eight is used for a batch of hundreds; or another's vectors."""
    facts = train(
        model=Letters, passages=corpus, examples=(run / "examples", corpus),
        vectors=(run / "asked_vectors", run / "passage_vectors", run / "corpus_vectors"),
        objective=Objective(contrastive=0.0, matrix=1.0, relational=0.5), schedule=replace(SHORT, queries=12),
        out=tmp_path / "out",
    )  # fmt: skip
    found = facts["matrix_temperature"]
    assert isinstance(found, float)
    shares = [np.exp(row / found) / np.exp(row / found).sum() for row in naive_matrices(given[0], 8)[0]]
    entropies = [-(row * np.log(row)).sum() for row in shares]
    assert np.mean(entropies) == pytest.approx(0.6 * np.mean([math.log(len(row)) for row in shares]), rel=0.01)
    assert facts["matrix_entropy"] == pytest.approx(np.mean(entropies), rel=0.01)
    assert "teacher_temperature" not in facts
    each = []
    for told, student in zip(*naive_matrices(given[0], 1), strict=True):
        shares, logits = np.exp(told / found) / np.exp(told / found).sum(), student / found
        each.append((shares * (np.log(shares) - logits + np.log(np.exp(logits).sum()))).sum())
    assert curve(tmp_path / "out", "matrix")[0] == pytest.approx(np.mean(each), rel=1e-2)


def test_a_matrix_of_next_to_nothing_is_refused_in_its_own_words(
    run: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: one query of a million has a vector; it is told to label with other scores, of which there are none."""
    nothing = np.zeros((0, 1), np.float32), np.zeros((0, 1), bool)
    monkeypatch.setattr(ExampleBatches, "matrices", lambda self: nothing)
    with pytest.raises(
        Refused, match=r"^train: objective\.matrix: in the first batches there is no query with a vector"
    ):
        train(
            model=Letters, passages=corpus, examples=(run / "examples",),
            vectors=(run / "asked_vectors", run / "passage_vectors"), objective=Objective(matrix=1.0), schedule=SHORT,
            out=tmp_path / "out",
        )  # fmt: skip


@pytest.mark.parametrize("part", ["regression", "relational"])
def test_texts_alone_teach_by_each_loss_that_needs_no_examples(
    part: str, run: Path, corpus: Path, tmp_path: Path
) -> None:
    """Harm: relations, which need no projector, are told nothing to minimise, or train one that nobody asked for."""
    facts = train(
        model=Letters, passages=corpus, vectors=(run / "passage_vectors",),
        objective=Objective(**{part: 1.0}, spread=1e-3), out=tmp_path / "out",
        schedule=Schedule(steps=30, queries=30, learning_rate=3e-2, precision="fp32"),
    )  # fmt: skip
    held = curve(tmp_path / "out", part)
    assert np.mean(held[-3:]) < 0.8 * np.mean(held[:3])
    assert set(facts["last"]) == {"loss", part, "spread"}  # type: ignore[call-overload]


def test_targets_that_were_given_a_temperature_are_told_with_their_entropy(
    run: Path, corpus: Path, tmp_path: Path
) -> None:
    """Harm: a temperature by hand is a guess, and nothing says what it leaves of the scores."""
    facts = train(
        model=Letters, passages=corpus, examples=(run / "examples",), schedule=SHORT, out=tmp_path / "out",
        objective=Objective(kl=1.0, teacher_temperature=0.3, margin_mse=1.0),
    )  # fmt: skip
    assert facts["teacher_temperature"] == 0.3
    lists = [np.array(row["scores"]) / 0.3 for row in examples(run / "examples") if len(row["scores"]) > 1]  # type: ignore[arg-type]
    shares = [np.exp(row) / np.exp(row).sum() for row in lists]
    assert facts["teacher_entropy"] == pytest.approx(np.mean([-(row * np.log(row)).sum() for row in shares]), abs=1e-3)


def test_texts_are_tokenised_once_and_kept_out_of_what_is_made(run: Path, corpus: Path, tmp_path: Path) -> None:
    """Harm: every resume of a large corpus tokenises it again; or its ids are shipped and hashed with the model."""
    out = tmp_path / "out"
    call = functools.partial(
        train, model=Letters, passages=corpus, examples=(corpus, run / "examples"), schedule=SHORT, out=out,
        kinds=("retrieval",),  # a text of a class is read as a query and as a passage
    )  # fmt: skip
    Letters.read.clear()
    call()
    assert len(set(Letters.read)) == len(Letters.read) > 0
    kept = {file: file.stat().st_ino for file in (out / "tokens").rglob("*.npy")}
    before = (out / "manifest.json").read_bytes()
    assert kept
    assert not [name for name in json.loads(before) if name.startswith("tokens")]
    (out / "done.json").unlink()
    Letters.read.clear()
    call()
    assert not Letters.read
    assert {file: file.stat().st_ino for file in kept} == kept
    assert (out / "manifest.json").read_bytes() == before


def test_a_class_begins_anew_and_a_step_goes_on(corpus: Path, encoder: Path, tmp_path: Path) -> None:
    """Harm: stage 2 starts from the base again, or with another length or other layers than stage 1 ended with."""
    begun = functools.partial(Encoder, base=str(encoder), layers=(0, 2), length=24, query_prompt="query: ")
    call = functools.partial(train, passages=corpus, examples=(corpus,))
    call(model=begun, schedule=Schedule(steps=2, queries=4, learning_rate=1e-2, precision="fp32"), out=tmp_path / "one")
    still = Schedule(steps=1, queries=4, learning_rate=1e-30, weight_decay=0.0, precision="fp32")
    call(model=begun, schedule=still, out=tmp_path / "anew")
    call(model=tmp_path / "one", schedule=still, out=tmp_path / "on")
    held = {name: models.embedder(tmp_path / name) for name in ("one", "anew", "on")}
    weights = {name: model.state_dict() for name, model in held.items()} | {"class": begun().state_dict()}
    assert _equal(weights["on"], weights["one"])
    assert _equal(weights["anew"], weights["class"])
    assert not _equal(weights["one"], weights["class"])
    settings = [model.settings for model in held.values() if isinstance(model, Encoder)]
    assert settings == [{"length": 24, "query_prompt": "query: ", "passage_prompt": ""}] * 3
    assert artifact.read_json(tmp_path / "on" / "inputs.json").keys() == {"model", "passages", "examples"}


def _equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.allclose(held, other[name], rtol=0, atol=1e-20) for name, held in one.items()
    )


def test_the_seed_decides_the_order(run: Path, corpus: Path, tmp_path: Path, given: list[Batches]) -> None:
    """Harm: three runs with three seeds are one run, and their spread is taken for certainty."""
    call = functools.partial(train, model=Letters, passages=corpus, examples=(corpus,), schedule=SHORT)
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        call(seed=seed, out=tmp_path / name)
    orders = [[said(batch.texts) for batch in epoch(batches)] for batches in given]
    assert orders[0] == orders[1] != orders[2]
    versions = [files.digest(tmp_path / name / "model" / "model.safetensors") for name in ("one", "again", "two")]
    assert versions[0] == versions[1] != versions[2]


def test_the_seed_decides_the_dropout(run: Path, corpus: Path, tmp_path: Path) -> None:
    """Harm: as above; seen where one example is all, and has no order."""
    losses: dict[float, list[float]] = {}
    for dropout in (0.0, 0.3):
        for seed in (1, 2):
            out = tmp_path / f"{dropout} {seed}"
            model = functools.partial(Letters, dropout=dropout)
            train(
                model=model, passages=corpus, examples=(run / "examples",), kinds=("clustering",), schedule=SHORT,
                seed=seed, out=out,
            )  # fmt: skip
            losses.setdefault(dropout, []).append(curve(out, "contrastive")[0])
    assert losses[0.0][0] == pytest.approx(losses[0.0][1], rel=1e-4)
    assert losses[0.3][0] != pytest.approx(losses[0.3][1], rel=1e-2)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to train on": ({}, r"^train: neither examples nor vectors\. Give examples to contrast, or"),
    "regression on nothing": (
        {"examples": ("corpus",), "objective": Objective(regression=1.0)},
        r"^train: objective\.regression needs vectors\. Name the embed steps in `vectors`\.$",
    ),
    "queries without vectors": (
        {"queries": ("corpus", "asked"), "vectors": ("passage_vectors", "asked_vectors"), "objective": REGRESSION},
        r"^train: none of `vectors` embeds the queries of .*corpus\. Add the embed step that does\.$",
    ),
    "passages without vectors": (
        {"queries": ("asked",), "vectors": ("asked_vectors",), "objective": REGRESSION},
        r"^train: none of `vectors` embeds the passages of .*corpus\.",
    ),
    "vectors of queries that are not named": (
        {"vectors": ("asked_vectors", "passage_vectors"), "objective": REGRESSION},
        r"^train: vectors .*asked_vectors embeds neither `passages` nor the queries that are trained on\.",
    ),
    "examples whose queries have no vectors": (
        {
            "examples": ("corpus",),
            "kinds": ("classification",),
            "vectors": ("passage_vectors", "asked_vectors"),
            "objective": Objective(regression=1.0),
        },
        r"^train: vectors .*asked_vectors embeds neither",
    ),
    "vectors without a weight": (
        {"examples": ("corpus",), "vectors": ("passage_vectors",)},
        r"^train: vectors are for objective\.regression, relational and matrix, and for schedule\.near, which are not",
    ),
    "a matrix without vectors": (
        {"examples": ("corpus",), "objective": Objective(matrix=1.0)},
        r"^train: objective\.matrix needs vectors",
    ),
    "a matrix without vectors of the queries": (
        {"examples": ("corpus",), "vectors": ("passage_vectors",), "objective": Objective(matrix=1.0)},
        r"^train: objective\.matrix compares .* none of `vectors` embeds the examples' queries\.",
    ),
    "a matrix without vectors of the passages": (
        {"examples": ("examples",), "vectors": ("asked_vectors",), "objective": Objective(matrix=1.0)},
        r"^train: objective\.matrix compares .* none of `vectors` embeds the passages\.",
    ),
    "a matrix without queries": (
        {"vectors": ("passage_vectors",), "objective": replace(REGRESSION, matrix=1.0)},
        r"^train: objective\.matrix is of examples, and there are none\.",
    ),
    "scores without lists": (
        {"vectors": ("passage_vectors",), "objective": replace(REGRESSION, kl=1.0)},
        r"^train: objective\.kl is of examples, and there are none\.",
    ),
    "spread alone": (
        {"examples": ("corpus",), "objective": Objective(contrastive=0.0, spread=1.0)},
        r"^train: nothing to minimise\. Give `regression` or `relational` a weight .* `contrastive`, `kl`, `matrix`, ",
    ),
    "a distance of nothing": (
        {"examples": ("corpus",), "objective": Objective(distance="l2")},
        r"^train: objective\.distance is of `regression`, which needs a weight\.",
    ),
    "a temperature of no matrix": (
        {"examples": ("corpus",), "objective": Objective(matrix_temperature=0.1)},
        r"^train: objective\.matrix_temperature is of `matrix`, which needs a weight and examples\.",
    ),
    "a temperature of texts": (
        {"vectors": ("vectors",), "objective": replace(REGRESSION, temperature=0.05)},
        r"^train: objective\.temperature is of `contrastive`, which needs a weight and examples\.",
    ),
    "a student's temperature of no softmax": (
        {"examples": ("corpus",), "objective": Objective(student_temperature=0.1)},
        r"^train: objective\.student_temperature is of `kl` or `cosent`, which needs a weight and examples\.",
    ),
    "a teacher's temperature of no targets": (
        {"examples": ("corpus",), "objective": Objective(cosent=1.0, student_temperature=0.1, teacher_temperature=0.1)},
        r"^train: objective\.teacher_temperature is of `kl`, which needs a weight and examples\.",
    ),
    "a scale of no margins": (
        {"examples": ("corpus",), "objective": Objective(margin_scale=10.0)},
        r"^train: objective\.margin_scale is of `margin_mse`, which needs a weight and examples\.",
    ),
    "targets that are a hard choice": (
        {"examples": ("examples",), "objective": Objective(kl=1.0, teacher_temperature=0.001)},
        r"^train: objective\.teacher_temperature: 0\.001: in the teacher's targets one passage takes all: their mean "
        r"entropy is 0\.\d+ nats, of 1\.\d+ at most; needed: 5% to 99% of that.* raise it, or say auto, .* 0\.\d+\.$",
    ),
    "targets that are all alike": (
        {"examples": ("examples",), "objective": Objective(kl=1.0, teacher_temperature=50.0)},
        r"^train: objective\.teacher_temperature: 50: in the teacher's targets all are alike: .* lower it, or say auto",
    ),
    "a matrix that is all alike": (
        {
            "examples": ("examples",),
            "vectors": ("asked_vectors", "passage_vectors"),
            "objective": Objective(matrix=1.0, matrix_temperature=50.0),
        },
        r"^train: objective\.matrix_temperature: 50: in the teacher's targets all are alike",
    ),
    "margins that no cosines have": (
        {"examples": ("examples",), "objective": Objective(margin_mse=1.0, margin_scale=0.1)},
        r"^train: objective\.margin_scale: 0\.1: the teacher's margins, so divided, reach \d\.\d+ .* no two cosines",
    ),
    "margins of nearly nothing": (
        {"examples": ("examples",), "objective": Objective(margin_mse=1.0, margin_scale=1e4)},
        r"^train: objective\.margin_scale: 1e\+04: .* can hardly tell that from nothing\. With 0\.\d+ they reach 1\.$",
    ),
    "margins, and pairs alone have scores": (
        {"examples": ("graded",), "objective": Objective(cosent=1.0, margin_mse=1.0)},
        r"^train: objective\.margin_mse needs lists of passages with scores, and no example has two that are read",
    ),
    "queries beside examples": ({"examples": ("corpus",), "queries": ("asked",)}, r"^train: queries are those of"),
    "a mask without what it masks": (
        {"examples": ("corpus",), "objective": Objective(contrastive=0.0, spread=1.0, cosent=1.0, margin=0.1)},
        r"^train: objective\.margin is of `contrastive`",
    ),
    "queries of a batch that does not count": (
        {"examples": ("corpus",), "objective": Objective(same_tower=True, in_batch=False)},
        r"^train: objective\.same_tower takes queries of the batch",
    ),
    "widths of a loss that has one": (
        {"vectors": ("vectors",), "objective": replace(REGRESSION, widths=(4,))},
        r"^train: objective\.widths are of losses beside `regression`",
    ),
    "a width twice": (
        {"examples": ("corpus",), "objective": Objective(widths=(4, 4))},
        r"^train: objective\.widths: \[4, 4\]; needed: widths of 1 or more, each once",
    ),
    "a width that is the whole": (
        {"examples": ("corpus",), "objective": Objective(widths=(4, 6))},
        r"^train: objective\.widths: 6; needed: from 1 to 5",
    ),
    "a share of examples that are not there": (
        {"vectors": ("vectors",), "objective": REGRESSION, "schedule": replace(SHORT, balance=0.5)},
        r"^train: schedule\.balance is of examples",
    ),
    "a contrastive loss of texts": (
        {"vectors": ("vectors",), "objective": replace(REGRESSION, contrastive=0.5)},
        r"^train: objective\.contrastive and in_batch are of examples",
    ),
    "near queries without vectors": (
        {"examples": ("corpus",), "schedule": replace(SHORT, near=64)},
        r"^train: schedule\.near needs vectors of the queries",
    ),
    "near queries with vectors of passages": (
        {"examples": ("corpus",), "vectors": ("passage_vectors",), "schedule": replace(SHORT, near=64)},
        r"^train: schedule\.near: none of `vectors` embeds the examples' queries",
    ),
    "fewer near queries than a step reads": (
        {"examples": ("corpus",), "vectors": ("vectors",), "schedule": replace(SHORT, near=1)},
        r"^train: schedule\.near: 1; needed: \d+ \(the queries of a step\) or more",
    ),
    "kinds without examples": (
        {"kinds": ("sts",), "vectors": ("passage_vectors",), "objective": REGRESSION},
        r"^train: kinds are of examples",
    ),
    "an artifact twice": ({"examples": ("corpus", "corpus")}, r"^train: examples: one artifact stands there twice\."),
    "an artifact twice, spelt in two ways": (
        {"vectors": ("passage_vectors", "examples/../passage_vectors"), "objective": REGRESSION},
        r"^train: vectors: one artifact stands there twice\.",
    ),
    "vectors that are none": (
        {"vectors": ("examples",), "objective": REGRESSION},
        r"examples holds examples; needed vectors\.$",
    ),
    "a benchmark, whose lists are answers": (
        {"examples": ("benchmark",)},
        r"benchmark was read as a benchmark, .* would be negatives\. Read it with `benchmark: false`\.$",
    ),
    "a learned temperature below the least": (
        {"examples": ("corpus",), "objective": Objective(temperature=0.001, learn_temperature=True)},
        r"^train: objective\.temperature: 0\.001; needed: 0\.005 or more where it is learned\.$",
    ),
    "no example of the kind": (
        {"examples": ("examples",), "kinds": ("classification",)},
        r"^train: no example is left: 22 of another kind than `kinds` names \(name theirs too\)\.$",
    ),
    "a query by itself": (
        {"examples": ("pairs",), "schedule": Schedule(queries=1)},
        r"^train: objective\.contrastive sets .* no step has any: schedule\.queries is 1, in_batch true, .* Raise",
    ),
    "a query by itself, and its negatives are not read": (
        {"examples": ("examples",), "objective": Objective(in_batch=False), "schedule": Schedule(negatives=0)},
        r"^train: objective\.contrastive sets .* no step has any: schedule\.queries is 64, in_batch false, .* Raise",
    ),
    "nothing to compare with, for the batch is none": (
        {"examples": ("pairs",), "objective": Objective(in_batch=False)},
        r"^train: no example is left: 4 with nothing to compare with: .* objective\.in_batch is false \(mine some",
    ),
    "pairs in order, and none has a score": (
        {"examples": ("corpus",), "objective": Objective(cosent=1.0)},
        r"^train: objective\.cosent puts pairs .*, and 0 of \d+ examples are .*`benchmark: true`.*docs/teachers\.md",
    ),
    "pairs in order, and lists alone have scores": (
        {"examples": ("examples",), "objective": Objective(contrastive=0.0, cosent=1.0)},
        r"^train: objective\.cosent puts pairs .*, and 1 of 22 examples are pairs with a score",
    ),
    "pairs in order, and all have one score": (
        {"examples": ("alike",), "objective": Objective(contrastive=0.0, cosent=1.0)},
        r"^train: objective\.cosent puts pairs with different scores in order, and 4 of 4 examples",
    ),
    "lists to rank, and pairs alone have scores": (
        {"examples": ("graded",), "objective": Objective(cosent=1.0, kl=1.0)},
        r"^train: objective\.kl needs lists of passages with scores, and no example has two that are read",
    ),
    "lists to rank, of which one passage is read": (
        {
            "examples": ("examples",),
            "objective": Objective(kl=1.0),
            "schedule": replace(SHORT, negatives=0),
        },
        r"^train: objective\.kl needs lists .* schedule\.negatives says how many",
    ),
    "examples of other passages": (
        {"examples": ("elsewhere",)},
        r"elsewhere counts rows of another table of passages than .*corpus\.",
    ),
    "an artifact without examples": ({"examples": ("asked",)}, r"asked holds queries; needed examples\.$"),
}


def pairs(folder: Path, corpus: Path) -> dict[str, Path]:
    """Artifacts of four pairs each: with different scores, with one, and with none."""
    made = {}
    for name, scores in (("graded", [[0.1], [0.9], [0.5], [0.0]]), ("alike", [[1.0]] * 4), ("pairs", [[]] * 4)):
        columns = {
            "kind": ["sts"] * 4, "task": ["say the same"] * 4, "query": list("abcd"),
            "passages": [[row] for row in range(4)], "scores": scores, "in_batch": [True] * 4,
            "symmetric": [True] * 4, "group": [-1] * 4, "origin": [-1] * 4,
        }  # fmt: skip
        tables.write(folder / name / "examples", tables.EXAMPLES, columns)
        refers = {"passages": artifact.fingerprint(corpus), "queries": "none"}
        made[name] = finished(folder / name, "ingest", refers=refers)
    return made


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_and_leaves_the_folder_free(
    case: str, run: Path, corpus: Path, tmp_path: Path
) -> None:
    """Harm: vectors that were paid for are silently not used; or the corrected call finds a recipe in its way."""
    columns = tables.read(run / "examples", "examples")
    tables.write(tmp_path / "elsewhere" / "examples", tables.EXAMPLES, columns)
    elsewhere = finished(tmp_path / "elsewhere", "label", refers={"passages": "of another"})
    tables.write(tmp_path / "benchmark" / "examples", tables.EXAMPLES, columns)
    refers = {"passages": artifact.fingerprint(corpus)}
    graded = finished(tmp_path / "benchmark", "ingest", refers=refers)
    settings, said_of_it = REFUSED[case]
    places = {"corpus": corpus, "elsewhere": elsewhere, "benchmark": graded, **pairs(tmp_path, corpus)}
    named = dict(settings)
    for name in {"examples", "queries", "vectors"} & settings.keys():
        named[name] = tuple(places.get(each, run / each) for each in settings[name])
    call = functools.partial(train, model=Letters, passages=corpus, schedule=SHORT, out=tmp_path / "out")
    with pytest.raises(Refused, match=said_of_it):
        call(**named)
    assert not (tmp_path / "out").exists()
    assert call(examples=(corpus,))["examples"] == len(tables.read(corpus, "examples"))
