"""Models of several trainings to one: the mean of their weights."""

from pathlib import Path
from typing import TYPE_CHECKING

from distill.artifact import Facts
from distill.errors import Refused
from distill.stages import stage

if TYPE_CHECKING:
    import torch

    from distill.interfaces import Embedder


def _check_models(models: tuple[Path, ...]) -> None:
    if len(models) < 2 or len(set(models)) < len(models):
        raise Refused(f"models: {len(set(models))} of {len(models)} differ; needed: two or more, each once.")


@stage(version=1, check=_check_models)
def average(*, models: tuple[Path, ...], out: Path) -> Facts:
    """Average the weights of models that began alike: a soup, better than its best ingredient in most reports.

    Adapters are merged first: the mean of products is not the product of means. Six runs with other seeds and
    mixtures gained llama-embed-nemotron 0.8 points (arXiv 2511.07025).

    Args:
        models: Steps that trained the same architecture from the same start, each counting alike.
        out: The artifact.

    Returns:
        How far the models lie from their mean, as a share of its length.

    Raises:
        Refused: There are fewer than two, or they are not of one shape.
    """
    from distill import console
    from distill import models as opened

    with console.bar(out.name, len(models)) as bar:
        mean = _merged(models[0])
        total = {name: held.double() for name, held in _weights(mean).items()}
        squared = sum(float(held.square().sum()) for held in total.values())
        for folder in models[1:]:
            bar.step(1, folder.name)
            other = _merged(folder)
            _check_alike(models[0], mean, folder, other)
            weights = _weights(other)
            _check_shapes(models[0], total, folder, weights)
            for name, held in weights.items():
                total[name] += held.double()
                squared += float(held.double().square().sum())
        for name, held in _weights(mean).items():
            held.copy_(total[name] / len(models))
        bar.step(1, "write")
    opened.save(mean, out)
    length = sum(float((held / len(models)).square().sum()) for held in total.values())
    apart = max(0.0, squared / len(models) - length) / length  # the mean square less the square of the mean
    return {"models": len(models), "apart": round(apart**0.5, 6)}


def _merged(folder: Path) -> "Embedder":
    from distill import models

    held = models.embedder(folder)
    held.merge()
    return held


def _weights(model: "Embedder") -> dict[str, "torch.Tensor"]:
    """What is averaged, by name: numbers, not counters."""
    return {name: held.detach() for name, held in model.state_dict().items() if held.is_floating_point()}


OWN = ("base", "revision", "seed", "rank", "dropout", "layers")
"""Settings in which ingredients may differ: they say where a model came from and how it was trained."""


def _check_alike(first: Path, one: "Embedder", second: Path, other: "Embedder") -> None:
    """Weights of one shape may still be read in two ways: attention, pooling, prompts, length."""
    if type(one) is not type(other):
        raise Refused(f"average: {first} is a {type(one).__name__}, {second} a {type(other).__name__}. Average alike.")
    told = [dict(getattr(model, "settings", {})) for model in (one, other)]
    for name in sorted({*told[0], *told[1]} - set(OWN)):
        if told[0].get(name) != told[1].get(name):
            raise Refused(
                f"average: {name} of {first} is {told[0].get(name)!r}, of {second} {told[1].get(name)!r}. "
                "Average trainings with the same settings."
            )


def _check_shapes(first: Path, one: "dict[str, torch.Tensor]", second: Path, other: "dict[str, torch.Tensor]") -> None:
    shapes = [{name: tuple(held.shape) for name, held in weights.items()} for weights in (one, other)]
    if shapes[0] != shapes[1]:
        name = sorted(dict(shapes[0].items() ^ shapes[1].items()))[0]
        raise Refused(
            f"average: {first} and {second} are of different shape ({name}: {shapes[0].get(name)}, "
            f"{shapes[1].get(name)}). Average trainings of one start."
        )
