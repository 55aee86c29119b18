"""Models of several trainings to one: the mean of their weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill import artifact, console, files
from distill.artifact import Facts
from distill.errors import Refused, with_article
from distill.findings import flat
from distill.stages import stage

OWN = ("base", "revision", "seed", "rank", "dropout", "layers", "_name_or_path", "transformers_version")
"""Settings in which ingredients may differ: they say where a model came from and how it was trained."""

FAR = 0.25
"""Of the mean's length: two models that have nothing in common lie 1 from it; half their tensors in common, 0.7."""


def _check_models(models: tuple[Path, ...]) -> None:
    if len(models) < 2 or len(set(models)) < len(models):
        raise Refused(f"models: {len(set(models))} of {len(models)} differ; needed: two or more, each once.")


@stage(version=2, check=_check_models)
def average(*, models: tuple[Path, ...], out: Path) -> Facts:
    """Average the weights of models that began alike: a soup, better than its best ingredient in most reports.

    No model is loaded: saved tensors are averaged one after the other, and a base that the models name is no part of
    it. Adapters are put side by side, so that their product is the mean of their products, and the soup is as large
    as its ingredients together. Six runs with other seeds and mixtures gained llama-embed-nemotron 0.8 points
    (arXiv 2511.07025). Where all kept a projector to one teacher's space, the mean of those is kept too.

    Args:
        models: Steps that trained the same architecture from the same start, each counting alike.
        out: The artifact.

    Returns:
        How far the models lie from their mean in what they save, as a share of its length.

    Raises:
        Refused: There are fewer than two, or they are not of one shape.
    """
    from distill import models as opened
    from distill import projection, soup

    kinds, folders = zip(*map(opened.saved, models), strict=True)
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise Refused(f"average: {', '.join(map(str, models))}; needed: each once.")
    for other, kind, folder in zip(models[1:], kinds[1:], folders[1:], strict=True):
        if kind is not kinds[0]:
            one, another = with_article(kinds[0].__name__), with_article(kind.__name__)
            raise Refused(f"average: {models[0]} is {one}, {other} {another}. Average alike.")
        _check_alike(models[0], folders[0], other, folder)
    spread = soup.Spread()
    # A class whose tensors are no plain sums, such as adapters, says how they are averaged.
    mean = getattr(kinds[0], "average", soup.average)
    with files.replacing(out / "model") as folder:
        mean(folders, folder, spread)
    if _lead_to_one_space(models):
        with files.replacing(out / projection.FOLDER) as folder:
            soup.average([model / projection.FOLDER for model in models], folder, soup.Spread())
    told: dict[str, object] = {"models": len(models), "apart": round(spread.apart, 6)}
    if mean is soup.average and spread.apart > FAR:  # adapters, which begin at random, lie anywhere
        told["warning"] = (
            f"the models lie {spread.apart:.0%} of their mean's length from it. Did they begin as the same layers of "
            "one base? The mean of others is worth nothing: evaluate it beside them."
        )
        console.say(f"{out.name}: {told['warning']}", "yellow")
    return told


def _lead_to_one_space(models: tuple[Path, ...]) -> bool:
    """Whether each model kept a projector, and all of them to the space of one teacher."""
    from distill import projection

    kept = [model / projection.FOLDER / projection.SETTINGS for model in models]
    return all(file.is_file() for file in kept) and len({str(artifact.read_json(file)["space"]) for file in kept}) == 1


def _check_alike(first: Path, one: Path, second: Path, other: Path) -> None:
    """Weights of one shape may still be read in two ways: attention, pooling, prompts, length, another tokenizer."""
    for file in sorted(one.rglob("*.json")):
        name = file.relative_to(one)
        if not (other / name).is_file():
            raise Refused(
                f"average: {first} holds {name}, {second} does not. Average trainings with the same settings."
            )
        if files.digest(file) == files.digest(other / name):
            continue
        told = [_settings(file), _settings(other / name)]
        for key in sorted({*told[0], *told[1]}):
            values = [held.get(key) for held in told]
            if key.split()[0] not in OWN and values[0] != values[1]:
                raise Refused(
                    f"average: {key} of {first} is {values[0]!r:.60}, of {second} {values[1]!r:.60}. "
                    "Average trainings with the same settings."
                )


def _settings(file: Path) -> Mapping[str, Any]:
    return dict(flat(json.loads(file.read_bytes())))
