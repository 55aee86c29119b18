"""The table of verbs, and what makes a plain function one.

>>> from pathlib import Path
>>> from distill.stages.label import label                        # doctest: +SKIP
>>> label(candidates=Path("runs/quickstart/judgements"), negatives=3, out=Path("runs/mine/examples"))  # doctest: +SKIP
"""

import dataclasses
import functools
import importlib
import inspect
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import ParamSpec

from distill import __version__, artifact, console, licences, lineage, recipe, runtime
from distill.artifact import Facts
from distill.errors import Refused
from distill.objective import LOSSES

VERBS = (
    "synthesize", "ingest", "train", "average", "generate", "embed", "mine", "judge", "label", "health", "export",
    "evaluate", "report",
)  # fmt: skip

AT_LEAST = {
    **dict.fromkeys(("depth", "limit", "part_rows", "resamples", "tasks", "tokens", "within", "words"), 1),
    **dict.fromkeys(("fusion", "negatives", "samples", "seed", "skip", "temperature", "texts"), 0),
    **dict.fromkeys((f"objective.{name}" for name in LOSSES), 0),
    **dict.fromkeys(("objective.margin", "objective.hardness"), 0),
    **dict.fromkeys(("gates.difference", "gates.cosine_mean", "gates.cosine_min"), 0),
    **dict.fromkeys(
        ("runtime.batch_tokens", "runtime.chunk", "runtime.chunk_tokens", "runtime.devices", "runtime.nodes"), 1
    ),
    **dict.fromkeys(("schedule.queries", "schedule.steps", "schedule.dev_queries", "schedule.dev_steps"), 1),
    **dict.fromkeys(("schedule.dev_passages",), 1),
    **dict.fromkeys(("schedule.patience",), 0),
    **dict.fromkeys(
        ("schedule.balance", "schedule.clip", "schedule.negatives", "schedule.warmup", "schedule.weight_decay"), 0
    ),
}
ABOVE = {
    **dict.fromkeys(("ceiling", "top_p", "schedule.learning_rate", "objective.temperature"), 0),
    **dict.fromkeys(("objective.student_temperature", "objective.teacher_temperature", "objective.margin_scale"), 0),
    "objective.matrix_temperature": 0,
}
AT_MOST = {"seed": 2**32 - 1, "top_p": 1, "schedule.balance": 1, "gates.cosine_mean": 1, "gates.cosine_min": 1}
"""What a number of this name must be in every verb; what is outside runs into the wild, or silently does nothing."""

_said: set[tuple[str, str]] = set()  # sources, with their licences, that this process has warned of: once is enough

P = ParamSpec("P")


def verb(name: str) -> Callable[..., Facts]:
    """The stage of this name; imported when asked for, since some drag in torch or Lightning."""
    stage = getattr(importlib.import_module(f"distill.stages.{name}"), name)
    assert callable(stage)
    return stage  # type: ignore[no-any-return]


def defaults(function: Callable[..., object]) -> dict[str, object]:
    """A stage's arguments that have a default, with it."""
    return recipe.defaults(function)


def standing(function: Callable[..., object], settings: Mapping[str, object]) -> dict[str, object]:
    """The recipe of a call that names only what must be named: what an older recipe lacks is filled in from here."""
    made = recipe.build(function.__name__, getattr(function, "version", 1), defaults(function), {})
    inside = {name: recipe.standing(value) for name, value in settings.items() if name not in recipe.OUTSIDE}
    return recipe.filled(made, {"settings": {name: value for name, value in inside.items() if value is not None}})


def recipe_of(
    function: Callable[..., object], settings: Mapping[str, object], known: recipe.Known
) -> dict[str, object]:
    """The recipe of one call of a stage."""
    version = getattr(function, "version", 1)
    return recipe.build(function.__name__, version, {**defaults(function), **settings}, known)


def inputs_of(settings: Mapping[str, object]) -> dict[str, Path]:
    """The artifacts that a call reads, by argument name."""
    found: dict[str, Path] = {}
    for name, value in settings.items():
        if name not in recipe.OUTSIDE:
            folders = [path for path in recipe.paths(value) if artifact.is_artifact(path)]
            found |= {name if len(folders) == 1 else f"{name}[{i}]": folder for i, folder in enumerate(folders)}
    return found


def ranges(settings: Mapping[str, object], at: str = "") -> list[str]:
    """Numbers outside their range, a line each."""
    found = []
    for name, value in settings.items():
        key = f"{at}{name}"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            found += ranges(vars(value), f"{key}.")
        elif isinstance(value, float) and not math.isfinite(value):
            found.append(f"{key}: {value}; needed: a number.")
        elif isinstance(value, (int, float)):
            if key in AT_LEAST and not value >= AT_LEAST[key]:
                found.append(f"{key}: {value}; needed: at least {AT_LEAST[key]}.")
            if key in AT_MOST and not value <= AT_MOST[key]:
                found.append(f"{key}: {value}; needed: at most {AT_MOST[key]}.")
            if key in ABOVE and not value > ABOVE[key]:
                found.append(f"{key}: {value}; needed: more than {ABOVE[key]}.")
    return found


def faults(function: Callable[..., object], settings: Mapping[str, object]) -> list[str]:
    """What is wrong with a call whatever its inputs hold, a line each: known before anything runs."""
    if wrong := ranges(settings):
        return wrong
    if checked := getattr(function, "check", None):
        given = {**defaults(function), **settings}
        try:
            checked(**{name: given[name] for name in inspect.signature(checked).parameters})
        except Refused as error:
            return str(error).splitlines()
    return []


def stage(
    version: int,
    *,
    resumes: bool = False,
    check: Callable[..., None] | None = None,
    compared: tuple[str, ...] = (),
    warns: bool = False,
) -> Callable[[Callable[P, Facts]], Callable[P, Facts]]:
    """Make a function a verb: claim its folder, skip finished work, and mark what it made complete.

    The function writes tables into `out` and returns facts; called again with the same arguments it
    returns the facts of the finished work without doing it, and with others it is refused. What travels
    with rows (`distill.lineage`) is added to the facts here; `contamination` in those of the function is its own.

    Args:
        version: Raised by hand when the meaning of the output changes; part of the recipe.
        resumes: Whether it goes on where a kill left it, as dear stages do; else it begins anew.
        check: Takes some of the arguments, by their names, and refuses what cannot be meant whatever the inputs hold.
        compared: Arguments whose artifacts the output is only compared with: of their lineage it has nothing.
        warns: Whether it makes what goes to others, so that licences that bind, or are not known, are said.
    """

    def wrap(function: Callable[P, Facts]) -> Callable[P, Facts]:
        @functools.wraps(function)
        def call(*args: P.args, **settings: P.kwargs) -> Facts:
            out = settings["out"]
            assert isinstance(out, Path), "out: a pathlib.Path, the folder to write"
            if wrong := faults(call, settings):
                raise Refused("\n".join(f"{function.__name__}: {line}" for line in wrong))
            if runtime.joins(out):
                return function(*args, **settings)  # the process that started this one holds the folder
            inputs = inputs_of(settings)
            for folder in inputs.values():
                artifact.require(folder)
            made = recipe_of(call, settings, {})
            with artifact.claim(out, made, inputs, standing(call, settings), resumes=resumes) as work:
                if work:
                    began = time.time()
                    runtime.release_memory()
                    held = lineage.of({**defaults(call), **settings}, compared)
                    warned = {"licence_warnings": _warn(out.name, held.licences)} if warns else {}
                    facts = function(*args, **settings)
                    held = _with_own(held, facts, out)
                    artifact.finish(out, {**facts, **held.facts(), **warned, **_circumstances(began)})
                return artifact.facts(out)

        call.version, call.check = version, check  # type: ignore[attr-defined]
        return call

    return wrap


def _warn(name: str, held: Mapping[str, str]) -> list[str]:
    """What licences ask of users; said of each source once a run, before the work begins."""
    fresh = {source: licence for source, licence in held.items() if (source, licence) not in _said}
    for warning in licences.warnings(fresh):
        console.say(f"{name}: {warning}", "yellow")
    _said.update(fresh.items())
    return licences.warnings(held)


def _with_own(held: lineage.Lineage, facts: Facts, out: Path) -> lineage.Lineage:
    """With what the step itself found of benchmarks in the texts that it brought in."""
    own = facts.get("contamination")
    if not isinstance(own, Mapping):
        return held
    return dataclasses.replace(held, screened={**held.screened, artifact.fingerprint(out)[:12]: own})


def summed(counts: Iterable[object]) -> dict[str, int]:
    """Counts by rule, as the notes of parts hold them, added up."""
    found: dict[str, int] = {}
    for held in counts:
        assert isinstance(held, dict)
        for rule, count in held.items():
            found[rule] = found.get(rule, 0) + count
    return found


def _circumstances(began: float) -> dict[str, object]:
    import platform
    from importlib import metadata

    named = ("torch", "transformers", "lightning", "sentence-transformers", "pyarrow", "numpy")
    return {
        "seconds": round(time.time() - began, 3),
        "peak_memory_bytes": runtime.peak_memory(),
        "versions": {"distill": __version__, "python": platform.python_version()}
        | {name: metadata.version(name) for name in named},
    }
