"""All verbs in a row: configs/tiny.yaml from texts to a shipped student, twice, and looked at by those who get it."""

import gc
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill import artifact, experiment, hub, legend, stages, tables
from distill.__main__ import main

ROOT = Path(__file__).parents[1]
FILE = "configs/tiny.yaml"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run; it leaves the process as it was."""
    output = tmp_path_factory.mktemp("runs")
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    gc.freeze()  # what other tests made is looked through at each step otherwise
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert main(["run", FILE, "--set", f"output={output}"]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    return output / "tiny"


@pytest.fixture
def own(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run that a test may change."""
    monkeypatch.chdir(ROOT)
    shutil.copytree(finished, tmp_path / "tiny")
    return tmp_path / "tiny"


def run(folder: Path, *options: str) -> int:
    return main(["run", FILE, "--set", f"output={folder.parent}", *options])


def files(folder: Path) -> dict[Path, int]:
    """When each file of the artifacts was changed."""
    found = [file for file in folder.rglob("*") if file.is_file() and file.name not in (".lock", "experiment.yaml")]
    return {file: file.stat().st_mtime_ns for file in found}


def test_every_verb_ran_and_every_table_holds_rows(finished: Path) -> None:
    """Harm: a stage stops fitting the one before it, and only people notice."""
    steps = _steps()
    assert {step.verb for step in steps.values()} == set(stages.VERBS)
    for name in steps:
        artifact.require(finished / name)
        assert all(tables.describe(finished / name).values())
    metrics = json.loads((finished / "evaluation" / "metrics.json").read_text())
    assert set(metrics["models"]) == {
        "untrained",
        "teacher",
        "start",
        "contrastive",
        "distilled",
        "soup",
        "int8",
        "bm25",
    }
    assert (finished / "report" / "report.html").stat().st_size > 10_000


def _steps() -> dict[str, experiment.Step]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return experiment.load(Path(FILE)).steps


def test_the_student_loads_where_distill_is_not(finished: Path, tmp_path: Path) -> None:
    """Harm: what is shipped needs us: it cannot be loaded, or gives other vectors, without this package."""
    from distill import encode, models

    student = models.embedder(finished / "student_2")
    asked = ["which animal dances", "where do owls climb"]
    ours = encode.vectors(student, student.tokenize(asked, ["", ""]), batch_tokens=4096, precision="fp32")
    code = (
        "import json, sys\n"
        "sys.modules.update(dict.fromkeys(('distill', 'students', 'teachers')))  # to import one of them is an error\n"
        "from sentence_transformers import SentenceTransformer\n"
        f"model = SentenceTransformer({str(finished / 'edge' / 'model')!r}, device='cpu', local_files_only=True)\n"
        f"print(json.dumps(model.encode({asked!r}, prompt_name='query').tolist()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert abs(ours - theirs).max() < 1e-5
    assert abs((ours * ours).sum(1) - 1).max() < 1e-5
    files = ("onnx/model.onnx", "onnx/model_quantized.onnx", "model.safetensors", "README.md")
    assert all((finished / "edge" / "model" / name).is_file() for name in files)


def test_a_second_run_does_nothing_and_loads_nothing(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: running again, which is how one goes on, costs minutes or changes what is finished."""
    before, steps = files(own), len(_steps())
    for name in ("locate", "pretrained", "scan"):
        monkeypatch.setattr(hub, name, None)  # a model that is loaded now fails
    began = time.monotonic()
    assert run(own) == 0
    assert time.monotonic() - began < 10
    assert files(own) == before
    assert capsys.readouterr().out.count("done before") == steps


def test_a_run_that_is_moved_stays_what_it_is(own: Path, tmp_path: Path) -> None:
    """Harm: a folder that is renamed or copied to another disk must be made again."""
    own.rename(tmp_path / "other")
    before = files(tmp_path / "other")
    assert run(tmp_path / "other", "--set", "name=other") == 0
    assert files(tmp_path / "other") == before


def test_a_step_made_again_has_the_same_bytes(own: Path) -> None:
    """Harm: a result cannot be had again, so nobody can tell a change of ours from chance."""
    again = ("corpus", "queries", "query_vectors", "judgements", "examples", "health", "student_2")
    before = {name: (own / name / "manifest.json").read_bytes() for name in again}
    old = {name: (own / name / "done.json").stat().st_ino for name in again}
    assert run(own, "--only", *again, "--again", *again) == 0
    assert all((own / name / "done.json").stat().st_ino != inode for name, inode in old.items())
    assert {name: (own / name / "manifest.json").read_bytes() for name in again} == before


def test_what_was_made_from_other_bytes_is_stale(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: a teacher is trained again, comes out otherwise, and the vectors of the old one are used on."""
    vectors = tables.matrix(tables.read(own / "query_vectors", "vectors")["vector"]).copy()
    vectors[0] = -vectors[0]
    facts = artifact.read_json(own / "query_vectors" / "done.json")
    tables.write(own / "query_vectors" / "vectors", tables.vectors(vectors.shape[1]), {"vector": vectors})
    artifact.finish(own / "query_vectors", facts)
    assert run(own) == 1
    said = capsys.readouterr()
    assert f"{own / 'candidates'} is stale: query_vectors was made again with other bytes since." in said.err
    assert "Traceback" not in said.err
    assert run(own, "--again", "candidates", "--only", "candidates", "judgements") == 1
    said = capsys.readouterr()
    assert f"{own / 'judgements'} is stale: candidates was made again with other bytes since." in said.err


def test_a_harmed_file_is_noticed_by_the_next_step(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: a flipped bit of a disk travels into every number behind it."""
    artifact._verified.clear()
    part = own / "passage_vectors" / "vectors" / "part-00001.arrow"
    held = bytearray(part.read_bytes())
    held[len(held) // 2] ^= 1
    part.write_bytes(held)
    assert run(own, "--only", "candidates", "--again", "candidates") == 1
    assert (
        f"step 'candidates' (mine): {part} is not as it was written. Delete {own / 'passage_vectors'} and run step "
        "'passage_vectors' again to make it anew.\n"
    ) in capsys.readouterr().err


def test_every_figure_that_the_report_shows_is_explained(finished: Path) -> None:
    """Harm: a stage gains a figure, and the page shows the name of a variable."""
    folders = [folder for folder in finished.iterdir() if artifact.is_done(folder)]
    shown = {
        name
        for folder in folders
        for name, held in artifact.facts(folder).items()
        if name not in legend.ASIDE and not isinstance(held, (dict, list))
    }
    assert len(shown) > 20
    assert not [name for name in shown if not legend.meaning(name)]
