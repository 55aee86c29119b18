"""Figures as SVG text, drawn with classes that the page colours: bars, scatter, curves, histogram.

A figure is 420 wide, so that its letters stay readable when a phone shows it at full width. Classes:
`grid` and `axis` lines, `mark` shapes and `strong` ones, `whisker`, `line`, `band`, and text in `muted`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH = 420.0
LETTER = 6.3
"""Width of a letter at the page's 11-pixel labels, on the generous side."""

Real = float | int
"""JSON writes a whole number without a point."""

Box = tuple[Real, Real, Real, Real]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Point:
    """A named value with its interval."""

    name: str
    value: Real
    low: Real
    high: Real
    x: Real = 0.0
    """Where a scatter puts it."""
    strong: bool = False
    """Whether the eye should find it first."""


def number(value: Real) -> str:
    """A number to three digits that count: 12,000, 45.0, 0.310, 0.00420."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 8)}f}"


def ticks(low: Real, high: Real, wanted: int = 4) -> list[Real]:
    """Round numbers from `low` to `high`: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def short(value: Real) -> str:
    """A tick's label without trailing zeros."""
    return f"{value:,.6f}".rstrip("0").rstrip(".") if abs(value) < 1e6 else f"{value:.0e}".replace("e+0", "e")


def _svg(title: str, height: Real, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg role="img" viewBox="0 0 {WIDTH:.0f} {height:.0f}" preserveAspectRatio="xMidYMid meet">'
        f"<title>{escape(title)}</title>\n{body}\n</svg>"
    )


def _line(x1: Real, y1: Real, x2: Real, y2: Real, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: Real, y: Real, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _scale(low: Real, high: Real, start: Real, end: Real) -> Callable[[Real], Real]:
    span = high - low or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _tip(point: Point) -> str:
    return f"<title>{escape(point.name)}: {point.value:.4f} [{point.low:.4f}, {point.high:.4f}]</title>"


def bars(title: str, points: Sequence[Point]) -> str:
    """Horizontal bars from zero, each with its name above it and its interval as a whisker."""
    row, top = 36.0, 6.0
    bottom = top + row * len(points)
    marks = ticks(min(0.0, *(p.low for p in points)), max(p.high for p in points) * 1.02)
    low, high = min(0.0, *(p.low for p in points)), max(*(p.high for p in points), marks[-1])
    x = _scale(low, high, 4, WIDTH - 12)
    parts = [_line(x(mark), top, x(mark), bottom, "grid") for mark in marks]
    parts += [_text(x(mark), bottom + 14, short(mark), "muted", "middle") for mark in marks if x(mark) > 8]
    for place, point in enumerate(points):
        y = top + row * place + 24
        left, right = sorted((x(0), x(point.value)))
        kind = "mark strong" if point.strong else "mark"
        parts += [
            f'<g>{_tip(point)}<rect class="{kind}" x="{left:.1f}" y="{y - 5:.1f}" '
            f'width="{right - left:.1f}" height="10" rx="1.5"/>',
            _line(x(point.low), y, x(point.high), y, "whisker"),
            *(_line(x(end), y - 4, x(end), y + 4, "whisker") for end in (point.low, point.high)),
            "</g>",
            _text(9, y - 10, point.name, "name strong" if point.strong else "name"),
            _text(WIDTH - 12, y - 10, f"{point.value:.3f}", "name strong" if point.strong else "name", "end"),
        ]
    parts.append(_line(x(0), top, x(0), bottom, "axis"))
    return _svg(title, bottom + 20, parts)


def scatter(title: str, points: Sequence[Point], x_label: str, y_label: str) -> str:
    """Points over a logarithmic x, with whiskers; labels move until they cover nothing."""
    height, left, bottom = 300.0, 40.0, 262.0
    powers = [math.log10(point.x) for point in points]
    low_x, high_x = min(powers) - 0.25, max(powers) + 0.35
    spread = max(p.high for p in points) - min(p.low for p in points) or 1.0
    low_y, high_y = min(p.low for p in points) - 0.08 * spread, max(p.high for p in points) + 0.08 * spread
    x, y = _scale(low_x, high_x, left, WIDTH - 8), _scale(low_y, high_y, bottom, 24)
    across = [float(power) for power in range(math.ceil(low_x), math.floor(high_x) + 1)]
    if len(across) < 3:
        across = [
            power + math.log10(part) for power in range(math.floor(low_x), math.ceil(high_x)) for part in (1, 2, 5)
        ]
        across = [power for power in across if low_x <= power <= high_x]
    parts = [_text(4, 12, y_label, "muted"), _text(WIDTH - 8, height - 4, x_label, "muted", "end")]
    for mark in ticks(low_y, high_y, 6):
        parts += [
            _line(left, y(mark), WIDTH - 8, y(mark), "grid"),
            _text(left - 5, y(mark) + 4, short(mark), "muted", "end"),
        ]
    for power in across:
        parts += [
            _line(x(power), 24, x(power), bottom, "grid"),
            _text(x(power), bottom + 15, short(10**power), "muted", "middle"),
        ]
    parts.append(_line(left, bottom, WIDTH - 8, bottom, "axis"))
    places = [(x(power), y(point.value)) for power, point in zip(powers, points, strict=True)]
    for point, (px, py) in sorted(zip(points, places, strict=True), key=lambda drawn: drawn[0].strong):
        kind = "mark strong" if point.strong else "mark"
        parts.append(
            f"<g>{_tip(point)}{_line(px, y(point.low), px, y(point.high), 'whisker')}"
            f'<circle class="{kind}" cx="{px:.1f}" cy="{py:.1f}" r="5"/></g>'
        )
    whiskers = [(px - 1, y(point.high), px + 1, y(point.low)) for point, (px, _) in zip(points, places, strict=True)]
    boxes = label_boxes([point.name for point in points], places, whiskers, (left, 14, WIDTH - 2, bottom - 2))
    for point, (px, py), box in zip(points, places, boxes, strict=True):
        near = min(max(px, box[0]), box[2]), min(max(py, box[1] + 4), box[3] - 3)
        if math.dist((px, py), near) > 14:
            parts.append(_line(px, py, *near, "leader"))
        parts.append(_text(box[0], box[3] - 3, point.name, "name strong" if point.strong else "name"))
    return _svg(title, height, parts)


def label_boxes(
    names: Sequence[str], places: Sequence[tuple[Real, Real]], whiskers: Sequence[Box], inside: Box
) -> list[Box]:
    """Where the labels of points go: near them, on nothing, and apart from what belongs to another point."""
    dots = [(px - 6, py - 6, px + 6, py + 6) for px, py in places]
    around = [_around(LETTER * len(name), px, py) for name, (px, py) in zip(names, places, strict=True)]
    boxes = [near[0] for near in around]
    for _ in range(4):  # each moves in the light of where the others are
        for place, near in enumerate(around):
            others = [box for number, box in enumerate(boxes) if number != place]
            costs = [far + _cost(box, places[place], others, dots, whiskers, inside) for far, box in enumerate(near)]
            boxes[place] = near[int(np.argmin(costs))]
    return boxes


def _around(wide: Real, x: Real, y: Real) -> list[Box]:
    """Boxes around a point for a label, the best to read first."""
    found = []
    for gap in (9.0, 18.0, 30.0, 44.0, 60.0):
        sides = [(x + gap, 0), (x - gap - wide, 0), (x + gap, -1), (x - gap - wide, -1), (x + gap, 1)]
        sides += [(x - gap - wide, 1), (x - wide / 2, -1), (x - wide / 2, 1)]
        found += [(left, y - 7 + down * (gap + 5), left + wide, y + 7 + down * (gap + 5)) for left, down in sides]
    return found


def _cost(
    box: Box,
    own: tuple[Real, Real],
    others: Sequence[Box],
    dots: Sequence[Box],
    whiskers: Sequence[Box],
    inside: Box,
) -> Real:
    """How ill a label stands in a box: on something, beside another label or another's point, or outside."""
    apart = (box[0] - 8, box[1], box[2] + 8, box[3])  # words side by side read as one
    covered = sum(overlap(apart, other) for other in others) + sum(overlap(box, dot) for dot in dots)
    centers = [((dot[0] + dot[2]) / 2, (dot[1] + dot[3]) / 2) for dot in dots]
    mistaken = any(_distance(box, center) < min(_distance(box, own), 12) for center in centers if center != own)
    outside = (box[2] - box[0]) * (box[3] - box[1]) - overlap(box, inside)
    return 10 * covered + sum(overlap(box, line) for line in whiskers) + 200 * mistaken + 50 * max(outside, 0.0)


def _distance(box: Box, point: tuple[Real, Real]) -> Real:
    return math.dist(point, (min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3])))


def overlap(one: Box, other: Box) -> Real:
    """Area that two boxes share."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    tall = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(tall, 0.0)


def curves(title: str, panels: Mapping[str, tuple[Sequence[int], Sequence[Real]]], bins: int = 120) -> str:
    """One panel a measure over the same steps: the mean of neighbouring steps, in the band of their range."""
    panel, left, right = 96.0, 44.0, WIDTH - 8
    last = max(max(steps) for steps, _ in panels.values())
    first = min(min(steps) for steps, _ in panels.values())
    x = _scale(first, last, left, right)
    parts: list[str] = []
    for place, (name, (steps, values)) in enumerate(panels.items()):
        top, bottom = panel * place + 20, panel * (place + 1) - 8
        kept = np.isfinite(values)
        parts.append(_text(left, top - 6, name, "name"))
        if not kept.any():
            parts.append(_text(left, bottom - 10, "no finite value", "muted"))
            continue
        at, means, lows, highs = _binned(np.asarray(steps)[kept], np.asarray(values, float)[kept], bins)
        y = _scale(min(lows), max(highs), bottom, top + 2)
        parts.append(_text(right, top - 6, f"{number(means[0])} → {number(means[-1])}", "muted", "end"))
        for mark in ticks(min(lows), max(highs), 4):
            parts += [
                _line(left, y(mark), right, y(mark), "grid"),
                _text(left - 5, y(mark) + 4, short(mark), "muted", "end"),
            ]
        edge = [*zip(at, highs, strict=True), *reversed(list(zip(at, lows, strict=True)))]
        parts.append(f'<polygon class="band" points="{_path(edge, x, y)}"/>')
        parts.append(f'<polyline class="line" points="{_path(zip(at, means, strict=True), x, y)}"/>')
    bottom = panel * len(panels)
    for mark in ticks(first, last, 5):
        anchor = "end" if x(mark) > right - 12 else "middle"
        parts.append(_text(x(mark), bottom + 8, short(mark), "muted", anchor))
    return _svg(title, bottom + 14, parts)


def _binned(steps: np.ndarray, values: np.ndarray, bins: int) -> tuple[list[Real], list[Real], list[Real], list[Real]]:
    """Mean step, mean, least and largest value of each of at most `bins` stretches of steps."""
    groups = np.array_split(np.arange(len(steps)), min(bins, len(steps)))
    columns = [(steps[g].mean(), values[g].mean(), values[g].min(), values[g].max()) for g in groups]
    at, means, lows, highs = (list(map(float, column)) for column in zip(*columns, strict=True))
    return at, means, lows, highs


def _path(points: object, x: Callable[[Real], Real], y: Callable[[Real], Real]) -> str:
    return " ".join(f"{x(across):.1f},{y(up):.1f}" for across, up in points)  # type: ignore[attr-defined]


def histogram(title: str, edges: Sequence[Real], counts: Sequence[Real]) -> str:
    """Counts between edges."""
    left, right, top, bottom = 8.0, WIDTH - 8, 8.0, 112.0
    x, y = _scale(edges[0], edges[-1], left, right), _scale(0, max(*counts, 1), bottom, top)
    parts = [
        f'<rect class="mark" x="{x(low):.1f}" y="{y(count):.1f}" width="{max(x(high) - x(low) - 0.8, 0.5):.1f}" '
        f'height="{bottom - y(count):.1f}"><title>{short(low)} to {short(high)}: {count:,.0f}</title></rect>'
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    parts.append(_line(left, bottom, right, bottom, "axis"))
    for mark in ticks(edges[0], edges[-1], 5):
        anchor = "start" if x(mark) < left + 12 else "end" if x(mark) > right - 12 else "middle"
        parts.append(_text(x(mark), bottom + 15, short(mark), "muted", anchor))
    return _svg(title, bottom + 22, parts)
