"""Losses against double loops and their gradients, and against sentence-transformers."""

import math
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from distill import losses

QUERIES, PASSAGES, LISTED, DIM = 6, 17, 5, 8


def unit(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


def ragged() -> tuple[Tensor, Tensor, Tensor]:
    """Scores, a teacher's scores and lists of 5, 3, 2, 4, 1 and 5 passages."""
    generator = torch.Generator().manual_seed(1)
    scores, targets = torch.rand(2, QUERIES, LISTED, generator=generator)
    present = torch.arange(LISTED) < torch.tensor([5, 3, 2, 4, 1, 5])[:, None]
    return scores, targets * 30 - 20, present


def naive_contrastive(scores: Tensor, positive: Tensor, allowed: Tensor, temperature: float) -> Tensor:
    total = scores.new_zeros(())
    for query, row in enumerate(scores):
        right = int(positive[query])
        terms = [(value / temperature).exp() for at, value in enumerate(row) if allowed[query, at] or at == right]
        total = total - ((row[right] / temperature).exp() / sum(terms)).log()
    return total / len(scores)


def naive_kl(scores: Tensor, targets: Tensor, present: Tensor, student: float, teacher: float) -> Tensor:
    lists = []
    for said, told, there in zip(scores, targets, present, strict=True):
        places = [at for at in range(len(said)) if there[at]]
        if len(places) > 1:
            q = [(said[at] / student).exp() for at in places]
            p = [(told[at] / teacher).exp() for at in places]
            pairs = [(a / sum(p), b / sum(q)) for a, b in zip(p, q, strict=True)]
            lists.append(sum(a * (a.log() - b.log()) for a, b in pairs))
    return sum(lists) / len(lists)


def gradient(value: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(value, of)[0]


def test_contrastive_equals_a_double_loop() -> None:
    """Harm: the fast form drops a passage or divides by another number, and the training only gets a little worse."""
    generator = torch.Generator().manual_seed(2)
    positive = torch.randint(PASSAGES, (QUERIES,), generator=generator)
    allowed = torch.rand(QUERIES, PASSAGES, generator=generator) < 0.5
    scores = (unit(QUERIES, DIM) @ unit(PASSAGES, DIM, seed=1).T).requires_grad_()
    exact = scores.detach().double().requires_grad_()
    for temperature in (0.02, 0.05, 1.0):
        found = losses.contrastive(scores, positive, allowed, temperature)
        expected = naive_contrastive(exact, positive, allowed, temperature)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            gradient(found, scores).double(), gradient(expected, exact), rtol=1e-4, atol=1e-5 / temperature
        )


def test_positive_counts_even_when_it_is_not_allowed() -> None:
    """Harm: a mask that hides the positive (a batch-mate of the group lists it) makes the loss infinite."""
    scores = torch.tensor([[0.3, 0.1, 0.2]])
    nothing, one = torch.tensor([[False, False, False]]), torch.tensor([[False, False, True]])
    positive = torch.tensor([0])
    assert float(losses.contrastive(scores, positive, nothing, 0.1)) == 0
    expected = -math.log(math.exp(3) / (math.exp(3) + math.exp(2)))
    assert float(losses.contrastive(scores, positive, one, 0.1)) == pytest.approx(expected, rel=1e-5)


def test_masked_passages_have_no_gradient() -> None:
    """Harm: a suspected false negative is pushed away all the same."""
    scores = torch.rand(QUERIES, PASSAGES, generator=torch.Generator().manual_seed(3)).requires_grad_()
    positive = torch.arange(QUERIES)
    allowed = torch.arange(PASSAGES)[None, :] % 3 == torch.arange(QUERIES)[:, None] % 3
    kept = allowed.clone()
    kept[positive, positive] = True
    slope = gradient(losses.contrastive(scores, positive, allowed, 0.1), scores)
    assert (slope[~kept] == 0).all()
    assert (slope[kept] != 0).all()
    assert (slope[positive, positive] < 0).all()


def test_contrastive_equals_sentence_transformers() -> None:
    """Harm: numbers that cannot be compared with those of the library everybody uses."""
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    columns = [unit(QUERIES, DIM, seed=seed).requires_grad_() for seed in range(4)]  # query, positive, two negatives
    theirs = MultipleNegativesRankingLoss(nn.Identity(), scale=1 / 0.05)
    expected = theirs.compute_loss_from_embeddings(columns, torch.empty(0))
    scores = columns[0] @ torch.cat(columns[1:]).T
    found = losses.contrastive(scores, torch.arange(QUERIES), torch.ones(scores.shape, dtype=torch.bool), 0.05)
    torch.testing.assert_close(found, expected)
    for column in columns:  # theirs divides by the norm, which bends the slope along the vector only
        along = column.detach()
        ours = gradient_across(found, column, along)
        torch.testing.assert_close(ours, gradient_across(expected, column, along), rtol=1e-4, atol=1e-5)


def gradient_across(value: Tensor, of: Tensor, along: Tensor) -> Tensor:
    """The part of a gradient that is at right angles to unit vectors."""
    slope = torch.autograd.grad(value, of, retain_graph=True)[0]
    return slope - (slope * along).sum(-1, keepdim=True) * along


def test_kl_equals_a_double_loop() -> None:
    """Harm: padding of ragged lists takes part of the probability, or lists of one dilute the mean."""
    scores, targets, present = ragged()
    scores.requires_grad_()
    exact = scores.detach().double().requires_grad_()
    for student, teacher in ((0.05, 5.0), (0.02, 1.0), (1.0, 1.0)):
        found = losses.kl(scores, targets, present, student, teacher)
        expected = naive_kl(exact, targets.double(), present, student, teacher)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
        slope = gradient(found, scores)
        torch.testing.assert_close(slope.double(), gradient(expected, exact), rtol=1e-3, atol=1e-5 / student)
        assert (slope[~present] == 0).all()


@pytest.mark.parametrize("absent", [math.nan, math.inf, -math.inf, 1e30])
def test_what_stands_beyond_a_list_does_not_matter(absent: float) -> None:
    """Harm: a table's NaN beyond the end of a list turns the weights into NaN."""
    scores, targets, present = ragged()
    scores.requires_grad_()
    expected = losses.kl(scores, targets, present, 0.05, 5.0)
    found = losses.kl(scores, targets.masked_fill(~present, absent), present, 0.05, 5.0)
    assert torch.equal(found, expected)
    assert gradient(found, scores).isfinite().all()


def test_kl_is_zero_when_the_distributions_are_equal() -> None:
    """Harm: a cross entropy in KL's name: its floor is the teacher's entropy, so no curve shows convergence."""
    scores, _, present = ragged()
    scores.requires_grad_()
    found = losses.kl(scores, 7 * scores.detach() + 3, present, 0.05, 7 * 0.05)
    assert found.item() == pytest.approx(0, abs=1e-6)
    assert float(gradient(found, scores).abs().max()) < 1e-4
    assert losses.kl(scores, -scores.detach(), present, 0.05, 0.05).item() > 0.1


def test_kl_without_a_list_of_two_is_zero_and_differentiable() -> None:
    """Harm: a batch in which nothing can be compared stops the training with NaN or without a graph."""
    scores = torch.rand(3, 4).requires_grad_()
    found = losses.kl(scores, torch.rand(3, 4), torch.tensor([[True, False, False, False]] * 3), 0.05, 0.05)
    assert found.item() == 0
    assert (gradient(found, scores) == 0).all()


def test_kl_survives_a_teacher_that_is_certain() -> None:
    """Harm: log-probabilities a thousand apart underflow to 0 times infinity."""
    scores = torch.tensor([[0.1, 0.9]]).requires_grad_()
    found = losses.kl(scores, torch.tensor([[0.0, -1e4]]), torch.tensor([[True, True]]), 0.01, 0.1)
    assert found.item() == pytest.approx(80, rel=1e-3)
    assert gradient(found, scores).isfinite().all()


def test_kl_equals_sentence_transformers_but_for_the_temperature_squared() -> None:
    """Harm: at 0.05 their factor divides the gradient by 400, and KL beside another loss is switched off."""
    from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss

    columns = [unit(QUERIES, DIM, seed=seed).requires_grad_() for seed in range(5)]
    targets = torch.rand(QUERIES, 4, generator=torch.Generator().manual_seed(5))
    theirs = DistillKLDivLoss(nn.Identity(), student_temperature=0.05, teacher_temperature=0.2)
    expected = theirs.compute_loss_from_embeddings(columns, targets)
    listed = torch.arange(4)[None, :] * QUERIES + torch.arange(QUERIES)[:, None]
    scores = losses.listed_scores(columns[0], torch.cat(columns[1:]), listed)
    found = losses.kl(scores, targets, torch.ones(QUERIES, 4, dtype=torch.bool), 0.05, 0.2)
    torch.testing.assert_close(found * 0.05**2, expected)
    for column in columns:
        ours, their = (torch.autograd.grad(value, column, retain_graph=True)[0] for value in (found, expected))
        torch.testing.assert_close(ours * 0.05**2, their, rtol=1e-4, atol=1e-7)


def test_kl_over_a_matrix_equals_a_double_loop_and_leaves_out_what_the_teacher_has_not_read() -> None:
    """Harm: a query or a passage without a teacher's vector takes part of the probability, or makes all of it NaN."""
    generator = torch.Generator().manual_seed(8)
    queries, passages = unit(QUERIES, DIM).requires_grad_(), unit(PASSAGES, DIM, seed=1).requires_grad_()
    teacher = unit(QUERIES, 3 * DIM, seed=2) @ unit(PASSAGES, 3 * DIM, seed=3).T
    known = torch.rand(QUERIES, generator=generator) < 0.7
    read = torch.rand(PASSAGES, generator=generator) < 0.7
    present = known[:, None] & read
    assert 1 < known.sum() < QUERIES and 1 < read.sum() < PASSAGES
    found = losses.kl(losses.all_scores(queries, passages), teacher.masked_fill(~present, 0), present, 0.05, 0.2)
    exact = [held.detach().double().requires_grad_() for held in (queries, passages)]
    rows = []
    for at in range(QUERIES):
        if known[at]:
            columns = [column for column in range(PASSAGES) if read[column]]
            q = [(exact[0][at] @ exact[1][column] / 0.05).exp() for column in columns]
            p = [(teacher[at, column].double() / 0.2).exp() for column in columns]
            rows.append(sum(a / sum(p) * ((a / sum(p)).log() - (b / sum(q)).log()) for a, b in zip(p, q, strict=True)))
    expected = sum(rows) / len(rows)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)  # type: ignore[arg-type]
    for ours, theirs in zip((queries, passages), exact, strict=True):
        slope = torch.autograd.grad(found, ours, retain_graph=True)[0]
        naive = torch.autograd.grad(expected, theirs, retain_graph=True)[0]  # type: ignore[arg-type]
        torch.testing.assert_close(slope.double(), naive, rtol=1e-3, atol=1e-5)
    assert (torch.autograd.grad(found, passages)[0][~read] == 0).all()


def test_margin_mse_equals_a_double_loop() -> None:
    """Harm: places beyond the end of a list count as margins, or the positive is told from itself."""
    scores, targets, present = ragged()
    present[3, 2], present[1, 0] = False, False  # a negative, and a positive, without a score
    scores.requires_grad_()
    exact = scores.detach().double().requires_grad_()
    for scale in (1.0, 20.0):
        found = losses.margin_mse(scores, targets, present, scale)
        terms = [
            ((exact[row, 0] - exact[row, at]) - (targets[row, 0] - targets[row, at]).double() / scale) ** 2
            for row in range(QUERIES)
            for at in range(1, LISTED)
            if present[row, 0] and present[row, at]
        ]
        assert len(terms) == 4 + 1 + 2 + 0 + 4
        expected = sum(terms) / len(terms)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)  # type: ignore[arg-type]
        slope = gradient(found, scores)
        torch.testing.assert_close(slope.double(), gradient(expected, exact), rtol=1e-4, atol=1e-6)  # type: ignore[arg-type]
    nothing = losses.margin_mse(scores, targets, torch.zeros_like(present), 1.0)
    assert nothing.item() == 0
    assert (gradient(nothing, scores) == 0).all()


@pytest.mark.parametrize("negatives", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_margin_mse_equals_sentence_transformers(negatives: int, scale: float) -> None:
    """Harm: published settings of MarginMSE mean something else here; theirs takes labels that were scaled before."""
    from sentence_transformers.sentence_transformer.losses import MarginMSELoss

    columns = [unit(QUERIES, DIM, seed=seed).requires_grad_() for seed in range(2 + negatives)]
    targets = torch.randn(QUERIES, 1 + negatives, generator=torch.Generator().manual_seed(9)) * 8
    expected = MarginMSELoss(nn.Identity()).compute_loss_from_embeddings(columns, targets / scale)
    listed = torch.arange(1 + negatives)[None, :] * QUERIES + torch.arange(QUERIES)[:, None]
    scores = losses.listed_scores(columns[0], torch.cat(columns[1:]), listed)
    found = losses.margin_mse(scores, targets, torch.ones(targets.shape, dtype=torch.bool), scale)
    torch.testing.assert_close(found, expected)
    for column in columns:
        ours, theirs = (torch.autograd.grad(value, column, retain_graph=True)[0] for value in (found, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("distance", "theirs", "times"), [("cosine", "cosine", 1), ("l2", "mse", 2 * DIM)])
def test_regression_equals_sentence_transformers(
    distance: Literal["cosine", "l2"], theirs: Literal["cosine", "mse"], times: int
) -> None:
    """Harm: another distance than it is called: their `mse` is the mean over numbers, ours the sum (LEAF)."""
    from sentence_transformers.sentence_transformer.losses import EmbedDistillLoss

    columns = [(3 * unit(QUERIES, 2 * DIM, seed=seed)).requires_grad_() for seed in range(3)]
    targets = [unit(QUERIES, 2 * DIM, seed=10 + seed) for seed in range(3)]
    expected = EmbedDistillLoss(nn.Identity(), distance_metric=theirs).compute_loss_from_embeddings(columns, targets)  # type: ignore[arg-type]
    found = losses.regression(torch.cat(columns), torch.cat(targets), distance)
    torch.testing.assert_close(found, times * expected)
    for column in columns:
        slopes = [torch.autograd.grad(value, column, retain_graph=True)[0] for value in (found, times * expected)]
        torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-6)


def test_regression_by_squared_distance_equals_a_double_loop() -> None:
    """Harm: a mean over numbers in place of their sum, so that a wide teacher teaches a hundredth."""
    vectors, targets = (2 * unit(4, DIM)).requires_grad_(), unit(4, DIM, seed=1)
    expected = sum((vectors[text, at] - targets[text, at]) ** 2 for text in range(4) for at in range(DIM)) / 4
    found = losses.regression(vectors, targets, "l2")
    torch.testing.assert_close(found, expected)  # type: ignore[arg-type]
    torch.testing.assert_close(gradient(found, vectors), gradient(expected, vectors))  # type: ignore[arg-type]
    made = unit(4, DIM)
    assert losses.regression(made, targets, "l2").item() == pytest.approx(2 * losses.regression(made, targets).item())


def test_regression_is_the_mean_angle_whatever_the_lengths() -> None:
    """Harm: fp16 vectors that are not quite of unit length, or a projector's long ones, change the loss."""
    vectors, targets = unit(9, DIM).requires_grad_(), unit(9, DIM, seed=1)
    expected = sum(1 - (one @ other).item() for one, other in zip(vectors, targets, strict=True)) / 9
    assert losses.regression(vectors, targets).item() == pytest.approx(expected, abs=1e-6)
    assert losses.regression(5 * vectors, 0.1 * targets).item() == pytest.approx(expected, abs=1e-6)
    assert losses.regression(targets, targets).item() == pytest.approx(0, abs=1e-6)
    assert gradient(losses.regression(vectors, targets), vectors).abs().sum() > 0


def test_regression_on_nothing_is_zero_and_differentiable() -> None:
    """Harm: a batch in which the teacher has no vector gives NaN, and its other losses are thrown away with it."""
    vectors = unit(4, DIM).requires_grad_()
    found = losses.regression(vectors[:0], torch.zeros(0, DIM))
    assert found.item() == 0
    assert (gradient(found, vectors) == 0).all()


def test_relational_equals_a_double_loop() -> None:
    """Harm: texts without a teacher's vector pull all others towards right angles."""
    vectors, teacher = unit(7, DIM).requires_grad_(), unit(7, 3 * DIM, seed=1)
    known = torch.tensor([True, True, False, True, True, True, False])
    goal = (teacher @ teacher.T).masked_fill(~(known[:, None] & known), math.nan)
    found = losses.relational(losses.all_scores(vectors, vectors), goal, goal.isfinite())
    terms = [
        (vectors[a] @ vectors[b] - teacher[a] @ teacher[b]) ** 2
        for a in range(7)
        for b in range(7)
        if known[a] and known[b]
    ]
    expected = sum(terms) / 25
    torch.testing.assert_close(found, expected)  # type: ignore[arg-type]
    slope = gradient(found, vectors)
    torch.testing.assert_close(slope, gradient(expected, vectors), rtol=1e-4, atol=1e-7)  # type: ignore[arg-type]
    assert (slope[~known] == 0).all()
    turned = vectors.detach() @ torch.linalg.qr(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(1)))[0]
    same = losses.all_scores(turned, turned)
    there = torch.ones(7, 7, dtype=torch.bool)
    assert losses.relational(same, vectors.detach() @ vectors.detach().T, there).item() == pytest.approx(0, abs=1e-12)
    nothing = losses.relational(losses.all_scores(vectors, vectors), goal, ~there)
    assert nothing.item() == 0
    assert (gradient(nothing, vectors) == 0).all()


def test_listed_scores_equal_a_double_loop() -> None:
    """Harm: a query is scored with its neighbour's passages."""
    queries, passages = unit(QUERIES, DIM), unit(PASSAGES, DIM, seed=1)
    listed = torch.randint(PASSAGES, (QUERIES, LISTED), generator=torch.Generator().manual_seed(6))
    listed[2, 3:] = -1
    found = losses.listed_scores(queries, passages, listed)
    for query in range(QUERIES):
        for place in range(LISTED):
            if listed[query, place] >= 0:
                expected = float(queries[query] @ passages[listed[query, place]])
                assert float(found[query, place]) == pytest.approx(expected, abs=1e-6)
    assert found.isfinite().all()


def test_listed_scores_are_not_rounded_by_autocast() -> None:
    """Harm: cosines in bf16 have steps of 0.004, which a temperature of 0.02 makes steps of 0.2 in the logits."""
    queries, passages = unit(QUERIES, 64), unit(PASSAGES, 64, seed=1)
    listed = torch.arange(PASSAGES)[None, :].expand(QUERIES, -1)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses.listed_scores(queries, passages, listed)
    torch.testing.assert_close(found, queries @ passages.T, rtol=0, atol=1e-6)


def test_true_negatives_and_hardness_equal_a_double_loop() -> None:
    """Harm: the positive is masked or weighted too, or the weight of a negative has a gradient of its own."""
    generator = torch.Generator().manual_seed(7)
    scores = (unit(QUERIES, DIM) @ unit(PASSAGES, DIM, seed=1).T).double().requires_grad_()
    positive = torch.randint(PASSAGES, (QUERIES,), generator=generator)
    allowed = torch.rand(QUERIES, PASSAGES, generator=generator) < 0.7
    kept = losses.true_negatives(scores.detach(), positive, allowed, 0.1)
    assert 0 < kept.sum() < allowed.sum()
    found = losses.contrastive(scores, positive, kept, 0.5, hardness=5.0)
    total = scores.new_zeros(())
    for query, row in enumerate(scores):
        right = row[positive[query]]
        terms = [(right / 0.5).exp()]
        for at, value in enumerate(row):
            if at != positive[query] and allowed[query, at] and value <= right + 0.1:
                terms.append(math.exp(5 * value.item()) * (value / 0.5).exp())
        total = total - (terms[0] / sum(terms)).log()
    torch.testing.assert_close(found.double(), total / QUERIES, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient(found, scores), gradient(total / QUERIES, scores), rtol=1e-4, atol=1e-6)


def test_cosent_equals_a_double_loop_and_sentence_transformers() -> None:
    """Harm: couples of equal grade push each other apart, or the order is the wrong way round."""
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    pairs = [unit(9, DIM, seed=seed).requires_grad_() for seed in (1, 2)]
    grades = torch.tensor([0.0, 1.0, 2.5, 2.5, 5.0, 4.0, 1.0, 0.5, 3.0])
    scores = (pairs[0] * pairs[1]).sum(1)
    found = losses.cosent(scores, grades, 0.05)
    couples = [(a, b) for a in range(9) for b in range(9) if grades[a] > grades[b]]
    expected = torch.log(1 + sum(((scores[b] - scores[a]) / 0.05).double().exp() for a, b in couples))  # type: ignore[arg-type]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    theirs = CoSENTLoss(nn.Identity(), scale=20.0).compute_loss_from_embeddings(pairs, grades)
    torch.testing.assert_close(found, theirs, rtol=1e-5, atol=1e-6)
    for side in pairs:
        ours = gradient_across(found, side, side.detach())
        torch.testing.assert_close(ours, gradient_across(theirs, side, side.detach()), rtol=1e-4, atol=1e-5)
    assert losses.cosent(scores[:0], grades[:0], 0.05).item() == 0
    assert losses.cosent(torch.tensor([0.9, 0.1]), torch.tensor([5.0, 0.0]), 0.05) < 1e-5


def test_spread_equals_a_double_loop() -> None:
    """Harm: each text is pushed away from itself."""
    vectors = unit(5, DIM).requires_grad_()
    expected = sum((vectors[a] @ vectors[b]) ** 2 for a in range(5) for b in range(5) if a != b) / 20
    found = losses.spread(vectors)
    torch.testing.assert_close(found, expected)  # type: ignore[arg-type]
    torch.testing.assert_close(gradient(found, vectors), gradient(expected, vectors))  # type: ignore[arg-type]
    assert losses.spread(vectors[:1]).item() == 0


def test_spread_equals_sentence_transformers_but_for_the_floor() -> None:
    """Harm: a published weight of the regulariser is another one here: EmbeddingGemma's is of the sum of columns."""
    from sentence_transformers.sentence_transformer.losses import GlobalOrthogonalRegularizationLoss

    columns = [nn.functional.normalize(unit(9, DIM, seed=seed) + 0.5, dim=-1).requires_grad_() for seed in (1, 2)]
    theirs = GlobalOrthogonalRegularizationLoss(nn.Identity(), mean_weight=0.0, aggregation="sum")
    expected = theirs.compute_loss_from_embeddings(columns)["gor_second_moment"]
    found = losses.spread(columns[0]) + losses.spread(columns[1])
    torch.testing.assert_close(found - 2 / DIM, expected)  # theirs is zero below what random vectors have
    for column in columns:  # theirs divides by the norm
        ours = gradient_across(found, column, column.detach())
        torch.testing.assert_close(ours, gradient_across(expected, column, column.detach()), rtol=1e-4, atol=1e-6)
