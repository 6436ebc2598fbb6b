"""Learning curves as files: what is written is read, what is damaged is left out."""

import pytest

from unstuck.curves import CURVE, CurvePoint, last_point, read_curve, write_curve

POINTS = (
    CurvePoint(100, 50, None, 0, signals={"entropy": 0.5, "imitation": None}),
    CurvePoint(150, 100, -3.5, 2, 40.0, 0.25, 0.1, 900.0, round=2, signals={"critic_loss": 2}),
)


def test_what_is_written_is_read(tmp_path):
    write_curve(tmp_path / CURVE, POINTS)
    assert read_curve(tmp_path) == read_curve(tmp_path / CURVE) == POINTS
    assert last_point(tmp_path) == POINTS[-1]
    assert [p.value("return_mean") for p in POINTS] == [None, -3.5]
    assert [p.value("critic_loss") for p in POINTS] == [None, 2.0]
    assert POINTS[0].value("no such thing") is None


@pytest.mark.parametrize(
    "line", ["", "{", "[1, 2]", "3", "null", '{"trained": 3}', '{"steps": "many"}', '{"steps": null}']
)
def test_lines_that_are_none_are_left_out(line, tmp_path):
    with pytest.raises(ValueError, match=r"."):
        CurvePoint.of(line)
    (tmp_path / CURVE).write_text(f"{POINTS[0].as_line()}{line}\n{POINTS[1].as_line()}{line}")
    assert read_curve(tmp_path) == POINTS


def test_where_there_is_no_curve_yet(tmp_path):
    assert read_curve(tmp_path) == ()
    assert last_point(tmp_path) is None
    (tmp_path / CURVE).write_bytes(b"\xff\xfe")
    assert read_curve(tmp_path) == ()
    assert last_point(tmp_path) is None
