"""Batches are a function of (seed, k), and tasks come as often as their share says."""

from collections.abc import Iterator

import numpy as np
import pytest

from distill.sampling import Sampler, cells, permuted

TASKS = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [120, 30, 6]))


def test_every_row_once_an_epoch() -> None:
    """Harm: some examples are seen twice as often as others, or never."""
    for rows, size in ((48, 12), (50, 12), (5, 12)):
        steps = max(1, rows // size)
        epochs = [np.concatenate([permuted(rows, size, 3, e * steps + at) for at in range(steps)]) for e in range(8)]
        for epoch in epochs:
            assert len(set(epoch.tolist())) == len(epoch) == min(size, rows) * steps
        assert len({tuple(epoch) for epoch in epochs}) > 5  # each in an order of its own
        assert set(np.concatenate(epochs).tolist()) == set(range(rows))  # who is left over changes


def drawn(steps: int, **given: object) -> list[np.ndarray]:
    sampler = Sampler(TASKS, 10, seed=3, **given)  # type: ignore[arg-type]
    return [sampler.batch(step) for step in range(steps)]


@pytest.mark.parametrize("given", [{}, {"by_task": True}, {"balance": 0.5}, {"by_task": True, "balance": 0.0}], ids=str)
def test_a_batch_needs_no_other_state_than_its_number(given: dict[str, object]) -> None:
    """Harm: a resumed training sees other data than one that was never stopped."""
    once, sampler = drawn(60, **given), Sampler(TASKS, 10, seed=3, **given)  # type: ignore[arg-type]
    for step in (59, 3, 31, 3, 0):
        assert np.array_equal(sampler.batch(step), once[step])
    if given.get("balance", 1.0) == 1.0:
        assert all(len(set(batch.tolist())) == len(batch) for batch in once)
    other = Sampler(TASKS, 10, seed=4, **given)  # type: ignore[arg-type]
    assert not all(np.array_equal(other.batch(step), once[step]) for step in range(3))


@pytest.mark.parametrize("by_task", [False, True])
@pytest.mark.parametrize("balance", [1.0, 0.5, 0.0])
def test_tasks_come_as_often_as_their_share(by_task: bool, balance: float) -> None:
    """Harm: the largest data set drowns the others though the config says that it may not, or the other way round."""
    shares = np.array([120.0, 30.0, 6.0]) ** balance
    rows = np.concatenate(drawn(3000, by_task=by_task, balance=balance))
    counts = np.bincount(TASKS[rows], minlength=3)
    # Task by task, a share is a number of batches of ten, so the rounding is coarser.
    np.testing.assert_allclose(counts / counts.sum(), shares / shares.sum(), atol=0.08 if by_task else 0.02)
    for task in range(3):  # within a task every row comes alike
        often = np.bincount(rows, minlength=len(TASKS))[task == TASKS]
        assert often.min() > 0.8 * often.max()


def test_a_batch_of_one_task_is_of_one_task() -> None:
    """Harm: another task's passages are negatives that nobody could mistake, and the loss looks better than it is."""
    assert all(len(set(TASKS[batch].tolist())) == 1 for batch in drawn(100, by_task=True))
    assert any(len(set(TASKS[batch].tolist())) > 1 for batch in drawn(100))


PLACES = np.random.default_rng(2).normal(size=(len(TASKS), 8)).astype(np.float32)


@pytest.mark.parametrize("given", [{}, {"by_task": True}, {"balance": 0.5}], ids=str)
def test_near_rows_come_together_and_all_of_them(given: dict[str, object]) -> None:
    """Harm: the hard batches that were asked for are random ones, or rows in dense places are never seen."""

    def far(batches: list[np.ndarray]) -> float:
        return float(np.mean([np.linalg.norm(PLACES[b] - PLACES[b].mean(0), axis=1).mean() for b in batches]))

    near = drawn(150, near=20, vectors=PLACES, **given)
    assert far(near) < 0.9 * far(drawn(150, **given))
    assert [b.tolist() for b in drawn(150, near=20, vectors=PLACES, **given)] == [b.tolist() for b in near]
    assert far(near) < far(drawn(150, near=80, vectors=PLACES, **given))
    often = np.bincount(np.concatenate(near), minlength=len(TASKS))
    for task in range(3):
        assert often[task == TASKS].min() > 0.5 * often[task == TASKS].max() > 0
    assert len({frozenset(batch.tolist()) for batch in near}) > 100  # other mates in each epoch


@pytest.mark.parametrize("rows", [1, 7, 8, 100])
def test_cells_are_small_enough_and_hold_each_row_once(rows: int) -> None:
    """Harm: rows that are alike, or that have no vector, are lost or fill a cell without end."""
    places = np.random.default_rng(3).normal(size=(rows, 4)).astype(np.float32)
    places[::3] = np.nan
    places[1::3] = 1.0
    found = list(cells(places, 7, 3, np.random.default_rng(1)))
    assert sorted(np.concatenate(found).tolist()) == list(range(rows))
    assert max(map(len, found)) <= 7


@pytest.mark.parametrize("given", [{}, {"by_task": True}], ids=str)
@pytest.mark.parametrize("near", [10, 25, 40])
def test_a_batch_is_of_one_cell(given: dict[str, object], near: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: near rows are sought, and then half of a batch is of one place and half of another."""
    made: list[set[int]] = []

    def noting(vectors: np.ndarray, most: int, size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
        for cell in cells(vectors, most, size, random):
            made.append({int(np.flatnonzero((vectors[row] == PLACES).all(1))[0]) for row in cell})
            yield cell

    monkeypatch.setattr("distill.sampling.cells", noting)
    batches = drawn(12, near=near, vectors=PLACES, **given)
    assert max(map(len, made)) <= near
    assert all(any(set(batch.tolist()) <= cell for cell in made) for batch in batches)
