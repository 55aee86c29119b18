"""Every part of the objective in a training step: what it sees, and that cached gradients leave it as it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from distill import fit, losses
from distill.batches import Batch
from distill.objective import Objective, Schedule
from students import Encoder

QUERIES, TEXTS, DIM = 9, 20, 8
SCHEDULE = Schedule(steps=4, queries=QUERIES)

OBJECTIVES = {
    "contrastive": Objective(),
    "hard, masked, same tower": Objective(same_tower=True, margin=0.02, hardness=5.0, temperature=0.1),
    "a learned temperature": Objective(learn_temperature=True, temperature=0.07),
    "kl": Objective(contrastive=0, kl=1, teacher_temperature=0.1),
    "regression": Objective(contrastive=0, regression=1),
    "cosent": Objective(contrastive=0, cosent=1),
    "spread": Objective(spread=0.5),
    "shorter vectors": Objective(kl=1, teacher_temperature=0.1, regression=1, spread=0.1, widths=(4, 7)),
    "all": Objective(kl=1, teacher_temperature=0.1, regression=1, cosent=0.3, spread=0.1, same_tower=True, margin=0.1),
}


@pytest.fixture(scope="module")
def model(encoder: Path) -> Encoder:
    return Encoder(base=str(encoder), length=24)


@pytest.fixture(scope="module")
def batch(model: Encoder, texts: list[str]) -> Batch:
    """Nine queries: six with lists of three, three with one scored passage."""
    generator = torch.Generator().manual_seed(3)
    listed = torch.randint(TEXTS, (QUERIES, 3), generator=generator)
    listed[:, 0] = torch.arange(QUERIES)
    listed[6:, 1:] = -1
    allowed = torch.rand(QUERIES, TEXTS, generator=generator) < 0.6
    allowed[6:] = False
    allowed[torch.arange(QUERIES), listed[:, 0]] = True
    rivals = ~torch.eye(QUERIES, dtype=torch.bool)
    rivals[6:] = False
    return Batch(
        texts=model.tokenize(texts[:TEXTS]).take(np.arange(TEXTS)),
        text_targets=torch.randn(TEXTS, DIM, generator=generator),
        queries=model.tokenize(texts[TEXTS : TEXTS + QUERIES]).take(np.arange(QUERIES)),
        query_targets=torch.randn(QUERIES, DIM, generator=generator),
        listed=listed,
        allowed=allowed,
        rivals=rivals,
        scores=torch.rand(QUERIES, 3, generator=generator),
    )


def step(
    model: Encoder, batch: Batch, objective: Objective, chunk: int | None, tokens: int | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of a step; dropout on, with one seed."""
    torch.manual_seed(5)
    projector = torch.nn.Linear(model.dim, DIM) if objective.regression else None
    training = fit.Training(model, objective, SCHEDULE, projector, chunk, tokens).train()
    training.zero_grad()
    torch.manual_seed(6)
    loss = training.total(training.parts(batch))
    loss.backward()
    return loss.detach(), {at: held.grad.clone() for at, held in training.named_parameters() if held.grad is not None}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_cached_gradients_are_those_of_the_whole_batch(model: Encoder, batch: Batch, name: str) -> None:
    """Harm: a batch that does not fit is trained with other gradients than it says."""
    drops = [held for held in model.modules() if isinstance(held, torch.nn.Dropout)]
    before = [held.p for held in drops]
    try:
        for held in drops:
            held.p = 0.0  # chunks are other groups of texts, so dropout would be drawn in another order
        plain = step(model, batch, OBJECTIVES[name], None)
        for chunk, tokens in ((1, None), (4, None), (100, None), (None, 40)):
            cached = step(model, batch, OBJECTIVES[name], chunk, tokens)
            torch.testing.assert_close(cached[0], plain[0], rtol=1e-5, atol=1e-6)
            assert cached[1].keys() == plain[1].keys()
            for key, grad in plain[1].items():
                torch.testing.assert_close(cached[1][key], grad, rtol=1e-3, atol=2e-6, msg=key)
    finally:
        for held, p in zip(drops, before, strict=True):
            held.p = p
    assert any(grad.abs().max() > 1e-6 for grad in plain[1].values())


def test_dropout_is_the_same_the_second_time(model: Encoder, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: the gradient is of other activations than the loss."""
    assert any(held.p > 0 for held in model.modules() if isinstance(held, torch.nn.Dropout))
    cached = step(model, batch, Objective(), 5)
    monkeypatch.setattr("distill.fit.module.checkpoint", lambda embedder, tokens, use_reentrant: embedder(tokens))
    plain = step(model, batch, Objective(), 5)
    assert torch.equal(cached[0], plain[0])
    for key, grad in plain[1].items():
        torch.testing.assert_close(cached[1][key], grad, rtol=1e-4, atol=1e-6, msg=key)


def held_bytes(model: Encoder, batch: Batch, chunk: int | None) -> int:
    """What a forward pass keeps for the backward pass, weights left out."""
    weights = {held.data_ptr() for held in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    training = fit.Training(model, Objective(), SCHEDULE, None, chunk).train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        training.parts(batch)
    return sum(kept.values())


def test_chunks_hold_next_to_nothing(model: Encoder, batch: Batch) -> None:
    """Harm: cached gradients that cache everything: the time is paid and the memory is not saved."""
    assert held_bytes(model, batch, 4) < 0.1 * held_bytes(model, batch, None)


def test_a_budget_of_tokens_bounds_what_is_read_at_once(model: Encoder, batch: Batch) -> None:
    """Harm: a batch of long texts takes many times the memory of one of short texts, and breaks at step 9,000."""
    read: list[int] = []
    handle = model.register_forward_pre_hook(lambda module, given: read.append(given[0].ids.numel()))
    try:
        step(model, batch, Objective(), None, 40)
        longest = max(int(batch.texts.attend.sum(1).max()), 1)
        assert max(read) <= max(40, longest)
        assert len(read) > 2 * 3  # again in the backward pass
        read.clear()
        step(model, batch, Objective(), None, 1)
        assert len(read) == 2 * (TEXTS + QUERIES)  # what is longer than the budget stands alone
    finally:
        handle.remove()


def test_other_queries_count_as_negatives(model: Encoder, batch: Batch) -> None:
    """Harm: the same-tower part compares queries with the wrong columns."""
    model.eval()
    objective = Objective(same_tower=True, temperature=0.5)
    assert batch.queries is not None and batch.listed is not None and batch.allowed is not None
    assert batch.rivals is not None
    training = fit.Training(model, objective, SCHEDULE)
    training.eval()
    found = training.parts(batch)["contrastive"]
    queries, texts = model(batch.queries), model(batch.texts)
    rows = []
    for row in range(6):  # the other three have nothing to be told from
        columns = [texts[at] for at in range(TEXTS) if batch.allowed[row, at] or at == batch.listed[row, 0]]
        columns += [queries[at] for at in range(QUERIES) if batch.rivals[row, at]]
        logits = torch.stack([queries[row] @ column for column in columns]) / 0.5
        rows.append(logits.logsumexp(0) - queries[row] @ texts[batch.listed[row, 0]] / 0.5)
    torch.testing.assert_close(found, torch.stack(rows).mean())
    model.train()


def test_shorter_vectors_are_unit_vectors_and_count_as_much_as_the_whole(model: Encoder, batch: Batch) -> None:
    """Harm: a vector that is cut when it is used was trained uncut, or at another length."""
    model.eval()
    queries, texts = model(batch.queries).detach(), model(batch.texts).detach()
    assert batch.listed is not None and batch.allowed is not None
    positive, rows = batch.listed[:6, 0], range(6)
    naive = []
    for width in (model.dim, 5, 9):
        total = 0.0
        for row in rows:
            short = [vector[:width] / vector[:width].norm() for vector in (queries[row], *texts)]
            logits = torch.stack([short[0] @ text / 0.5 for text in short[1:]])
            kept = [at for at in range(TEXTS) if batch.allowed[row, at] or at == positive[row]]
            total += float(logits[kept].logsumexp(0) - logits[positive[row]])
        naive.append(total / 6)
    training = fit.Training(model, Objective(temperature=0.5, widths=(5, 9)), SCHEDULE).eval()
    with torch.no_grad():
        found = training.parts(batch)
        whole = fit.Training(model, Objective(temperature=0.5), SCHEDULE).eval().parts(batch)
    assert float(found["contrastive"]) == pytest.approx(np.mean(naive), rel=1e-4)
    assert float(whole["contrastive"]) == pytest.approx(naive[0], rel=1e-4)
    assert found["accuracy"] == whole["accuracy"]
    model.train()


def test_only_scored_pairs_are_ranked_by_their_scores(model: Encoder, batch: Batch) -> None:
    """Harm: a teacher's score of a retrieval row is taken for a grade of alikeness."""
    model.eval()
    training = fit.Training(model, replace(OBJECTIVES["cosent"], student_temperature=0.1), SCHEDULE).eval()
    assert batch.queries is not None and batch.scores is not None
    found = training.parts(batch)["cosent"]
    cosines = (model(batch.queries) * model(batch.texts)[:QUERIES]).sum(1)
    torch.testing.assert_close(found, losses.cosent(cosines[6:], batch.scores[6:, 0], 0.1))
    model.train()


def test_a_learned_temperature_moves_and_is_logged(model: Encoder, batch: Batch) -> None:
    """Harm: it is logged and never trained, or trained to zero, where one passage is all that counts."""
    training = fit.Training(model, OBJECTIVES["a learned temperature"], SCHEDULE)
    parts = training.parts(batch)
    assert parts["temperature"].item() == pytest.approx(0.07)
    parts["contrastive"].backward()
    assert training.log_temperature is not None and training.log_temperature.grad is not None
    assert training.log_temperature.grad.abs() > 0
    rates = [group["lr"] for group in training.configure_optimizers()["optimizer"].param_groups]
    assert rates[2] > 100 * rates[0]  # at the model's own rate it would not move
    with torch.no_grad():
        training.log_temperature.fill_(-50.0)
    assert training.parts(batch)["temperature"].item() == pytest.approx(0.005)


def test_accuracy_is_of_queries_that_can_be_wrong(model: Encoder, batch: Batch) -> None:
    """Harm: scored pairs, which stand alone, are always right, and the curve says that nothing is left to learn."""
    training = fit.Training(model, OBJECTIVES["all"], SCHEDULE, torch.nn.Linear(model.dim, DIM)).eval()
    share = training.parts(batch)["accuracy"] * 6
    assert share.item() == pytest.approx(round(share.item()))
    assert batch.allowed is not None
    alone = torch.zeros_like(batch.allowed).scatter(1, batch.listed[:, :1], True)  # type: ignore[index]
    assert "accuracy" not in training.parts(replace(batch, allowed=alone))
    model.train()
