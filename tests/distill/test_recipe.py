"""A recipe says what makes an artifact, and nothing of where it lies."""

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from distill import artifact, files, recipe, stages
from distill.artifact import Facts
from distill.errors import Refused
from distill.objective import Objective, Schedule
from distill.readers import JSONL
from distill.runtime import Runtime
from distill.stages.train import train
from students import Encoder


def fingerprint(value: object, known: recipe.Known | None = None) -> str:
    return recipe.fingerprint({"value": recipe.describe(value, known or {})})


def made(folder: Path, **settings: object) -> Path:
    with artifact.claim(folder, recipe.build("ingest", 1, settings, {}), {}, {}):
        artifact.finish(folder, {})
    return folder


def test_a_path_is_what_lies_there(tmp_path: Path) -> None:
    """Harm: data that moved is made again; data that changed under the same name is not."""
    for name in ("one", "two"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "a.txt").write_text("a")
        (tmp_path / name / "b.txt").write_text("b")
    one, two = tmp_path / "one", tmp_path / "two"
    assert fingerprint(one) == fingerprint(two)
    assert fingerprint(one / "b.txt") != fingerprint(one / "deep" / "a.txt")
    before = fingerprint(two)
    (two / "deep" / "a.txt").rename(two / "deep" / "c.txt")
    renamed = fingerprint(two)
    (two / "deep" / "c.txt").unlink()
    assert len({before, renamed, fingerprint(two)}) == 3


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """Harm: within one process a file is hashed once, and its later content goes by the first one's name."""
    old, new = tmp_path / "a" / "old.txt", tmp_path / "a" / "new.txt"
    old.parent.mkdir()
    for file in (old, new):
        file.write_text("1")
    os.utime(new, (2e9, 2e9))
    before = fingerprint(tmp_path / "a")
    old.write_text("2")  # not the newest file of the folder, and of the same size
    assert fingerprint(tmp_path / "a") != before


def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    """Harm: a misspelt path becomes part of a recipe."""
    with pytest.raises(Refused, match="nowhere does not exist"):
        recipe.describe({"deep": [tmp_path / "nowhere"]}, {})


def test_an_artifact_is_its_own_recipe(tmp_path: Path) -> None:
    """Harm: a step name and a path to the same step give two recipes, and everything is made twice."""
    one = made(tmp_path / "one", text="a")
    two = made(tmp_path / "two", text="a")
    other = made(tmp_path / "other", text="b")
    assert recipe.describe(one, {}) == recipe.describe(two, {}) == {"artifact": artifact.fingerprint(one)}
    assert recipe.describe(other, {}) != recipe.describe(one, {})
    planned = tmp_path / "not made yet"
    assert recipe.describe([planned], {planned: "abc"}) == [{"artifact": "abc"}]


def test_a_class_is_its_name_its_version_and_all_its_arguments(encoder: Path, tmp_path: Path) -> None:
    """Harm: two models share a recipe because what differs was a default, a place or a version."""
    plain = functools.partial(Encoder, base=str(encoder))
    described = recipe.describe(plain, {})
    assert isinstance(described, dict)
    assert (described["class_path"], described["version"]) == ("students.Encoder", 1)
    arguments = described["init_args"]
    assert arguments["length"] == 128 and arguments["layers"] is None and set(arguments["base"]) == {"sha256"}
    same = [functools.partial(Encoder, base=str(encoder), length=128), functools.partial(Encoder, str(encoder))]
    assert {fingerprint(model) for model in same} == {fingerprint(plain)}
    copied = tmp_path / "copy"
    copied.mkdir()
    for file in encoder.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    assert fingerprint(functools.partial(Encoder, base=str(copied))) == fingerprint(plain)
    (copied / "config.json").write_text((copied / "config.json").read_text() + " ")
    others = [
        functools.partial(Encoder, base=str(copied)),
        functools.partial(Encoder, base=str(encoder), seed=1),
        functools.partial(Encoder, str(encoder), None, (0, 1)),
        Encoder,
    ]
    assert len({fingerprint(model) for model in [plain, *others]}) == 5


def test_a_raised_version_is_another_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: a model class that now makes other vectors finds the old ones under its recipe."""
    before = fingerprint(Encoder)
    monkeypatch.setattr(Encoder, "VERSION", 2)
    assert fingerprint(Encoder) != before


def test_what_is_how_fast_or_where_is_no_part(tmp_path: Path) -> None:
    """Harm: another number of devices makes every finished step be refused."""
    one = recipe.build("train", 1, {"seed": 1, "out": tmp_path, "runtime": Runtime()}, {})
    two = recipe.build("train", 1, {"seed": 1, "out": tmp_path / "b", "runtime": Runtime(devices=8)}, {})
    assert one == two == {"verb": "train", "version": 1, "settings": {"seed": 1}}


def test_settings_survive_the_file_they_are_written_to(tmp_path: Path) -> None:
    """Harm: a tuple comes back from JSON as a list, and a finished step is refused for it."""
    settings = {"kinds": ("retrieval", "sts"), "objective": Objective(kl=1.0), "rates": (2e-5, 0.1), "name": "ünïcode"}
    built = recipe.build("train", 1, settings, {})
    files.write_json(tmp_path / "recipe.json", built)
    back = artifact.read_json(tmp_path / "recipe.json")
    assert back == built
    assert recipe.differences(back, built) == []
    assert recipe.fingerprint(back) == recipe.fingerprint(built)


def test_half_a_character_is_refused() -> None:
    """Harm: a setting that JSON can spell and no file can hold ends in a traceback."""
    with pytest.raises(Refused, match="no valid text at"):
        recipe.fingerprint({"settings": {"task": "find \ud800"}})


def test_only_a_base_names_a_folder(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: a prompt that is called like a folder here changes with it, or is too long for a name."""
    monkeypatch.chdir(tmp_path)
    Path("query").mkdir()
    prompted = functools.partial(Encoder, base=str(encoder), query_prompt="query", passage_prompt="words " * 100)
    described = recipe.describe(prompted, {})
    assert isinstance(described, dict)
    assert described["init_args"]["query_prompt"] == "query"


def test_differences_are_listed_leaf_by_leaf() -> None:
    """Harm: the message says that two recipes differ, and not in what."""
    old = recipe.build("train", 1, {"schedule": Schedule(steps=10), "kinds": ("sts",), "seed": 0}, {})
    new = recipe.build("train", 2, {"schedule": Schedule(steps=20), "kinds": (), "seed": 0}, {})
    listed = ['settings.kinds: ["sts"] -> []', "settings.schedule.steps: 10 -> 20", "version: 1 -> 2"]
    assert recipe.differences(old, new) == listed
    assert recipe.differences(old, recipe.build("mine", 3, {"depth": 2}, {})) == ['verb: "train" -> "mine"']


@dataclass(frozen=True)
class Reader:
    """A reader with an option that came later."""

    path: Path
    scale: float = 5.0


class Model:
    """A class with an option that came later."""

    def __init__(self, base: str, width: int = 8) -> None:
        """Nothing is made."""


def verb(*, sources: tuple[Reader, ...], model: functools.partial[Model], limit: int = 3, out: Path) -> Facts:
    """A stage with options at every depth."""
    return {}


def test_options_that_came_later_count_as_their_defaults_at_any_depth(tmp_path: Path) -> None:
    """Harm: a new option of a reader or a model class refuses every artifact made before."""
    (tmp_path / "a").write_text("a")
    settings: dict[str, object] = {"sources": (Reader(tmp_path / "a"),), "model": functools.partial(Model, "b")}
    built = stages.recipe_of(verb, settings, {})
    old = json.loads(json.dumps(built))
    del old["settings"]["limit"], old["settings"]["sources"][0]["scale"], old["settings"]["model"]["init_args"]["width"]
    assert recipe.differences(recipe.filled(old, stages.standing(verb, settings)), built) == []
    changed: dict[str, object] = {
        "sources": (Reader(tmp_path / "a", scale=1.0),),
        "model": functools.partial(Model, "b", width=4),
        "limit": 1,
    }
    new = stages.recipe_of(verb, changed, {})
    found = recipe.differences(recipe.filled(old, stages.standing(verb, changed)), new)
    assert [line.partition(":")[0] for line in found] == [
        "settings.limit",
        "settings.model.init_args.width",
        "settings.sources[0].scale",
    ]


def test_a_real_stage_knows_its_defaults() -> None:
    """Harm: the rule above holds for toys only."""
    settings: dict[str, object] = {"model": functools.partial(Encoder, base="org/name"), "objective": Objective(kl=1.0)}
    held = stages.standing(train, settings)["settings"]
    assert isinstance(held, dict)
    assert held["schedule"]["steps"] == Schedule().steps
    assert held["objective"]["regression"] == 0.0
    assert held["model"]["init_args"]["length"] == 128


def test_every_path_inside_a_setting_is_found(tmp_path: Path) -> None:
    """Harm: an input hidden in a class or a mapping is not checked, and not waited for."""
    found = recipe.paths(
        {
            "a": tmp_path / "a",
            "b": [functools.partial(Encoder, tmp_path / "b"), functools.partial(Encoder, base=tmp_path / "c")],
            "d": JSONL(path=tmp_path / "d"),
            "e": "text",
        }
    )
    assert found == [tmp_path / name for name in "abcd"]


class Served:
    """A class that says where it is asked."""

    OUTSIDE = ("url", "key")

    def __init__(self, name: str, url: str, key: str = "") -> None: ...


def test_where_a_model_is_served_is_no_part_of_a_recipe() -> None:
    """Harm: a step that wrote for hours begins anew at another port; a password in a URL is written to disk."""
    one = functools.partial(Served, name="a", url="http://me:secret@here/v1", key="KEY")
    assert "secret" not in json.dumps(recipe.describe(one, {}))
    assert fingerprint(one) == fingerprint(functools.partial(Served, "a", "http://there/v1"))
    assert fingerprint(one) != fingerprint(functools.partial(Served, name="b", url="http://here/v1"))
    assert recipe.standing(one) == {"init_args": {}}
