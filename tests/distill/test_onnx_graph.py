"""The ONNX files give the model's own vectors; what int8 costs is measured rightly."""

import importlib
import json
import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import transformers
from torch import nn

from distill import onnx_graph, portable
from distill.errors import Refused
from distill.interfaces import TokenRows

ROWS = TokenRows.of([[1, 5], [1, 7, 9, 11, 3], [1, *range(4, 40)], [6]], [0] * 4, 0)


class _Tokenizer:
    pad_token_id = 0

    def __init__(self, *names: str) -> None:
        self.model_input_names = list(names)


def parts(backbone: transformers.PreTrainedModel, *names: str) -> portable.Portable:
    """A model of which only the backbone matters."""
    made = object.__new__(portable.Portable)  # no real tokenizer is needed to trace a backbone
    tokenizer = _Tokenizer("input_ids", "attention_mask", *names)
    held = {"backbone": backbone.eval(), "tokenizer": tokenizer, "length": 32, "query_prompt": "", "passage_prompt": ""}
    for name, value in held.items():
        object.__setattr__(made, name, value)
    return made


def bert(layers: int = 2, width: int = 32) -> transformers.BertModel:
    torch.manual_seed(5)
    return transformers.BertModel(
        transformers.BertConfig(
            vocab_size=50, hidden_size=width, num_hidden_layers=layers, num_attention_heads=2,
            intermediate_size=2 * width, max_position_embeddings=64,
        )
    ).eval()  # fmt: skip


@torch.no_grad()
def states(backbone: transformers.PreTrainedModel, rows: TokenRows) -> torch.Tensor:
    tokens = rows.take(np.arange(len(rows)))
    return backbone(input_ids=tokens.ids, attention_mask=tokens.attend.long()).last_hidden_state


def expected(backbone: transformers.PreTrainedModel, rows: TokenRows) -> np.ndarray:
    """Each text alone, unpadded, by the plainest mean there is."""
    alone = [states(backbone, TokenRows.of([rows.ids[rows.starts[i] : rows.starts[i + 1]].tolist()], [0], 0))
             for i in range(len(rows))]  # fmt: skip
    return np.stack([nn.functional.normalize(one[0].mean(0), dim=0).numpy() for one in alone])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("graph") / "onnx" / "model.onnx"
    onnx_graph.export(parts(bert(), "token_type_ids"), target)
    return target


def test_onnx_gives_the_models_vectors(file: Path) -> None:
    """Users of ONNX Runtime would get other vectors than those that were evaluated."""
    session = onnx_graph.session(file)
    wanted = expected(bert(), ROWS)
    together = onnx_graph.run(session, ROWS.take(np.arange(4)))
    assert np.abs(together - wanted).max() < 1e-6
    for number in range(4):  # a batch of one, and a text of one token, must not have become constants
        alone = onnx_graph.run(session, ROWS.take(np.array([number])))
        assert np.abs(alone[0] - wanted[number]).max() < 1e-6


def test_the_outputs_and_inputs_stand_in_the_order_that_readers_expect(file: Path) -> None:
    """Readers such as fastembed pool the first output: a pooled one there would be pooled twice."""
    session = onnx_graph.session(file)
    assert [put.name for put in session.get_inputs()] == ["input_ids", "attention_mask", "token_type_ids"]
    assert [put.shape for put in session.get_inputs()] == [["batch", "length"]] * 3
    assert [put.name for put in session.get_outputs()] == ["last_hidden_state", "sentence_embedding"]
    tokens = ROWS.take(np.arange(2))
    fed = {"input_ids": tokens.ids.numpy(), "attention_mask": tokens.attend.numpy().astype(np.int64)}
    made = session.run(None, fed | {"token_type_ids": np.zeros_like(fed["input_ids"])})
    pair = TokenRows.of([[1, 5], [1, 7, 9, 11, 3]], [0] * 2, 0)
    seen = tokens.attend.numpy()
    assert np.abs(made[0] - states(bert(), pair).numpy())[seen].max() < 1e-5


def test_the_file_stands_alone_and_tells_nothing_of_this_machine(file: Path) -> None:
    """A file beside it would be left behind when it is copied; tracing notes hold source lines and home folders."""
    assert [other.name for other in file.parent.iterdir()] == ["model.onnx"]
    assert [opset.version for opset in onnx.load(file).opset_import if not opset.domain] == [18]
    held = file.read_bytes()
    for mark in (b"stack_trace", b"site-packages", str(Path.cwd()).encode(), b"onnx_graph.py"):
        assert mark not in held


def test_a_backbone_without_token_types_is_not_given_any(tmp_path: Path) -> None:
    """Exporting DistilBERT and its like would fail on an argument they do not have."""
    torch.manual_seed(5)
    config = transformers.DistilBertConfig(vocab_size=50, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    backbone = transformers.DistilBertModel(config)
    onnx_graph.export(parts(backbone), tmp_path / "model.onnx")
    session = onnx_graph.session(tmp_path / "model.onnx")
    assert [put.name for put in session.get_inputs()] == ["input_ids", "attention_mask"]
    made = onnx_graph.run(session, ROWS.take(np.arange(4)))
    assert np.abs(made - expected(backbone, ROWS)).max() < 1e-6


def test_the_model_goes_on_with_its_own_attention(file: Path, tmp_path: Path) -> None:
    """A student would be slower after its export than before."""
    backbone = bert(layers=1)
    before = backbone.config._attn_implementation
    assert before != "eager"
    onnx_graph.export(parts(backbone), tmp_path / "model.onnx")
    assert backbone.config._attn_implementation == before


@pytest.mark.parametrize("reduce_range", [False, True])
def test_int8_is_smaller_and_near(file: Path, tmp_path: Path, reduce_range: bool) -> None:
    """Weights left in fp32 would make the edge file as large as the other; wrong scales would make it useless."""
    target = tmp_path / "model_quantized.onnx"
    onnx_graph.quantise(file, target, reduce_range=reduce_range)
    held = {one.name: one.data_type for one in onnx.load(target).graph.initializer}
    assert list(held.values()).count(onnx.TensorProto.INT8) >= 2 * 6 + 1  # linear layers, and the token table
    assert target.stat().st_size < 0.6 * file.stat().st_size
    batch = ROWS.take(np.arange(4))
    fp32, int8 = (onnx_graph.run(onnx_graph.session(one), batch) for one in (file, target))
    assert 0.98 < (fp32 * int8).sum(1).min() < 0.9999999


def test_reduced_range_keeps_weights_in_seven_bits(file: Path, tmp_path: Path) -> None:
    """On x86 without VNNI, sums of products with eight-bit weights overflow and vectors are wrong without a word."""
    onnx_graph.quantise(file, tmp_path / "seven.onnx", reduce_range=True)
    graph = onnx.load(tmp_path / "seven.onnx").graph
    weights = [onnx.numpy_helper.to_array(one) for one in graph.initializer if one.data_type == onnx.TensorProto.INT8]
    linear = [weight for weight in weights if weight.ndim == 2 and weight.shape[0] != 50]
    assert linear and max(int(np.abs(weight.astype(int)).max()) for weight in linear) <= 64


def test_only_the_known_messages_are_hushed(caplog: pytest.LogCaptureFixture) -> None:
    """A real warning of the exporter would be lost with the harmless ones."""
    with onnx_graph._hushed():
        logging.warning("Please consider to run pre-processing before quantization.")
        logging.warning("something else")
        with pytest.warns(UserWarning, match="real"):
            import warnings

            warnings.warn("a real one", UserWarning, stacklevel=1)
    assert [record.message for record in caplog.records] == ["something else"]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user would see `No module named onnx` after minutes, and not know what to install."""

    def without(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(Refused, match=r"pip install -e '.\[edge\]'"):
        onnx_graph.export(parts(bert(layers=1)), tmp_path / "model.onnx")
    with pytest.raises(Refused, match=r"onnxruntime.*'.\[edge\]'"):
        onnx_graph.session(tmp_path / "model.onnx")


def test_a_model_too_large_for_one_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It would fail inside protobuf after the trace, with a message about bytes."""
    monkeypatch.setattr(onnx_graph, "LARGEST", 1000)
    with pytest.raises(Refused, match="GB of weights"):
        onnx_graph.export(parts(bert(layers=1)), tmp_path / "model.onnx")


def test_a_backbone_that_cannot_be_traced_is_refused(tmp_path: Path) -> None:
    """The user would be told to open an issue with torch, over a page of traces."""

    class Choosing(transformers.BertModel):
        def forward(self, *args: object, **kwargs: object) -> object:
            made = super().forward(*args, **kwargs)
            if float(made.last_hidden_state.sum()) > 0:  # a number of the texts decides what is computed
                made.last_hidden_state = -made.last_hidden_state
            return made

    with pytest.raises(Refused, match="Choosing cannot be traced to ONNX"):
        onnx_graph.export(parts(Choosing(bert(layers=1).config)), tmp_path / "model.onnx")


def test_a_file_that_cannot_run_is_refused(file: Path, tmp_path: Path) -> None:
    """A traceback from inside the runtime would not say which file to look at."""
    with pytest.raises(Refused, match=r"other\.onnx does not exist; there: model\.onnx"):
        onnx_graph.session(file.with_name("other.onnx"))
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(Refused, match=r"cut\.onnx cannot be read"):
        onnx_graph.session(cut)


def test_agreement_is_what_it_says() -> None:
    """A gate on wrong figures lets a broken file pass."""
    angles = np.linspace(0, np.pi, 40)
    ours = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    same = onnx_graph.agreement(ours, ours)
    assert same == {"cosine_mean": pytest.approx(1), "cosine_min": pytest.approx(1), "neighbours": 1}
    turned = np.stack([np.cos(angles + 0.1), np.sin(angles + 0.1)], 1).astype(np.float32)
    found = onnx_graph.agreement(ours, turned)  # every vector moved, no neighbour changed
    assert found["cosine_min"] == pytest.approx(np.cos(0.1)) and found["neighbours"] == 1
    other = ours.copy()
    other[[3, 30]] = ours[[30, 3]]
    found = onnx_graph.agreement(ours, other)
    assert found["cosine_min"] == pytest.approx(np.cos(angles[30] - angles[3]), abs=1e-5)
    assert found["neighbours"] == pytest.approx(_overlap(ours, other))


def _overlap(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The same by sorting, text by text."""
    shared = 0.0
    for number in range(len(ours)):
        nearest = [
            set(np.argsort(-(vectors @ vectors[number]), kind="stable")[1:11].tolist()) for vectors in (ours, theirs)
        ]
        shared += len(nearest[0] & nearest[1]) / 10 / len(ours)
    return shared


def test_difference_is_of_single_coordinates() -> None:
    """A mean over coordinates would hide one that is far off."""
    ours = np.zeros((2, 4), np.float32)
    theirs = ours.copy()
    theirs[1, 2] = -0.5
    assert onnx_graph.difference(ours, theirs) == {"max": 0.5, "mean": 0.0625}
    assert json.dumps(onnx_graph.difference(ours, theirs))
