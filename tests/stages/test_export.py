"""The export step delivers the student's own vectors, and says so, or nothing."""

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from distill import artifact, encode, files, models, onnx_graph, portable, recipe, stages, tables
from distill.errors import Refused
from distill.objective import Schedule
from distill.readers import JSONL
from distill.stages.export import FP32, INT8, Gates, _missed, export
from distill.stages.ingest import ingest
from distill.stages.train import train
from students import Encoder, Exported

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "slept", "while", "dogs", "ran", "home", "in", "old", "rain"]


def base(folder: Path) -> Path:
    """A BERT configuration and a word-level tokenizer, without weights."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: number for number, word in enumerate([*special, "query", ":", *WORDS])}
    alone = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    alone.normalizer = tokenizers.normalizers.Lowercase()
    alone.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    alone.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), special, strict=True))
    transformers.PreTrainedTokenizerFast(tokenizer_object=alone, **names).save_pretrained(folder)
    transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.2,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def trained(folder: Path, *, spoil: Callable[[Encoder], None] = lambda student: None, **settings: object) -> Path:
    """An artifact as `train` leaves it, with a student at its random start."""
    started = {"base": str(base(folder.parent / "base")), "length": 16, "query_prompt": "query: ", **settings}
    student = Encoder(**started)
    spoil(student)
    made = recipe.build("train", 1, {"model": functools.partial(Encoder, **started)}, {})
    with artifact.claim(folder, made, {}, made):
        models.save(student, folder)
        counts = {"nq": {"word for word": 12, "in part": 3}}
        artifact.finish(folder, {"licences": {"web": "CC-BY-4.0"}, "screened": {"0123456789ab": counts}})
    return folder


def corpus(folder: Path, count: int = 60) -> Path:
    """An artifact of passages of unequal lengths."""
    draw = np.random.default_rng(3)
    texts = [" ".join(draw.choice(WORDS, draw.integers(2, 14))) for _ in range(count)]
    made = recipe.build("ingest", 1, {"rows": count}, {})
    with artifact.claim(folder, made, {}, made):
        columns = {
            "source": ["made"] * count,
            "key": [str(i) for i in range(count)],
            "title": [""] * count,
            "text": texts,
        }
        tables.write(folder / "passages", tables.PASSAGES, columns)
        artifact.finish(folder, {"licences": {"made": "CC0-1.0"}})
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a student, passages, and an export of both."""
    folder = tmp_path_factory.mktemp("run")
    export(model=trained(folder / "student"), passages=corpus(folder / "corpus"), out=folder / "edge")
    return folder


def test_what_is_shipped_is_the_student(run: Path) -> None:
    """Users would run another model than the one that was evaluated."""
    texts = ["the cat sat on a mat", "dogs", "", "old rain " * 20]
    student, delivered = models.embedder(run / "student"), Exported(run / "edge")
    for tasks in (None, [""] * len(texts)):
        ours = encode.vectors(student, student.tokenize(texts, tasks), precision="fp32")
        theirs = encode.vectors(delivered, delivered.tokenize(texts, tasks))
        assert np.abs(ours - theirs).max() < 1e-5


def test_the_facts_are_those_of_the_files(run: Path) -> None:
    """Figures in the report and the card would be of something else than what is shipped."""
    facts = artifact.facts(run / "edge")
    folder = run / "edge" / "model"
    assert facts["texts"] == 60
    for reader in ("sentence_transformers", "onnx"):
        assert 0 <= facts["parity"][reader]["mean"] <= facts["parity"][reader]["max"] < 1e-5
    for name, size in facts["bytes"].items():
        assert (folder / name).stat().st_size == size
    assert facts["bytes"][INT8] < facts["bytes"][FP32]
    texts = tables.passage_texts(tables.read(run / "corpus", "passages"))
    student = models.embedder(run / "student")
    ours = encode.vectors(student, student.tokenize(texts), precision="fp32")
    theirs = onnx_graph.run(
        onnx_graph.session(folder / INT8), portable.read(folder).tokenize(texts, "document").take(np.arange(60))
    )
    assert facts["int8"]["delivered"] is True
    assert facts["int8"]["cosine_min"] == pytest.approx((ours * theirs).sum(1).min(), abs=2e-3)
    assert facts["int8"]["cosine_mean"] == pytest.approx((ours * theirs).sum(1).mean(), abs=1e-3)


def test_every_shipped_file_is_listed_with_its_hash(run: Path) -> None:
    """A folder damaged on the way to a device would be used as if it were whole."""
    folder = run / "edge" / "model"
    listed = json.loads((folder / "manifest.json").read_bytes())
    held = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert held - {"manifest.json"} == set(listed)
    assert all(files.digest(folder / name) == digest for name, digest in listed.items())
    assert {"modules.json", "model.safetensors", "tokenizer.json", "README.md", FP32, INT8} <= held


def test_the_card_names_sources_licences_and_figures(run: Path) -> None:
    """A user could not tell what the model may be used for, or how it was checked."""
    card = (run / "edge" / "model" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n")
    facts = artifact.facts(run / "edge")
    assert f"{facts['int8']['cosine_min']:.4f}" in card
    assert "| student | train | `students.Encoder`" in card and "- web: CC-BY-4.0" in card
    assert facts["licences"] == {"web": "CC-BY-4.0"}  # that of the texts which files were compared on binds nobody
    assert (
        facts["contamination"] == {"nq": {"word for word": 12, "in part": 3}} and "| nq | 12 | 3 | 0 | 1 of 1 |" in card
    )
    assert artifact.fingerprint(run / "student")[:12] in card
    assert str(run) not in card  # nor the folders of the machine it was made on


def test_a_licence_three_steps_back_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: a student is sold whose training texts forbid it: its own step names none of them."""
    texts = [" ".join(WORDS[start : start + 6]) for start in range(8)]
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"query": text[:9], "positive": text}) + "\n" for text in texts)
    )
    source = JSONL(path=tmp_path / "rows.jsonl", kind="retrieval", task="find", licence="CC-BY-NC-4.0")
    run = tmp_path / "run"
    ingest(sources=(source,), out=run / "corpus")
    schedule = Schedule(steps=1, queries=4, learning_rate=1e-3, warmup=0, precision="fp32")
    start = functools.partial(Encoder, base=str(base(tmp_path / "base")), length=16)
    given = {"passages": run / "corpus", "examples": (run / "corpus",), "schedule": schedule}
    first = train(model=start, out=run / "student_1", **given)
    assert first["licences"] == {"base": "unknown", "rows.jsonl": "CC-BY-NC-4.0"}
    train(model=run / "student_1", out=run / "student_2", **given)
    (tmp_path / "alone").mkdir()
    (run / "student_2").rename(tmp_path / "alone" / "student")
    shutil.rmtree(run)
    capsys.readouterr()
    monkeypatch.setattr(stages, "_said", set())
    facts = export(model=tmp_path / "alone" / "student", precision="fp32", out=tmp_path / "edge")
    warnings = (
        "For non-commercial use, or research, only: rows.jsonl (CC-BY-NC-4.0).", "The licence is not known of: base."
    )  # fmt: skip
    said, card = capsys.readouterr().out, (tmp_path / "edge" / "model" / "README.md").read_text()
    for warning, kept in zip(warnings, facts["licence_warnings"], strict=True):
        assert f"edge: {warning}" in said and f"**{warning}" in card and kept.startswith(warning)
    assert "no step compared its texts with a benchmark's" in card


def test_the_cards_programs_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thing a user copies would fail."""
    folder = run / "edge" / "model"
    monkeypatch.chdir(folder)
    card = (folder / "README.md").read_text().replace("path/to/this/folder", str(folder))
    first, second = (part.split("```")[0] for part in card.split("```python\n")[1:])
    names: dict[str, object] = {}
    exec(first, names)
    exec(second.replace("model_quantized", "model"), names)
    student = models.embedder(run / "student")
    wanted = encode.vectors(student, student.tokenize(["how do I sort a list"], [""]), precision="fp32")
    for name in ("queries", "vectors"):
        assert np.abs(names[name] - wanted).max() < 1e-5


def test_a_student_that_int8_ruins_is_caught_by_the_default_gates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The collapse that others saw in quantised MiniLM and bge would be shipped, and seen only in users' results."""

    def spoil(student: Encoder) -> None:
        with torch.no_grad():  # one coordinate so large that eight bits leave nothing of the others
            student.backbone.embeddings.word_embeddings.weight[0, 0] = 500.0

    out = tmp_path / "edge"
    facts = export(model=trained(tmp_path / "student", spoil=spoil), passages=corpus(tmp_path / "corpus"), out=out)
    assert facts["int8"]["delivered"] is False and facts["int8"]["why"].startswith("cosine_mean 0.")
    assert facts["parity"]["onnx"]["max"] < 1e-5
    assert not (out / "model" / INT8).exists() and INT8 not in facts["bytes"]
    assert (out / "model" / FP32).is_file()
    assert "int8: refused" in capsys.readouterr().out
    card = (out / "model" / "README.md").read_text()
    assert facts["int8"]["why"] in card and "onnx/model_quantized.onnx" not in card
    with pytest.raises(Refused, match=r"model_quantized\.onnx does not exist; there: model\.onnx"):
        Exported(out, file=INT8)


@pytest.mark.parametrize("figure", ["cosine_mean", "cosine_min", "neighbours"])
def test_each_gate_of_int8_counts(figure: str) -> None:
    """A gate that is written down and not applied passes everything; so would a comparison with NaN."""
    fine = {"cosine_mean": 0.995, "cosine_min": 0.98, "neighbours": 0.9}
    assert _missed(fine, Gates()) == []
    assert _missed(fine | {figure: 0.5}, Gates())[0].startswith(f"{figure} 0.5000 < ")
    assert len(_missed(fine | {figure: float("nan")}, Gates())) == 1


def test_fp32_that_misses_its_gate_leaves_nothing(run: Path) -> None:
    """A folder that gives other vectors than the student would look like a finished export."""
    out = run / "impossible"
    with pytest.raises(Refused, match=r"does not give the student's vectors.*Nothing was exported"):
        export(model=run / "student", precision="fp32", gates=Gates(difference=0.0), out=out)
    assert not artifact.is_done(out) and not (out / "model").exists()
    assert not list(out.glob(".*.tmp"))


def test_a_start_that_nothing_trained_is_not_delivered(run: Path, tmp_path: Path) -> None:
    """Harm: a model of untrained layers is shipped under the card, and the licences, of the step it was cut out of."""
    for start in (
        functools.partial(Encoder, model=run / "student", layers=1),
        functools.partial(Encoder, base=str(run / "base"), vocabulary=(run / "corpus",)),
    ):
        with pytest.raises(Refused, match="no step trained it"):
            export(model=start, passages=run / "corpus", out=tmp_path / "edge")


def test_a_student_whose_tokenizer_puts_nothing_around_a_text_is_delivered(decoder: Path, tmp_path: Path) -> None:
    """Harm: layers of Qwen3 or GPT-2 are trained for a day, and their export ends in an error deep inside on the empty
    text, which has no token there.
    """
    student = Encoder(str(decoder), length=16).eval()
    assert not encode.texts(student, [""]).any()
    made = recipe.build("train", 1, {"model": functools.partial(Encoder, str(decoder), length=16)}, {})
    with artifact.claim(tmp_path / "student", made, {}, made):
        models.save(student, tmp_path / "student")
        artifact.finish(tmp_path / "student", {"licences": {}, "screened": {}})
    facts = export(model=tmp_path / "student", precision="fp32", out=tmp_path / "edge")
    assert facts["empty"] == "cannot be read alone"
    assert "An empty text has no token" in (tmp_path / "edge" / "model" / "README.md").read_text()


def test_fp32_alone_needs_no_passages(run: Path) -> None:
    """Someone without a corpus at hand could not export at all."""
    facts = export(model=run / "student", precision="fp32", out=run / "fp32")
    assert facts["int8"] is None and facts["texts"] == 0 and "empty" not in facts
    assert INT8 not in facts["bytes"] and FP32 in facts["bytes"]


def test_int8_without_texts_to_measure_it_on_is_refused(run: Path, tmp_path: Path) -> None:
    """Gates on eight odd texts would say nothing, and look like a check."""
    with pytest.raises(Refused, match="int8 is measured on 0 passages; needed 20 or more"):
        export(model=run / "student", out=tmp_path / "none")
    with pytest.raises(Refused, match="int8 is measured on 5 passages"):
        export(model=run / "student", passages=run / "corpus", texts=5, out=tmp_path / "few")


def test_what_is_of_the_file_that_is_not_written_is_refused(run: Path, tmp_path: Path) -> None:
    """Harm: seven bits are asked for, or a stricter gate, and nothing is done about it."""
    for asked in ({"reduce_range": True}, {"gates": Gates(neighbours=1.0)}):
        with pytest.raises(Refused, match=r"(reduce_range|gates\.neighbours) is of the int8 file"):
            export(model=run / "student", precision="fp32", out=tmp_path / "out", **asked)
    with pytest.raises(Refused, match="texts: 3: those are of `passages`, and there are none"):
        export(model=run / "student", precision="fp32", texts=3, out=tmp_path / "out")


def test_the_same_export_again_does_nothing(run: Path) -> None:
    """Minutes would be spent on work that is done, and the files' dates would change."""
    before = (run / "edge" / "model" / FP32).stat().st_mtime_ns
    export(model=run / "student", passages=run / "corpus", out=run / "edge")
    assert (run / "edge" / "model" / FP32).stat().st_mtime_ns == before
