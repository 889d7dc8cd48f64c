"""Rules of the repository that no linter knows."""

from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_launch_folder_is_no_package_for_it_would_shadow_that_of_ros():
    assert not list((ROOT / "launch").rglob("__init__.py"))


def test_ci_runs_the_test_command_of_the_readme():
    assert "\nmake test\n" in (ROOT / "README.md").read_text()
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("make test")
