"""What computes: its peak, and the share of it that each kind of work reaches."""

import dataclasses
import functools
import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill.estimate.sizes import Step
from distill.runtime import Runtime, best_device, computes_bf16, cores

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Share:
    """Of a machine's peak, what one kind of work reaches."""

    cpu: float
    gpu: float


SHARES = {
    "train": Share(0.27, 0.40),
    "embed": Share(0.50, 0.40),
    "read": Share(0.42, 0.40),
    "write": Share(0.23, 0.01),
    "search": Share(0.38, 0.04),  # in fp32, of a peak in bf16
}
"""Kinds of work: training; embedding; a language model's reading of prompts; its writing, token by token, which
waits for memory; products of vectors in fp32. Padding and all else that is no use included. CPU: Gemma-3-270M and
MiniLM on 2 cores with bf16, 2026-11-22. GPU: assumed, not measured."""

FILLING = 4096
"""Width of a model that fills a GPU; a narrower one reaches a share in proportion (assumed)."""

PARTED = ("embed", "generate", "judge")
"""Verbs whose parts an engine deals to workers; beside them only `train` runs on several devices."""

GPUS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10": 125e12,
    "L4": 121e12,
}
"""Dense bf16 operations a second, from data sheets, by a word of the device's name; the first that is there counts."""

ASSUMED = "H100"
"""The GPU of a plan that asks for more devices than this machine has."""


@dataclass(frozen=True)
class Machine:
    """What computes."""

    name: str
    peak: float
    """Operations a second of one device."""
    gpu: bool
    devices: int = 1
    """How many share the work."""

    def seconds(self, kind: str, operations: float, width: int) -> float:
        """What so many operations of one kind of work take, by a model of this width."""
        share = SHARES[kind].gpu * min(1.0, width / FILLING) if self.gpu else SHARES[kind].cpu
        return operations / (self.peak * share * self.devices)


@functools.lru_cache(maxsize=1)
def processor() -> Machine:
    """The CPU of this machine, measured once a process."""
    import torch

    where = torch.device("cpu")
    peak = product(where, 1536)
    return Machine(f"{cores()} cores measured at {peak / 1e9:.0f} GFLOP/s {_kind(where)}", peak, False)


@functools.lru_cache(maxsize=1)
def here() -> Machine:
    """What models run on here: one GPU, by its data sheet or measured once a process, or the CPU."""
    import torch

    where = best_device()
    if where.type != "cuda":
        return processor()
    name = torch.cuda.get_device_name(where)
    known = next((peak for word, peak in GPUS.items() if re.search(rf"\b{word}\b", name)), None)
    if known and _kind(where) == "bf16":
        return Machine(f"{name}, {known / 1e12:.0f} TFLOP/s bf16 by its data sheet", known, True)
    peak = product(where, 8192)
    return Machine(f"{name} measured at {peak / 1e12:.1f} TFLOP/s {_kind(where)}", peak, True)


def _kind(where: "torch.device") -> str:
    return "bf16" if computes_bf16(where) else "fp32"


def product(where: "torch.device", side: int) -> float:
    """Operations a second of the best of a few products of square matrices, within 0.4 s."""
    import torch

    dtype = torch.bfloat16 if computes_bf16(where) else torch.float32
    one, other = (torch.ones(side, side, dtype=dtype, device=where) for _ in range(2))
    best, end = math.inf, time.perf_counter() + 0.4
    while time.perf_counter() < end or best == math.inf:
        began, worked = time.perf_counter(), time.process_time()
        float((one @ other)[0, 0])  # reading a number waits for the device
        passed, worked = time.perf_counter() - began, time.process_time() - worked
        # Work of the processor's own threads, so that a busy machine is not taken for a slow one.
        best = min(best, passed if where.type == "cuda" else worked / torch.get_num_threads())
    return 2 * side**3 / best


def of(step: Step) -> Machine:
    """Where a step runs: here, or on assumed GPUs if it asks for more devices than are here."""
    import torch

    runtime = step.settings.get("runtime")
    runtime = runtime if isinstance(runtime, Runtime) else Runtime()
    wanted = runtime.devices * runtime.nodes
    is_shared = step.verb == "train" or (runtime.engine == "ray" and step.verb in PARTED)
    shared = wanted if is_shared else 1
    if wanted <= max(1, torch.cuda.device_count()):
        return dataclasses.replace(here(), devices=shared)
    name = f"{wanted} x {ASSUMED}, assumed to reach {SHARES['train'].gpu:.0%} of {GPUS[ASSUMED] / 1e12:.0f} TFLOP/s"
    return Machine(name, GPUS[ASSUMED], True, shared)
