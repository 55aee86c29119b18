"""Licences, and what was found of benchmarks, travel with the rows: through every step, moved, killed, or old."""

import functools
import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest

from distill import artifact, files, stages
from distill.artifact import Facts
from distill.readers import JSONL, Synthetic
from distill.show import show
from distill.stages import stage
from distill.stages.ingest import ingest
from students import Encoder, Exported
from teachers import ServedLM

LONG = "the quick brown fox jumps over the lazy dog and then it sleeps until the next morning comes"


@stage(version=1, resumes=True)
def derive(*, reads: tuple[Path, ...] = (), model: object = None, sources: tuple[object, ...] = (), out: Path) -> Facts:
    """A step that hands on what it reads."""
    return {}


@stage(version=1, warns=True)
def ship(*, reads: tuple[Path, ...], out: Path) -> Facts:
    """A step that makes what goes to others."""
    return {}


@pytest.fixture(autouse=True)
def _fresh_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "_said", set())


def source(file: Path, *texts: str, **settings: object) -> JSONL:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return JSONL(path=file, **settings)


def model(folder: Path, licence: str | None) -> Path:
    """A folder as a model is downloaded to."""
    folder.mkdir(parents=True)
    if licence:
        (folder / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
    return folder


def test_sources_and_models_are_named_with_their_licences(tmp_path: Path) -> None:
    """Harm: a source or a model leaves no trace in what is made from it."""
    facts = derive(
        sources=(
            source(tmp_path / "a.jsonl", "x", licence="CC-BY-4.0"),
            source(tmp_path / "b.jsonl", "y"),
            source(tmp_path / "more" / "a.jsonl", "z", licence="CC-BY-NC-4.0"),
        ),
        model={
            "student": functools.partial(Encoder, base="package:all-MiniLM-L6-v2"),
            "judge": [functools.partial(Encoder, str(model(tmp_path / "m" / "judge", "cc-by-nc-4.0")))],
            "bare": functools.partial(Encoder, base=str(model(tmp_path / "m" / "bare", None))),
            "far": functools.partial(Encoder, base="org/name", revision="0" * 40),
            "served": functools.partial(ServedLM, "org/large", "http://127.0.0.1:1/v1"),
            "shipped": functools.partial(Exported, folder=model(tmp_path / "m" / "shipped", "mit")),
        },
        out=tmp_path / "out",
    )
    assert facts["licences"] == {
        "a.jsonl": "CC-BY-4.0; CC-BY-NC-4.0",
        "b.jsonl": "not stated",
        "package:all-MiniLM-L6-v2": "apache-2.0",
        "judge": "cc-by-nc-4.0",
        "bare": "unknown",
        "org/name": "unknown",
        "org/large": "unknown",
        "shipped": "mit",
    }
    assert str(tmp_path) not in json.dumps(facts)  # nor the folders of the machine


def test_licences_survive_a_move_away_from_what_they_came_from(tmp_path: Path) -> None:
    """Harm: once the corpus is deleted to make room, nobody can tell what the student was trained on."""
    ingest(sources=(source(tmp_path / "a.jsonl", "x", licence="CC-BY-4.0"),), out=tmp_path / "run" / "corpus")
    derive(reads=(tmp_path / "run" / "corpus",), out=tmp_path / "run" / "teacher")
    moved = tmp_path / "elsewhere" / "teacher"
    moved.parent.mkdir()
    (tmp_path / "run" / "teacher").rename(moved)
    shutil.rmtree(tmp_path / "run")
    facts = derive(
        reads=(moved,), model=functools.partial(Encoder, "package:all-MiniLM-L6-v2"), out=tmp_path / "student"
    )
    assert facts["licences"] == {"a.jsonl": "CC-BY-4.0", "package:all-MiniLM-L6-v2": "apache-2.0"}


def test_a_model_taken_out_of_an_artifact_keeps_its_lineage(tmp_path: Path) -> None:
    """Harm: a student that starts from an exported folder is washed clean of what that was trained on."""
    ingest(sources=(source(tmp_path / "a.jsonl", "x", licence="CC-BY-NC-4.0"),), out=tmp_path / "corpus")
    derive(reads=(tmp_path / "corpus",), out=tmp_path / "edge")
    inside = model(tmp_path / "edge" / "model", "mit")
    files.write_json(tmp_path / "edge" / "manifest.json", artifact._contents(tmp_path / "edge"))
    facts = derive(model=functools.partial(Encoder, base=str(inside)), out=tmp_path / "student")
    assert facts["licences"] == {"a.jsonl": "CC-BY-NC-4.0"}


def test_made_up_rows_are_under_the_licence_of_their_writer(tmp_path: Path) -> None:
    """Harm: the writer's terms end at `ingest`, or a reader without a licence of its own is said to hide one."""
    derive(model=functools.partial(Encoder, "package:gemma-3-270m"), out=tmp_path / "made_up")
    assert derive(sources=(Synthetic(path=tmp_path / "made_up"),), out=tmp_path / "a")["licences"] == {
        "package:gemma-3-270m": "gemma"
    }
    stated = Synthetic(path=tmp_path / "made_up", licence="CC0-1.0")
    assert derive(sources=(stated,), out=tmp_path / "b")["licences"] == {
        "package:gemma-3-270m": "gemma",
        "made_up": "CC0-1.0",
    }


def benchmarks(folder: Path) -> tuple[Path, ...]:
    for name, text in (("foxes", LONG), ("owls", LONG.replace("fox", "owl")), ("cats", "the cat sat on the mat")):
        ingest(sources=(source(folder / f"{name}.jsonl", text, licence="CC-BY-NC-4.0"),), out=folder / name)
    return folder / "foxes", folder / "owls", folder / "cats"


def test_counts_of_benchmarks_are_summed_over_steps_and_each_step_counts_once(tmp_path: Path) -> None:
    """Harm: a corpus that is read along three ways has its counts three times, or a benchmark is said to be in it."""
    foxes, owls, cats = benchmarks(tmp_path)
    first = ingest(
        sources=(source(tmp_path / "a.jsonl", LONG, f"{LONG[:60]} and more", "kept", licence="MIT"),),
        exclude=(foxes, cats),
        out=tmp_path / "first",
    )
    second = ingest(
        sources=(source(tmp_path / "b.jsonl", LONG.upper(), "stays", licence="MIT"),),
        exclude=(foxes, owls),
        out=tmp_path / "second",
    )
    third = ingest(sources=(source(tmp_path / "c.jsonl", LONG, licence="MIT"),), out=tmp_path / "third")
    assert first["contamination"] == {
        "foxes": {"word for word": 1, "in part": 1},
        "cats": {"word for word": 0, "in part": 0},
    }
    assert second["contamination"]["foxes"] == {"word for word": 1, "in part": 0}
    assert third["contamination"] == {}
    corpora = tuple(tmp_path / name for name in ("first", "second", "third"))
    for name in ("vectors", "queries"):
        derive(reads=corpora, out=tmp_path / name)
    facts = derive(reads=(*corpora, tmp_path / "vectors", tmp_path / "queries"), out=tmp_path / "student")
    assert facts["contamination"]["foxes"] == {"word for word": 2, "in part": 1}
    assert list(facts["contamination"]) == ["foxes", "cats", "owls"]
    assert len(facts["screened"]) == 3  # of which one compared nothing
    assert set(facts["licences"]) == {"a.jsonl", "b.jsonl", "c.jsonl"}  # what is kept out leaves no licence


def test_a_warning_is_said_before_the_work_once_a_run_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: it is told after a week of training; or at each of twenty steps, and is no longer read; or is lost."""
    ingest(
        sources=(source(tmp_path / "a.jsonl", "x", licence="CC-BY-NC-4.0"), source(tmp_path / "b.jsonl", "y")),
        out=tmp_path / "corpus",
    )
    derive(reads=(tmp_path / "corpus",), out=tmp_path / "between")
    assert "non-commercial" not in capsys.readouterr().out
    facts = ship(reads=(tmp_path / "between",), out=tmp_path / "teacher")
    said = capsys.readouterr().out
    assert "teacher: For non-commercial use, or research, only: a.jsonl (CC-BY-NC-4.0)." in said
    assert "teacher: The licence is not known of: b.jsonl." in said
    assert [warning in said for warning in facts["licence_warnings"]] == [True, True]
    ingest(sources=(source(tmp_path / "c.jsonl", "z"),), out=tmp_path / "more")
    again = ship(reads=(tmp_path / "teacher", tmp_path / "more"), out=tmp_path / "student")
    said = capsys.readouterr().out
    assert "student: The licence is not known of: c.jsonl." in said and "non-commercial" not in said
    assert "b.jsonl, c.jsonl" in again["licence_warnings"][1] and "a.jsonl" in again["licence_warnings"][0]
    monkeypatch.setattr(stages, "_said", set())
    ship(reads=(tmp_path / "student",), out=tmp_path / "later")
    assert "a.jsonl (CC-BY-NC-4.0)" in capsys.readouterr().out


def test_artifacts_of_before_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: after an upgrade last month's corpus stops the run with a traceback, or passes for free of terms."""
    for name, held in (("listed", ["CC0", "CC-BY-NC-4.0"]), ("empty", []), ("bare", None)):
        (tmp_path / name).mkdir()
        files.write_json(tmp_path / name / "recipe.json", {"verb": "ingest", "version": 2, "settings": {"name": name}})
        artifact.finish(tmp_path / name, {} if held is None else {"licences": held})
    facts = derive(reads=tuple(tmp_path / name for name in ("listed", "empty", "bare")), out=tmp_path / "out")
    before = "(made before sources were recorded)"
    assert facts["licences"] == {
        f"listed {before}": "CC0; CC-BY-NC-4.0",
        f"empty {before}": "not stated",
        f"bare {before}": "unknown",
    }
    assert facts["contamination"] == {} == facts["screened"]
    show(tmp_path / "listed")
    assert "CC0; CC-BY-NC-4.0" in capsys.readouterr().out


def _killed(folder: Path) -> None:
    def finish(out: Path, facts: Facts) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    artifact.finish = finish
    derive(reads=(folder / "corpus",), out=folder / "out")


def test_a_killed_and_resumed_step_has_them_too(tmp_path: Path) -> None:
    """Harm: a power cut washes a model clean of its licences."""
    foxes, *_ = benchmarks(tmp_path)
    given = source(tmp_path / "a.jsonl", LONG, "kept", licence="CC-BY-NC-4.0")
    ingest(sources=(given,), exclude=(foxes,), out=tmp_path / "corpus")
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL and not artifact.is_done(tmp_path / "out")
    facts = derive(reads=(tmp_path / "corpus",), out=tmp_path / "out")
    assert facts["licences"] == {"a.jsonl": "CC-BY-NC-4.0"}
    assert facts["contamination"] == {"foxes": {"word for word": 1, "in part": 0}}
    assert artifact.facts(tmp_path / "out") == facts
