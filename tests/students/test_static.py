"""A table of token vectors: made as by hand, trained, saved and exported as any student."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sklearn.decomposition import PCA

from distill import artifact, encode, models, tables
from distill.errors import Refused
from distill.objective import Objective, Schedule
from distill.stages.embed import embed
from distill.stages.evaluate import evaluate
from distill.stages.export import Gates, export
from distill.stages.train import train
from students import Encoder, Exported, Static
from students.static import principal, weights, zipf
from teachers import Decoder


def vectors(model: Static | Encoder | Decoder, texts: list[str]) -> np.ndarray:
    found: np.ndarray = encode.vectors(model.eval(), model.tokenize(texts), precision="fp32")
    return found


def alone(reader: Encoder, ids: list[int]) -> np.ndarray:
    """The larger model's vector of each token, one at a time."""
    made = []
    ends = reader.tokenizer("")["input_ids"]
    for token in ids:
        given = torch.tensor([[ends[0], token, ends[1]]])
        with torch.inference_mode():
            states = reader.backbone(input_ids=given, attention_mask=torch.ones_like(given)).last_hidden_state[0]
        made.append((states.mean(0) / states.mean(0).norm()).numpy())
    return np.stack(made)


def test_principal_components_are_scikit_learns() -> None:
    """Harm: the table keeps the directions that vary least, or forgets to centre."""
    drawn = np.random.default_rng(4).normal(size=(60, 12)).astype(np.float32) @ np.diag(np.arange(1, 13)) + 5
    ours, theirs = principal(drawn, 5), PCA(5, svd_solver="full").fit_transform(drawn)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-4)
    assert (ours[np.abs(ours).argmax(0), range(5)] > 0).all()  # whichever machine finds them


def test_weights_are_model2vecs() -> None:
    """Harm: frequent tokens, which say nothing, are what the mean is made of."""
    inverse = 1 / np.arange(2, 52)
    share = inverse / inverse.sum()
    np.testing.assert_allclose(weights(zipf(50), 1e-4), 1e-4 / (1e-4 + share))
    assert weights(np.array([0.0]), 1e-4) == 1


def test_the_table_is_made_as_by_hand(encoder: Path) -> None:
    """Harm: rows belong to other tokens, or the larger model read them with something else around."""
    reader = Encoder(str(encoder)).eval()
    made = Static(str(encoder), width=8)
    by_hand = principal(alone(reader, list(range(400))), 8) * weights(zipf(400), 1e-4)[:, None]
    np.testing.assert_allclose(made.backbone.weight.detach().numpy(), by_hand, atol=1e-5)


def test_a_text_is_the_mean_of_its_tokens(encoder: Path, texts: list[str]) -> None:
    """Harm: padding or marks of beginning and end are averaged too."""
    model = Static(str(encoder), width=8, length=12, query_prompt="the ")
    reader = Encoder(str(encoder)).tokenizer
    table = model.backbone.weight.detach().numpy()
    together = vectors(model, [*texts, ""])
    for text, found in zip(texts, together, strict=False):
        mean = table[reader(text, add_special_tokens=False)["input_ids"][:12]].mean(0)
        np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-5)
    assert (together[-1] == 0).all()
    assert len(model.tokenize([])) == 0
    asked = encode.vectors(model, model.tokenize(texts[:3], [""] * 3), precision="fp32")
    np.testing.assert_array_equal(
        asked, vectors(Static(str(encoder), width=8, length=12), ["the " + t for t in texts[:3]])
    )


def test_a_corpus_tells_the_tokens_and_their_frequencies(encoder: Path, corpus: Path, texts: list[str]) -> None:
    """Harm: the table of the smallest tier holds tokens that nobody writes, weighted by a guess."""
    whole, small = Static(str(encoder), width=8), Static(str(encoder), width=8, vocabulary=(corpus,))
    assert len(small.backbone.weight) == len(small.tokenizer) < len(whole.backbone.weight) == 400
    words = small.tokenizer.convert_ids_to_tokens
    for text in texts:
        assert words(small.tokenizer(text)["input_ids"]) == whole.tokenizer.convert_ids_to_tokens(
            whole.tokenizer(text)["input_ids"]
        )


def test_a_decoder_teacher_gives_a_table(decoder: Path, tmp_path: Path, texts: list[str], fp32: None) -> None:
    """Harm: a teacher's pooling and adapters are left out, or its end of sequence, which it pools."""
    teacher = Decoder(str(decoder), length=24, layers=(0,))
    models.save(teacher, tmp_path)
    made = Static(model=tmp_path, width=8)
    one = [teacher.tokenizer.bos_token_id, 77, teacher.tokenizer.eos_token_id]
    ids = torch.tensor([one, [one[0], 78, one[2]]])
    ones = torch.ones_like(ids).bool()
    from distill.interfaces import Tokens

    pool = ones.clone()
    pool[:, 0] = False
    with torch.inference_mode():
        wanted = teacher.eval()(Tokens(ids, ones, pool)).numpy()
    from students.static import _read_alone

    np.testing.assert_allclose(_read_alone(teacher, np.array([77, 78])), wanted, atol=1e-5)
    assert vectors(made, texts[:3]).shape == (3, 8)


def test_what_cannot_be_is_refused(encoder: Path) -> None:
    """Harm: more components than there are, filled with noise."""
    with pytest.raises(Refused, match="width: 33; needed: at most 32"):
        Static(str(encoder), width=33)
    with pytest.raises(Refused, match="smoothing: 0"):
        Static(str(encoder), smoothing=0.0, width=8)


@pytest.fixture(scope="module")
def run(encoder: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static student, trained by regression and by contrast."""
    out = tmp_path_factory.mktemp("static")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        (out / "corpus.txt").write_text(str(corpus))
        models.save(Static(str(encoder), width=16, length=40), out / "start")
        models.save(Encoder(str(encoder), length=40), out / "teacher")
        embed(passages=corpus, model=out / "teacher", out=out / "vectors")
        train(
            model=out / "start",
            passages=corpus,
            examples=(corpus,),
            kinds=("retrieval",),
            vectors=(out / "vectors",),
            objective=Objective(contrastive=1, regression=1),
            schedule=Schedule(steps=6, queries=8, learning_rate=1e-2, weight_decay=0.0),
            out=out / "student",
        )
    return out


def every(run: Path) -> list[str]:
    """All texts that the training could read."""
    corpus = Path((run / "corpus.txt").read_text())
    return [text for some in tables.every_text(corpus) for text in some]


def test_it_trains_with_the_same_losses(run: Path, texts: list[str]) -> None:
    """Harm: the table is frozen, or rows are moved that no text has."""
    before, after = models.embedder(run / "start"), models.embedder(run / "student")
    assert isinstance(before, Static) and isinstance(after, Static)
    moved = (before.backbone.weight != after.backbone.weight).any(1)
    said = {i for text in texts for i in before.tokenizer(text)["input_ids"]}
    assert moved.sum() > 20 and moved[sorted(said)].float().mean() > 0.3
    asked = tables.read(run / "student", "curves").to_pydict()
    assert {"contrastive", "regression"} <= set(asked["measure"])
    never = sorted(set(range(400)) - {i for text in every(run) for i in before.tokenizer(text)["input_ids"]})
    assert len(never) > 5 and not moved[never].any()


def test_it_is_saved_and_loaded(run: Path, tmp_path: Path, texts: list[str]) -> None:
    """Harm: the cut of the last call, or the prompts, come back otherwise."""
    model = models.embedder(run / "student")
    assert isinstance(model, Static)
    made = vectors(model, texts)
    models.save(model, tmp_path)
    back = models.embedder(tmp_path)
    assert isinstance(back, Static) and (back.dim, back.length) == (16, 40)
    np.testing.assert_array_equal(vectors(back, texts), made)


def test_it_is_exported_and_measured(run: Path, corpus: Path, texts: list[str]) -> None:
    """Harm: the smallest student cannot leave, or leaves as a folder that gives other vectors."""
    facts = export(model=run / "student", passages=corpus, gates=Gates(neighbours=0.5), out=run / "edge")
    assert facts["parity"]["onnx"]["max"] < 1e-6 and facts["parity"]["sentence_transformers"]["max"] < 1e-6
    assert facts["int8"]["delivered"], facts["int8"]["why"]
    student, folder = models.embedder(run / "student"), run / "edge" / "model"
    reader = SentenceTransformer(str(folder), device="cpu")
    assert [type(module).__name__ for module in reader] == ["StaticEmbedding", "Normalize"]
    some = [*texts, "", "far too long " * 100]
    assert isinstance(student, Static)
    np.testing.assert_allclose(reader.encode(some, prompt_name="query"), vectors(student, some), atol=1e-6)
    assert Exported(run / "edge").dim == 16
    table = 4 * student.backbone.weight.numel()
    assert facts["bytes"]["model.safetensors"] == pytest.approx(table, rel=0.02)
    assert facts["bytes"]["onnx/model_quantized.onnx"] == pytest.approx(
        table / 4, abs=4096
    )  # a scale each row, and the graph
    measured = evaluate(
        passages=corpus, examples=corpus, models={"student": run / "student"}, teacher="", latency=False,
        resamples=10, out=run / "results",
    )  # fmt: skip
    assert artifact.is_done(run / "results") and set(measured["models"]) == {"student", "bm25"}
