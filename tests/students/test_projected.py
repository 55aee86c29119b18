"""A student in its teacher's space: trained, exported and measured against passages that the teacher embedded."""

import dataclasses
import functools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from torch import nn

from distill import artifact, encode, models, portable, projection, tables
from distill.errors import Refused
from distill.objective import Objective, Schedule
from distill.runtime import Runtime
from distill.stages.average import average
from distill.stages.embed import embed
from distill.stages.evaluate import evaluate
from distill.stages.export import export
from distill.stages.train import train
from students import Encoder, Exported, Projected, Static

EXACT = Runtime(precision="fp32")
SHORT = Schedule(steps=3, queries=16, learning_rate=1e-3, warmup=1, precision="fp32")
REGRESSION = Objective(contrastive=0.0, regression=1.0)
WIDE = 48


@pytest.fixture(scope="module")
def run(encoder: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wider teacher's vectors, a student that learned them and kept its projector, and an export of both."""
    folder = tmp_path_factory.mktemp("projected")
    transformers.AutoTokenizer.from_pretrained(encoder).save_pretrained(folder / "wide")
    config = transformers.BertConfig.from_pretrained(encoder, hidden_size=WIDE, initializer_range=0.3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        transformers.BertModel(config).save_pretrained(folder / "wide")
    embed(passages=corpus, model=teacher(folder), runtime=EXACT, out=folder / "vectors")
    student = functools.partial(Encoder, base=str(encoder), layers=(0, 2), length=24, query_prompt="the ")
    train(
        model=student, passages=corpus, vectors=(folder / "vectors",), objective=REGRESSION, schedule=SHORT,
        keep_projector=True, out=folder / "student",
    )  # fmt: skip
    export(model=projected(folder), passages=corpus, precision="fp32", out=folder / "edge")
    return folder


def teacher(run: Path) -> Any:
    return functools.partial(Encoder, base=str(run / "wide"), length=24)


def projected(run: Path) -> Any:
    return functools.partial(Projected, model=run / "student")


def vectors(model: Any, texts: list[str], tasks: list[str] | None = None) -> np.ndarray:
    return encode.vectors(model, model.tokenize(texts, tasks), precision="fp32")


def test_a_projected_student_is_the_student_and_then_the_map(run: Path, texts: list[str]) -> None:
    """Harm: what is kept is the map before training, or its bias is lost, and vectors lie beside the teacher's."""
    student = models.embedder(run / "student")
    linear, space = projection.load(run / "student")
    assert space == artifact.facts(run / "vectors")["model"]
    for tasks in (None, [""] * len(texts)):
        wanted = vectors(student, texts, tasks) @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
        np.testing.assert_allclose(vectors(Projected(run / "student").eval(), texts, tasks), wanted, atol=1e-6)
    assert wanted.shape[1] == WIDE != student.dim


def test_the_kept_map_leads_to_the_teachers_vectors(run: Path, corpus: Path) -> None:
    """Harm: another step's map is kept, and every search in the teacher's vectors is by chance."""
    made = vectors(Projected(run / "student").eval(), tables.passage_texts(tables.read(corpus, "passages")))
    goal = tables.matrix(tables.read(run / "vectors", "vectors")["vector"]).astype(np.float32)
    goal /= np.linalg.norm(goal, axis=1, keepdims=True)
    curve = [row for row in tables.read(run / "student", "curves").to_pylist() if row["measure"] == "regression"]
    assert 1 - (made * goal).sum(1).mean() <= curve[0]["value"] + 0.01
    others = (made @ goal.T)[~np.eye(len(made), dtype=bool)].mean()
    assert (made * goal).sum(1).mean() > others


def test_users_get_vectors_of_the_teachers_space_by_plain_encode(run: Path, texts: list[str]) -> None:
    """Harm: the shipped folder leaves the projector out, and its queries find nothing among the teacher's passages."""
    ours = vectors(Projected(run / "student").eval(), texts)
    asked = vectors(Projected(run / "student").eval(), texts, [""] * len(texts))
    reader = SentenceTransformer(str(run / "edge" / "model"), device="cpu", local_files_only=True)
    assert [type(module).__name__ for module in reader] == ["Transformer", "Pooling", "Normalize", "Dense", "Normalize"]
    assert np.abs(reader.encode(texts, show_progress_bar=False) - ours).max() < 1e-5
    assert np.abs(reader.encode(texts, prompt_name="query", show_progress_bar=False) - asked).max() < 1e-5
    delivered = Exported(run / "edge")
    assert (delivered.dim, delivered.space) == (WIDE, artifact.facts(run / "vectors")["model"])
    assert np.abs(vectors(delivered, texts, [""] * len(texts)) - asked).max() < 1e-5
    assert "They lie in the space of its teacher" in (run / "edge" / "model" / "README.md").read_text()


def test_the_symmetric_student_is_shipped_as_before(run: Path, tmp_path: Path, texts: list[str]) -> None:
    """Harm: a kept projector gets into the folder of those who want the small student alone."""
    tmp_path.joinpath("folder").mkdir()
    student = models.embedder(run / "student")
    portable.write(portable.parts(student), tmp_path / "folder")
    assert not (tmp_path / "folder" / portable.PROJECTOR).exists()
    reader = SentenceTransformer(str(tmp_path / "folder"), device="cpu", local_files_only=True)
    assert np.abs(reader.encode(texts, show_progress_bar=False) - vectors(student, texts)).max() < 1e-5


def test_a_table_leads_into_its_teachers_space_too(encoder: Path, tmp_path: Path, texts: list[str]) -> None:
    """Harm: the smallest student, whose queries profit most from the teacher's passages, cannot be written."""
    table, linear = Static(str(encoder), width=8, length=12).eval(), nn.Linear(8, WIDE)
    made = dataclasses.replace(portable.parts(table), dim=WIDE, projector=linear, space="teacher@0123")
    tmp_path.joinpath("folder").mkdir()
    portable.write(made, tmp_path / "folder")
    wanted = nn.functional.normalize(linear(torch.from_numpy(vectors(table, texts))), dim=-1).detach().numpy()
    reader = SentenceTransformer(str(tmp_path / "folder"), device="cpu", local_files_only=True)
    assert np.abs(reader.encode(texts, show_progress_bar=False) - wanted).max() < 1e-5
    assert (portable.read(tmp_path / "folder").dim, portable.read(tmp_path / "folder").space) == (WIDE, "teacher@0123")


def test_queries_of_the_student_find_passages_of_the_teacher(run: Path, corpus: Path, tmp_path: Path) -> None:
    """Harm: the asymmetric score is that of the student's own passages, or of a model in another space."""
    evaluate(
        passages=corpus, examples=corpus, vectors=run / "vectors", latency=False, resamples=20, runtime=EXACT,
        models={
            "teacher": teacher(run), "student": run / "student", "projected": projected(run),
            "edge": functools.partial(Exported, folder=run / "edge"),
        },
        out=tmp_path / "out",
    )  # fmt: skip
    measures = json.loads((tmp_path / "out" / "metrics.json").read_text())["measures"]
    found = measures["asymmetric_ndcg@10"]
    assert list(found) == ["teacher", "projected", "edge"]
    assert found["teacher"]["value"] == pytest.approx(measures["ndcg@10"]["teacher"]["value"], abs=0.02)  # fp16 vectors
    assert found["edge"]["value"] == pytest.approx(found["projected"]["value"], abs=1e-3)
    assert found["projected"]["retention"]["value"] == pytest.approx(
        found["projected"]["value"] / found["teacher"]["value"]
    )
    passages = tables.matrix(tables.read(run / "vectors", "vectors")["vector"]).astype(np.float32)
    rows = [row for row in tables.read(corpus, "examples").to_pylist() if row["kind"] == "retrieval"]
    naive = []
    for row in rows:
        query = vectors(Projected(run / "student").eval(), [row["query"]], [row["task"]])[0]
        order = sorted(range(len(passages)), key=lambda at: -float(query @ passages[at]))
        place = order.index(row["passages"][0])
        naive.append(1 / math.log2(place + 2) if place < 10 else 0.0)
    assert found["projected"]["value"] == pytest.approx(np.mean(naive), abs=1e-3)


def test_an_average_leads_to_the_space_that_all_led_to(run: Path, corpus: Path, encoder: Path, tmp_path: Path) -> None:
    """Harm: the soup of students with projectors has none, and the advice is to train a step that trains nothing."""
    student = functools.partial(Encoder, base=str(encoder), layers=(0, 2), length=24, query_prompt="the ")
    train(
        model=student, passages=corpus, vectors=(run / "vectors",), objective=REGRESSION, schedule=SHORT, seed=1,
        keep_projector=True, out=tmp_path / "second",
    )  # fmt: skip
    average(models=(run / "student", tmp_path / "second"), out=tmp_path / "soup")
    (one, space), (other, _), (mean, kept) = map(
        projection.load, (run / "student", tmp_path / "second", tmp_path / "soup")
    )
    assert kept == space
    for name in ("weight", "bias"):
        torch.testing.assert_close(getattr(mean, name), (getattr(one, name) + getattr(other, name)) / 2)
    goal = tables.matrix(tables.read(run / "vectors", "vectors")["vector"]).astype(np.float32)
    passages = tables.passage_texts(tables.read(corpus, "passages"))
    near = [
        float((vectors(Projected(step).eval(), passages) * goal).sum(1).mean())
        for step in (run / "student", tmp_path / "second", tmp_path / "soup")
    ]
    assert near[2] > min(near[:2]) - 0.01
    train(model=student, passages=corpus, examples=(corpus,), schedule=SHORT, out=tmp_path / "bare")
    average(models=(run / "student", tmp_path / "bare"), out=tmp_path / "half")
    with pytest.raises(Refused, match="kept no projector"):
        Projected(tmp_path / "half")


def test_what_cannot_be_meant_is_refused(run: Path, corpus: Path, encoder: Path, tmp_path: Path) -> None:
    """Harm: a score among vectors of another space, or a setting that does nothing, without a word."""
    asked: dict[str, Any] = {"passages": corpus, "examples": corpus, "latency": False, "resamples": 5, "teacher": ""}
    with pytest.raises(Refused, match="vectors are searched by models in the space"):
        evaluate(**asked, models={"student": run / "student"}, vectors=run / "vectors", out=tmp_path / "a")
    other = functools.partial(Encoder, base=str(encoder), length=24)
    embed(passages=corpus, model=other, out=tmp_path / "other")
    with pytest.raises(Refused, match="projected leads to the space of Encoder@"):
        evaluate(**asked, models={"projected": projected(run)}, vectors=tmp_path / "other", out=tmp_path / "b")
    with pytest.raises(Refused, match="their spaces differ"):
        both = (tmp_path / "other", run / "vectors")
        evaluate(**asked, models={"projected": projected(run)}, vectors=both, out=tmp_path / "c")
    embed(passages=corpus, model=teacher(run), part_rows=9, out=tmp_path / "again")
    with pytest.raises(Refused, match="again embed the same passages"):
        both = (run / "vectors", tmp_path / "again")
        evaluate(**asked, models={"projected": projected(run)}, vectors=both, out=tmp_path / "i")
    embed(queries=corpus, model=teacher(run), out=tmp_path / "queries")
    with pytest.raises(Refused, match="embeds none of `passages`"):
        evaluate(**asked, models={"projected": projected(run)}, vectors=tmp_path / "queries", out=tmp_path / "d")
    with pytest.raises(Refused, match="keep_projector: it is trained by"):
        train(model=other, passages=corpus, examples=(corpus,), keep_projector=True, out=tmp_path / "e")
    train(model=other, passages=corpus, examples=(corpus,), schedule=SHORT, out=tmp_path / "bare")
    with pytest.raises(Refused, match="kept no projector to its teacher's space"):
        Projected(tmp_path / "bare")
    with pytest.raises(Refused, match="no step trained it"):
        export(model=other, precision="fp32", out=tmp_path / "f")
    with pytest.raises(Refused, match="has no weights that learn"):
        train(model=projected(run), passages=corpus, examples=(corpus,), schedule=SHORT, out=tmp_path / "h")
    with pytest.raises(Refused, match="is saved already"):
        models.save(Projected(run / "student"), tmp_path / "g")
