"""What travels with rows from step to step: licences of all that they came from, benchmarks they were held against.

Each step's facts hold it whole, so that an artifact that was moved, or whose inputs were deleted, still tells.
"""

import dataclasses
import functools
import inspect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill import artifact, licences, recipe

Counts = Mapping[str, Mapping[str, int]]
"""For each benchmark, how often its text was found, by rule."""

SAME, PARTLY, KEPT = "word for word", "in part", "kept"
"""Rules by which a text occurs in a benchmark; and how many of those rows were marked and not dropped."""


@dataclass(frozen=True)
class Lineage:
    """What an artifact hands on to those made from it."""

    licences: Mapping[str, str]
    """Of each source and each model."""
    screened: Mapping[str, Counts]
    """What each step that brought texts in found of the benchmarks it excluded, by the step's fingerprint: of an
    artifact that is read along several ways it is counted once."""

    def contamination(self) -> dict[str, dict[str, int]]:
        """For each benchmark, how often its text was found, over all steps that brought texts in."""
        found: dict[str, dict[str, int]] = {}
        for counts in self.screened.values():
            for benchmark, by_rule in counts.items():
                held = found.setdefault(benchmark, {})
                for rule, count in by_rule.items():
                    held[rule] = held.get(rule, 0) + count
        return found

    def facts(self) -> dict[str, object]:
        """As a step's facts hold it."""
        return {"licences": self.licences, "contamination": self.contamination(), "screened": self.screened}


def names(excluded: Sequence[Path]) -> list[str]:
    """What benchmarks are called: their folders' names, with what those lie in where two have one name."""
    named = Counter(folder.name for folder in excluded)
    return [folder.name if named[folder.name] == 1 else f"{folder.parent.name}/{folder.name}" for folder in excluded]


def told(name: str, facts: Mapping[str, object]) -> Lineage:
    """What an artifact's facts tell.

    Args:
        name: The artifact's. One made before sources were recorded tells its licences without them, or none.
        facts: Its facts.
    """
    held, screened = facts.get("licences"), facts.get("screened", {})
    if not isinstance(held, Mapping):
        named = "; ".join(map(str, held)) or licences.NOT_STATED if isinstance(held, list) else licences.UNKNOWN
        held = {f"{name} (made before sources were recorded)": named}
    assert isinstance(screened, Mapping)
    return Lineage(held, screened)


def chosen_on(folder: Path) -> set[str]:
    """Fingerprints of the benchmarks that a model's weights were chosen on: as `dev`, by it or a model it began as.

    Args:
        folder: The artifact of a model, or of its export. Steps that it began as are looked for beside it.
    """
    folders = [other for other in folder.absolute().parent.iterdir() if artifact.is_artifact(other)]
    beside = {artifact.fingerprint(other): other for other in folders}
    waiting, seen, found = [artifact.fingerprint(folder)], set[str](), set[str]()
    while waiting:
        if (wanted := waiting.pop()) in seen or wanted not in beside:
            continue
        seen.add(wanted)
        settings = artifact.read_json(beside[wanted] / "recipe.json")["settings"]
        assert isinstance(settings, Mapping)
        found |= set(_fingerprints(settings.get("dev")))
        waiting += [*_fingerprints(settings.get("model")), *_fingerprints(settings.get("models"))]
    return found


def _fingerprints(value: object) -> Iterator[str]:
    """Of all artifacts inside a setting of a recipe."""
    for held in _within(value):
        if isinstance(held, Mapping) and set(held) == {"artifact"}:
            yield str(held["artifact"])


def of(settings: Mapping[str, object], compared: Sequence[str] = ()) -> Lineage:
    """What a step hands on: that of all it reads, and the licences of the sources and models it names.

    Args:
        settings: Of the step.
        compared: Settings that name what the output is only compared with: nothing of that gets into it.
    """
    given = {name: held for name, held in settings.items() if name not in (*recipe.OUTSIDE, *compared)}
    found: dict[str, str] = {}
    screened: dict[str, Counts] = {}
    for folder in _artifacts(given):
        held = told(folder.name, artifact.facts(folder))
        found = licences.united(found, held.licences)
        screened |= held.screened
    for source, licence in (*_models(given), *_sources(given)):
        found = licences.united(found, {source: licence})
    return Lineage(dict(sorted(found.items())), screened)


def _artifacts(settings: Mapping[str, object]) -> list[Path]:
    """The artifacts that settings read, whole or a part of theirs, each once."""
    around = (_around(path) for path in [*recipe.paths(settings), *(Path(base) for base, _ in _bases(settings))])
    return list(dict.fromkeys(folder for folder in around if folder is not None))


def _around(path: Path) -> Path | None:
    """The finished artifact that a path is, or lies in."""
    if not path.exists():  # a name on a hub
        return None
    there = path.absolute()
    return next((folder for folder in (there, *there.parents) if artifact.is_done(folder)), None)


def _models(settings: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Name and licence of each model that no step made."""
    for base, revision in _bases(settings):
        if _around(Path(base)) is None:
            from distill import hub

            yield Path(base).name if Path(base).exists() else base, hub.licence(base, revision)


def _bases(settings: Mapping[str, object]) -> Iterator[tuple[str, str | None]]:
    """What each class among settings starts from, or asks: a name or a path, and its revision."""
    for held in _within(settings):
        if isinstance(held, functools.partial) or inspect.isclass(held):
            made = functools.partial(held)  # of a partial it is the same again
            bound = inspect.signature(made.func).bind_partial(*made.args, **made.keywords).arguments
            given = {**recipe.defaults(made.func), **bound}
            revision = given.get("revision")
            named = [given[name] for name in ("base", "model") if isinstance(given.get(name), str) and given[name]]
            for base in (*named, *(value for value in given.values() if isinstance(value, Path))):
                yield str(base), revision if isinstance(revision, str) else None


def _sources(settings: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Name and licence of each reader; one that reads an artifact may leave the licence to that."""
    for held in _within(settings):
        licence = getattr(held, "licence", None)
        if isinstance(licence, str):
            paths = recipe.paths(held)
            if licence or not any(map(_around, paths)):
                name = getattr(held, "source", "") or ", ".join(path.name for path in paths) or type(held).__name__
                yield str(name), licence or licences.NOT_STATED


def _within(value: object) -> Iterator[object]:
    """A setting and everything inside it."""
    yield value
    if isinstance(value, functools.partial):
        value = [*value.args, *value.keywords.values()]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for held in value:
            yield from _within(held)
