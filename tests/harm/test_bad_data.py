"""Data that is odd rather than wrong, by way of the command line: one message, no wait, the same at every run."""

import os
from pathlib import Path

import pytest

from distill.__main__ import main


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command line says on standard error when it refuses."""
    capsys.readouterr()
    assert main(list(arguments)) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1
    return said


def read(reader: str, settings: str) -> str:
    return f"{{class_path: distill.readers.{reader}, init_args: {{{settings}}}}}"


@pytest.mark.parametrize("reader", ["JSONL", "CSV", "Parquet", "TextFolder", "BEIR"])
def test_a_pipe_is_refused_before_it_is_hashed(reader: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: the command hangs without a word, for the recipe wants the bytes of what is read."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    out = ("--out", str(tmp_path / "out"))
    assert f"{pipe} is" in complaint(capsys, "ingest", "--sources", read(reader, f"path: {pipe}"), *out)
    file = tmp_path / "mine.yaml"
    file.write_text(f"steps: {{corpus: {{ingest: {{sources: [{read(reader, f'path: {pipe}')}]}}}}}}\n")
    assert f"{pipe} is" in complaint(capsys, "plan", str(file))


@pytest.mark.parametrize("setting", ["task", "licence"])
def test_a_setting_that_is_no_text_is_refused_before_it_is_hashed(
    setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: half a character of a pasted emoji ends in a traceback of the recipe's encoder."""
    file = tmp_path / "a.jsonl"
    file.write_text('{"query": "q", "positive": "p"}\n')
    settings = {"kind": "retrieval", "task": "t", "path": str(file), setting: '"a \\ud83d"'}
    written = read("JSONL", ", ".join(f"{name}: {value}" for name, value in settings.items()))
    said = complaint(capsys, "ingest", "--sources", written, "--out", str(tmp_path / "out"))
    assert f"{setting}: 'a \\ud83d' is no UTF-8, or holds NUL." in said


def test_an_output_inside_the_folder_that_is_read_is_refused_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Harm: the first run goes well; the second is told that a folder which nobody touched is another."""
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    Path("docs", "a.md").write_text("some text")
    file = tmp_path / "mine.yaml"
    experiment = f"output: OUTPUT\nsteps: {{corpus: {{ingest: {{sources: [{read('TextFolder', 'path: docs')}]}}}}}}\n"
    file.write_text(experiment.replace("OUTPUT", "docs/runs"))
    for _ in range(2):
        assert "docs, which TextFolder reads, holds the output " in complaint(capsys, "run", str(file))
    file.write_text(experiment.replace("OUTPUT", "runs"))
    for _ in range(2):
        assert main(["run", str(file)]) == 0
