"""Compares every value with its annotation, shapes too, while tests run: `--jaxtyping-packages` in pyproject.toml."""

from typing import Any, Self

from beartype import BeartypeConf, FrozenDict, beartype

typechecked = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,  # an int will do for a float, as mypy has it
        hint_overrides=FrozenDict({Self: Any}),  # jaxtyping decorates methods one by one, where Self means nothing
    )
)
