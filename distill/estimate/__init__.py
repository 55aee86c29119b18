"""What steps would cost before they run: rows, tokens, time, disk. Arithmetic in plain view, never a promise.

A forward pass costs 2 operations a parameter and token, lookup tables left out; training costs 6, or 4
where the base is frozen and only adapters learn: the gradient passes through it (2) and none is kept (2);
activations that are computed twice cost 2 more.
Time is operations over what the machine reaches: its peak times a share that was measured.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.console import duration
from distill.errors import Refused
from distill.estimate import machine
from distill.estimate.sizes import Plan, Step, Unknown
from distill.estimate.work import VERBS


@dataclass(frozen=True)
class Cost:
    """What a step would cost; None where it cannot be told."""

    rows: int | None
    tokens: int | None
    seconds: float | None
    bytes: int
    """On disk at the fullest: checkpoints and token ids, which go or may go when the step is done, included."""
    machine: str = ""
    """Where the time is reckoned for; empty where no model runs."""


def costs(steps: Mapping[str, Step], names: Sequence[str]) -> dict[str, Cost]:
    """What the named steps would cost. What cannot be told is None; a plan never fails for it.

    Args:
        steps: All steps of the experiment: what is not made yet is planned from the steps that make it.
        names: Those that have work left.
    """
    plan = Plan(steps)
    return {name: _cost(plan, steps[name]) for name in names}


def _cost(plan: Plan, step: Step) -> Cost:
    try:
        work = VERBS[step.verb](plan, step)
    except Unknown:
        return Cost(None, None, None, 0)
    rows, tokens = work.rows, round(work.tokens)
    seconds, size = plan.begin(_models(step))
    if work.operations is None:
        return Cost(rows, tokens, None, round(work.bytes + size))
    if not work.operations:
        return Cost(rows, tokens, work.seconds + seconds, round(work.bytes + size))
    here = machine.of(step)
    seconds += sum(here.seconds(kind, amount, work.width) for kind, amount in work.operations.items())
    return Cost(rows, tokens, work.seconds + seconds, round(work.bytes + size), here.name)


def _models(step: Step) -> list[object]:
    several = step.settings.get("models")
    return list(several.values()) if isinstance(several, dict) else [step.settings.get("model")]


def sentence(costs: Mapping[str, Cost]) -> str:
    """The costs of all steps as a sentence."""
    if not costs:
        return "everything is done"
    told = [cost.seconds for cost in costs.values() if cost.seconds is not None]
    untold = [name for name, cost in costs.items() if cost.seconds is None]
    parts = [f"about {_about(sum(told))}, {_size(sum(cost.bytes for cost in costs.values()))} on disk"]
    if machines := list(dict.fromkeys(cost.machine for cost in costs.values() if cost.machine)):
        parts.append("on " + "; ".join(machines))
    if untold:
        parts.append(f"without {', '.join(untold)}, whose rows or model are not known yet")
    return ", ".join(parts)


def _about(seconds: float) -> str:
    return duration(seconds) if seconds < 90 or seconds >= 5400 else f"{math.ceil(seconds / 60)} min"


def _size(count: float) -> str:
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= 0.1 * unit:
            return f"{count / unit:.1f} {name}"
    return "< 0.1 MB"


def _count(amount: int) -> str:
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if amount >= unit:
            return f"{amount / unit:.1f}{name}"
    return f"{amount:,}"


def shown(cost: Cost) -> tuple[str, str, str, str]:
    """Rows, tokens, time and disk as a plan's table shows them."""
    rows = "?" if cost.rows is None else f"{cost.rows:,}" if cost.rows else ""
    tokens = "?" if cost.tokens is None else _count(cost.tokens) if cost.tokens else ""
    return rows, tokens, "?" if cost.seconds is None else duration(cost.seconds), _size(cost.bytes)


def check_disk(costs: Mapping[str, Cost], folder: Path) -> None:
    """Make sure that the disk holds what the steps would write.

    Raises:
        Refused: It has less room than that.
    """
    wanted = sum(cost.bytes for cost in costs.values())
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < wanted:
        raise Refused(
            f"{folder}: {_size(free)} free, about {_size(wanted)} needed. "
            "Free some space, or set `output` to another disk."
        )
