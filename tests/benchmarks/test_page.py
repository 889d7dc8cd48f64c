"""The page of benchmarks: what was run again is replaced, the rest stays."""

import json

import pytest

from benchmarks import page, report


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "ROOT", tmp_path)
    monkeypatch.setattr(page, "PAGE", tmp_path / "benchmarks.md")
    (tmp_path / report.OUT).mkdir(parents=True)
    return tmp_path


def store(folder, name, value, **more):
    row = {"what": "speed", "value": value, "unit": "m/s", "goal": 2.0, "better": "higher", "met": value >= 2, "note": ""}
    result = {
        "benchmark": name, "quick": False, "commit": "abc", "versions": {"python": "3.11"}, "seeds": [0],
        "machine": {"cpu": "some", "cores": 2}, "rows": [row], **more,
    }  # fmt: skip
    path = folder / report.OUT / f"{name}{more.get('part', '')}.json"
    path.write_text(json.dumps(result))
    return path


def test_sections_that_were_not_run_again_stay(folder):
    stored = store(folder, "alpha", 1.0), store(folder, "gamma", 3.0)
    page.write_page()
    before = page.PAGE.read_text()
    for path in stored:
        path.unlink()
    store(folder, "beta", 2.0, part="fast")
    store(folder, "gamma", 4.0)
    store(folder, "alpha", 9.0, quick=True)
    page.write_page()
    text = page.PAGE.read_text()
    assert text.startswith(page.HEAD)
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## alpha", "## beta, part fast", "## gamma"]
    assert "`python -m benchmarks.beta --parts fast`" in text
    assert [line.split("|")[2].strip() for line in text.splitlines() if "speed" in line] == ["1 m/s", "2 m/s", "4 m/s"]
    assert before.partition("## gamma")[0] == text.partition("## beta")[0]
    page.write_page()
    assert page.PAGE.read_text() == text
