"""What a budget buys: sizes as they come out of an export, and the student that gives up least."""

import functools
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
import yaml

from distill import experiment, onnx_graph, portable
from distill.__main__ import main
from distill.errors import Refused
from distill.estimate import budget, sizes
from distill.estimate.budget import Budget, Choices, chosen
from students import Encoder, Projected, Static


@pytest.fixture(autouse=True)
def known_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Milliseconds that can be redone by hand."""
    monkeypatch.setattr(budget, "products_a_second", lambda rows, width: 1e9)


def exported(student: Encoder | Static, folder: Path) -> int:
    """Bytes of the ONNX file in int8 that an export of a student writes."""
    onnx_graph.export(portable.parts(student.eval()), folder / "model.onnx")
    onnx_graph.quantise(folder / "model.onnx", folder / "int8.onnx")
    return (folder / "int8.onnx").stat().st_size


def base(folder: Path, encoder: Path) -> Path:
    """The encoder of the tests, as wide as small real ones are."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
    config = BertConfig(
        vocab_size=400, hidden_size=192, num_hidden_layers=3, num_attention_heads=6, intermediate_size=768,
        max_position_embeddings=128,
    )  # fmt: skip
    made = BertModel(config)
    with torch.no_grad():  # a fresh one's biases are all zero, and an ONNX file holds equal tensors once
        for held in made.parameters():
            held.normal_(0, 0.05)
    made.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("layers", "width"), [(3, 192), (1, 192), (2, 96)])
def test_sizes_are_those_of_an_export(tmp_path: Path, encoder: Path, layers: int, width: int) -> None:
    """Harm: a student that was planned for a device does not fit on it."""
    folder = str(base(tmp_path, encoder))
    planned = Choices(folder).encoder(layers, width, 400)
    student = Encoder(folder, layers=layers, width=None if width == 192 else width)
    pooler = sum(held.numel() for held in student.backbone.pooler.parameters())  # which no export holds
    assert planned.parameters == sum(held.numel() for held in student.parameters()) - pooler
    assert planned.bytes == pytest.approx(exported(student, tmp_path), rel=0.02)


def test_the_size_of_a_table_is_that_of_its_export(tmp_path: Path, encoder: Path) -> None:
    """Harm: the smallest tier is planned larger or smaller than it is."""
    folder = str(base(tmp_path, encoder))
    planned = Choices(folder).static(128)
    assert planned.parameters == 400 * 128
    assert planned.bytes == pytest.approx(exported(Static(folder, width=128), tmp_path), rel=0.02)


def test_a_query_is_two_operations_a_parameter_and_token(tmp_path: Path, encoder: Path) -> None:
    """Harm: a factor that is off here is off in each proposal."""
    choices = Choices(str(base(tmp_path, encoder)), query=10)
    student = choices.encoder(2, 192, 400)
    matrices = 4 * 192**2 + 2 * 192 * 768
    wanted = 2 * (2 * 10 * matrices + 4 * 10 * 10 * 192)
    calls = budget.CALL + 2 * budget.CALL_LAYER
    assert student.seconds - calls == pytest.approx(wanted / 1e9)


def test_of_what_fits_the_one_that_gives_up_least(tmp_path: Path, encoder: Path) -> None:
    """Harm: a narrow start is proposed where fewer layers of the whole width would do, or a table, which is better."""
    choices = list(Choices(str(base(tmp_path, encoder))).all())
    whole = choices[0]
    assert whole.start == "as it is"
    assert chosen(choices, Budget(megabytes=whole.bytes / 1e6)) is whole
    two = next(each for each in choices if each.start == "2 of 3 layers")
    assert chosen(choices, Budget(parameters=whole.parameters - 1)) is two
    table = chosen(choices, Budget(parameters=two.parameters - 1))
    assert table is not None and table.layers == 0 and table.width == 128
    inside = [each for each in choices if each.parameters < two.parameters and each.width < 192 and each.layers]
    narrow = chosen(inside, Budget(parameters=two.parameters))
    assert narrow is not None and narrow.computing == max(each.computing for each in inside)
    assert chosen(choices, Budget(parameters=10)) is None
    for student in choices:
        assert Budget(megabytes=student.bytes / 1e6, parameters=student.parameters).broken(student) == []
        assert Budget(1e-6, 1e-6, 1).broken(student) == ["megabytes", "milliseconds", "parameters"]


def test_a_corpus_tells_how_many_tokens_stay(tmp_path: Path, encoder: Path, corpus: Path) -> None:
    """Harm: layers are given up for a table of tokens that no text has."""
    folder = str(base(tmp_path, encoder))
    choices = list(Choices(folder, corpus=[corpus]).all())
    kept = len(Encoder(folder, vocabulary=(corpus,)).tokenizer)
    fewer = next(each for each in choices if each.start == "fewer tokens")
    assert fewer.tokens == kept < 400
    assert chosen(choices, Budget(parameters=choices[0].parameters - 1)) is fewer


def test_what_is_proposed_is_a_student(
    tmp_path: Path, encoder: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Harm: the settings that are printed cannot be pasted, or make another student than was reckoned."""
    folder = str(base(tmp_path / "base", encoder))
    for asked in (["--parameters", "0.9e6"], ["--milliseconds", "0.5"], ["--megabytes", "0.4"]):
        assert main(["size", "--base", folder, "--corpus", str(corpus), *asked]) == 0
        said = capsys.readouterr().out
        assert ("proposed" in said and "parameters: (" in said) or "tokens x" in said
        made = yaml.safe_load(said[said.index("class_path") :])
        (tmp_path / "plan.yaml").write_text(
            yaml.safe_dump({"name": "here", "steps": {"one": {"embed": {"passages": str(corpus), "model": made}}}})
        )
        model = experiment.load(tmp_path / "plan.yaml").steps["one"].settings["model"]
        assert callable(model)
        planned = int(re.findall(r"^parameters: .* = ([\d,]+)$", said, re.MULTILINE)[0].replace(",", ""))
        student = model()
        pooler = getattr(student.backbone, "pooler", None) or torch.nn.Identity()
        assert sum(p.numel() for p in student.parameters()) - sum(p.numel() for p in pooler.parameters()) == planned


def test_what_students_cannot_be_cut_out_of_is_not_proposed(tmp_path: Path, encoder: Path) -> None:
    """Harm: what is proposed is refused by the step that it is pasted into, and its size is another's."""
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    for name, config in {
        "shared": transformers.AlbertConfig(vocab_size=400, embedding_size=32, **shape),  # all layers are one
        "tables": transformers.ElectraConfig(vocab_size=400, embedding_size=16, **shape),
        "wide": transformers.DebertaV2Config(vocab_size=400, **shape),
    }.items():
        transformers.AutoTokenizer.from_pretrained(encoder).save_pretrained(tmp_path / name)
        config.save_pretrained(tmp_path / name)
    for name in ("shared", "tables"):
        with pytest.raises(Refused, match=r"size: .* is not known, for its layers are not found or its table"):
            Choices(str(tmp_path / name))
    assert {each.width for each in Choices(str(tmp_path / "wide")).all() if each.layers} == {32}


def test_a_table_is_no_wider_than_its_tokens_allow(tmp_path: Path, encoder: Path) -> None:
    """Harm: a table that is proposed for a few tokens is refused when it is made."""
    folder = str(base(tmp_path, encoder))
    choices = Choices(folder)
    choices._tokens = 100
    assert max(each.width for each in choices.all() if not each.layers) == 64


@pytest.mark.parametrize("asked", [[], ["--megabytes", "0"], ["--parameters", "-1"], ["--megabytes", "nan"]])
def test_a_budget_of_nothing_is_refused(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: a table of everything, and a proposal nobody asked for."""
    assert main(["size", *asked]) == 1
    assert "needed: --megabytes, --milliseconds or --parameters, above zero" in " ".join(
        capsys.readouterr().err.split()
    )


def test_what_keeps_no_budget_is_said(tmp_path: Path, encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Harm: the nearest miss is taken for a proposal."""
    assert main(["size", "--base", str(base(tmp_path, encoder)), "--parameters", "10"]) == 1
    assert "keeps the budget. Raise it" in capsys.readouterr().err


def test_products_are_measured_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Harm: a plan that nobody waits for."""
    monkeypatch.undo()
    assert 1e7 < budget.products_a_second(4, 64, 100_000) < 1e14


def test_a_plan_reckons_with_a_smaller_student(tmp_path: Path, encoder: Path) -> None:
    """Harm: `distill plan` says a table without a transformer takes as long as what it is made from."""
    folder = str(base(tmp_path, encoder))
    whole = sizes.described({"base": folder})
    assert whole is not None
    half = sizes.described({"base": folder, "layers": 1})
    same = sizes.described({"base": folder, "layers": (0,)})
    assert half is not None and half == same and half.computing == pytest.approx(whole.computing / 3, rel=0.01)
    narrow = sizes.described({"base": folder, "width": 96})
    true = Encoder(folder, width=96)
    assert narrow is not None and narrow.width == 96
    assert narrow.parameters == pytest.approx(sum(held.numel() for held in true.parameters()), rel=0.02)
    table = sizes.described({"base": folder, "width": 64, "smoothing": 1e-4})
    assert table is not None and (table.computing, table.width) == (0, 64)
    assert replace(narrow, computing=0).forward == 0


def test_a_plan_reckons_with_what_a_step_has_made_smaller(tmp_path: Path, encoder: Path) -> None:
    """Harm: `distill plan` says that a student in its teacher's space, or one cut out of a student, takes as long as
    the base that it once began as, and reads texts of any length.
    """
    folder, out = str(base(tmp_path, encoder)), tmp_path / "student"
    start = functools.partial(Encoder, base=folder, layers=1, width=96, length=16)
    plan = sizes.Plan({"student": SimpleNamespace(name="student", verb="train", settings={"model": start}, out=out)})
    student = plan.weights(out)
    assert student is not None and plan.weights(functools.partial(Projected, model=out)) == student
    assert plan.weights(functools.partial(Encoder, model=out, length=16)) == student
    table = plan.weights(functools.partial(Static, model=out, width=64))
    assert table is not None and (table.computing, table.width) == (0, 64)
