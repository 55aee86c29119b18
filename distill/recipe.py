"""What makes an artifact, as plain JSON, and its fingerprint.

Identity is what a thing is, not where: in a recipe a path is replaced by what lies there, an
artifact by its fingerprint and anything else by the SHA-256 of its bytes. So folders may be moved
and steps renamed, and a step name and a path give the same recipe.
"""

import dataclasses
import functools
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from distill.errors import Refused

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Known = Mapping[Path, str]
"""Fingerprints of artifacts that an experiment has not made yet, by their folders."""

OUTSIDE = ("out", "runtime")
"""Arguments of a verb that change where and how fast, never what: no part of a recipe. A class names its own so."""


def fingerprint(recipe: Mapping[str, object]) -> str:
    """SHA-256 of a recipe, as hexadecimal.

    Raises:
        Refused: A setting holds half a character, which no file can.
    """
    try:
        text = json.dumps(recipe, sort_keys=True, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        around = str(error.object)[max(0, error.start - 30) : error.end].encode("ascii", "backslashreplace").decode()
        raise Refused(f"a setting is no valid text at ...{around}. Write the character whole.") from error
    return hashlib.sha256(text).hexdigest()


State = tuple[tuple[Path, int, int], ...]
"""Name, size and time of change of each file: what tells that bytes must be read again."""


@functools.cache
def _bytes_of(path: Path, state: State) -> str:
    """SHA-256 of a file, or of a folder's files and their relative names."""
    total = hashlib.sha256()
    for file, _, _ in state:
        total.update(os.fsencode(file.relative_to(path).as_posix()) + b"\0")
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def _state(path: Path) -> State:
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def _path(path: Path, known: Known) -> dict[str, str]:
    if path in known:
        return {"artifact": known[path]}
    if (path / "recipe.json").is_file():
        return {"artifact": fingerprint(json.loads((path / "recipe.json").read_bytes()))}
    if path.exists():
        return {"sha256": _bytes_of(path, _state(path))}
    raise Refused(f"{path} does not exist.")


def class_path(thing: Callable[..., object]) -> str:
    """The name by which a config would call a class: its package where that exports it, else its module."""
    package = thing.__module__.partition(".")[0]
    exported = getattr(__import__(package), thing.__name__, None)
    return f"{package if exported is thing else thing.__module__}.{thing.__name__}"


def defaults(thing: Callable[..., object]) -> dict[str, object]:
    """The arguments that have a default, with it, of a function or a class; without those it keeps out of recipes."""
    parameters = inspect.signature(thing).parameters.values()
    kept = [p for p in parameters if p.name not in getattr(thing, "OUTSIDE", ())]
    return {p.name: p.default for p in kept if p.default is not inspect.Parameter.empty}


def _call(thing: functools.partial[object], known: Known) -> dict[str, object]:
    given = inspect.signature(thing.func).bind_partial(*thing.args, **thing.keywords).arguments
    outside = getattr(thing.func, "OUTSIDE", ())
    arguments = {**defaults(thing.func), **{name: held for name, held in given.items() if name not in outside}}
    return {
        "class_path": class_path(thing.func),
        "version": getattr(thing.func, "VERSION", 1),
        "init_args": {name: _argument(name, value, known) for name, value in arguments.items()},
    }


def _argument(name: str, value: object, known: Known) -> object:
    """An argument of a class; a `base` that names a folder stands for what the folder holds."""
    if name == "base" and isinstance(value, str) and value and Path(value).is_dir():
        return _path(Path(value), known)
    return describe(value, known)


def describe(value: object, known: Known) -> object:
    """A setting as JSON: paths by what lies there, classes by path and arguments.

    Args:
        value: A setting: plain, a path, a dataclass, a class with arguments (`functools.partial`).
        known: Fingerprints of artifacts not made yet.

    Raises:
        Refused: A path leads nowhere.
    """
    if isinstance(value, Path):
        return _path(value, known)
    if isinstance(value, functools.partial):
        return _call(value, known)
    if inspect.isclass(value):
        return _call(functools.partial(value), known)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        named = {"class": type(value).__name__} if type(value).__mro__[1] is not object else {}
        return named | {name: describe(held, known) for name, held in fields.items()}
    if isinstance(value, Mapping):
        return {str(name): describe(held, known) for name, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(held, known) for held in value]
    return value


def build(verb: str, version: int, settings: Mapping[str, object], known: Known) -> dict[str, object]:
    """The recipe of one step.

    Args:
        verb: Name of the stage.
        version: The stage's `VERSION`, raised when the meaning of its output changes.
        settings: Every argument with its value, defaults included.
        known: Fingerprints of artifacts not made yet.
    """
    kept = {name: describe(value, known) for name, value in settings.items() if name not in OUTSIDE}
    return {"verb": verb, "version": version, "settings": kept}


def standing(value: object) -> object:
    """What a setting would be if it named only what must be named: the defaults inside classes and dataclasses."""
    if isinstance(value, functools.partial) or inspect.isclass(value):
        made = value.func if isinstance(value, functools.partial) else value
        return {"init_args": {name: describe(held, {}) for name, held in defaults(made).items()}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: describe(held, {}) for name, held in _field_defaults(value).items()}
    if isinstance(value, Mapping):
        return {str(name): standing(held) for name, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [standing(held) for held in value]
    return None


def _field_defaults(value: "DataclassInstance") -> dict[str, object]:
    return {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(value)
        if not (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)
    }


def filled(old: Mapping[str, object], defaults: Mapping[str, object]) -> dict[str, object]:
    """An older recipe with the settings it lacks at today's defaults, so that a new option refuses nothing."""
    return {**old, **{name: _filled(old[name], value) if name in old else value for name, value in defaults.items()}}


def _filled(old: object, defaults: object) -> object:
    if isinstance(old, Mapping) and isinstance(defaults, Mapping):
        return filled(old, defaults)
    if isinstance(old, list) and isinstance(defaults, list) and len(old) == len(defaults):
        return [_filled(held, value) for held, value in zip(old, defaults, strict=True)]
    return old


def differences(old: object, new: object, names: Mapping[str, str] | None = None, at: str = "") -> list[str]:
    """One line for each leaf in which two recipes differ; one alone where the verbs do.

    Args:
        old: A recipe.
        new: Another.
        names: What to call artifacts, by their fingerprints.
        at: Where the two stand in larger ones.
    """
    if not at and isinstance(old, Mapping) and isinstance(new, Mapping) and old.get("verb") != new.get("verb"):
        return [f"verb: {_short(old.get('verb'))} -> {_short(new.get('verb'))}"]
    if (one := _artifact(old)) and (other := _artifact(new)) and one != other and names and other in names:
        is_another = names.get(one, names[other]) != names[other]
        told = (
            f"{names[one]} -> {names[other]}"
            if is_another
            else f"{names[other]} was made anew since, by another recipe"
        )
        return [f"{at.lstrip('.')}: {told}"]
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted(old.keys() | new.keys())
        return [line for key in keys for line in differences(old.get(key), new.get(key), names, f"{at}.{key}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for number, (one, other) in pairs for line in differences(one, other, names, f"{at}[{number}]")]
    return [] if old == new else [f"{at.lstrip('.')}: {_short(old)} -> {_short(new)}"]


def _artifact(value: object) -> str:
    """The fingerprint by which a recipe names an artifact; empty if the value is another thing."""
    return str(value["artifact"]) if isinstance(value, Mapping) and set(value) == {"artifact"} else ""


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def paths(value: object) -> list[Path]:
    """Every path inside a setting, at any depth."""
    if isinstance(value, Path):
        return [value]
    if isinstance(value, functools.partial):
        return paths([*value.args, value.keywords])
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [path for field in dataclasses.fields(value) for path in paths(getattr(value, field.name))]
    if isinstance(value, Mapping):
        return [path for held in value.values() for path in paths(held)]
    if isinstance(value, (list, tuple)):
        return [path for held in value for path in paths(held)]
    return []
