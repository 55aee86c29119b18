"""Training trains what it says, logs what it minimises, and leaves nothing but the model."""

import functools
import warnings
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers.utils import logging

from distill import artifact, fit, models, tables
from distill.batches import Batch, ExampleBatches
from distill.errors import Refused
from distill.interfaces import TokenRows
from distill.objective import Objective, Schedule
from distill.readers import JSONL
from distill.runtime import Runtime
from distill.sampling import Sampler
from distill.stages.embed import embed
from distill.stages.ingest import ingest
from distill.stages.label import label
from distill.stages.mine import mine
from distill.stages.train import train
from students import Encoder
from teachers import NVEmbed

SHORT = Schedule(steps=4, queries=6, negatives=2, learning_rate=1e-3, warmup=1, precision="fp32")


@pytest.fixture(scope="module")
def taught(corpus: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder: a teacher's vectors, and examples with its scores."""
    run = tmp_path_factory.mktemp("taught")
    teacher = functools.partial(Encoder, base=str(encoder), length=24)
    embed(model=teacher, passages=corpus, out=run / "passage_vectors")
    embed(model=teacher, queries=corpus, out=run / "query_vectors")
    vectors = {name: (run / name,) for name in ("passage_vectors", "query_vectors")}
    mine(passages=corpus, queries=corpus, depth=10, out=run / "candidates", **vectors)
    label(candidates=run / "candidates", negatives=4, ceiling=5.0, out=run / "examples")
    return run


def student(encoder: Path, **settings: object) -> functools.partial[Encoder]:
    return functools.partial(Encoder, base=str(encoder), layers=(0, 2), length=24, **settings)


def curve(folder: Path, measure: str) -> list[float]:
    held = tables.read(folder, "curves").to_pylist()
    return [row["value"] for row in held if row["measure"] == measure]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    with safe_open(folder / "model" / "model.safetensors", "pt") as held:
        return {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118 no mapping


def test_the_loss_falls(corpus: Path, encoder: Path, tmp_path: Path) -> None:
    """Harm: the optimizer never sees the parameters, and training is an expensive copy."""
    schedule = replace(SHORT, steps=40, queries=12, learning_rate=1e-2)
    train(
        model=student(encoder), passages=corpus, examples=(corpus,), kinds=("retrieval",),
        objective=Objective(temperature=0.05), schedule=schedule, out=tmp_path / "student",
    )  # fmt: skip
    losses = curve(tmp_path / "student", "contrastive")
    assert len(losses) == 40
    assert np.mean(losses[-8:]) < 0.7 * np.mean(losses[:8])


@dataclass
class Alternating:
    """Two batches by turns."""

    each: tuple[Batch, Batch]
    texts: int = 8

    def batch(self, step: int) -> Batch:
        """The one or the other."""
        return self.each[step % 2]

    def named(self, step: int) -> str:
        """They have no rows."""
        return ""


def test_a_curve_has_no_value_of_a_step_that_measured_nothing(encoder: Path, texts: list[str], tmp_path: Path) -> None:
    """Harm: a step without a rival shows the accuracy of the one before, and a resumed training another curve."""
    model = student(encoder)()
    queries, passages = (model.tokenize(some).take(np.arange(4)) for some in (texts[:4], texts[4:8]))
    own = torch.eye(4, dtype=torch.bool)
    some, none = (
        Batch(passages, queries=queries, listed=torch.arange(4)[:, None], allowed=allowed)
        for allowed in (torch.ones_like(own), own)
    )
    told, _ = fit.fit(model, Alternating((some, none)), Objective(spread=0.1), SHORT, name="it", folder=tmp_path)
    assert [step for step, measure, _ in told if measure == "accuracy"] == [1, 3]
    assert [step for step, measure, _ in told if measure == "contrastive"] == [1, 2, 3, 4]


def test_every_part_is_logged_and_their_weighted_sum_is_minimised(
    corpus: Path, encoder: Path, taught: Path, tmp_path: Path
) -> None:
    """Harm: a loss is left out, counted twice or weighted wrongly, and no curve shows it."""
    objective = Objective(contrastive=0.5, kl=2.0, regression=0.25)
    facts = train(
        model=student(encoder), passages=corpus, examples=(taught / "examples",),
        vectors=(taught / "query_vectors", taught / "passage_vectors"), objective=objective, schedule=SHORT,
        out=tmp_path / "student",
    )  # fmt: skip
    parts = {name: np.array(curve(tmp_path / "student", name)) for name in ("loss", "contrastive", "kl", "regression")}
    assert {name: len(values) for name, values in parts.items()} == dict.fromkeys(parts, SHORT.steps)
    total = 0.5 * parts["contrastive"] + 2.0 * parts["kl"] + 0.25 * parts["regression"]
    np.testing.assert_allclose(parts["loss"], total, rtol=1e-5)
    assert min(values.min() for values in parts.values()) > 0
    assert facts["skipped_steps"] == 0
    assert isinstance(facts["teacher_temperature"], float)


def test_the_projector_is_trained_and_dropped(corpus: Path, encoder: Path, taught: Path, tmp_path: Path) -> None:
    """Harm: the exported student carries a layer that nobody applies, or its width is the teacher's."""
    train(
        model=student(encoder), passages=corpus, vectors=(taught / "passage_vectors",),
        objective=Objective(contrastive=0, regression=1), schedule=replace(SHORT, steps=25), out=tmp_path / "student",
    )  # fmt: skip
    losses = curve(tmp_path / "student", "regression")
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    started = student(encoder)().backbone.state_dict()
    assert weights(tmp_path / "student").keys() == started.keys()


def test_a_second_stage_starts_a_fresh_optimizer(corpus: Path, encoder: Path, tmp_path: Path) -> None:
    """Harm: momentum and step count of stage 1 leak into stage 2."""
    settings = {"passages": corpus, "examples": (corpus,)}
    train(model=student(encoder), schedule=SHORT, seed=1, out=tmp_path / "one", **settings)
    once = replace(SHORT, steps=1, learning_rate=1e-2, clip=0.0)
    train(model=tmp_path / "one", schedule=once, seed=2, out=tmp_path / "two", **settings)
    before, after = weights(tmp_path / "one"), weights(tmp_path / "two")
    moved = 0
    for name, held in before.items():
        kept = held * (1 - 1e-2 * 0.01) if held.ndim > 1 else held
        step = (after[name] - kept).abs()  # of fresh AdamW: the rate at most, and just that where the gradient is large
        assert step.max() <= 1e-2 * (1 + 1e-3)
        moved += int((step > 0.99e-2).sum())
    assert moved > 1000


def test_a_checkpoint_is_plain_tensors_of_what_is_trained(
    bare_decoder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fp32: None
) -> None:
    """Harm: a checkpoint that runs code when it is read, or that copies a frozen base of many gigabytes."""
    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", 0.0)
    teacher = NVEmbed(str(bare_decoder), latents=4, heads=2, rank=2, length=32)
    rows = teacher.tokenize(["how do owls fly", "can swifts sleep"], ["Find an answer"] * 2)
    texts = teacher.tokenize(["Young owls climb.", "Swifts sleep on the wing."])
    batches = ExampleBatches(
        queries=rows, passages=texts, lists=np.array([0, 1, 1, 0]), starts=np.array([0, 2, 4]),
        in_batch=np.ones(2, bool), group=np.full(2, -1), same=np.arange(2),
        sampler=Sampler(np.zeros(2, np.int64), 2, 0), negatives=1, seed=0,
    )  # fmt: skip
    frozen = {name: held.clone() for name, held in teacher.named_parameters() if not held.requires_grad}
    fit.fit(teacher, batches, Objective(), SHORT, name="teacher", folder=tmp_path)
    held = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    trained = {f"embedder.{name}" for name, held in teacher.named_parameters() if held.requires_grad}
    assert held["state_dict"].keys() == trained
    assert held["global_step"] == SHORT.steps
    assert all(torch.equal(held, frozen[name]) for name, held in teacher.named_parameters() if name in frozen)
    assert not teacher.training


@pytest.mark.parametrize(("warmup", "highest"), [(0, 0), (4, 3), (99, 9)])
def test_the_rate_rises_and_falls_to_zero(encoder: Path, warmup: int, highest: int) -> None:
    """Harm: a warm-up of none divides by zero; one longer than the training never reaches its rate."""
    schedule = Schedule(steps=100 if warmup == 99 else 40, warmup=warmup, learning_rate=1.0)
    made = fit.Training(student(encoder)(), Objective(), schedule).configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(schedule.steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[highest] == max(rates) == pytest.approx(1.0, abs=0.03)
    assert all(one < two for one, two in pairwise(rates[: highest + 1]))
    assert all(one > two for one, two in pairwise(rates[highest + 1 :]))
    assert 0 < rates[-1] < 0.03
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]


def test_a_batch_without_a_teachers_vector_is_no_nan(encoder: Path) -> None:
    """Harm: a batch of rows that were not embedded is skipped as not finite, and its other losses with it."""
    model = student(encoder)()
    training = fit.Training(model, Objective(regression=1.0), SHORT, torch.nn.Linear(model.dim, 8))
    tokens = model.tokenize(["owl", "bread", "chain"]).take(np.arange(3))
    batch = Batch(
        texts=tokens, text_targets=torch.full((3, 8), float("nan")), queries=tokens,
        listed=torch.arange(3)[:, None], allowed=torch.ones(3, 3, dtype=torch.bool),
    )  # fmt: skip
    parts = training.parts(batch)
    assert parts["regression"] == 0
    torch.stack(list(parts.values())).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in training.parameters())


def test_vectors_of_other_tables_are_refused(corpus: Path, encoder: Path, taught: Path, tmp_path: Path) -> None:
    """Harm: a traceback at the first step; or a student that was told to regress, and had nothing to regress on."""
    other = functools.partial(Encoder, base=str(encoder), length=24)
    embed(model=other, passages=taught_elsewhere(tmp_path), out=tmp_path / "vectors")
    settings = {"passages": corpus, "examples": (corpus,), "objective": Objective(regression=1), "schedule": SHORT}
    with pytest.raises(Refused, match=r"vectors embeds neither `passages` nor the queries"):
        train(model=student(encoder), vectors=(tmp_path / "vectors",), out=tmp_path / "student", **settings)
    assert not (tmp_path / "student").exists()
    train(model=student(encoder), vectors=(taught / "passage_vectors",), out=tmp_path / "student", **settings)


def taught_elsewhere(folder: Path) -> Path:
    """Passages of another corpus."""
    (folder / "other.jsonl").write_text('{"text": "A text of another corpus."}\n')
    ingest(sources=(JSONL(path=folder / "other.jsonl"),), out=folder / "other")
    return folder / "other"


def test_without_the_batch_only_the_own_list_counts(encoder: Path) -> None:
    """Harm: in stage 2 passages of batch-mates, which may share the label, are pushed away all the same."""
    model = student(encoder)().eval()
    tokens = model.tokenize(["a", "b", "c", "d", "e"]).take(np.arange(5))
    questions = model.tokenize(["how", "why"]).take(np.arange(2))
    listed = torch.tensor([[0, 1, -1], [2, 3, 4]])
    batch = Batch(texts=tokens, queries=questions, listed=listed, allowed=torch.ones(2, 5, dtype=torch.bool))
    found = fit.Training(model, Objective(in_batch=False, temperature=0.5), SHORT).parts(batch)["contrastive"]
    scores = model(questions) @ model(tokens).T / 0.5
    naive = [-torch.log_softmax(scores[row][columns], 0)[0] for row, columns in ((0, [0, 1]), (1, [2, 3, 4]))]
    torch.testing.assert_close(found, torch.stack(naive).mean())


def test_the_model_of_a_finished_step_is_the_trained_one(corpus: Path, encoder: Path, tmp_path: Path) -> None:
    """Harm: the weights that are written are the initial ones, or the artifact keeps its checkpoints for ever."""
    train(model=student(encoder), passages=corpus, examples=(corpus,), schedule=SHORT, out=tmp_path / "student")
    started, trained = student(encoder)(), models.embedder(tmp_path / "student")
    assert isinstance(trained, Encoder)
    changed = [
        name
        for name, held in trained.backbone.state_dict().items()
        if not torch.equal(held, started.backbone.state_dict()[name])
    ]
    assert len(changed) > 20
    assert not (tmp_path / "student" / "checkpoints").exists()
    assert artifact.facts(tmp_path / "student")["examples"] == 101
    rows: TokenRows = trained.tokenize(["a"])
    assert len(rows) == 1


def test_activations_computed_twice_are_no_matter_of_caches(
    corpus: Path, encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Harm: a library warns of a setting that nobody made, and people look for what they did wrong."""
    logging.warning_once.cache_clear()
    runtime = Runtime(recompute=True)
    out = tmp_path / "student"
    train(model=student(encoder), passages=corpus, examples=(corpus,), schedule=SHORT, runtime=runtime, out=out)
    assert "use_cache" not in caplog.text


def test_activations_computed_twice_give_the_same_model(corpus: Path, decoder: Path, tmp_path: Path) -> None:
    """Harm: whoever runs out of memory and turns a dial of speed gets another teacher, or one without gradients."""
    teacher = functools.partial(NVEmbed, base=str(decoder), latents=4, heads=2, length=48, dropout=0.0)
    found = []
    for again in (False, True):
        runtime = Runtime(recompute=again)
        out = tmp_path / str(again)
        train(model=teacher, passages=corpus, examples=(corpus,), schedule=SHORT, runtime=runtime, out=out)
        found.append(load_file(out / "model" / "adapters.safetensors"))
    moved = [name for name, weight in found[0].items() if "lora_B" in name and weight.abs().max() > 0]
    assert moved
    for name, weight in found[0].items():
        assert torch.allclose(weight, found[1][name], atol=1e-5), name


def test_a_fused_step_is_a_step(corpus: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: the faster optimizer is another one, or no gradient is clipped with it."""
    settings = {"model": student(encoder), "passages": corpus, "examples": (corpus,), "schedule": SHORT}
    train(**settings, out=tmp_path / "fused")
    with monkeypatch.context() as patch:
        patch.setattr(fit.Training, "_fuses", lambda self, trained: False)
        train(**settings, out=tmp_path / "plain")
    np.testing.assert_allclose(*(curve(tmp_path / name, "contrastive") for name in ("fused", "plain")), rtol=1e-4)
    training = fit.Training(student(encoder)(), Objective(), SHORT)
    optimizer = training.configure_optimizers()["optimizer"]
    assert optimizer.defaults["fused"]
    held = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter in held[1:]:
        parameter.grad = torch.ones_like(parameter)
    before = torch.cat([p.grad.flatten() for p in held[1:]])
    training.configure_gradient_clipping(optimizer, 0.25, None)
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in held[1:]]), before * 0.25 / before.norm())


@pytest.mark.slow
def test_a_compiled_training_is_the_same_training(corpus: Path, encoder: Path, tmp_path: Path) -> None:
    """Harm: a compiled model is saved under other names, or trains another model than the one that is saved."""
    settings = {"model": student(encoder), "passages": corpus, "examples": (corpus,), "schedule": SHORT}
    settings["model"] = functools.partial(Encoder, base=str(encoder), layers=(0,), length=24)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own
        train(**settings, runtime=Runtime(compiles=True), out=tmp_path / "compiled")
    train(**settings, out=tmp_path / "plain")
    np.testing.assert_allclose(*(curve(tmp_path / name, "contrastive") for name in ("compiled", "plain")), rtol=1e-3)
    made, plain = weights(tmp_path / "compiled"), weights(tmp_path / "plain")
    assert made.keys() == plain.keys()
    for name, held in plain.items():
        if not name.endswith("key.bias"):  # a softmax does not feel it: its gradient is rounding, which Adam blows up
            torch.testing.assert_close(made[name], held, rtol=0, atol=5e-4, msg=name)
