"""The linear map from a student's space up to its teacher's, kept beside the student that was trained with it."""

from pathlib import Path

import safetensors.torch
from torch import nn

from distill import artifact, files
from distill.errors import Refused

FOLDER = "projector"
WEIGHTS, SETTINGS = "model.safetensors", "space.json"


def save(projector: nn.Linear, folder: Path, space: str) -> None:
    """Write a projector into a folder, all of it or nothing.

    Args:
        projector: From the student's unit vectors to the teacher's.
        folder: That does not exist.
        space: The model whose vectors it was fitted to, as `embed` names it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(folder) as part:
        part.mkdir()
        safetensors.torch.save_model(nn.ModuleDict({"linear": projector.cpu()}), str(part / WEIGHTS))
        files.write_json(part / SETTINGS, {"space": space})


def load(step: Path) -> tuple[nn.Linear, str]:
    """The projector that a training kept, and the model whose space it leads to.

    Raises:
        Refused: The step kept none.
    """
    artifact.require(step)
    folder = step / FOLDER
    if not folder.is_dir():
        raise Refused(
            f"{step} kept no projector to its teacher's space. Train it with a weight for objective.regression and "
            "keep_projector: true."
        )
    held = safetensors.torch.load_file(folder / WEIGHTS)
    weight, bias = held["linear.weight"], held["linear.bias"]
    projector = nn.Linear(weight.shape[1], weight.shape[0])
    projector.load_state_dict({"weight": weight, "bias": bias})
    return projector, str(artifact.read_json(folder / SETTINGS)["space"])
