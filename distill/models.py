"""From what a step names to a model in memory, and back to a folder."""

import contextlib
import difflib
import functools
import importlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path

from distill import artifact, files, interfaces, recipe
from distill.errors import Refused, with_article
from distill.interfaces import Embedder, LanguageModel

Model = Path | Callable[[], Embedder]
"""The step (its folder) that trained a model, or a class with its arguments."""

Writer = Callable[[], LanguageModel]
"""A class with its arguments that makes a language model."""

Judge = Callable[[], interfaces.Judge]
"""A class with its arguments that makes a language model or a cross-encoder."""

CLASS = "class.json"
"""Beside what a model saved: which class reads it."""

allowed = ["teachers.", "students.", "distill.readers."]
"""Packages that a config or a saved model may name a class of; `--allow` adds to it."""


def find(class_path: str) -> type:
    """The class of an allowed name.

    Raises:
        Refused: Its package is not allowed, or there is no such class.
    """
    if "." not in class_path:
        raise Refused(f"class {class_path} has no package before its name.")
    if not class_path.startswith(tuple(allowed)):
        raise Refused(f"class {class_path} is not in an allowed package ({', '.join(allowed)}). Allow it with --allow.")
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise Refused(f"class {class_path}: {error}.") from error
    if not inspect.isclass(found):
        raise Refused(f"class {class_path}: {module} has no class {name}.")
    return found


def offered(wanted: type) -> list[str]:
    """The class paths of a kind of class that the allowed packages offer."""
    found = []
    for package in allowed:
        with contextlib.suppress(ImportError):
            held = importlib.import_module(package.removesuffix("."))
            named = {name: getattr(held, name) for name in getattr(held, "__all__", vars(held))}
            kinds = {name: kind for name, kind in named.items() if inspect.isclass(kind) and issubclass(kind, wanted)}
            found += [f"{package}{name}" for name, kind in kinds.items() if not inspect.isabstract(kind)]
    return found


def meant(class_path: str, wanted: type) -> str:
    """A hint for a message, when a name is almost that of a class of a kind, or that of one without its package."""
    paths = {path.rpartition(".")[2].lower(): path for path in offered(wanted)}
    close = difflib.get_close_matches(class_path.rpartition(".")[2].lower(), paths, 1)
    return f" Did you mean {paths[close[0]]!r}?" if close else ""


def class_path(model: object) -> str:
    """The name by which `find` finds a model's class."""
    return recipe.class_path(type(model))


def save(model: Embedder, out: Path) -> None:
    """Write a model into its artifact, or into a folder of its own, all of it or nothing; `embedder` reads it."""
    out.mkdir(parents=True, exist_ok=True)
    with files.replacing(out / "model") as folder:
        folder.mkdir()
        model.save(folder)
        (folder / CLASS).write_text(json.dumps({"class_path": class_path(model)}) + "\n")


def saved(model: Path) -> tuple[type[Embedder], Path]:
    """The class of a saved model, and the folder that its `load` reads.

    Args:
        model: A step that trained it, its folder `model`, or what `save` wrote.

    Raises:
        Refused: The folder holds no model, or one of a class that is not allowed or does not embed.
    """
    places = [model / "model", model]
    if not artifact.is_artifact(model) and any((place / CLASS).is_file() for place in places):
        folder = next(place for place in places if (place / CLASS).is_file())
    elif not artifact.is_artifact(model) and any(model.glob("*.safetensors")):
        raise Refused(
            f"{model} is not an artifact (it has no recipe.json), and no {CLASS} says which class reads it. Write a "
            "model with distill.models.save, or name its class."
        )
    else:
        folder = artifact.holds(model, "model")
    if not (folder / CLASS).is_file():
        raise Refused(
            f"{model} was not trained; it holds an export. Name the step that trained it, or the class "
            "students.Exported with this folder."
        )
    named = artifact.read_json(folder / CLASS)
    if "class_path" not in named:
        raise Refused(f"{folder / CLASS} names no class (class_path). Copy the folder again, or make it again.")
    found = find(str(named["class_path"]))
    if not issubclass(found, Embedder):
        said = f"{folder} holds {with_article(found.__name__)}, which does not embed"
        raise Refused(f"{said}. Name a step that trained an embedder.")
    return found, folder


def embedder(model: Model) -> Embedder:
    """A model ready to embed, in evaluation mode: of a step, of a folder that `save` wrote, or of a class.

    Raises:
        Refused: The folder holds no model, or one of a class that is not allowed or does not embed.
    """
    if not isinstance(model, Path):
        return model().eval()
    from distill import hub

    found, folder = saved(model)
    with hub.loading(folder):
        return found.load(folder).eval()


def label(model: Model) -> str:
    """A short name that no other model has: the step or the class, and what made it."""
    if isinstance(model, Path):
        if artifact.is_artifact(model):
            return f"{model.name}@{artifact.fingerprint(model)[:12]}"
        return f"{model.name}@{recipe.fingerprint({'model': recipe.describe(model, {})})[:12]}"
    named = model.func if isinstance(model, functools.partial) else model
    made = recipe.fingerprint({"model": recipe.describe(model, {})})
    return f"{getattr(named, '__name__', 'model')}@{made[:12]}"
