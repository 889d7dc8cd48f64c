"""Rules of the repository that no linter knows."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_launch_folder_is_no_package_for_it_would_shadow_that_of_ros():
    assert not list((ROOT / "launch").rglob("__init__.py"))


def test_ci_runs_the_test_command_of_the_readme():
    assert "\nmake test\n" in (ROOT / "README.md").read_text()
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("make test")


@pytest.mark.parametrize("mark", ["waits", "alone"])
def test_make_test_looks_for_a_mark_wherever_it_is_used(mark):
    (command,) = re.findall(rf"pytest .*-m {mark} (.*)", (ROOT / "Makefile").read_text())
    used = re.compile(rf"pytest\.mark\.{mark}\b")
    found = [path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py") if used.search(path.read_text())]
    assert found
    assert [path for path in found if not any(path.is_relative_to(folder) for folder in command.split())] == []


def test_the_wheel_holds_what_is_not_python_too():
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed: pip install -e '.[dev]'")
    packed = {file.distribution_path for file in wheel.WheelBuilder(str(ROOT)).recurse_included_files()}
    for name in ("vda5050/peer/agv.js", "vda5050/peer/master.js", "vda5050/peer/validate.js", "bms/example.yaml"):
        assert f"fleet_market_hardware/{name}" in packed
    for folder in ("fleet_market", "sim/fleet_market_sim", "hardware/fleet_market_hardware"):
        files = [f for f in (ROOT / folder).rglob("*") if f.is_file() and "__pycache__" not in f.parts]
        assert not {str(f.relative_to((ROOT / folder).parent)) for f in files} - packed
