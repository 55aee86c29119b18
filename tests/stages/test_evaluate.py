"""Models on a small benchmark, checked against a search written out in loops; killed and resumed."""

import functools
import itertools
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pytest
import torch
from rich.console import Console
from torch import nn

from distill import artifact, console, files, tables
from distill import benchmark as room
from distill.errors import Refused
from distill.interfaces import Embedder, TokenRows, Tokens
from distill.metrics import bootstrap
from distill.models import Model, embedder
from distill.objective import Schedule
from distill.runtime import Runtime
from distill.stages.average import average
from distill.stages.evaluate import evaluate
from distill.stages.train import train
from students import Encoder

WORDS = ["river", "stone", "bridge", "market", "copper", "violin", "harbour", "winter", "garden", "engine", "silver"]


class Words(Embedder):
    """Random vectors of words, averaged: a small real embedder."""

    made: ClassVar[list[int]] = []
    broken: ClassVar[set[int]] = set()

    def __init__(self, seed: int = 0, dim: int = 8) -> None:
        super().__init__()
        if seed in self.broken:
            raise RuntimeError("the machine went down")
        self.made.append(seed)
        self.dim = dim
        self.table = nn.Embedding(len(WORDS) + 1, dim)
        self.mix = nn.Linear(dim, dim, bias=False)
        generator = torch.Generator().manual_seed(seed)
        for held in self.parameters():
            held.data = torch.randn(held.shape, generator=generator)

    def tokenize(self, texts: Sequence[str], tasks: Sequence[str] | None = None) -> TokenRows:
        """A token for each known word; an instruction adds nothing."""
        rows = [[WORDS.index(word) + 1 for word in text.split() if word in WORDS] or [0] for text in texts]
        return TokenRows.of(rows, [0] * len(rows), 0)

    def forward(self, tokens: Tokens) -> torch.Tensor:
        """Mean over words."""
        kept = tokens.pool.unsqueeze(-1)
        return nn.functional.normalize(self.mix((self.table(tokens.ids) * kept).sum(1) / kept.sum(1)), dim=-1)

    def save(self, folder: Path) -> None:
        """Not needed here."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Not needed here."""
        raise NotImplementedError


def finished(folder: Path, verb: str, **facts: object) -> Path:
    """An artifact with the tables already written into it."""
    files.write_json(folder / "recipe.json", {"verb": verb, "version": 1, "settings": {"name": folder.name}})
    artifact.finish(folder, facts)
    return folder


def benchmark(folder: Path, pairs: bool = False, queries: int = 24) -> Path:
    """Forty passages; queries with one, two or three graded positives, some judged useless."""
    generator = np.random.default_rng(11)
    sets = list(itertools.combinations(WORDS, 5))  # no two passages alike, so no ties
    texts = [" ".join(sets[number]) for number in generator.permutation(len(sets))[:40]]
    columns: dict[str, object] = {
        "source": ["made"] * 40,
        "key": [str(number) for number in range(40)],
        "title": [""] * 40,
        "text": texts,
    }
    tables.write(folder / "passages", tables.PASSAGES, columns)
    rows = []
    for number in range(queries):
        judged = generator.permutation(40)[: 2 + number % 3].tolist()
        words = " ".join(generator.permutation(texts[judged[0]].split())[:4])
        grades = [] if number == 0 else [2.0, 0.0, *[1.0] * (len(judged) - 2)]
        rows.append(("retrieval", f"task {number % 2}", words, judged, grades))
    rows.append(("classification", "topic", "river", [0, 1], []))
    rows.append(("retrieval", "task 0", "stone", [3], [0.0]))
    if pairs:
        for number in range(20):
            other = int(generator.integers(40))
            rows.append(("sts", "similar", texts[number], [other], [float(generator.integers(0, 6))]))
    kinds, tasks, asked, passages, scores = zip(*rows, strict=True)
    count = len(rows)
    examples: dict[str, object] = {
        "kind": kinds, "task": tasks, "query": asked, "passages": passages, "scores": scores,
        "in_batch": [True] * count, "symmetric": [kind == "sts" for kind in kinds],
        "group": [-1] * count, "origin": [-1] * count,
    }  # fmt: skip
    tables.write(folder / "examples", tables.EXAMPLES, examples)
    return finished(folder, "ingest")


MODELS: dict[str, Model] = {
    "teacher": functools.partial(Words, seed=1, dim=12),
    "small": functools.partial(Words, seed=2),
}


def naive_ndcg(model: Embedder, passages: list[str], query: str, grades: dict[int, float]) -> float:
    """One query, one passage at a time."""

    def embed(text: str) -> torch.Tensor:
        found: torch.Tensor = model(model.tokenize([text]).take(np.zeros(1, np.int64)))
        return found[0]

    asked = embed(query)
    order = sorted(range(len(passages)), key=lambda row: -float(asked @ embed(passages[row])))
    gains = [grades.get(row, 0.0) for row in order]
    ideal = sorted(grades.values(), reverse=True)
    dcg, best = (sum(g / math.log2(place + 2) for place, g in enumerate(found[:10])) for found in (gains, ideal))
    return dcg / best


def test_every_query_equals_a_naive_search(tmp_path: Path) -> None:
    """Harm: queries, passages or grades are joined in the wrong order, and the numbers still look plausible."""
    made = benchmark(tmp_path / "bench")
    exact = Runtime(precision="fp32")
    evaluate(
        passages=made, examples=made, models=MODELS, latency=False, resamples=20, runtime=exact, out=tmp_path / "out"
    )
    rows = tables.read(tmp_path / "out", "results").to_pylist()
    texts = tables.read(made, "passages")["text"].to_pylist()
    examples = tables.read(made, "examples").to_pylist()
    checked = 0
    with torch.inference_mode():
        for row in rows:
            if row["model"] == "bm25" or row["measure"] != "ndcg@10":
                continue
            asked = examples[row["query"]]
            grades = dict(zip(asked["passages"], asked["scores"] or [1.0] + [0.0] * 9, strict=False))
            wanted = naive_ndcg(embedder(MODELS[row["model"]]), texts, asked["query"], grades)
            assert row["value"] == pytest.approx(wanted, abs=1e-4)
            assert row["task"] == asked["task"]
            checked += 1
    assert checked == 2 * 24


def test_a_query_of_several_rows_is_asked_once(tmp_path: Path) -> None:
    """Harm: read for training, each answer of a query is a row, and the others count as wrong beside it."""
    made = benchmark(tmp_path / "whole")
    columns: dict[str, list[Any]] = {name: [] for name in tables.EXAMPLES.names}
    for row in tables.read(made, "examples").to_pylist()[1:24]:
        answers = [passage for passage, grade in zip(row["passages"], row["scores"], strict=True) if grade > 0]
        for answer in answers:
            for name, value in (row | {"passages": [answer], "scores": []}).items():
                columns[name].append(value)
    (tmp_path / "each").mkdir()
    shutil.copytree(made / "passages", tmp_path / "each" / "passages")
    tables.write(tmp_path / "each" / "examples", tables.EXAMPLES, columns)
    each = finished(tmp_path / "each", "ingest")
    held = [tables.read(folder, name) for folder in (each, made) for name in ("passages", "examples")]
    found, whole = room.opened(*held[:2], "each"), room.opened(*held[2:], "whole")
    wanted = [{at for at, grade in asked.judged.items() if grade > 0} for asked in whole.queries[1:]]
    assert [set(asked.judged) for asked in found.queries] == wanted
    assert found.dropped == {"asked before": len(columns["kind"]) - len(wanted)}


def test_lists_of_likely_negatives_are_no_benchmark(tmp_path: Path) -> None:
    """Harm: hard negatives count as answers, graded by the teacher: it is best by far in its own eyes."""
    made = benchmark(tmp_path / "bench")
    labelled = finished(shutil.copytree(made, tmp_path / "lists"), "label")
    with pytest.raises(Refused, match="holds lists of `label`"):
        evaluate(passages=labelled, examples=labelled, models=MODELS, out=tmp_path / "out")


def test_summary_says_what_the_rows_say(tmp_path: Path) -> None:
    """Harm: the table of record differs from the per-query results beside it."""
    made = benchmark(tmp_path / "bench")
    facts = evaluate(passages=made, examples=made, models=MODELS, resamples=50, out=tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    rows = tables.read(tmp_path / "out", "results").to_pylist()
    assert list(metrics["models"]) == ["teacher", "small", "bm25"]
    assert facts["dropped"] == {"kind classification": 1, "no positive": 1}
    for measure, models in metrics["measures"].items():
        for model, found in models.items():
            values = [row["value"] for row in rows if (row["model"], row["measure"]) == (model, measure)]
            assert len(values) == 24
            assert found["value"] == pytest.approx(np.mean(values))
            assert found["low"] <= found["value"] <= found["high"]
            assert found["retention"]["value"] == pytest.approx(found["value"] / models["teacher"]["value"])
            for other, above in found["above"].items():
                assert above["value"] == pytest.approx(found["value"] - models[other]["value"])
                assert above["value"] == pytest.approx(-models[other]["above"][model]["value"])
    assert metrics["models"]["teacher"]["parameters"] == 12 * 12 + 144
    assert metrics["models"]["teacher"]["parameters_computing"] == 144
    assert metrics["models"]["teacher"]["bytes"] == 4 * 288
    assert 0 < metrics["models"]["small"]["latency"]["p50"] <= metrics["models"]["small"]["latency"]["p95"]
    assert metrics["tasks"]["task 0"]["queries"] + metrics["tasks"]["task 1"]["queries"] == 24


def test_threads_are_given_back(tmp_path: Path) -> None:
    """Harm: after a latency measurement all later work runs on one core."""
    made = benchmark(tmp_path / "bench")
    torch.set_num_threads(2)
    try:
        evaluate(passages=made, examples=made, models=MODELS, resamples=5, lexical=False, out=tmp_path / "out")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_a_killed_run_goes_on_with_the_models_left(tmp_path: Path) -> None:
    """Harm: hours of a finished teacher are thrown away because the last model failed; or half of it is kept."""
    made = benchmark(tmp_path / "bench")
    settings: dict[str, Any] = {"passages": made, "examples": made, "models": MODELS, "latency": False, "resamples": 20}
    Words.broken.add(2)
    with pytest.raises(RuntimeError, match="went down"):
        evaluate(**settings, out=tmp_path / "killed")
    Words.broken.clear()
    Words.made.clear()
    resumed = evaluate(**settings, out=tmp_path / "killed")
    assert Words.made == [2]
    whole = evaluate(**settings, out=tmp_path / "whole")
    assert resumed["models"] == whole["models"]
    assert tables.read(tmp_path / "killed", "results").equals(tables.read(tmp_path / "whole", "results"))
    Words.made.clear()
    assert evaluate(**settings, out=tmp_path / "killed") == resumed
    assert Words.made == []


def test_models_in_another_order_are_those_left(tmp_path: Path) -> None:
    """Harm: after a kill one model is measured twice and another never, because its lines were moved in the config."""
    made = benchmark(tmp_path / "bench")
    settings: dict[str, Any] = {"passages": made, "examples": made, "latency": False, "resamples": 20}
    Words.broken.add(2)
    with pytest.raises(RuntimeError, match="went down"):
        evaluate(models=MODELS, **settings, out=tmp_path / "killed")
    Words.broken.clear()
    Words.made.clear()
    resumed = evaluate(models=dict(reversed(MODELS.items())), **settings, out=tmp_path / "killed")
    assert Words.made == [2]
    whole = evaluate(models=MODELS, **settings, out=tmp_path / "whole")
    assert resumed["models"] == whole["models"]


def test_weights_that_the_benchmark_chose_are_told(
    corpus: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: the best of many looks at a benchmark is reported as what a model gets on it, without a word."""
    start = functools.partial(Encoder, base=str(encoder), layers=(0,), length=24)
    short = Schedule(steps=1, queries=4, precision="fp32")
    given = {"passages": corpus, "examples": (corpus,), "schedule": short}
    train(model=start, dev=corpus, out=tmp_path / "chosen", **given)  # type: ignore[arg-type]
    train(model=tmp_path / "chosen", out=tmp_path / "further", **given)  # type: ignore[arg-type]
    train(model=start, out=tmp_path / "plain", **given)  # type: ignore[arg-type]
    average(models=(tmp_path / "further", tmp_path / "plain"), out=tmp_path / "soup")
    models = {name: tmp_path / name for name in ("plain", "further", "soup")}
    settings: dict[str, Any] = {"teacher": "", "resamples": 5, "latency": False, "lexical": False}
    facts = evaluate(passages=corpus, examples=corpus, models=models, out=tmp_path / "same", **settings)
    told = "weights were chosen (`dev`) by what they are measured on here: further on corpus; soup on corpus. Measure"
    assert str(facts["warning"]).startswith(told)
    assert "same: weights were chosen" in capsys.readouterr().out
    other = benchmark(tmp_path / "other")
    assert "warning" not in evaluate(passages=other, examples=other, models=models, out=tmp_path / "two", **settings)


def test_pairs_are_scored_by_rank(tmp_path: Path) -> None:
    """Harm: the STS column compares a model's cosines with the scores of other pairs."""
    from scipy.stats import spearmanr

    made = benchmark(tmp_path / "bench", pairs=True)
    exact = Runtime(precision="fp32")
    evaluate(
        passages=made, examples=made, models=MODELS, latency=False, resamples=20, runtime=exact, out=tmp_path / "out"
    )
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())["measures"]["spearman"]
    assert list(found) == ["teacher", "small"]  # bm25 has no cosines
    texts = tables.read(made, "passages")["text"].to_pylist()
    pairs = [row for row in tables.read(made, "examples").to_pylist() if row["kind"] == "sts"]
    model = embedder(MODELS["small"])
    with torch.inference_mode():
        one, other = (
            model(model.tokenize(side).take(np.arange(len(pairs))))
            for side in ([pair["query"] for pair in pairs], [texts[pair["passages"][0]] for pair in pairs])
        )
    wanted = spearmanr((one * other).sum(1), [pair["scores"][0] for pair in pairs]).statistic
    assert found["small"]["value"] == pytest.approx(wanted, abs=1e-3)


def labelled(folder: Path, common: bool) -> Path:
    """Texts of two classes to tell, by a word, and of three to cluster; no passages."""
    rows = []
    for kind, words in (("classification", ["river", "stone"]), ("clustering", ["market", "copper", "violin"])):
        for number, word in enumerate(words):
            for other in range(12):
                text = f"{word} {word} {word} {WORDS[other % 5] if common else ''} {other}"
                rows.append((kind, f"tell {kind}", text, [], [], False, False, number + 10 * len(words), -1))
    rows.append(("classification", "tell classification", "alone", [], [], False, False, 99, -1))
    tables.write(folder / "passages", tables.PASSAGES, {name: [] for name in tables.PASSAGES.names})
    columns = dict(zip(tables.EXAMPLES.names, map(list, zip(*rows, strict=True)), strict=True))
    tables.write(folder / "examples", tables.EXAMPLES, columns)
    return finished(folder, "ingest")


def test_the_table_holds_what_each_kind_is_compared_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: of a benchmark of three kinds one is printed, and the other two are looked at by nobody."""
    monkeypatch.setattr(console, "console", Console(width=200))
    queries, classes = benchmark(tmp_path / "bench"), labelled(tmp_path / "classes", common=True)
    both = [tables.read(folder, "examples") for folder in (queries, classes)]
    pairs = [("sts", "alike", WORDS[row], [row], [row / 10], False, True, -1, -1) for row in range(8)]
    both.append(
        pa.Table.from_pylist([dict(zip(tables.EXAMPLES.names, p, strict=True)) for p in pairs], tables.EXAMPLES)
    )
    for name, held in (("passages", tables.read(queries, "passages")), ("examples", pa.concat_tables(both))):
        tables.write(tmp_path / "both" / name, held.schema, held.combine_chunks())
    made = finished(tmp_path / "both", "ingest")
    evaluate(passages=made, examples=made, models=MODELS, latency=False, resamples=20, out=tmp_path / "out")
    measures = json.loads((tmp_path / "out" / "metrics.json").read_text())["measures"]
    shown = capsys.readouterr().out
    heads = next(line for line in shown.splitlines() if "model" in line)
    wanted = ["model", "ndcg@10 [95 %]", "spearman", "accuracy", "v_measure", "of teacher's", "size"]
    assert [head.strip() for head in heads.strip("┃").split("┃")] == wanted  # none of latency, which was not taken
    cells = [cell.strip() for cell in next(li for li in shown.splitlines() if "│ small" in li).strip("│").split("│")]
    assert cells[2:5] == [f"{measures[name]['small']['value']:.3f}" for name in wanted[2:5]]
    words = [cell.strip() for cell in next(li for li in shown.splitlines() if "│ bm25" in li).strip("│").split("│")]
    assert words[2:6] == ["-", "-", "-", "-"]
    assert cells[5] == f"{measures['ndcg@10']['small']['retention']['value']:.1%}"
    alone = {"teacher": MODELS["teacher"], "other": MODELS["teacher"]}
    evaluate(passages=made, examples=made, models=alone, latency=False, resamples=20, out=tmp_path / "alone")
    assert "of teacher's" not in capsys.readouterr().out  # there is no student to keep anything of it


def test_texts_of_a_class_are_told_and_put_together(tmp_path: Path) -> None:
    """Harm: a benchmark of classes measures something else than classes, or not with every model alike."""
    made = labelled(tmp_path / "bench", common=True)
    facts = evaluate(passages=made, examples=made, models=MODELS, resamples=50, out=tmp_path / "out")
    assert (facts["main"], facts["texts"], facts["queries"]) == ("accuracy", 60, 0)
    assert facts["dropped"] == {"only text of its class": 1}
    measures = json.loads((tmp_path / "out" / "metrics.json").read_text())["measures"]
    assert list(measures) == ["accuracy", "v_measure"]
    for measure in measures.values():
        assert list(measure) == ["teacher", "small"]
        assert all(held["low"] <= held["value"] <= held["high"] for held in measure.values())
        assert measure["teacher"]["value"] > 0.9
    again = evaluate(passages=made, examples=made, models=MODELS, resamples=50, out=tmp_path / "again")
    assert again["models"]["small"]["value"] == facts["models"]["small"]["value"]  # type: ignore[index]


def test_words_find_what_words_can_find(tmp_path: Path) -> None:
    """Harm: the lexical baseline is broken, so that every dense model looks good beside it."""
    made = benchmark(tmp_path / "bench")
    facts = evaluate(passages=made, examples=made, models=MODELS, latency=False, resamples=20, out=tmp_path / "out")
    models = facts["models"]
    assert isinstance(models, dict)
    assert models["bm25"]["value"] > models["teacher"]["value"] + 0.1  # a query is four words of its positive
    assert models["bm25"]["bytes"] is None


def test_several_benchmarks_are_those_asked_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: a query finds passages of another benchmark, or a mean weighs a large benchmark more than a small one."""
    one, other = benchmark(tmp_path / "one"), benchmark(tmp_path / "other", pairs=True, queries=7)
    classes = labelled(tmp_path / "classes", common=True)
    several = (classes, one, other)
    settings: dict[str, Any] = {"models": MODELS, "latency": False, "resamples": 20}
    facts = evaluate(passages=several, examples=several, **settings, out=tmp_path / "out")
    shown = capsys.readouterr().out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["main"], metrics["queries"], metrics["texts"]) == ("ndcg@10", 31, 60)
    assert list(metrics["benchmarks"]) == ["classes", "one", "other"]
    alone = {}
    for folder in several:
        evaluate(passages=folder, examples=folder, **settings, out=tmp_path / f"{folder.name}_alone")
        alone[folder.name] = json.loads((tmp_path / f"{folder.name}_alone" / "metrics.json").read_text())
    for name, held in metrics["benchmarks"].items():
        assert list(held["measures"]) == list(alone[name]["measures"])
        for measure, models in held["measures"].items():
            for model, found in models.items():
                assert found["value"] == alone[name]["measures"][measure][model]["value"]
    for measure, models in metrics["measures"].items():
        having = [held["measures"][measure] for held in alone.values() if measure in held["measures"]]
        for model, found in models.items():
            assert found["value"] == pytest.approx(np.mean([held[model]["value"] for held in having]))
            assert found["low"] <= found["value"] <= found["high"]
        below = np.mean([held["teacher"]["value"] - held["small"]["value"] for held in having])
        assert models["teacher"]["above"]["small"]["value"] == pytest.approx(below)
    assert set(tables.read(tmp_path / "out", "results")["benchmark"].to_pylist()) == {"classes", "one", "other"}
    assert "mean of 3 benchmarks" in shown and "each benchmark by itself" in shown
    assert facts["dropped"] == {"kind classification": 2, "no positive": 2, "only text of its class": 1}
    assert facts["refers"]["passages of one"] == artifact.fingerprint(one)  # type: ignore[index]


def test_smaller_vectors_are_measured_beside_whole_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: what a form loses is told of other queries, another model, or with bytes that are not its own."""
    one, other = benchmark(tmp_path / "one"), benchmark(tmp_path / "other", queries=9)
    settings: dict[str, Any] = {"models": MODELS, "latency": False, "resamples": 20, "quantized": True}
    both: dict[str, Any] = {"passages": (one, other), "examples": (one, other)}
    evaluate(**both, **settings, widths=(8, 4, 50), out=tmp_path / "out")
    assert "widths: 50: no model's vectors are wider" in " ".join(capsys.readouterr().out.split())
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert not any("smaller" in measure for measure in metrics["measures"])
    named = [(held["width"], held["form"]) for held in metrics["smaller"]["teacher"]]
    forms = ["float", "int8", "binary", "rescored"]
    assert named == [(width, form) for width in (12, 8, 4) for form in forms][1:]
    assert [held["width"] for held in metrics["smaller"]["small"]] == [8] * 3 + [4] * 4  # its own width is 8
    assert [held["bytes"] for held in metrics["smaller"]["small"]] == [8, 1, 1, 16, 4, 1, 1]
    assert [held["bytes_beside"] for held in metrics["smaller"]["small"]] == [0, 0, 8, 0, 0, 0, 4]
    rows = tables.read(tmp_path / "out", "results").to_pylist()
    for model, found in metrics["smaller"].items():
        whole = metrics["measures"]["ndcg@10"][model]["value"]
        for held in found:
            name = f"smaller {held['width']} {held['form']}"
            means = [
                np.mean([r["value"] for r in rows if (r["model"], r["benchmark"], r["measure"]) == (model, at, name)])
                for at in ("one", "other")
            ]
            assert held["value"] == pytest.approx(np.mean(means))
            assert held["above"]["value"] == pytest.approx(held["value"] - whole)
    eight = metrics["smaller"]["small"][0]
    assert abs(eight["above"]["value"]) < 0.1 < metrics["measures"]["ndcg@10"]["small"]["value"]


def test_smaller_vectors_need_a_search(tmp_path: Path) -> None:
    """Harm: a setting is given, and nothing is measured of it."""
    made = labelled(tmp_path / "bench", common=True)
    with pytest.raises(Refused, match="no benchmark has queries"):
        evaluate(passages=made, examples=made, models=MODELS, quantized=True, out=tmp_path / "out")


def test_a_mean_of_benchmarks_is_drawn_in_each() -> None:
    """Harm: benchmarks of one size are drawn alike, which widens or narrows the interval of their mean."""
    values = {"a": np.random.default_rng(0).normal(size=400)}
    held = [{"ndcg@10": bootstrap(values, 2000, seed)} for seed in (0, 1000)]
    mean, one = room.together(held)["ndcg@10"].mean("a"), held[0]["ndcg@10"].mean("a")
    assert mean.value == pytest.approx(one.value)
    assert (mean.high - mean.low) / (one.high - one.low) == pytest.approx(2**-0.5, abs=0.05)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"teacher": "professor"}, "'professor' is none of the models"),
        ({"models": {**MODELS, "bm25": Words}}, "'bm25' is the lexical search"),
        ({"depth": 5}, "depth: 5; needed: 10, which"),
        ({"examples": (Path("a"), Path("b"))}, "examples: 2, with 1 `passages`; needed: as many of each"),
        ({"examples": (), "passages": ()}, "examples: 0, with 0"),
        ({"examples": (Path("a/x/b"), Path("c/x/b")), "passages": (Path("a"),) * 2}, "x/b, x/b; two have one name"),
        ({"widths": (64, 64)}, "widths: .64, 64.; needed: widths of 1 or more, each once"),
        ({"examples": (Path("a"),) * 2, "passages": (Path("a"),) * 2}, "one artifact stands there twice"),
    ],
)
def test_mistakes_are_refused(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    """Harm: an hour of embedding before a misspelt name is noticed."""
    made = benchmark(tmp_path / "bench")
    settings: dict[str, Any] = {"passages": made, "examples": made, "models": MODELS, **changed}
    Words.made.clear()
    with pytest.raises(Refused, match=said):
        evaluate(**settings, out=tmp_path / "out")
    assert Words.made == []


def test_other_passages_are_refused(tmp_path: Path) -> None:
    """Harm: grades count rows of another table, and every number is silently wrong."""
    made = benchmark(tmp_path / "bench")
    other = tmp_path / "other"
    tables.write(other / "passages", tables.PASSAGES, {name: ["x"] * 9 for name in tables.PASSAGES.names})
    finished(other, "ingest")
    with pytest.raises(Refused, match="outside the passages table of 9 rows"):
        evaluate(passages=other, examples=made, models=MODELS, out=tmp_path / "out")
