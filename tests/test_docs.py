"""What the documentation shows can be done as it is shown."""

import csv
import functools
import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill import encode, experiment, models, running, tables
from distill.artifact import facts
from distill.errors import Refused
from distill.objective import Schedule
from distill.readers import JSONL
from distill.stages.embed import embed
from distill.stages.label import label
from distill.stages.mine import mine
from distill.stages.train import train
from students import Encoder
from teachers import NVEmbed

ROOT = Path(__file__).parents[1]
STUDENT = "{{class_path: students.Encoder, init_args: {{base: {}, length: 24}}}}"


def shown(file: str, language: str, word: str) -> str:
    """The only block of a page in this language that holds a word."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / file).read_text(), re.DOTALL)
    found = [block for block in blocks if word in block]
    assert len(found) == 1, word
    return found[0]


def write(file: Path, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])


def test_questions_and_scored_pairs_train_together(
    tmp_path: Path, encoder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: a teacher is trained on pairs whose scores were never read, and CoSENT is zero from the first step."""
    monkeypatch.chdir(tmp_path)
    asked = list(JSONL(path=ROOT / "tests/data/questions.jsonl", kind="retrieval", task="find").read())
    write(Path("faq.csv"), ("question", "answer"), [(row.query, row.positives[0].text) for row in asked])
    pairs = [(texts[at], texts[at + 20], at % 6) for at in range(20)]
    write(Path("pairs.csv"), ("sentence1", "sentence2", "score"), pairs)
    steps = textwrap.indent(shown("docs/teachers.md", "yaml", "cosent"), "  ")
    Path("mine.yaml").write_text(f"name: mine\nsteps:\n{steps}")
    tiny = (f"teacher_1.model={STUDENT.format(encoder)}", "teacher_1.schedule.steps=6", "teacher_1.schedule.queries=8")
    loaded = experiment.load(Path("mine.yaml"), tiny)
    assert running.run(loaded)
    assert facts(Path("runs/mine/corpus"))["kinds"] == {"retrieval": len(asked), "sts": 20}
    assert facts(Path("runs/mine/teacher_1"))["examples"] == len(asked) + 20
    curves = tables.read(Path("runs/mine/teacher_1"), "curves").to_pylist()
    for measure in ("cosent", "contrastive"):
        assert max(row["value"] for row in curves if row["measure"] == measure) > 0.1


def test_a_teacher_is_used_from_python_as_shown(
    tmp_path: Path, corpus: Path, decoder: Path, monkeypatch: pytest.MonkeyPatch, fp32: None
) -> None:
    """Harm: whoever has trained a teacher cannot ask it, or what was merged and saved cannot be opened again."""
    monkeypatch.chdir(tmp_path)
    teacher = functools.partial(NVEmbed, str(decoder), latents=4, heads=2, rank=2, length=40)
    short = Schedule(steps=3, queries=6, learning_rate=1e-2, warmup=1)
    train(model=teacher, passages=corpus, examples=(corpus,), schedule=short, out=Path("runs/mine/teacher_2"))
    code = shown("docs/teachers.md", "python", "encode.texts")
    code = code.replace("Given a question, retrieve the answer", "find")  # these tokens are letters, and 40 are read
    held: dict[str, Any] = {}
    exec(code, held)
    assert held["passages"].shape == (2, 32) and held["asked"].shape == (1, 32) and held["nearest"].shape == (1,)
    np.testing.assert_allclose(np.linalg.norm(held["passages"], axis=1), 1, rtol=1e-5)
    shutil.rmtree("runs")
    back = models.embedder(Path("merged"))
    again = encode.texts(back, ["how long may I keep a book?"], task="find")
    assert float((again * held["asked"]).sum()) > 0.9995  # up to the rounding of bf16
    step = embed(passages=corpus, model=Path("merged"), out=Path("runs/mine/vectors"))
    assert step["rows"] == len(tables.read(corpus, "passages"))
    Path("merged/model").rename("alone")
    np.testing.assert_array_equal(encode.texts(models.embedder(Path("alone")), ["fog"]), encode.texts(back, ["fog"]))
    assert models.label(Path("alone")).startswith("alone@")
    with pytest.raises(Refused, match="is one text; needed: a list"):
        encode.texts(back, "fog")
    Path("alone/class.json").unlink()
    with pytest.raises(Refused, match=r"no class\.json says which class reads it\. Write a model with"):
        models.embedder(Path("alone"))


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*")
@pytest.mark.filterwarnings("ignore::UserWarning:lightning")  # Lightning advises whoever calls it bare
def test_a_student_is_trained_in_a_trainer_as_shown(
    tmp_path: Path, corpus: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: whoever brings a Trainer finds that the module and the data cannot be had without the command line."""
    monkeypatch.chdir(tmp_path)
    run = Path("runs/mine")
    shutil.copytree(corpus, run / "corpus")
    teacher = functools.partial(Encoder, base=str(encoder), length=24)
    vectors = {f"{name}_vectors": (run / name,) for name in ("passage", "query")}
    embed(model=teacher, passages=run / "corpus", out=run / "passage")
    embed(model=teacher, queries=run / "corpus", out=run / "query")
    mine(passages=run / "corpus", queries=run / "corpus", depth=10, out=run / "candidates", **vectors)
    label(candidates=run / "candidates", negatives=4, ceiling=5.0, out=run / "examples")
    code = shown("docs/students.md", "python", "lightning.Trainer")
    for told, here in (("package:all-MiniLM-L6-v2", str(encoder)), ("(0, 2, 5)", "(0, 2)"), ("steps=100", "steps=3")):
        assert told in code
        code = code.replace(told, here)
    held: dict[str, Any] = {}
    exec(code, held)
    assert held["trainer"].global_step == 3
    back, start = models.embedder(Path("mine")), Encoder(base=str(encoder), layers=(0, 2))
    same = [torch.equal(one, other) for one, other in zip(back.parameters(), start.parameters(), strict=True)]
    assert not all(same)
    rows = back.tokenize(["fog"]).take(np.zeros(1, np.int64))
    torch.testing.assert_close(back(rows), held["student"].eval()(rows))
