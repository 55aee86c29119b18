"""What is wrong with the models of an experiment whatever they hold: told before any of them is loaded.

Only what costs nothing to know is looked at: names, and the sizes that a plan reckons with.
"""

import functools
import inspect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from distill import artifact
from distill.errors import Refused, with_article
from distill.estimate.sizes import Plan, Step

OURS = ("teachers", "students")
"""Packages whose classes mean by `base`, `revision` and `layers` what is meant here; others may mean anything."""


def faults(steps: Mapping[str, Step]) -> Iterator[tuple[str, str]]:
    """The name of each faulty step that has work left, with what is wrong and what to do.

    Args:
        steps: All steps of an experiment, parsed.
    """
    made = {step.out: step for step in steps.values()}
    plan = Plan(steps)
    for name, step in steps.items():
        if artifact.is_done(step.out):
            continue
        try:
            for model in _named(step.settings):
                _check_base(model)
            if step.verb == "train":
                _check_widths(step, plan, made)
            elif step.verb == "average":
                _check_alike(step, made)
            elif step.verb == "export":
                _check_portable(step, made)
        except Refused as error:
            yield name, str(error)


def _named(value: object) -> Iterator[functools.partial[Any]]:
    """Our classes with their arguments, wherever a setting holds them."""
    if isinstance(value, functools.partial):
        if value.func.__module__.partition(".")[0] in OURS:
            yield value
    elif isinstance(value, Mapping):
        for held in value.values():
            yield from _named(held)


def _check_base(model: functools.partial[Any]) -> None:
    """A base that is none or is not pinned, or of which what is asked for cannot be made."""
    from distill import hub, surgery

    given = model.keywords
    if {"base", "model"} <= inspect.signature(model.func).parameters.keys():
        hub.check_start(str(given.get("base", "")), given.get("model"), given.get("revision"))
    if not isinstance(base := given.get("base"), str) or not base:  # empty beside a `model`
        return
    hub.check(base, given.get("revision"))
    revision = given.get("revision")
    check = getattr(model.func, "check_shape", None)
    if check and (shape := hub.outline(base, revision)):
        asked = given.keys() & inspect.signature(check).parameters.keys()
        check(shape, **{name: given[name] for name in asked})
    elif layers := given.get("layers"):
        try:
            count = hub.size(base, revision).layers
        except Refused:  # nothing of it is here yet
            return
        surgery.check_layers(layers, count)


def _kind(model: object, made: Mapping[Path, Step]) -> type | None:
    """The class of a model, followed through the steps that train it; None if it cannot be told."""
    from distill import models

    if isinstance(model, functools.partial):
        return model.func if isinstance(model.func, type) else None
    if not isinstance(model, Path):
        return None
    if model in made:
        settings = made[model].settings
        return _kind(settings["models"][0] if made[model].verb == "average" else settings.get("model"), made)
    with suppress(Refused):
        return models.saved(model)[0]
    return None


def _check_widths(step: Step, plan: Plan, made: Mapping[Path, Step]) -> None:
    kind, weights = _kind(step.settings["model"], made), None
    if (widths := step.settings["objective"].widths) and kind and kind.__module__.partition(".")[0] in OURS:
        weights = plan.weights(step.settings["model"])
    if weights and (wrong := [width for width in widths if width >= weights.width]):
        raise Refused(f"objective.widths: {wrong[0]}; needed: from 1 to {weights.width - 1}, for the model's is whole.")


def _check_alike(step: Step, made: Mapping[Path, Step]) -> None:
    kinds = {model: kind for model in step.settings["models"] if (kind := _kind(model, made))}
    for model, kind in kinds.items():
        first, other = next(iter(kinds.items()))
        if kind is not other:
            raise Refused(
                f"models: {first.name} is {with_article(other.__name__)}, {model.name} {with_article(kind.__name__)}. "
                "Average alike."
            )


def _check_portable(step: Step, made: Mapping[Path, Step]) -> None:
    from distill import portable

    kind = _kind(step.settings["model"], made)
    if kind is None or kind.__module__.partition(".")[0] not in OURS:
        return
    declared = {name for each in kind.__mro__ for name in inspect.get_annotations(each)}
    if not declared >= set(portable.required()):
        named = step.settings["model"]
        raise Refused(
            f"model: {named.name if isinstance(named, Path) else 'this'} is {with_article(kind.__name__)}, which "
            "cannot be written as a mean-pooled transformer. Export a student such as students.Encoder."
        )
