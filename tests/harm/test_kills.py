"""Killed, interrupted, out of disk: whatever stops a run, the same command goes on to the same bytes."""

import contextlib
import ctypes
import gc
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from distill import files

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CHAIN = ("made_up", "corpus", "teacher_1", "teacher_2", "queries", "passage_vectors", "query_vectors", "candidates",
         "judgements", "examples", "health", "student_1", "student_2")  # fmt: skip

# Libraries are imported once, in a server of one thread that forks a process for each run.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["lightning", "peft", "transformers", "teachers", "students", "distill.stages.train"])


def work(arguments: list[str], dies_after: int, largest: int, seconds: float, said: Path) -> None:
    """A command line in a process of its own.

    Args:
        arguments: The command line.
        dies_after: It kills itself at the commit of this number; 0 for never.
        largest: Bytes of a file that it may write; 0 for any.
        seconds: Between two checkpoints; 0 for one a step, for steps take milliseconds here.
        said: Where what it prints goes.
    """
    import torch

    from distill import fit
    from distill.__main__ import main

    with said.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    os.chdir(ROOT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
    gc.freeze()  # what the server imported is looked through at each step otherwise
    torch.set_num_threads(1)
    fit.CHECKPOINT_SECONDS = seconds
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    if dies_after:
        _die(dies_after)
    sys.exit(main(arguments))


def _die(after: int) -> None:
    original, left = files.replacing, after

    @contextlib.contextmanager
    def replacing(target: Path) -> Iterator[Path]:
        nonlocal left
        with original(target) as part:
            yield part
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    files.replacing = replacing


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The server takes over the environment; another number of threads would round otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def started(
    arguments: list[str], said: Path, dies_after: int = 0, largest: int = 0, seconds: float = 0.0
) -> BaseProcess:
    said.unlink(missing_ok=True)
    said.touch()
    process = SERVER.Process(target=work, args=(arguments, dies_after, largest, seconds, said))
    process.start()
    return process


def status(process: BaseProcess) -> int:
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def command(output: Path, *steps: str) -> list[str]:
    return ["run", "configs/tiny.yaml", "--set", f"output={output}", "--only", *steps]


def manifests(output: Path, *steps: str) -> dict[str, bytes]:
    """SHA-256 of every file of every step."""
    return {step: (output / "tiny" / step / "manifest.json").read_bytes() for step in steps}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing stopped."""
    output = tmp_path_factory.mktemp("whole")
    assert status(started(command(output, "benchmark", *CHAIN), output / "said.txt")) == 0
    return output


def test_killed_again_and_again_it_comes_out_the_same(whole: Path, tmp_path: Path) -> None:
    """Harm: after a power cut or a kill -9 the work is lost, is doubled, or ends in another model."""
    kills = 0
    for after in (41, 31, 37, 29) * 3:
        ended = status(started(command(tmp_path, "benchmark", *CHAIN), tmp_path / "said.txt", dies_after=after))
        if ended == 0:
            break
        assert ended == -signal.SIGKILL, (tmp_path / "said.txt").read_text()
        kills += 1
    assert kills >= 3
    assert manifests(tmp_path, *CHAIN) == manifests(whole, *CHAIN)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_hundred_kills_at_any_moment(whole: Path, tmp_path: Path) -> None:
    """Harm: there is a moment, between two writes or in the middle of one, at which a kill changes what comes out."""
    drawn, kills, ended = random.Random(0), 0, 1
    while kills < 100 or ended:
        process = started(command(tmp_path, "benchmark", *CHAIN), tmp_path / "said.txt")
        process.join(drawn.uniform(0.2, 4.0) if kills < 100 else 120)
        if process.is_alive():
            process.kill()
            kills += 1
        ended = status(process)
        if ended == 0:
            assert manifests(tmp_path, *CHAIN) == manifests(whole, *CHAIN)
            assert not list(tmp_path.rglob("*.tmp"))  # what kills left was swept
            shutil.rmtree(tmp_path / "tiny")
        else:
            assert ended == -signal.SIGKILL, (tmp_path / "said.txt").read_text()


LONG = ("--set", "student_1.schedule.steps=300", "name=long")


def prepared(whole: Path, output: Path) -> Path:
    """A run whose next step is a longer training."""
    shutil.copytree(whole / "tiny", output / "long", ignore=shutil.ignore_patterns("student_*"))
    return output


@pytest.fixture(scope="module")
def trained(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The manifest of a longer training that nothing stopped."""
    output = prepared(whole, tmp_path_factory.mktemp("trained"))
    assert status(started([*command(output, "student_1"), *LONG], output / "said.txt")) == 0
    return (output / "long" / "student_1" / "manifest.json").read_bytes()


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGTERM, 1, "stopped by a signal at step "),
        (signal.SIGINT, 130, "interrupted; run the same command again to go on."),
    ],
)
def test_a_training_that_is_stopped_goes_on(
    number: signal.Signals, code: int, words: str, whole: Path, trained: bytes, tmp_path: Path
) -> None:
    """Harm: a machine that is taken back, or a hand at Ctrl-C, costs hours, or a model that is a little different."""
    output, said = prepared(whole, tmp_path), tmp_path / "said.txt"
    arguments = [*command(output, "student_1"), *LONG]
    process = started(arguments, said)
    while " of 300" not in said.read_text():  # the first tenth
        assert process.is_alive(), said.read_text()
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, number)
    assert status(process) == code, said.read_text()
    assert words in said.read_text()
    assert "Traceback" not in said.read_text()
    assert not (output / "long" / "student_1" / "done.json").exists()
    assert status(started(arguments, said)) == 0
    assert "resumed" in said.read_text()
    assert (output / "long" / "student_1" / "manifest.json").read_bytes() == trained


@pytest.mark.parametrize(
    ("step", "largest", "seconds"), [("corpus", 6000, 0), ("student_1", 15_000, 0), ("student_1", 60_000, 60)]
)
def test_a_file_that_may_not_grow_stops_one_step_and_leaves_nothing_half(
    step: str, largest: int, seconds: int, whole: Path, tmp_path: Path
) -> None:
    """Harm: a quota leaves half a table behind, or a traceback from three libraries below."""
    shutil.copytree(whole / "tiny", tmp_path / "tiny", ignore=shutil.ignore_patterns(f"{step}*"))
    said = tmp_path / "said.txt"
    assert status(started(command(tmp_path, step), said, largest=largest, seconds=seconds)) == 1
    told = [line for line in said.read_text().splitlines() if "may not grow" in line]
    assert len(told) == 1, said.read_text()
    assert ("1 of 6" in said.read_text()) == (step == "student_1")
    assert ("6 of 6" in said.read_text()) == (seconds > 0)  # a checkpoint, or the model
    assert told[0].startswith("configs/tiny.yaml:")
    assert f"step '{step}'" in told[0]
    assert "Traceback" not in said.read_text()
    assert not list((tmp_path / "tiny" / step).rglob("*.tmp"))
    assert status(started(command(tmp_path, step), said)) == 0
    assert manifests(tmp_path, step) == manifests(whole, step)


def fill(arguments: list[str], place: Path, said: Path) -> None:
    """The command line on a disk of its own that is full at first, and has a little more room each time."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(0x10020000):  # a mount table and user names of its own: no other process sees the disk
        os._exit(77)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path(f"/proc/self/{name}").write_text(text)
    if libc.mount(b"none", bytes(place), b"tmpfs", 0, b"size=1m"):
        os._exit(77)
    os.chdir(ROOT)
    from distill.__main__ import main

    with said.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    for kilobytes in (0, 12, 20, None):
        if kilobytes is not None:
            there = os.statvfs(place)
            (place / "filling").write_bytes(bytes(there.f_bavail * there.f_frsize - 1024 * kilobytes))
        print("status", main([*arguments, "--out", str(place / "out")]), flush=True)
        (place / "filling").unlink(missing_ok=True)
    shutil.copy(place / "out" / "manifest.json", said.with_name("manifest.json"))


def test_a_full_disk_is_one_message_and_the_work_goes_on(whole: Path, tmp_path: Path) -> None:
    """Harm: a disk that fills up overnight leaves what looks finished, or cannot be gone on from."""
    run, said, place = whole / "tiny", tmp_path / "said.txt", tmp_path / "small"
    place.mkdir()
    arguments = ["embed", "--passages", str(run / "corpus"), "--model", str(run / "teacher_2"), "--part_rows", "25",
                 "--runtime.precision", "fp32"]  # fmt: skip
    process = SERVER.Process(target=fill, args=(arguments, place, said))
    process.start()
    if (ended := status(process)) == 77:
        pytest.skip("no file system may be mounted here")
    lines = said.read_text().splitlines()
    assert ended == 0, lines
    assert [line for line in lines if line.startswith("status")] == ["status 1"] * 3 + ["status 0"]
    full = "the disk is full, or a file may not grow so large. What is finished is kept; make room and run again."
    assert lines.count(full) == 3
    assert not any("Traceback" in line or "Error" in line for line in lines)
    assert (tmp_path / "manifest.json").read_bytes() == manifests(whole, "passage_vectors")["passage_vectors"]
