"""Settings that change how fast a step runs, never what it makes; no part of any recipe."""

import contextlib
import ctypes
import gc
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Runtime:
    """How fast, never what, up to floating-point rounding and the draws of dropout."""

    engine: Literal["local", "ray"] = "local"
    """Who works through the parts of a dear step: this process, or a Ray cluster (extra `scale`)."""
    devices: int = 1
    """GPUs (or CPU processes) on each machine."""
    nodes: int = 1
    """Machines of a Ray cluster; a training runs on one."""
    strategy: str = "auto"
    """Lightning's: auto, ddp, fsdp, ..."""
    recompute: bool = False
    """In training, compute activations twice rather than keep them: a third slower, a tenth of the memory."""
    chunk: int | None = None
    """In training, texts whose activations are held at once; the others' are computed again in the backward pass, so
    that memory does not grow with the batch (GradCache, arXiv 2101.06983). None holds all."""
    chunk_tokens: int | None = None
    """The same in tokens, padding included, so that memory does not grow with the length of texts either. Give one."""
    compiles: bool = False
    """Whether training compiles the model (`torch.compile`): minutes at first, no gain on a CPU. Needs a compiler."""
    batch_tokens: int | None = None
    """Tokens, padding included, that a model reads at once when it does not train. None: 2,048 on a CPU, 16,384 on a
    GPU."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of a model that does not train; auto is bf16 where the processor computes in it."""


JOINS = "DISTILL_JOINS"
"""Says, in the environment of a process that Lightning started, which artifact it helps to train."""


def helps() -> bool:
    """Whether this process was started by another one, to train together."""
    return JOINS in os.environ and os.environ.get("LOCAL_RANK", "0") != "0"


def joins(out: Path) -> bool:
    """Whether this process helps another one, which holds this artifact, to train it."""
    return helps() and os.environ[JOINS] == str(out.absolute())


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device(model: "torch.nn.Module") -> "torch.device":
    """Where a model's parameters are; the CPU if it has none."""
    import torch

    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def best_device() -> "torch.device":
    """A GPU where there is one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def tokens_at_once(where: "torch.device") -> int:
    """Tokens that a model reads at once where nobody says how many.

    Beyond 2,048, a CPU spends up to two fifths of its time on getting fresh memory (docs/log.md, 2026-11-23); what
    fills a GPU is assumed.
    """
    return 2048 if where.type == "cpu" else 16384


def autocast(where: "torch.device", precision: str) -> "contextlib.AbstractContextManager[object]":
    """The arithmetic of a forward pass.

    Args:
        where: The device that computes.
        precision: `auto` (bf16 where the processor computes in it: 2.5 to 3 times as fast, else
            fp32), `bf16` or `fp32`.
    """
    import torch

    wanted = computes_bf16(where) if precision == "auto" else precision == "bf16"
    return torch.autocast(where.type, torch.bfloat16) if wanted else contextlib.nullcontext()


def computes_bf16(where: "torch.device") -> bool:
    """Whether a device has bf16 arithmetic, rather than emulating it."""
    import torch

    if where.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported())


def release_memory() -> None:
    """Give back what a finished step held, and start the next one's peak from here."""
    gc.collect()  # a Lightning trainer and its model refer to each other
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed weights otherwise
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Most memory held since `release_memory`, in bytes; since the process began where Linux does not tell."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
