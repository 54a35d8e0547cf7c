"""How fast it is: ratios, each from two things that took turns in one run.

    python bench/speed.py                     all comparisons
    python bench/speed.py rollout learner     some of them
    python bench/speed.py rollout --repeats 9
    python bench/speed.py step --repeats 2 --set model.name=tiny-random

The table goes to standard output and the figures to `bench/results.json`, where those of comparisons that were not run
stay as they were; with --set it is left alone. Nothing else should use the machine meanwhile.
"""

import argparse
import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.compare.table import Row, render
from bench.compare.work import asked
from rollout.environment import OPENMP

os.environ.update(OPENMP)
RESULTS = Path(__file__).with_name("results.json")
COMPARISONS = {"rollout": 7, "learner": 7, "step": 7, "full": 3, "trl": 3, "lag": 3}
"""And how often each is repeated."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparisons", nargs="*", help=f"of {', '.join(COMPARISONS)}; all by default")
    parser.add_argument("--repeats", type=int, help="how often each is repeated")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of bench/compare/work.toml")
    arguments = parser.parse_args()
    asked.extend(arguments.set)
    if unknown := set(arguments.comparisons) - set(COMPARISONS):
        parser.error(f"no comparison is named {min(unknown)!r}; there are: {', '.join(COMPARISONS)}")
    rows: list[Row] = []
    for name in arguments.comparisons or COMPARISONS:
        print(f"{name}...", file=sys.stderr, flush=True)
        found = importlib.import_module(f"bench.compare.{name}").run(arguments.repeats or COMPARISONS[name])
        if not asked:  # other work has other figures
            _keep(name, found)
        rows += found
    print(render(rows))


def _keep(name: str, rows: list[Row]) -> None:
    """Put a comparison's figures beside those that are there."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {row.key: round(row.value, 4) for row in rows if row.key}
    results.setdefault("rows", {})[name] = [[row.what, round(row.value, 4), row.unit] for row in rows]
    results.setdefault("measured", {})[name] = (
        f"{time.strftime('%Y-%m-%d %H:%M')} on {os.cpu_count()} cores of {platform.machine()}"
    )
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
