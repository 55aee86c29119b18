"""Models come from names that are allowed, and come back from a folder as they were."""

import functools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from distill import artifact, encode, models
from distill.errors import Refused
from students import Encoder

TEXTS = ["Salt slows the yeast down.", "How do owls fly?", ""]


def trained(folder: Path, model: Encoder) -> Path:
    with artifact.claim(folder, {"verb": "train"}, {}, {}):
        models.save(model, folder)
        artifact.finish(folder, {})
    return folder


def test_a_saved_model_is_the_same_model(encoder: Path, tmp_path: Path) -> None:
    """Harm: a student is trained for hours, and what comes back from its folder is another."""
    torch.manual_seed(0)
    model = Encoder(str(encoder), length=16, query_prompt="q: ")
    out = trained(tmp_path / "student", model)
    torch.manual_seed(1)
    back = models.embedder(out)
    assert isinstance(back, Encoder) and not back.training
    for tasks in (None, ["task"] * 3):
        one, two = (encode.vectors(m.eval(), m.tokenize(TEXTS, tasks), precision="fp32") for m in (model, back))
        assert np.array_equal(one, two)


def test_a_class_with_arguments_is_called(encoder: Path) -> None:
    """Harm: the settings of a step's model are not those of the model that is trained."""
    made = models.embedder(functools.partial(Encoder, base=str(encoder), length=7))
    assert isinstance(made, Encoder) and made.length == 7 and not made.training


@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "subprocess.Popen", "teachersx.Evil", "distill.hub.Size"]
)
def test_a_class_outside_the_allowed_packages_is_not_imported(name: str) -> None:
    """Harm: a model folder from a stranger names code to run."""
    with pytest.raises(Refused, match="not in an allowed package"):
        models.find(name)


def test_a_class_is_found_only_if_it_is_one() -> None:
    """Harm: a misspelt class ends in a traceback."""
    assert models.find("students.Encoder") is Encoder
    with pytest.raises(Refused, match="students has no class Encodr"):
        models.find("students.Encodr")
    with pytest.raises(Refused, match=r"No module named 'students\.nothing'"):
        models.find("students.nothing.Encoder")


def test_a_saved_class_is_looked_up_among_the_allowed(encoder: Path, tmp_path: Path) -> None:
    """Harm: loading a folder from elsewhere runs what its class.json names."""
    out = trained(tmp_path / "student", Encoder(str(encoder)))
    for name, said in (("os.PathLike", "not in an allowed"), ("teachers.CausalLM", "CausalLM, which does not embed")):
        (out / "model" / "class.json").write_text(json.dumps({"class_path": name}))
        artifact.finish(out, {})
        with pytest.raises(Refused, match=said):
            models.embedder(out)


def test_a_class_is_saved_under_a_name_that_finds_it(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: a class of one's own that its package does not export cannot be loaded after hours of training."""

    class Own(Encoder):
        pass

    Own.__module__, Own.__qualname__ = __name__, "Own"
    monkeypatch.setattr(sys.modules[__name__], "Own", Own, raising=False)
    monkeypatch.setattr(models, "allowed", [*models.allowed, f"{__name__}."])
    assert models.find(models.class_path(Own(str(encoder)))) is Own
    assert models.class_path(Encoder(str(encoder))) == "students.Encoder"


def test_half_a_model_is_never_left(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: a full disk leaves a model folder without weights, and the resumed step takes it for finished."""
    model = Encoder(str(encoder))

    def fails(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise OSError("No space left on device")

    monkeypatch.setattr(model, "save", fails)
    with pytest.raises(OSError, match="No space left"):
        models.save(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_step_without_a_model_is_refused(corpus: Path) -> None:
    """Harm: a corpus named as the model fails deep inside a library."""
    with pytest.raises(Refused, match="holds examples, passages, queries; needed model"):
        models.embedder(corpus)


def test_labels_tell_models_apart(encoder: Path, tmp_path: Path) -> None:
    """Harm: two teachers carry one name in the tables that they made."""
    out = trained(tmp_path / "student", Encoder(str(encoder)))
    assert models.label(out) == f"student@{artifact.fingerprint(out)[:12]}"
    classes = [functools.partial(Encoder, base="org/name", seed=seed) for seed in (0, 1)]
    assert len({models.label(model) for model in [*classes, Encoder]}) == 3
    assert models.label(classes[0]) == models.label(functools.partial(Encoder, "org/name"))
    assert all(models.label(model).startswith("Encoder@") for model in classes)
