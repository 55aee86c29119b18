"""What the documentation shows can be done as it is shown."""

import csv
import re
import textwrap
from pathlib import Path

import pytest

from distill import experiment, running, tables
from distill.artifact import facts
from distill.readers import JSONL

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
