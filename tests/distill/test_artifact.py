"""An artifact is complete or absent, unharmed or refused, whatever happens while it is made."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from distill import artifact, files, tables
from distill.artifact import Facts
from distill.errors import Refused
from distill.stages import stage

calls: list[str] = []
"""Which parts the stage below has made in this process."""


@stage(version=1, resumes=True)
def repeat(*, text: str, parts: int = 3, source: Path | None = None, wrong: bool = False, out: Path) -> Facts:
    """A stage with several parts, and a setting that it refuses."""
    if wrong:
        raise Refused("wrong: True; needed: False.")
    for part in tables.missing(out / "passages", parts):
        calls.append(f"{text}{part}")
        columns = {"source": ["made"], "key": [str(part)], "title": [""], "text": [f"{text} {part}"]}
        tables.write(out / "passages", tables.PASSAGES, columns, part=part, note={"dropped": 0})
    files.write_text(out / "model" / "notes.txt", text * 100)
    return {"rows": parts, "refers": {"passages": artifact.fingerprint(source or out)}}


def texts(folder: Path) -> list[str]:
    return tables.texts(tables.read(folder, "passages")["text"])


@pytest.fixture(autouse=True)
def fresh() -> None:
    calls.clear()
    artifact._verified.clear()


def test_killed_at_any_file_operation_it_is_absent_or_complete(tmp_path: Path) -> None:
    """Harm: half an artifact is read as a whole one, or a killed step can never be finished."""
    whole = tmp_path / "whole"
    repeat(text="x", out=whole)
    wanted = json.loads((whole / "manifest.json").read_bytes())
    for left in range(200):
        out = tmp_path / f"cut-{left}"
        status = killed(left, functools.partial(repeat, text="x", out=out))
        assert status in (0, 9)
        if artifact.is_done(out):
            assert texts(out) == ["x 0", "x 1", "x 2"]
        elif out.exists():
            with pytest.raises(Refused, match=r"not an artifact|not finished"):
                artifact.require(out)
        repeat(text="x", out=out)
        assert json.loads((out / "manifest.json").read_bytes()) == wanted
        assert not list(out.rglob(".*.tmp"))
        if status == 0:
            break
    assert status == 0 and left > 40, "the cuts must reach from the first operation to beyond the last"


def killed(left: int, work: Callable[[], object]) -> int:
    """Work in a forked child that dies at the file operation of this number; its exit status."""
    pid = os.fork()  # it has torch and pyarrow in memory already
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*given: object, **named: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(9)
            return real(*given, **named)

        return call

    for owner, names in ((os, ("open", "fsync", "rename", "replace", "unlink", "rmdir")), (Path, ("open", "mkdir"))):
        for name in names:
            setattr(owner, name, counted(getattr(owner, name)))
    try:
        work()
        os._exit(0)
    except BaseException:
        os._exit(1)


def test_deleting_can_be_killed_too(tmp_path: Path) -> None:
    """Harm: what is left of a deleted artifact is taken for the work of the next recipe."""
    for left in range(60):
        out = tmp_path / f"cut-{left}"
        repeat(text="x", out=out)
        status = killed(left, functools.partial(artifact.remove, out))
        assert status in (0, 9)
        if status == 0:
            assert not out.exists()
            break
        if (out / "recipe.json").is_file():
            calls.clear()
            repeat(text="x", out=out)
            assert texts(out) == ["x 0", "x 1", "x 2"]
        else:
            repeat(text="y", out=out)
            assert texts(out) == ["y 0", "y 1", "y 2"]
    assert status == 0 and left > 8


def test_finished_work_is_not_done_again(tmp_path: Path) -> None:
    """Harm: hours of a teacher's work are repeated because the command was given twice."""
    first = repeat(text="a", out=tmp_path / "a")
    assert calls == ["a0", "a1", "a2"]
    assert repeat(text="a", out=tmp_path / "a") == first
    assert calls == ["a0", "a1", "a2"]
    assert first["rows"] == 3 and first["peak_memory_bytes"] > 0


def test_missing_parts_alone_are_made(tmp_path: Path) -> None:
    """Harm: a resumed step throws its committed parts away, or takes a part without its note for committed."""
    repeat(text="a", out=tmp_path / "a")
    for name in ("done.json", "passages/part-00001.json"):
        (tmp_path / "a" / name).unlink()
    (tmp_path / "a" / "passages" / "part-00001.arrow").write_bytes(b"half")
    calls.clear()
    repeat(text="a", out=tmp_path / "a")
    assert calls == ["a1"]
    assert texts(tmp_path / "a") == ["a 0", "a 1", "a 2"]


def test_another_recipe_is_refused_with_the_list(tmp_path: Path) -> None:
    """Harm: rows of two recipes in one table, which only the final metric would show."""
    out = tmp_path / "a"
    repeat(text="a", out=out)
    held = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    with pytest.raises(Refused, match=r'settings\.parts: 3 -> 4\n  settings\.text: "a" -> "b"'):
        repeat(text="b", parts=4, out=out)
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file() and file.name != ".lock"} == {
        file: content for file, content in held.items() if file.name != ".lock"
    }


def test_a_refused_setting_leaves_nothing_behind(tmp_path: Path) -> None:
    """Harm: a typing error is corrected, and the corrected step is refused as made by another recipe."""
    with pytest.raises(Refused, match="needed: False"):
        repeat(text="a", wrong=True, out=tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert repeat(text="a", out=tmp_path / "a")["rows"] == 3


def test_a_refusal_keeps_what_was_committed(tmp_path: Path) -> None:
    """Harm: a training that is stopped by a signal loses the checkpoint that it just wrote."""
    for kept in ("checkpoints/last.ckpt", "passages/part-00000.json"):
        out = tmp_path / kept.partition("/")[0]
        with pytest.raises(Refused), artifact.claim(out, {"verb": "a"}, {}, {}):
            files.write_text(out / kept, "{}")
            raise Refused("stopped by a signal")
        assert (out / kept).is_file() and artifact.is_artifact(out) and not artifact.is_done(out)


def test_work_that_cannot_go_on_begins_anew(tmp_path: Path) -> None:
    """Harm: a cheap step refused, or killed, half way leaves rows that the next attempt takes for its own."""
    made = {"verb": "a", "settings": {}}
    with (
        pytest.raises(Refused, match="late"),
        artifact.claim(tmp_path / "out", made, {}, {}, resumes=False),
    ):
        files.write_text(tmp_path / "out" / "passages" / "part-00000.json", "{}")
        raise Refused("late")
    assert not (tmp_path / "out").exists()
    with pytest.raises(KeyboardInterrupt), artifact.claim(tmp_path / "out", made, {}, {}, resumes=False):
        files.write_text(tmp_path / "out" / "passages" / "part-00000.json", "{}")
        raise KeyboardInterrupt
    with artifact.claim(tmp_path / "out", made, {}, {}, resumes=False):
        assert not (tmp_path / "out" / "passages").exists()


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    """Harm: `--out` of a folder in use: its files become part of the artifact, and `--again` deletes them."""
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(Refused, match=r"holds thesis\.txt, which no step made"):
        repeat(text="a", out=tmp_path)
    assert calls == [] and (tmp_path / "thesis.txt").is_file()


def test_an_option_that_an_old_recipe_lacks_counts_as_its_default(tmp_path: Path) -> None:
    """Harm: an upgrade that adds an option refuses last month's teacher."""
    out = tmp_path / "a"
    repeat(text="a", out=out)
    recipe = artifact.read_json(out / "recipe.json")
    assert isinstance(recipe["settings"], dict)
    del recipe["settings"]["wrong"]
    (out / "recipe.json").write_text(json.dumps(recipe))
    artifact.finish(out, {})
    repeat(text="a", out=out)
    assert calls == ["a0", "a1", "a2"]
    with pytest.raises(Refused, match=r"settings\.wrong: false -> true"):
        repeat(text="a", wrong=True, out=out)


@pytest.mark.parametrize("name", ["passages/part-00001.arrow", "passages/part-00002.json", "recipe.json"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_a_harmed_file_is_named(tmp_path: Path, name: str, harm: str) -> None:
    """Harm: a flipped bit becomes another passage, another score, another weight."""
    repeat(text="a", out=tmp_path / "a")
    file = tmp_path / "a" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if harm == "remove":
        file.unlink()
    else:
        file.write_bytes(content if harm == "flip" else content[:-1])
    artifact._verified.clear()  # as in another process
    with pytest.raises(Refused, match=f"{name} is not as it was written|is not an artifact"):
        artifact.require(tmp_path / "a")


@pytest.mark.parametrize("name", ["manifest.json", "done.json"])
def test_no_byte_of_the_seal_can_change_into_an_error_of_python(tmp_path: Path, name: str) -> None:
    """Harm: a damaged manifest ends in a traceback about a key, not in what to do."""
    repeat(text="a", out=tmp_path / "a")
    file = tmp_path / "a" / name
    whole = file.read_bytes()
    for at in range(0, len(whole), 3):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        artifact._verified.clear()
        try:
            artifact.facts(tmp_path / "a")
        except Refused:
            continue
        assert name == "done.json"  # facts are not hashed; the manifest must not pass
    for content in (b"", b"[1]", whole[:-20]):
        file.write_bytes(content)
        with pytest.raises(Refused, match="cannot be read"):
            artifact.facts(tmp_path / "a")


def test_a_file_cut_after_it_was_verified_is_still_noticed(tmp_path: Path) -> None:
    """Harm: a long process trusts a file because it was whole an hour ago."""
    repeat(text="a", out=tmp_path / "a")
    artifact.require(tmp_path / "a")
    (tmp_path / "a" / "model" / "notes.txt").write_text("a")
    with pytest.raises(Refused, match=r"notes\.txt is not as it was written"):
        artifact.require(tmp_path / "a")


def test_an_input_made_again_is_stale(tmp_path: Path) -> None:
    """Harm: one half of a table from yesterday's teacher, the other from today's, under one recipe."""
    repeat(text="a", out=tmp_path / "a")
    repeat(text="b", source=tmp_path / "a", out=tmp_path / "b")
    shutil.rmtree(tmp_path / "a")
    repeat(text="a", out=tmp_path / "a")
    repeat(text="b", source=tmp_path / "a", out=tmp_path / "b")  # the same bytes: nothing has happened
    (tmp_path / "a" / "model" / "notes.txt").write_text("other weights, same recipe")
    artifact.finish(tmp_path / "a", {})
    with pytest.raises(Refused, match="stale: source was made again"):
        repeat(text="b", source=tmp_path / "a", out=tmp_path / "b")


def test_an_unfinished_input_is_refused(tmp_path: Path) -> None:
    """Harm: a table with half its parts is trained on as if it were whole."""
    repeat(text="a", out=tmp_path / "a")
    (tmp_path / "a" / "done.json").unlink()
    with pytest.raises(Refused, match=r"is not finished\. Run step 'a' again"):
        repeat(text="b", source=tmp_path / "a", out=tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_folders_may_be_moved_and_renamed(tmp_path: Path) -> None:
    """Harm: a run copied to another machine starts from the beginning, or is refused."""
    repeat(text="a", out=tmp_path / "a")
    made = repeat(text="b", source=tmp_path / "a", out=tmp_path / "b")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a").rename(tmp_path / "elsewhere" / "corpus")
    (tmp_path / "b").rename(tmp_path / "elsewhere" / "other")
    calls.clear()
    moved = tmp_path / "elsewhere"
    assert repeat(text="b", source=moved / "corpus", out=moved / "other") == made
    assert calls == []
    artifact.check_refers(moved / "other", "passages", moved / "corpus")
    with pytest.raises(Refused, match="counts rows of another table"):
        repeat(text="c", out=tmp_path / "c")
        artifact.check_refers(moved / "other", "passages", tmp_path / "c")


HOLDER = """
import pathlib, sys, time
from distill import artifact, files
with artifact.claim(pathlib.Path(sys.argv[1]), {"verb": "hold"}, {}, {}):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_processes_cannot_write_one_artifact(tmp_path: Path) -> None:
    """Harm: two terminals with the same command write over each other's parts."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "a")], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(Refused, match=f"being written by process {other.pid}"),
            artifact.claim(tmp_path / "a", {"verb": "hold"}, {}, {}),
        ):
            pass
        other.send_signal(signal.SIGKILL)
    with artifact.claim(tmp_path / "a", {"verb": "hold"}, {}, {}) as work:  # the lock went with its holder
        assert work


KILLED_WHILE_WRITING = """
import pathlib, sys
from distill import artifact, files
print("ready", flush=True)
number = 0
while True:
    number += 1
    files.write_json(pathlib.Path(sys.argv[1]), {"number": number, "filling": "x" * 100_000})
"""


def test_a_file_killed_while_written_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    """Harm: kill -9 leaves half a file under its final name."""
    file = tmp_path / "file.json"
    for pause in (0.0, 0.003, 0.011, 0.02):
        command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(pause)
            writer.kill()
        if file.exists():
            assert len(str(artifact.read_json(file)["filling"])) == 100_000


def test_a_folder_is_replaced_whole_or_kept_out(tmp_path: Path) -> None:
    """Harm: an exception while a model is saved leaves half a model under its name, or rubbish beside it."""
    with pytest.raises(RuntimeError), files.replacing(tmp_path / "model") as part:
        part.mkdir()
        (part / "weights").write_text("half")
        raise RuntimeError("disk full")
    assert list(tmp_path.iterdir()) == []
    for content in ("old", "new"):
        with files.replacing(tmp_path / "model") as part:
            part.mkdir()
            (part / content).write_text(content)
    assert [file.name for file in (tmp_path / "model").iterdir()] == ["new"]


def test_working_folders_are_no_part_of_the_result(tmp_path: Path) -> None:
    """Harm: two artifacts with the same result count as different because of their logs."""
    for name in ("a", "b"):
        with artifact.claim(tmp_path / name, {"verb": "a"}, {}, {}):
            files.write_text(tmp_path / name / "model" / "weights", "1")
            for working in artifact.WORKING:
                files.write_text(tmp_path / name / working / "file", name)
            artifact.finish(tmp_path / name, {"seconds": name})
    assert artifact.version(tmp_path / "a") == artifact.version(tmp_path / "b")
    assert not (tmp_path / "a" / "checkpoints").exists()


def test_what_an_artifact_lacks_is_said_with_what_it_holds(tmp_path: Path) -> None:
    """Harm: a user gives the wrong step and is told about a missing file inside a folder."""
    repeat(text="a", out=tmp_path / "a")
    assert artifact.holds(tmp_path / "a", "queries", "passages") == tmp_path / "a" / "passages"
    with pytest.raises(Refused, match="holds model, passages; needed queries or examples"):
        artifact.holds(tmp_path / "a", "queries", "examples")


def test_files_that_the_step_did_not_write_are_named(tmp_path: Path) -> None:
    """Harm: a part that was copied in by accident is read with the rest, and rows are there twice."""
    repeat(text="a", out=tmp_path / "a")
    table = tmp_path / "a" / "passages"
    for ending in ("arrow", "json"):
        shutil.copy(table / f"part-00000.{ending}", table / f"part-00007.{ending}")
    with pytest.raises(Refused, match=r"part-00007\.arrow was not written by its step"):
        artifact.require(tmp_path / "a")


@pytest.mark.parametrize("name", ["logs/p.txt", "notes.tmp", "logs/.cache.tmp/p.txt"])
def test_a_refused_step_leaves_the_users_own_files(name: str, tmp_path: Path) -> None:
    """Harm: a slip in a setting deletes what somebody else kept in that folder."""
    held = tmp_path / "mine" / name
    held.parent.mkdir(parents=True)
    held.write_text("mine")
    with pytest.raises(Refused, match="which no step made"):
        repeat(text="a", wrong=True, out=tmp_path / "mine")
    assert [file.read_text() for file in (tmp_path / "mine").rglob("*") if file.is_file()] == ["mine"]


def test_a_fault_of_ours_leaves_no_recipe_in_the_way(tmp_path: Path) -> None:
    """Harm: after a traceback the corrected call is refused as another recipe's."""
    with pytest.raises(ZeroDivisionError), artifact.claim(tmp_path / "a", {"verb": "a"}, {}, {}):
        raise ZeroDivisionError
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["manifest.json", "recipe.json"])
def test_a_seal_that_is_gone_is_told_and_mended_by_again(name: str, tmp_path: Path) -> None:
    """Harm: one lost file stops a whole run, with nothing that the user could do."""
    repeat(text="a", out=tmp_path / "a")
    (tmp_path / "a" / name).unlink()
    with pytest.raises(Refused, match=f"{name} is missing|no recipe.json"):
        artifact.require(tmp_path / "a")
    artifact.remove(tmp_path / "a")
    assert repeat(text="a", out=tmp_path / "a")["rows"] == 3


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    """Harm: what the link leads to is emptied."""
    repeat(text="a", out=tmp_path / "a")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(Refused, match="is a link"):
        repeat(text="b", out=tmp_path / "link")
    with pytest.raises(Refused, match="is a link"):
        artifact.remove(tmp_path / "link")
    assert artifact.is_done(tmp_path / "a")
