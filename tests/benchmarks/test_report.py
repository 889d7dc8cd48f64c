"""The form of all benchmarks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import page, report
from benchmarks.report import Row

ROOT = Path(__file__).parents[2]
RUN = """
from benchmarks.report import Row, main, need_data
def measure(options):
    print("progress")
    if options.quick:
        need_data(options, "absent.csv")
    yield Row("speed", 12.0, "m/s", 10.0, "higher", "note | bar")
    yield Row("error", 3.0, "%", 2.0)
    yield Row("set-up", None, "s", note="not now")
main("sample", measure, about="A sample.", seeds=3, packages=("numpy", "no-such-package"))
"""


def run(*options):
    command = [sys.executable, "-c", RUN, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_json_is_one_object_in_the_agreed_form_and_a_missed_goal_is_no_error(tmp_path):
    done = run("--json", "--out", tmp_path / "bench")
    assert done.returncode == 0
    result = json.loads(done.stdout)
    assert list(result) == ["benchmark", "quick", "commit", "versions", "machine", "seeds", "rows"]
    assert (result["benchmark"], result["quick"], result["seeds"]) == ("sample", False, [0, 1, 2])
    assert result["versions"]["no-such-package"] == "not installed"
    assert result["machine"]["cores"] >= 1
    assert result["rows"] == [
        {
            "what": "speed",
            "value": 12.0,
            "unit": "m/s",
            "goal": 10.0,
            "better": "higher",
            "note": "note | bar",
            "met": True,
        },
        {"what": "error", "value": 3.0, "unit": "%", "goal": 2.0, "better": "lower", "note": "", "met": False},
        {"what": "set-up", "value": None, "unit": "s", "goal": None, "better": "lower", "note": "not now", "met": True},
    ]
    assert done.stderr == "progress\n"


def test_the_table_says_what_is_missed(tmp_path):
    shown = run("--seeds", "2", "--out", tmp_path).stdout
    assert "MISSED" in shown
    assert "2 seeds" in shown


def test_missing_data_is_exit_code_one_and_says_what_to_give(tmp_path):
    done = run("--quick", "--data", tmp_path, "--out", tmp_path)
    assert done.returncode == 1
    assert "absent.csv is not there: give --data" in done.stderr
    assert run("--seeds", "-1").returncode == 2


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("x", 1.0), True),
        (Row("x", 1.0, goal=1.0), True),
        (Row("x", 1.1, goal=1.0), False),
        (Row("x", 0.9, goal=1.0, better="higher"), False),
        (Row("x", None, goal=1.0), False),
    ],
)
def test_a_goal_is_met_at_its_bound_and_never_without_a_figure(row, met):
    assert row.met is met


def test_the_page_shows_full_runs_only(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "ROOT", tmp_path)
    monkeypatch.setattr(page, "PAGE", tmp_path / "benchmarks.md")
    (tmp_path / report.OUT).mkdir(parents=True)
    result = json.loads(run("--json", "--out", tmp_path).stdout)
    (tmp_path / report.OUT / "sample.json").write_text(json.dumps(result))
    (tmp_path / report.OUT / "hasty.json").write_text(json.dumps(result | {"benchmark": "hasty", "quick": True}))
    page.write_page()
    text = (tmp_path / "benchmarks.md").read_text()
    assert "## sample" in text
    assert "| speed | 12 m/s | at least 10 | met | note / bar |" in text
    assert "hasty" not in text


def test_every_benchmark_is_listed():
    assert "demo_costs" in page.names()
    assert not {"report", "page", "__init__"} & set(page.names())
