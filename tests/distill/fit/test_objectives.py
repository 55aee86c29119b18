"""Every part of the objective in a training step: what it sees, and that cached gradients leave it as it is."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from distill import fit, losses
from distill.batches import Batch
from distill.errors import Refused
from distill.interfaces import Embedder, TokenRows, Tokens
from distill.objective import LOSSES, Objective, Schedule
from students import Encoder

QUERIES, TEXTS, DIM = 9, 20, 8
SCHEDULE = Schedule(steps=4, queries=QUERIES)

TEMPERATURES = {"teacher_temperature": 0.1, "matrix_temperature": 0.1}


def only(*names: str, **settings: object) -> Objective:
    """These losses alone, each with a weight of its own."""
    weights: dict[str, object] = {name: 1 / (2 + at) for at, name in enumerate(names)}
    return Objective(**{"contrastive": 0.0, **TEMPERATURES, **weights, **settings})  # type: ignore[arg-type]


OBJECTIVES = {
    **{name: only(name) for name in LOSSES},
    "hard, masked, same tower": Objective(same_tower=True, margin=0.02, hardness=5.0, temperature=0.1),
    "a learned temperature": Objective(learn_temperature=True, temperature=0.07),
    "a squared distance": only("regression", distance="l2"),
    "margins of logits": only("margin_mse", margin_scale=20.0),
    "shorter vectors": only(*LOSSES, widths=(4, 7)),
    "all": only(*LOSSES, same_tower=True, margin=0.1),
}


@pytest.fixture(scope="module")
def model(encoder: Path) -> Encoder:
    return Encoder(base=str(encoder), length=24, dropout=0.1)


@pytest.fixture(scope="module")
def batch(model: Encoder, texts: list[str]) -> Batch:
    """Nine queries: six with lists of three, three with one scored passage; a text and a query without a target."""
    generator = torch.Generator().manual_seed(3)
    listed = torch.randint(TEXTS, (QUERIES, 3), generator=generator)
    listed[:, 0] = torch.arange(QUERIES)
    listed[6:, 1:] = -1
    allowed = torch.rand(QUERIES, TEXTS, generator=generator) < 0.6
    allowed[6:] = False
    allowed[torch.arange(QUERIES), listed[:, 0]] = True
    rivals = ~torch.eye(QUERIES, dtype=torch.bool)
    rivals[6:] = False
    text_targets, query_targets = (torch.randn(rows, DIM, generator=generator) for rows in (TEXTS, QUERIES))
    text_targets[4], query_targets[2] = torch.nan, torch.nan  # the teacher has read neither
    return Batch(
        texts=model.tokenize(texts[:TEXTS]).take(np.arange(TEXTS)),
        text_targets=text_targets,
        queries=model.tokenize(texts[TEXTS : TEXTS + QUERIES]).take(np.arange(QUERIES)),
        query_targets=query_targets,
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


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """Of each with each, one by one."""
    return torch.stack([torch.stack([nn.functional.cosine_similarity(a, b, dim=0) for b in other]) for a in one])


@pytest.mark.parametrize("widths", [(), (5, 9)])
def test_the_matrix_is_of_all_passages_that_the_teacher_has_read(
    model: Encoder, batch: Batch, widths: tuple[int, ...]
) -> None:
    """Harm: only the own list is compared, or the query's row is of another query's vectors."""
    model.eval()
    assert batch.queries is not None and batch.query_targets is not None and batch.text_targets is not None
    settings = {"matrix_temperature": 0.2, "widths": widths}
    found = fit.Training(model, only("matrix", **settings), SCHEDULE).eval().parts(batch)["matrix"]
    queries, texts = model(batch.queries).detach(), model(batch.texts).detach()
    asked, read = [row for row in range(QUERIES) if row != 2], [row for row in range(TEXTS) if row != 4]
    told = (cosines(batch.query_targets[asked], batch.text_targets[read]) / 0.2).log_softmax(1)
    naive = []
    for width in (model.dim, *widths):
        said = (cosines(queries[asked, :width], texts[read, :width]) / 0.2).log_softmax(1)
        naive.append((told.exp() * (told - said)).sum(1).mean())
    torch.testing.assert_close(found, torch.stack(naive).mean(), rtol=1e-4, atol=1e-6)
    model.train()


@pytest.mark.parametrize("widths", [(), (5, 9)])
@pytest.mark.parametrize("lacking", [None, "queries", "text_targets", "query_targets"])
def test_relations_are_of_all_texts_that_the_teacher_has_read(
    model: Encoder, batch: Batch, widths: tuple[int, ...], lacking: str | None
) -> None:
    """Harm: queries are told from queries and passages from passages, and never the one from the other."""
    model.eval()
    assert batch.queries is not None and batch.query_targets is not None and batch.text_targets is not None
    given = batch
    if lacking:
        given = replace(batch, **{lacking: None, **({"query_targets": None} if lacking == "queries" else {})})  # type: ignore[arg-type]
    found = fit.Training(model, only("relational", widths=widths), SCHEDULE).eval().parts(given)["relational"]
    sides = [] if lacking == "text_targets" else [(model(batch.texts), batch.text_targets, 4)]
    sides += [] if lacking in ("queries", "query_targets") else [(model(batch.queries), batch.query_targets, 2)]
    made, wanted = (
        torch.cat([torch.cat([side[at][: side[2]], side[at][side[2] + 1 :]]) for side in sides]) for at in (0, 1)
    )
    each = [
        (cosines(made[:, :width], made[:, :width]) - cosines(wanted, wanted)).square().mean()
        for width in (model.dim, *widths)
    ]
    torch.testing.assert_close(found, torch.stack(each).mean(), rtol=1e-4, atol=1e-6)
    model.train()


@pytest.mark.parametrize("distance", ["cosine", "l2"])
def test_regression_is_of_queries_positives_and_hard_negatives(model: Encoder, batch: Batch, distance: str) -> None:
    """Harm: hard negatives, whose vectors EmbeddingGemma found to matter most, are left where they are."""
    model.eval()
    assert batch.query_targets is not None and batch.text_targets is not None
    projector = nn.Linear(model.dim, DIM)
    training = fit.Training(model, only("regression", distance=distance), SCHEDULE, projector).eval()
    found = training.parts(batch)["regression"]
    terms = []
    for made, wanted in ((batch.texts, batch.text_targets), (batch.queries, batch.query_targets)):
        for vector, target in zip(projector(model(made)), wanted, strict=True):
            if target.isfinite().all():
                cosine = 1 - nn.functional.cosine_similarity(vector, target, dim=0)
                terms.append(cosine if distance == "cosine" else (vector - target).square().sum())
    assert len(terms) == TEXTS - 1 + QUERIES - 1
    torch.testing.assert_close(found, torch.stack(terms).mean())
    model.train()


def test_a_batch_that_the_teacher_has_not_read_is_no_nan(model: Encoder, batch: Batch) -> None:
    """Harm: one batch of rows without vectors or scores, and the step with its other losses is thrown away."""
    assert batch.query_targets is not None and batch.text_targets is not None and batch.scores is not None
    bare = replace(
        batch,
        query_targets=torch.full_like(batch.query_targets, torch.nan),
        text_targets=torch.full_like(batch.text_targets, torch.nan),
        scores=torch.full_like(batch.scores, torch.nan),
    )
    training = fit.Training(model, only(*LOSSES), SCHEDULE, nn.Linear(model.dim, DIM))
    parts = training.parts(bare)
    for name in ("kl", "matrix", "margin_mse", "cosent", "regression", "relational"):
        assert parts[name] == 0
    training.zero_grad()
    training.total(parts).backward()
    grads = [held.grad for held in training.parameters() if held.grad is not None]
    assert grads
    assert all(grad.isfinite().all() for grad in grads)


class Rows(Embedder):
    """A table of vectors, read by row number: by us and by sentence-transformers."""

    dim = 12

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(rows, self.dim, generator=torch.Generator().manual_seed(4)))

    def tokenize(self, texts: Sequence[str], tasks: Sequence[str] | None = None) -> TokenRows:
        """A text is the number of a row."""
        return TokenRows.of([[int(text)] for text in texts], [0] * len(texts), 0)

    def forward(self, tokens: Tokens) -> Tensor:
        """Rows as unit vectors."""
        return nn.functional.normalize(self.table[tokens.ids[:, 0]], dim=-1)

    def save(self, folder: Path) -> None:
        """Not needed here."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Not needed here."""
        raise NotImplementedError


class Theirs(nn.Module):
    """The same as sentence-transformers wants it."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows = rows

    def get_embedding_dimension(self) -> int:
        """Of the whole vectors."""
        return self.rows.dim

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """One column of texts."""
        return {"sentence_embedding": nn.functional.normalize(self.rows.table[features["rows"]], dim=-1)}


@pytest.mark.parametrize("name", ["contrastive", "kl", "margin_mse"])
def test_shorter_vectors_equal_sentence_transformers(name: str) -> None:
    """Harm: vectors that are cut elsewhere than theirs; only the weight differs: our mean is their sum."""
    from sentence_transformers.sentence_transformer import losses as their_losses

    model, count = Rows(4 * 6), 6  # queries, positives and two negatives of each, in turn
    wrapped = Theirs(model)
    columns = [{"rows": torch.arange(count) + at * count} for at in range(4)]
    scores = torch.rand(count, 3, generator=torch.Generator().manual_seed(5))
    theirs, factor = {
        "contrastive": (their_losses.MultipleNegativesRankingLoss(wrapped, scale=5.0), 1.0),
        "kl": (their_losses.DistillKLDivLoss(wrapped, student_temperature=0.2, teacher_temperature=0.1), 0.04),
        "margin_mse": (their_losses.MarginMSELoss(wrapped), 1.0),
    }[name]
    whole = their_losses.MatryoshkaLoss(wrapped, theirs, [12, 7, 3])  # type: ignore[arg-type]
    expected = whole(columns, scores)
    expected.backward()
    their_slope, model.table.grad = model.table.grad, None
    rows = model.tokenize([str(row) for row in range(4 * count)])
    batch = Batch(
        texts=rows.take(np.arange(count, 4 * count)),
        queries=rows.take(np.arange(count)),
        listed=torch.arange(3)[None, :] * count + torch.arange(count)[:, None],
        allowed=torch.ones(count, 3 * count, dtype=torch.bool),
        scores=scores,
    )
    objective = only(name, widths=(7, 3), temperature=0.2, student_temperature=0.2)
    found = fit.Training(model, objective, SCHEDULE).parts(batch)[name]
    found.backward()
    torch.testing.assert_close(found * 3 * factor, expected, rtol=1e-4, atol=1e-6)
    assert model.table.grad is not None and their_slope is not None
    torch.testing.assert_close(model.table.grad * 3 * factor, their_slope, rtol=1e-3, atol=1e-6)


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


def test_a_weight_without_a_loss_is_refused(model: Encoder, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: a loss that someone added is named and weighted, never computed, and the training is called done."""
    monkeypatch.setitem(LOSSES, "margin", ())
    with pytest.raises(Refused, match=r"objective\.margin has a weight, and nothing computes it"):
        fit.Training(model, Objective(margin=0.1), SCHEDULE).parts(batch)


def test_accuracy_is_of_queries_that_can_be_wrong(model: Encoder, batch: Batch) -> None:
    """Harm: scored pairs, which stand alone, are always right, and the curve says that nothing is left to learn."""
    training = fit.Training(model, OBJECTIVES["all"], SCHEDULE, torch.nn.Linear(model.dim, DIM)).eval()
    share = training.parts(batch)["accuracy"] * 6
    assert share.item() == pytest.approx(round(share.item()))
    assert batch.allowed is not None
    alone = torch.zeros_like(batch.allowed).scatter(1, batch.listed[:, :1], True)  # type: ignore[index]
    assert "accuracy" not in training.parts(replace(batch, allowed=alone))
    model.train()
