"""Rows to vectors, each compared with its text embedded alone; parts, a resume, and what the facts say."""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from distill import artifact, files, models, tables
from distill.errors import Refused
from distill.interfaces import Embedder, TokenRows, Tokens
from distill.runtime import Runtime
from distill.stages.embed import embed
from students import Encoder
from teachers import NVEmbed

EXACT = Runtime(precision="fp32", batch_tokens=120)  # a few texts at once, so that their order is mixed and restored
TASKS = ("Given a question, find its answer", "Find a text that says the same")


class Letters(Embedder):
    """A random vector a letter, averaged: a small real embedder, which notes what it read."""

    made: ClassVar[list[int]] = []
    read: ClassVar[list[str]] = []

    def __init__(self, dim: int = 6) -> None:
        super().__init__()
        self.made.append(dim)
        self.dim = dim
        self.table = nn.Embedding(128, dim)
        self.table.weight.data = torch.randn(128, dim, generator=torch.Generator().manual_seed(3))

    def tokenize(self, texts: Sequence[str], tasks: Sequence[str] | None = None) -> TokenRows:
        """A token a letter; the instruction's letters are read as well."""
        self.read.extend(texts)
        before = [""] * len(texts) if tasks is None else tasks
        return TokenRows.of([[ord(c) for c in a + b] for a, b in zip(before, texts, strict=True)], [0] * len(texts), 0)

    def forward(self, tokens: Tokens) -> torch.Tensor:
        """Mean over letters."""
        kept = tokens.pool.unsqueeze(-1)
        return nn.functional.normalize((self.table(tokens.ids) * kept).sum(1) / kept.sum(1), dim=-1)

    def save(self, folder: Path) -> None:
        """Not needed here."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Not needed here."""
        raise NotImplementedError


@pytest.fixture
def read() -> list[str]:
    """What every `Letters` has read since the test began."""
    Letters.made.clear()
    Letters.read.clear()
    return Letters.read


def finished(folder: Path, verb: str) -> Path:
    """An artifact with the tables already written into it."""
    files.write_json(folder / "recipe.json", {"verb": verb, "version": 1, "settings": {"name": folder.name}})
    artifact.finish(folder, {})
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    """Seventeen passages, some with a title, in two parts; nine queries, the same words under two tasks."""
    folder = tmp_path_factory.mktemp("run") / "source"
    for part, rows in enumerate((range(5), range(5, 17))):
        columns = {
            "source": ["made"] * len(rows),
            "key": [str(row) for row in rows],
            "title": [f"Page {row}" if row % 3 == 0 else "" for row in rows],
            "text": [" ".join(texts[row].split()[: 2 + row % 9]) for row in rows],
        }
        tables.write(folder / "passages", tables.PASSAGES, columns, part=part)
    asked = [texts[20 + row // 2] for row in range(9)]
    queries = {"task": [TASKS[row % 2] for row in range(9)], "query": asked, "seed": list(range(9))}
    tables.write(folder / "queries", tables.QUERIES, queries)
    return finished(folder, "ingest")


def vectors(folder: Path) -> np.ndarray:
    return tables.matrix(tables.read(folder, "vectors")["vector"])


def read_alone(folder: Path, table: str) -> list[tuple[str, str | None]]:
    """What a model is given for each row: text and task."""
    rows = tables.read(folder, table).to_pylist()
    if table == "queries":
        return [(row["query"], row["task"]) for row in rows]
    return [(f"{row['title']}\n{row['text']}" if row["title"] else row["text"], None) for row in rows]


@torch.inference_mode()
def alone(model: Embedder, text: str, task: str | None) -> np.ndarray:
    """One text by itself."""
    tokens = model.tokenize([text], None if task is None else [task])
    found: np.ndarray = model(tokens.take(np.zeros(1, np.int64))).numpy()[0]
    return found


@pytest.mark.parametrize("part_rows", [3, 50_000])
@pytest.mark.parametrize("table", ["passages", "queries"])
def test_every_row_is_the_vector_of_its_own_text(
    table: str, part_rows: int, source: Path, decoder: Path, tmp_path: Path, fp32: None
) -> None:
    """Harm: row i is another row's vector, or queries lose their instruction and passages gain one."""
    model = functools.partial(NVEmbed, str(decoder), latents=4, heads=2, length=128)
    embed(model=model, **{table: source}, part_rows=part_rows, runtime=EXACT, out=tmp_path / "out")
    teacher = model().eval()
    wanted = np.stack([alone(teacher, text, task) for text, task in read_alone(source, table)])
    apart = min(np.abs(one - other).max() for one, other in itertools.combinations(wanted, 2))
    found = vectors(tmp_path / "out").astype(np.float32)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-3 < apart / 5  # tells each row from every other
    rows = len(wanted)
    parts = [note["rows"] for note in tables.notes(tmp_path / "out" / "vectors")]
    assert parts == [min(part_rows, rows - at) for at in range(0, rows, part_rows)]


def test_vectors_are_half_floats_of_unit_length(source: Path, tmp_path: Path) -> None:
    """Harm: a table of twice the size; or vectors whose products are no cosines, for which they are taken."""
    embed(model=functools.partial(Letters, dim=10), passages=source, part_rows=6, out=tmp_path / "out")
    held = tables.read(tmp_path / "out", "vectors")
    assert held.schema.field("vector").type == pa.list_(pa.float16(), 10)
    assert vectors(tmp_path / "out").dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(vectors(tmp_path / "out").astype(np.float64), axis=1), 1, atol=1e-3)


def test_a_resume_makes_the_missing_part_and_no_other(source: Path, tmp_path: Path, read: list[str]) -> None:
    """Harm: a killed run of days begins again; or its second half is not what it would have been."""
    out = tmp_path / "out"
    call = functools.partial(embed, model=Letters, passages=source, part_rows=5, out=out)
    call()
    whole = [text for text, _ in read_alone(source, "passages")]
    assert read == whole
    before = (out / "manifest.json").read_bytes()
    kept = {file: file.stat().st_ino for part in (0, 2, 3) for file in out.glob(f"vectors/part-0000{part}.*")}
    for lost in (out / "done.json", out / "manifest.json", out / "vectors" / "part-00001.json"):
        lost.unlink()
    (out / "vectors" / "part-00001.arrow").write_bytes(b"half a part")  # as a kill before the note may leave it
    read.clear()
    call()
    assert read == whole[5:10]
    assert len(kept) == 6
    assert {file: file.stat().st_ino for file in kept} == kept
    assert (out / "manifest.json").read_bytes() == before


def test_nothing_is_loaded_when_only_the_mark_is_missing(source: Path, tmp_path: Path, read: list[str]) -> None:
    """Harm: a run that was killed at its very end loads a model of many gigabytes to do nothing with it."""
    call = functools.partial(embed, model=Letters, passages=source, out=tmp_path / "out")
    first = dict(call())
    (tmp_path / "out" / "done.json").unlink()
    Letters.made.clear()
    again = dict(call())
    assert not Letters.made
    assert {name: again[name] for name in ("rows", "dim", "tokens")} == {
        name: first[name] for name in ("rows", "dim", "tokens")
    }


@pytest.mark.parametrize("table", ["passages", "queries"])
def test_facts_tell_what_was_embedded_with_what(table: str, source: Path, tmp_path: Path) -> None:
    """Harm: vectors are taken for those of another table or of another model, which their numbers do not show."""
    model = functools.partial(Letters, dim=7)
    facts = embed(model=model, **{table: source}, part_rows=4, runtime=EXACT, out=tmp_path / "out")
    told = read_alone(source, table)
    assert (facts["rows"], facts["dim"]) == (len(told), 7)
    assert facts["filled"] == 0
    assert facts["tokens"] == sum(len(text) + len(task or "") for text, task in told)
    made_of = artifact.fingerprint(source)
    assert facts["refers"] == {"embedded": f"{table}:{made_of}", table: made_of}
    assert facts["model"] == models.label(model) != models.label(functools.partial(Letters, dim=8))
    held = [alone(Letters(dim=7), text, task) for text, task in told]
    naive = np.mean([one @ other for one, other in itertools.combinations(held, 2)])
    assert facts["mean_pairwise_cosine"] == pytest.approx(naive, abs=0.02)


def passages(folder: Path, *texts: str) -> Path:
    rows = [str(row) for row in range(len(texts))]
    columns = {"source": ["made"] * len(texts), "key": rows, "title": [""] * len(texts), "text": texts}
    tables.write(folder / "passages", tables.PASSAGES, columns)
    return finished(folder, "ingest")


def test_a_row_is_no_pair_with_itself(tmp_path: Path) -> None:
    """Harm: vectors pass for collapsed, or one row ends in the mean of nothing."""
    one, two = passages(tmp_path / "one", "owls"), passages(tmp_path / "two", "owls", "by")
    assert embed(model=Letters, passages=one, out=tmp_path / "single")["mean_pairwise_cosine"] is None
    cosine = embed(model=Letters, passages=two, out=tmp_path / "pair")["mean_pairwise_cosine"]
    assert cosine == pytest.approx(alone(Letters(), "owls", None) @ alone(Letters(), "by", None), abs=2e-3)
    assert isinstance(cosine, float)
    assert cosine < 0.9


def test_the_model_of_a_step_embeds_as_it_was_trained(source: Path, encoder: Path, tmp_path: Path) -> None:
    """Harm: the vectors of a trained step are those of the class it began as."""
    trained = Encoder(str(encoder), length=24, passage_prompt="passage: ").eval()
    with torch.no_grad():
        for weight in trained.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    (tmp_path / "step").mkdir()
    models.save(trained, tmp_path / "step")
    step = finished(tmp_path / "step", "train")
    facts = embed(model=step, passages=source, part_rows=7, runtime=EXACT, out=tmp_path / "out")
    assert facts["model"] == f"step@{artifact.fingerprint(step)[:12]}"
    found = vectors(tmp_path / "out").astype(np.float32)
    begun = Encoder(str(encoder), length=24, passage_prompt="passage: ").eval()
    for row, (text, _) in enumerate(read_alone(source, "passages")):
        np.testing.assert_allclose(found[row], alone(trained, text, None), atol=1e-3)
        assert np.abs(found[row] - alone(begun, text, None)).max() > 0.01


def test_a_refusal_leaves_the_folder_free(source: Path, tmp_path: Path, read: list[str]) -> None:
    """Harm: two tables are named and one is embedded; or the corrected call is refused for the first one's recipe."""
    bare = passages(tmp_path / "bare", "owls")
    with pytest.raises(Refused, match=r"^embed: name one table, `passages` or `queries`\.$"):
        embed(model=Letters, passages=bare, queries=source, out=tmp_path / "out")
    with pytest.raises(Refused, match=r"bare holds passages; needed queries\.$"):
        embed(model=Letters, queries=bare, out=tmp_path / "out")
    assert not Letters.made
    assert embed(model=Letters, passages=bare, out=tmp_path / "out")["rows"] == 1


def test_texts_that_are_cut_are_counted_and_told(
    corpus: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: long documents are embedded by their first lines, and nobody hears of it until nothing is found."""
    short, long = (functools.partial(Encoder, str(encoder), length=length) for length in (6, 100))
    facts = embed(passages=corpus, model=short, out=tmp_path / "short")
    assert facts["filled"] == sum(len(ids) >= 6 for ids in lengths(corpus, short))
    assert "fill the model's length; what stands behind is not read" in " ".join(capsys.readouterr().out.split())
    assert embed(passages=corpus, model=long, out=tmp_path / "long")["filled"] == 0
    assert "not read" not in capsys.readouterr().out


def lengths(corpus: Path, model: functools.partial[Encoder]) -> list[list[int]]:
    """Token ids of each passage, cut as the model cuts them."""
    rows = model().tokenize(tables.passage_texts(tables.read(corpus, "passages")))
    return [rows.ids[rows.starts[at] : rows.starts[at + 1]].tolist() for at in range(len(rows))]


def test_a_vector_that_is_no_number_is_refused(tmp_path: Path, read: list[str]) -> None:
    """Harm: a text that overflows becomes NaN: the step stops with another library's words, or training is NaN."""

    class Broken(Letters):
        def forward(self, tokens: Tokens) -> torch.Tensor:
            found = super().forward(tokens)
            return torch.where(tokens.ids[:, :1] == ord("q"), torch.nan, found)

    with pytest.raises(Refused, match=r"embed: 1 of 2 vectors are not finite, the first of 'quails'\."):
        embed(model=Broken, passages=passages(tmp_path / "birds", "owls", "quails"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
