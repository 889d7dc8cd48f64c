"""The long forms, one after the other, into ``out/bench`` and ``docs/benchmarks.md``: ``python -m benchmarks.nightly``.

Started again after a stop it goes on: benchmarks that are done on this commit are left out, and one that was stopped goes
on with its next piece. None takes longer than an hour. What cannot run on this computer is left out, and it is said why.
"""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks import _qemu_machine, page, report

PARTS = ("crash", "outages", "simulate", "parsers", "qemu_lane")
OPTIONAL = {"qemu_lane": _qemu_machine.missing}
"""By part: what returns why it cannot run here; empty if it can."""
LIMIT_S = 3600


def main() -> None:
    """Run what is not done yet; exit code 1 if a part failed or took too long."""
    succeeded = True
    for name in PARTS:
        target = report.ROOT / report.OUT / f"{name}.json"
        if target.exists() and _is_done(json.loads(target.read_text())):
            print(f"{name}: done on this commit")
            continue
        if name in OPTIONAL and (why := OPTIONAL[name]()):
            print(f"{name}: left out: {why}", flush=True)
            continue
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", "--nightly"]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=report.ROOT, timeout=LIMIT_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            print(f"{name}: {error}; start again to go on", flush=True)
            succeeded = False
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(json.loads(done.stdout) | {"nightly": True}, indent=2) + "\n")
        page.write_page()
    sys.exit(0 if succeeded else 1)


def _is_done(result: dict[str, object]) -> bool:
    commit = report.commit()
    return bool(result.get("nightly")) and result.get("commit") == commit and not commit.endswith("+")


if __name__ == "__main__":
    main()
