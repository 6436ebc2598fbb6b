"""The page of speeds: what it says follows from the numbers, and its benchmark runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _root(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def row(what, ratio, **more):
    return {"what": what, "unit": "steps/s", "baseline": 1000.0, "ours": 1000 * ratio, "ratio": ratio,
            "spread": [ratio, ratio], "limit": None, "note": "", **more}  # fmt: skip


def section(*rows):
    machine = {"cores": 2, "processor": "a processor", "python": "3", "versions": {"numpy": "2"}, "gflops": 9.0}
    return {"rows": list(rows), "repeats": 3, "quick": False, "command": "c", "machine": machine, "seconds": 1.0}


def test_the_page_says_met_and_not_met_as_the_numbers_are():
    from benchmarks.speed.page import page

    data = {
        "training": section(row("fast enough", 3.1, target=3.0), row("too slow", 2.9, target=3.0)),
        "guidance": section(row("dear", 0.04, target=0.03), row("cheap", 0.02, target=0.03)),
        "memory": section(row("small", 1.0, limit=2048), row("big", 3.0, limit=2048)),
        "startup": section(row("slow start", 2.0, target=0.5)),
        "verification": section(
            row("batched", 4.0, unit="branches/s"), row("restoring", 0.004, unit="steps of simulation")
        ),
    }
    text = page(data)
    verdicts = dict(
        line[2:].partition(";")[0].rsplit(": **", 1)
        for line in text.splitlines()
        if line.startswith("- ") and line.partition(";")[0].endswith("**")
    )
    met = {what.split(":")[0]: verdict == "met**" for what, verdict in verdicts.items()}
    assert met == {
        "fast enough": True, "too slow": False, "dear": False, "cheap": True, "small": True, "big": False,
        "slow start": False, "batched": False, "restoring": True,
    }  # fmt: skip
    assert "4 of 9 targets below are met" in text
    assert "not met**; 1,000 MiB of it are there before the first episode" in text
    assert "Not measured yet." in text
    assert "4.0% [4.0%, 4.0%]" in text


def test_a_training_that_is_not_fast_enough_says_what_it_would_take():
    from benchmarks.speed.sections import SECTIONS

    # 2,000 steps/s, 0.5 ms each: 0.4 ms of simulation, 0.1 ms of the rest.
    slow = row("a task", 2.0, target=2.2, simulating=0.8) | {"limit": 10_000.0}
    faster, near = SECTIONS["training"].judge([slow])
    assert not faster.met
    assert "80% of the time is simulation" in faster.why
    assert "in 55% of the time" in faster.why  # 1 / 2200 s leaves 0.0545 ms
    assert not near.met
    assert "not be even if acting and updating took no time" in near.why


def test_a_quick_run_of_one_section_writes_the_page_and_keeps_the_others(tmp_path):
    (tmp_path / "speed.json").write_text(json.dumps({"training": section(row("kept", 3.1, target=3.0))}))
    command = [sys.executable, "-m", "benchmarks.speed", "--only", "startup", "--quick", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    data, text = json.loads((tmp_path / "speed.json").read_text()), (tmp_path / "speed.md").read_text()
    (measured,) = data["startup"]["rows"]
    assert measured["what"] == "unstuck --help"
    assert measured["baseline"] > 0
    assert measured["ratio"] == pytest.approx(measured["ours"] / measured["baseline"])
    assert data["startup"]["quick"]
    assert "quick mode, which is no measurement" in text
    assert "| kept |" in text


@pytest.mark.parametrize("name", ["simulation", "training", "guidance", "verification", "evaluation", "memory"])
def test_each_section_can_be_measured(name, tmp_path, capfd):
    """Little of each, so that no change elsewhere breaks a benchmark unseen."""
    from benchmarks.speed.__main__ import main

    main(["--only", name, "--quick", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "speed.json").read_text())[name]["rows"]
    assert all(row["ours"] > 0 and row["baseline"] > 0 for row in rows)
    assert "left out" not in capfd.readouterr().err
    if name == "guidance":
        from benchmarks.speed import guiding

        assert {row["kind"] for row in rows} == set(guiding.KINDS)
        applied = {row["kind"]: int(row["note"].split("%")[0].split()[-1]) for row in rows}
        assert applied["imitated"] > 5
        assert applied["conditions"] > 5
    if name == "training":
        assert all(0 < row["simulating"] < 1 for row in rows)


def test_the_plot_has_a_line_for_each_kind(tmp_path):
    from benchmarks.speed import guiding

    rows = [row("w", n / 1e5, kind=k, number=n) for k in guiding.KINDS for n in guiding.NUMBERS]
    guiding.plot(rows, tmp_path / "p.svg")
    assert (tmp_path / "p.svg").read_text().count("<use") >= len(rows)


def test_committed_page_is_made_of_the_committed_numbers():
    from benchmarks.speed.page import page

    data = json.loads((ROOT / "docs" / "speed.json").read_text(encoding="utf-8"))
    assert (ROOT / "docs" / "speed.md").read_text(encoding="utf-8") == page(data)
    assert not any(part["quick"] for part in data.values())
