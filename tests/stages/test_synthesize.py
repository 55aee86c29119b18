"""Made-up examples from a model to training rows: every drop counted, the same rows however they came."""

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from distill import artifact, tables
from distill.errors import Refused
from distill.interfaces import LanguageModel
from distill.models import Writer
from distill.readers import JSONL, Synthetic
from distill.stages.ingest import ingest
from distill.stages.synthesize import synthesize

TEXT = "number {} has a long story that began before the river rose above the old bridge and took the mill"


class Author(LanguageModel):
    """Lists three tasks, one of them known to every list; of three records writes a good, a broken and a common one."""

    calls: ClassVar[list[int]] = []
    dies_after: ClassVar[int | None] = None

    def __init__(self, able: bool = True) -> None:
        self.able = able

    @property
    def name(self) -> str:
        """Its name."""
        return "author"

    def complete(self, prompts: Sequence[str], *, shared: str = "", seed: int, **asked: Any) -> list[str]:
        """A completion of each."""
        if self.dies_after is not None and len(self.calls) >= self.dies_after:
            raise RuntimeError("the machine went down")
        self.calls.append(len(prompts))
        return [self._answer(prompt, f"{seed} {number}", number) for number, prompt in enumerate(prompts)]

    def _answer(self, prompt: str, name: str, number: int) -> str:
        if not self.able:
            return "no idea"
        if prompt.endswith("Task:"):
            return f" Find the thing that is called {name}.\nTask: Find what everybody else looks for.\nTask: Find"
        long = "Documents:" in prompt
        query = {0: f"what is known of {name}", 1: "only a query"}.get(number % 3, "the common one")
        if number % 3 == 1:
            return query
        texts = (
            [TEXT.format(name + " right") + ".", TEXT.format(name + " wrong") + "."]
            if long
            else [f"thing {name}", f"no thing {name}"]
        )
        if "Text wanted:" in prompt:
            query = TEXT.format(query)
        negative = (
            "" if "Language: English.\nQuery:" in prompt and "wanted" not in prompt else f"\nNegative: {texts[1]}"
        )
        return f" {query}\nPositive: {texts[0]}{negative}\n"

    def log_likelihood(self, prompts: Sequence[str], continuations: Sequence[str], *, shared: str = "") -> np.ndarray:
        """Not needed here."""
        raise NotImplementedError

    def classify(self, prompts: Sequence[str], labels: Sequence[str], *, shared: str = "") -> np.ndarray:
        """Not needed here."""
        raise NotImplementedError


AUTHOR: Writer = functools.partial(Author)


@pytest.fixture(autouse=True)
def alive() -> None:
    """Each test has an author who has written nothing yet."""
    Author.calls.clear()
    Author.dies_after = None


def made(out: Path, **changed: Any) -> dict[str, Any]:
    return synthesize(**{"model": AUTHOR, "tasks": 20, "limit": 36, "part_rows": 9, "words": 50, "out": out, **changed})


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    return tables.read(folder, table).to_pylist()


def test_records_are_kept_and_drops_are_counted(tmp_path: Path) -> None:
    """Harm: nobody knows how much of what was paid for was thrown away, and why."""
    facts = made(tmp_path / "made")
    records = rows(tmp_path / "made", "records")
    assert facts["rows"] == len(records) == sum(facts["groups"].values())
    assert facts["asked"] == 36
    # Of each part and group three: a good one, a broken one, and one that is the same in every part.
    assert facts["groups"] == {"short_long": 5, "long_short": 5, "short_short": 5}
    assert facts["dropped"]["unparsable"] == 12
    assert facts["dropped"]["duplicate"] == 9
    assert facts["rows"] + 12 + 9 == 36
    assert facts["tasks"] == dict.fromkeys(("short_long", "long_short", "short_short"), 3)
    assert facts["dropped"]["task duplicate"] == 3
    assert facts["dropped"]["task wrong length"] == 6
    told = {row["task"] for row in records}
    assert told <= {row["task"] for row in rows(tmp_path / "made", "tasks")}
    assert all(bool(row["negative"]) == (row["group"] != "short_short") for row in records)


def test_a_kill_loses_one_part_and_changes_nothing(tmp_path: Path) -> None:
    """Harm: records are paid for twice, or a run that was killed has others than one that was not."""
    made(tmp_path / "whole")
    whole = [rows(tmp_path / "whole", table) for table in ("tasks", "records")]
    calls = list(Author.calls)
    for after in range(1, len(calls)):
        Author.calls.clear()
        Author.dies_after = after
        with pytest.raises(RuntimeError, match="went down"):
            made(tmp_path / f"killed_{after}")
        Author.dies_after = None
        made(tmp_path / f"killed_{after}")
        assert len(Author.calls) <= len(calls) + 2  # of the part that was lost, the groups that were done
        assert [rows(tmp_path / f"killed_{after}", table) for table in ("tasks", "records")] == whole


def test_groups_of_one_task_need_no_list(tmp_path: Path) -> None:
    """Harm: pairs of like texts get instructions that were thought of for something else."""
    facts = made(tmp_path / "made", groups=("sts",), limit=3)
    assert facts["tasks"] == {"sts": 1}
    assert not (tmp_path / "made" / "tasks").exists()
    assert {row["task"] for row in rows(tmp_path / "made", "records")} == {"Retrieve semantically similar text."}


def test_a_model_that_writes_nothing_usable_is_refused_and_may_be_replaced(tmp_path: Path) -> None:
    """Harm: an empty artifact, or a stronger model that is refused since another recipe lies there."""
    weak: Writer = functools.partial(Author, able=False)
    with pytest.raises(Refused, match=r"no usable task of short_long"):
        made(tmp_path / "made", model=weak)
    with pytest.raises(Refused, match=r"none of 36 records is usable .*'unparsable': 36.* Use a stronger `model`"):
        made(tmp_path / "made", model=weak, groups=("sts",))
    assert made(tmp_path / "made")["rows"] == 15


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"groups": ()}, "groups: .*needed: some of short_long"),
        ({"groups": ("sts", "sts")}, "each once"),
        ({"languages": ()}, "languages: .*at least one"),
        ({"words": 49}, "words: 49; needed: 50 or more"),
        ({"tasks": 0}, "tasks: 0; needed: at least 1"),
    ],
)
def test_mistakes_are_refused_before_anything_is_asked(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    """Harm: an hour of a dear model before a misspelt number is noticed."""
    with pytest.raises(Refused, match=said):
        made(tmp_path / "made", **changed)
    assert Author.calls == []


def test_records_become_rows_to_train_on(tmp_path: Path) -> None:
    """Harm: a misleading label counts as right, batch-mates' labels as wrong, or a benchmark's text is trained on."""
    groups = ("short_long", "long_short", "short_short", "sts")
    made(tmp_path / "made", groups=groups, limit=12, part_rows=12)
    records = rows(tmp_path / "made", "records")
    held = tmp_path / "held.jsonl"
    leaked = next(row for row in records if row["group"] == "short_short")
    held.write_text(json.dumps({"text": leaked["positive"]}) + "\n")
    ingest(sources=(JSONL(path=held),), out=tmp_path / "held_out")
    facts = ingest(
        sources=(Synthetic(path=tmp_path / "made"),), exclude=(tmp_path / "held_out",), out=tmp_path / "corpus"
    )
    texts = [row["text"] for row in rows(tmp_path / "corpus", "passages")]
    examples = rows(tmp_path / "corpus", "examples")
    wanted = [row for row in records if row != leaked]
    assert facts["dropped"] == {"passage in a benchmark, word for word": 1, "query without a passage left": 1}
    assert [row["query"] for row in examples] == [row["query"] for row in wanted]
    for row, record in zip(examples, wanted, strict=True):
        listed = [record["positive"], *filter(None, [record["negative"]])]
        assert [texts[at] for at in row["passages"]] == listed
        kind = {"long_short": "classification", "sts": "sts"}.get(record["group"], "retrieval")
        assert (row["kind"], row["in_batch"], row["symmetric"]) == (kind, kind == "retrieval", kind == "sts")
        assert (row["origin"] >= 0) == (kind == "retrieval")
    assert len(rows(tmp_path / "corpus", "queries")) == sum(row["origin"] >= 0 for row in examples)


def test_what_is_no_synthetic_artifact_is_refused(tmp_path: Path) -> None:
    """Harm: a traceback from inside a table that is not there."""
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(Refused, match=str(folder)):
            list(Synthetic(path=folder).read())
    made(tmp_path / "made", groups=("sts",), limit=3)
    artifact.require(tmp_path / "made")
    assert re.fullmatch(r".*record 0", next(iter(Synthetic(path=tmp_path / "made").read())).at)
