"""An embedder as an ONNX file, then in int8, and how near its vectors stay to the model's own.

Two outputs, in this order: `last_hidden_state`, which fastembed, transformers.js and
sentence-transformers pool themselves, then `sentence_embedding`, pooled and at unit length, for
everyone else.
"""

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill import pooling
from distill.errors import Refused
from distill.interfaces import Tokens
from distill.portable import Portable, input_names
from distill.runtime import device

if TYPE_CHECKING:
    import onnx
    import onnxruntime

OPSET = 18
OUTPUTS = ("last_hidden_state", "sentence_embedding")
QUANTISED = ("MatMul", "Gather", "Gemm")
"""Operations that hold nearly all weights: linear layers and the token table."""
LARGEST = 2**31 - 1  # bytes of one protobuf file


def _edge(module: str) -> ModuleType:
    """A module of the extra `edge`.

    Raises:
        Refused: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Refused(f"export needs {module.partition('.')[0]}: pip install -e '.[edge]'") from error


class _Graph(nn.Module):
    """What is traced: a backbone, the mean of its states, unit length; and a projector, and unit length again."""

    def __init__(self, backbone: nn.Module, projector: nn.Linear | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        typed = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        if isinstance(self.backbone, nn.Embedding):
            states = self.backbone(input_ids)
        else:
            states = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **typed).last_hidden_state
        vectors = nn.functional.normalize(pooling.mean(states, attention_mask.bool()), dim=-1)
        if self.projector is not None:
            vectors = nn.functional.normalize(self.projector(vectors), dim=-1)
        return states, vectors


def export(model: Portable, file: Path) -> None:
    """Write a model as one fp32 ONNX file with a free number of texts and tokens.

    Raises:
        Refused: The extra `edge` is missing, the model is larger than an ONNX file can be, or it cannot be traced.
    """
    onnx = _edge("onnx")
    _edge("onnxscript")
    size = sum(weight.numel() * weight.element_size() for weight in model.backbone.parameters())
    if size > LARGEST:
        raise Refused(f"the model has {size / 1e9:.1f} GB of weights; one ONNX file holds 2.1. Export a smaller one.")
    with _attention(model, "eager"), _hushed(), torch.no_grad():
        try:
            program = _traced(model, input_names(model))
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__).partition("\n")[0]
            raise Refused(
                f"{type(model.backbone).__name__} cannot be traced to ONNX ({reason}). Use another base."
            ) from error
    made = program.model_proto
    _strip(made)
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(made, file)


def _traced(model: Portable, names: list[str]) -> torch.onnx.ONNXProgram:
    program = torch.onnx.export(
        _Graph(model.backbone, model.projector).eval(),
        _examples(model, len(names)),
        dynamic_shapes=_shapes(model, len(names)),
        input_names=names,
        output_names=OUTPUTS,
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert program is not None
    return program


def _examples(model: Portable, count: int) -> tuple[Tensor, ...]:
    """Two texts of unequal lengths, both above one: a size of one would be taken for a constant."""
    ids = torch.full((2, 7), int(model.tokenizer.pad_token_id or 0), device=device(model.backbone))
    attend = torch.ones_like(ids)
    attend[1, 4:] = 0
    return (ids, attend, torch.zeros_like(ids))[:count]


def _shapes(model: Portable, count: int) -> tuple[Any, ...]:
    """Any number of texts, and of tokens up to what the positions allow."""
    config = getattr(model.backbone, "config", None)
    longest = int(getattr(config, "max_position_embeddings", model.length))
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=longest)}
    return (axes,) * count


@contextmanager
def _attention(model: Portable, kind: str) -> Iterator[None]:
    """Another implementation of attention for a while; the fused ones trace into graphs that fewer runtimes know."""
    if isinstance(model.backbone, nn.Embedding):  # it has none
        yield
        return
    held = model.backbone.config._attn_implementation
    model.backbone.set_attn_implementation(kind)
    try:
        yield
    finally:
        model.backbone.set_attn_implementation(held)


def _strip(made: "onnx.ModelProto") -> None:
    """Leave out what tracing noted beside each node: source lines, and paths of this machine."""
    graph = made.graph
    for part in (made, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
    del graph.value_info[:]


def quantise(file: Path, target: Path, *, reduce_range: bool = False) -> None:
    """Write an fp32 ONNX file with its weights in int8, each output channel at its own scale.

    Args:
        file: What `export` wrote.
        target: Another file.
        reduce_range: Seven bits for weights: for x86 without VNNI, whose 16-bit sums overflow with eight.
    """
    quantization = _edge("onnxruntime.quantization")
    with _hushed():
        quantization.quantize_dynamic(
            file,
            target,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=quantization.QuantType.QInt8,
        )


class _Unless(logging.Filter):
    """Lets every message pass but those that begin like this."""

    def __init__(self, *beginnings: str) -> None:
        super().__init__()
        self.beginnings = beginnings

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self.beginnings)


@contextmanager
def _hushed() -> Iterator[None]:
    """Without the messages of the exporter that are about no fault of ours, and only those."""
    # The quantiser logs to the root; the other name is the exporter's own.
    loggers = [logging.getLogger(name) for name in ("", "torch.onnx._internal.exporter._registration")]
    unless = _Unless("torchvision is not installed", "Please consider to run pre-processing")
    for logger in loggers:
        logger.addFilter(unless)
    try:
        with warnings.catch_warnings():
            # Inside torch and copyreg: a class that torch itself still uses.
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            # Each input has the same two axes, on purpose.
            warnings.filterwarnings("ignore", "# The axis name: (batch|length) will not be used", UserWarning)
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(unless)


def session(file: Path, threads: int = 1) -> "onnxruntime.InferenceSession":
    """An ONNX file ready to run on the CPU.

    Raises:
        Refused: The extra `edge` or the file is missing, or the file is none that ONNX Runtime can read.
    """
    runtime = _edge("onnxruntime")
    if not file.is_file():
        held = sorted(other.name for other in file.parent.glob("*.onnx"))
        raise Refused(f"{file} does not exist; there: {', '.join(held) or 'no ONNX file'}. Name one, or export again.")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no other class
        raise Refused(f"{file} cannot be read by ONNX Runtime ({str(error).splitlines()[0]}). Export again.") from error


def run(session: "onnxruntime.InferenceSession", tokens: Tokens) -> Float[np.ndarray, "texts dim"]:
    """Unit vectors of a batch."""
    ids = tokens.ids.cpu().numpy()
    known = {
        "input_ids": ids,
        "attention_mask": tokens.attend.cpu().numpy().astype(np.int64),
        "token_type_ids": np.zeros_like(ids),
    }
    made = session.run([OUTPUTS[1]], {put.name: known[put.name] for put in session.get_inputs()})
    return np.asarray(made[0])


def difference(ours: Float[np.ndarray, "texts dim"], theirs: Float[np.ndarray, "texts dim"]) -> dict[str, float]:
    """Largest and mean difference of a coordinate."""
    apart = np.abs(ours - theirs)
    return {"max": float(apart.max()), "mean": float(apart.mean())}


def agreement(
    ours: Float[np.ndarray, "texts dim"], theirs: Float[np.ndarray, "texts dim"], depth: int = 10
) -> dict[str, float]:
    """How alike two models are: cosines of the same text, and the share of nearest neighbours in common."""
    cosines = (ours * theirs).sum(1)
    depth = min(depth, len(ours) - 1)
    mine, yours = _neighbours(ours, depth), _neighbours(theirs, depth)
    shared = [len(np.intersect1d(one, other)) / depth for one, other in zip(mine, yours, strict=True)]
    return {
        "cosine_mean": float(cosines.mean()),
        "cosine_min": float(cosines.min()),
        "neighbours": float(np.mean(shared)),
    }


def _neighbours(vectors: Float[np.ndarray, "texts dim"], depth: int) -> np.ndarray:
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)  # a text is no neighbour of itself
    return np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
