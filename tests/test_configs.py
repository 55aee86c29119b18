"""The experiments that are shipped: they parse offline, and each line in them says something."""

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from distill import document, experiment, hub, models, recipe, stages
from distill.runtime import Runtime

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(file.name for file in (ROOT / "configs").glob("*.yaml"))
ABLATIONS = sorted(f"ablations/{file.name}" for file in (ROOT / "configs" / "ablations").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def read(name: str) -> dict[str, object]:
    return document.read_yaml(Path("configs") / name)[0]


def settings_of(value: object) -> Mapping[str, object]:
    assert isinstance(value, dict)
    return value


def repeated(made: object, arguments: Mapping[str, object], at: str) -> Iterator[str]:
    """Settings that stand at the default of a verb, a class or a dataclass, at any depth."""
    assert callable(made)
    for name, parameter in inspect.signature(made).parameters.items():
        if name not in arguments or name == "seed":
            continue
        value, where = arguments[name], f"{at}.{name}"
        default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        if value == default:
            yield where
        if isinstance(value, dict) and dataclasses.is_dataclass(default):
            yield from repeated(type(default), value, where)
        yield from repeated_in_classes(value, where)


def repeated_in_classes(value: object, at: str) -> Iterator[str]:
    if isinstance(value, dict) and "class_path" in value:
        yield from repeated(models.find(value["class_path"]), value.get("init_args", {}), at)
    elif isinstance(value, dict):
        for name, held in value.items():
            yield from repeated_in_classes(held, f"{at}.{name}")
    elif isinstance(value, list):
        for number, held in enumerate(value):
            yield from repeated_in_classes(held, f"{at}[{number}]")


@pytest.fixture
def _where_its_data_lie(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout with empty files and folders where a config names data, which only some machines have."""
    file = ROOT / "configs" / request.getfixturevalue("name")
    for named in re.findall(r"(?<![\w/])(?:data|runs/\w+_data|runs/peers_1)/[\w/]+(?:\.parquet)?", file.read_text()):
        wanted = tmp_path / named
        wanted.parent.mkdir(parents=True, exist_ok=True)
        if named.endswith(".parquet"):
            wanted.touch()
        else:
            wanted.mkdir(exist_ok=True)
    for held in ROOT.iterdir():
        if held.name not in ("data", "runs"):
            (tmp_path / held.name).symlink_to(held)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_where_its_data_lie")
@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_parses_offline_and_is_named_as_its_file(name: str) -> None:
    """Harm: an argument is renamed and a config nobody runs daily no longer parses; two runs share a folder."""
    loaded = experiment.load(Path("configs") / name)
    assert loaded.name == Path(name).stem
    assert f"configs/{name}" in loaded.text.partition("steps:")[0]  # the command that runs it


@pytest.mark.parametrize("name", CONFIGS)
def test_no_value_repeats_a_default(name: str) -> None:
    """Harm: a reader takes a default for a choice of this experiment, and a better default never arrives there."""
    content = read(name)
    found = list(repeated(Runtime, settings_of(content.get("runtime", {})), "runtime"))
    for step, held in settings_of(content["steps"]).items():
        verb, arguments = next(iter(settings_of(held).items()))
        found += repeated(stages.verb(verb), settings_of(arguments), step)
    assert not found


@pytest.mark.usefixtures("_where_its_data_lie")
@pytest.mark.parametrize("name", CONFIGS)
def test_no_step_is_made_for_nothing(name: str) -> None:
    """Harm: hours go into a step that nothing reads, or that the report does not show."""
    loaded = experiment.load(Path("configs") / name)
    read_by_others = {read for step in loaded.steps.values() for read in experiment.inputs(loaded, step)}
    *others, last = loaded.steps
    assert set(others) <= read_by_others
    assert loaded.steps[last].verb == "report"


@pytest.mark.usefixtures("_where_its_data_lie")
@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_parses(name: str) -> None:
    """Harm: numbers of record come from configs that no longer parse."""
    loaded = experiment.load(Path("configs") / name)
    assert {step.verb for step in loaded.steps.values()} <= set(stages.VERBS)
    assert loaded.name not in {Path(name).stem for name in CONFIGS}  # whose folder it would share
    assert f"configs/{name}" in loaded.text.partition("steps:")[0]


def size(model: object) -> int:
    """Parameters of a model in a config, lookup tables left out."""
    arguments = settings_of(settings_of(model)["init_args"])
    whole = hub.size(str(arguments["base"]), arguments.get("revision"))  # type: ignore[arg-type]
    layers = arguments.get("layers")
    kept = len(layers) / whole.layers if isinstance(layers, list) else 1.0
    return round((whole.parameters - whole.embedding_parameters) * kept)


def test_the_quickstarts_student_is_small() -> None:
    """Harm: a student is shown off that is no smaller than what it learnt from."""
    steps = settings_of(read("quickstart.yaml")["steps"])
    student, teacher = (settings_of(settings_of(steps[step])["train"])["model"] for step in ("student_1", "teacher_1"))
    assert 0 < 5 * size(student) <= size(teacher)


def test_a_repeated_default_would_be_found() -> None:
    """Harm: the test above looks into nothing, and passes."""
    arguments: dict[str, object] = {
        "schedule": {"steps": recipe.defaults(Runtime)["devices"], "queries": 64},
        "kinds": [],
        "model": {"class_path": "students.Encoder", "init_args": {"base": "x", "length": 128, "seed": 0}},
    }
    found = list(repeated(stages.verb("train"), arguments, "e"))
    assert found == ["e.model.length", "e.kinds", "e.schedule.queries"]
