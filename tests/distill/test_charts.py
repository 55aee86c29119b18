"""Figures: well formed, true to scale, readable."""

import itertools
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from distill import charts

POINTS = [
    charts.Point("teacher", 0.64, 0.61, 0.68, 1192.0),
    charts.Point("contrastive", 0.593, 0.56, 0.62, 90.9),
    charts.Point("distilled", 0.615, 0.58, 0.65, 90.9, strong=True),
    charts.Point("<b>&", 0.61, 0.57, 0.64, 23.0, strong=True),
    charts.Point("start", 0.60, 0.57, 0.64, 90.9),
]


def parsed(svg: str) -> ET.Element:
    """The figure as XML, which it must be to stand in a page."""
    return ET.fromstring(svg)


def test_every_figure_is_well_formed_named_and_inside_its_frame() -> None:
    """Harm: one model name with an angle bracket breaks the page; a figure says nothing to a screen reader."""
    drawn = [
        charts.bars("a < b", POINTS),
        charts.scatter("a < b", POINTS, "MB", "nDCG"),
        charts.curves(
            "a < b", {"kl": (list(range(1, 400)), np.linspace(3, 1, 399).tolist()), "nan": ([1], [math.nan])}
        ),
        charts.histogram("a < b", [0.0, 0.5, 1.0], [3, 0]),
    ]
    for svg in drawn:
        root = parsed(svg)
        assert root.get("role") == "img"
        assert root.findtext("title") == "a < b"
        width, height = (float(part) for part in root.get("viewBox", "").split()[2:])
        for shape in root.iter():
            for name, limit in (
                ("x", width),
                ("x1", width),
                ("x2", width),
                ("y", height),
                ("y1", height),
                ("cy", height),
            ):
                if shape.get(name):
                    assert -1 <= float(shape.get(name, "0")) <= limit + 1, (shape.tag, shape.attrib)


def test_bars_are_as_long_as_their_values() -> None:
    """Harm: a bar that does not start at zero doubles a difference of one point."""
    widths = [float(rect.get("width", "0")) for rect in parsed(charts.bars("x", POINTS)).iter("rect")]
    for width, point in zip(widths, POINTS, strict=True):
        assert width / widths[0] == pytest.approx(point.value / POINTS[0].value, abs=0.002)


def test_whiskers_stand_at_the_interval() -> None:
    """Harm: intervals in the figure are not those of the table."""
    root = parsed(charts.bars("x", [charts.Point("a", 0.5, 0.4, 0.7)]))
    bar = next(root.iter("rect"))
    start, unit = float(bar.get("x", "0")), float(bar.get("width", "0")) / 0.5
    ends = sorted(float(line.get("x1", "0")) for line in root.iter("line") if line.get("class") == "whisker")
    assert ends[0] == pytest.approx(start + 0.4 * unit, abs=0.2)
    assert ends[-1] == pytest.approx(start + 0.7 * unit, abs=0.2)


def test_a_negative_value_goes_to_the_left_of_zero() -> None:
    """Harm: a negative Spearman is drawn as a positive one, or as a rectangle of negative width."""
    root = parsed(charts.bars("x", [charts.Point("a", -0.2, -0.3, -0.1), charts.Point("b", 0.4, 0.3, 0.5)]))
    below, above = root.iter("rect")
    assert float(below.get("width", "0")) > 0
    assert float(below.get("x", "0")) + float(below.get("width", "0")) == pytest.approx(
        float(above.get("x", "0")), abs=0.2
    )


def test_labels_of_a_scatter_do_not_cover_each_other() -> None:
    """Harm: models of one size are unreadable, and they are the ones that are compared."""
    names = ("untrained", "contrastive", "distilled", "start", "regression", "margin")
    points = [charts.Point(name, 0.60 + 0.004 * i, 0.59, 0.63, 90.0 + i) for i, name in enumerate(names)]
    boxes = []
    for text in parsed(charts.scatter("x", [*points, POINTS[0]], "MB", "nDCG")).iter("text"):
        if "name" in (text.get("class") or ""):
            x, y = float(text.get("x", "0")), float(text.get("y", "0"))
            boxes.append((x, y - 10, x + 6.3 * len(text.text or ""), y + 2))
    assert len(boxes) == 7
    assert sum(charts.overlap(one, other) for one, other in itertools.combinations(boxes, 2)) == 0
    assert all(box[0] >= 0 and box[2] <= charts.WIDTH for box in boxes)


def labels(points: list[charts.Point]) -> dict[str, charts.Box]:
    """Where a scatter writes each name."""
    found = {}
    for text in parsed(charts.scatter("x", points, "MB", "nDCG")).iter("text"):
        if "name" in (text.get("class") or ""):
            x, y = float(text.get("x", "0")), float(text.get("y", "0"))
            found[str(text.text)] = (x, y - 10, x + charts.LETTER * len(text.text or ""), y + 2)
    return found


def test_labels_of_two_points_do_not_read_as_one() -> None:
    """Harm: `int8` and `distilled`, each beside its own dot, stand together as a model `int8 distilled`."""
    points = [
        charts.Point("teacher_1", 0.738, 0.691, 0.785, 597.5),
        charts.Point("teacher", 0.726, 0.679, 0.773, 597.5),
        charts.Point("untrained", 0.073, 0.047, 0.103, 597.5),
        charts.Point("start", 0.756, 0.71, 0.80, 62.5),
        charts.Point("contrastive", 0.827, 0.789, 0.863, 62.5),
        charts.Point("distilled", 0.817, 0.777, 0.855, 62.5, strong=True),
        charts.Point("int8", 0.817, 0.778, 0.855, 15.6, strong=True),
    ]
    found = labels(points)
    assert len(found) == len(points)
    for one, other in itertools.combinations(found.values(), 2):
        beside = (one[0] - 7, one[1], one[2] + 7, one[3])
        assert charts.overlap(beside, other) == 0


def test_a_label_away_from_its_point_is_led_to_it() -> None:
    """Harm: in a crowd a name belongs to whichever dot the reader picks."""
    crowd = [charts.Point(f"model {row}", 0.60 + 0.001 * row, 0.59, 0.62, 90.0) for row in range(9)]
    crowd += [charts.Point("teacher", 0.2, 0.1, 0.3, 900.0), charts.Point("tiny", 0.9, 0.8, 1.0, 9.0)]
    svg = charts.scatter("x", crowd, "MB", "nDCG")
    assert 'class="leader"' in svg
    assert sum(charts.overlap(*pair) for pair in itertools.combinations(labels(crowd).values(), 2)) == 0
    assert 'class="leader"' not in charts.scatter("x", crowd[-2:], "MB", "nDCG")


def test_a_single_point_or_flat_curve_is_drawn() -> None:
    """Harm: the report of a run of one step fails, after everything else has worked."""
    parsed(charts.scatter("x", [charts.Point("a", 0.0, 0.0, 0.0, 1.0)], "MB", "y"))
    parsed(charts.curves("x", {"loss": ([1], [2.0])}))
    parsed(charts.bars("x", [charts.Point("a", 0.0, 0.0, 0.0)]))
    parsed(charts.histogram("x", [1.0, 1.0], [0]))


def test_a_curve_keeps_its_ends_and_its_range() -> None:
    """Harm: thinning hides a spike, or the curve ends where training did not."""
    values = np.full(5000, 1.0)
    values[2500] = 9.0
    svg = charts.curves("x", {"loss": (list(range(5000)), values.tolist())}, bins=100)
    band = re.search(r'polygon class="band" points="([^"]+)"', svg)
    assert band
    heights = [float(point.split(",")[1]) for point in band.group(1).split()]
    assert max(heights) - min(heights) > 60  # the spike spans the panel
    assert len(heights) == 200


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(0, 1, [0, 0.5, 1]), (0.5, 0.68, [0.5, 0.55, 0.6, 0.65]), (0, 3000, [0, 1000, 2000, 3000]), (2, 2, [2])],
)
def test_ticks_are_round(low: float, high: float, wanted: list[float]) -> None:
    """Harm: axes labelled 0.1637, 0.3274."""
    found = charts.ticks(low, high, 3 if high != 0.68 else 4)
    assert found == pytest.approx(wanted)


def test_numbers_are_short() -> None:
    """Harm: a loss of 0.000213 reads as 0.000."""
    assert [charts.number(value) for value in (0, 12345.6, 45.27, 2.9, 0.31, 0.000213)] == [
        "0", "12,346", "45.3", "2.90", "0.310", "0.000213",
    ]  # fmt: skip
