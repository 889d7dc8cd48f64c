"""Long runs in pieces: what is done is kept, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.report import Options, commit

Result = dict[str, Any]


class Pieces:
    """The finished pieces of one benchmark, in a file of JSON lines; those of another commit do not count.

    Parameters
    ----------
    path : Path, optional
        Without one nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self._commit = path, commit()
        self._done: dict[str, Result] = {}
        if path is not None and path.exists():
            rows = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
            self._done = {row["piece"]: row["result"] for row in rows if row["commit"] == self._commit}

    def run(self, piece: str, work: Callable[[], Result]) -> Result:
        """Return the result of a piece, from the file if it is done already."""
        if piece in self._done:
            return self._done[piece]
        result = self._done[piece] = work()
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(json.dumps({"commit": self._commit, "piece": piece, "result": result}) + "\n")
        return result


def add_nightly(parser: argparse.ArgumentParser) -> None:
    """Add the option of long runs."""
    parser.add_argument("--nightly", action="store_true", help="full size; started again after a stop, it goes on")


def pieces_of(name: str, options: Options) -> Pieces:
    """Return the pieces of benchmark `name`: kept in a file if this is a nightly run."""
    return Pieces(options.out / f"{name}.pieces.jsonl" if options.more.nightly else None)
