"""Token ids of their own lengths as padded batches."""

from pathlib import Path

import numpy as np
import pytest
import torch

from distill.interfaces import TokenRows

ROWS = TokenRows.of([[5, 6, 7], [8], [9, 10, 11, 12], [13, 14]], [1, 0, 4, 0], pad=99)


def test_take_pads_on_the_right_and_masks_what_is_not_pooled() -> None:
    """Harm: padding, or the words of the instruction, enter a text's mean."""
    taken = ROWS.take(np.array([1, 0, 3]))
    assert taken.ids.tolist() == [[8, 99, 99], [5, 6, 7], [13, 14, 99]]
    assert taken.attend.tolist() == [[True, False, False], [True, True, True], [True, True, False]]
    assert taken.pool.tolist() == [[True, False, False], [False, True, True], [True, True, False]]
    assert taken.ids.dtype == torch.int64


def test_last_row_does_not_run_over_the_end() -> None:
    """Harm: the shortest and last text of a table reads beyond it."""
    taken = ROWS.take(np.array([3, 2]))
    assert taken.ids.tolist() == [[13, 14, 99, 99], [9, 10, 11, 12]]
    assert taken.pool.tolist() == [[True, True, False, False], [False] * 4]


def test_lengths_and_number() -> None:
    """Harm: batches are cut by lengths that are not the texts'."""
    assert len(ROWS) == 4
    assert ROWS.lengths.tolist() == [3, 1, 4, 2]
    nothing = TokenRows.of([], [], 0)
    assert len(nothing) == 0
    assert nothing.lengths.tolist() == []


def test_rows_may_be_asked_for_twice_and_in_any_order() -> None:
    """Harm: a passage that two batches share comes out as its neighbour."""
    generator = np.random.default_rng(0)
    held = [generator.integers(0, 2**31, generator.integers(1, 9)).tolist() for _ in range(50)]
    rows = TokenRows.of(held, [0] * 50, pad=0)
    wanted = generator.integers(0, 50, 200)
    taken = rows.take(wanted)
    for at, number in enumerate(wanted):
        assert taken.ids[at][taken.attend[at]].tolist() == held[number]


def test_memory_maps_are_read(tmp_path: Path) -> None:
    """Harm: ids on disk need another path, which no test walks."""
    for name, held in (("ids", ROWS.ids), ("starts", ROWS.starts), ("unpooled", ROWS.unpooled)):
        np.save(tmp_path / f"{name}.npy", held)
    mapped = TokenRows(
        *(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("ids", "starts", "unpooled")), 99
    )
    one, other = mapped.take(np.array([2, 1])), ROWS.take(np.array([2, 1]))
    for name in ("ids", "attend", "pool"):
        assert torch.equal(getattr(one, name), getattr(other, name))


def test_to_keeps_each_part_in_its_place() -> None:
    """Harm: attention and pooling masks are swapped on the way to a GPU."""
    taken = ROWS.take(np.array([0, 2]))
    moved = taken.to(torch.device("meta"))
    assert (moved.ids.device.type, moved.ids.dtype) == ("meta", torch.int64)
    same = taken.to(torch.device("cpu"))
    assert torch.equal(same.attend, taken.attend)
    assert torch.equal(same.pool, taken.pool)


def test_as_many_unpooled_as_texts_are_kept() -> None:
    """Harm: more than 65,535 tokens of ids in fewer bits: large vocabularies wrap around."""
    assert TokenRows.of([[262_143, 2**32 - 1]], [0], 0).take(np.array([0])).ids.tolist() == [[262_143, 2**32 - 1]]
    with pytest.raises(OverflowError):
        TokenRows.of([[2**32]], [0], 0)
