"""How fast it is: ratios, each from two things that took turns in one run.

    python bench/speed.py                     all comparisons
    python bench/speed.py rollout learner     some of them
    python bench/speed.py rollout --repeats 9
    python bench/speed.py step --repeats 2 --set model.name=tiny-random
    python bench/speed.py --publish           all, on one commit, into docs/speed.md

The table goes to standard output and the figures to `bench/results.json`, with the commit that they are of; those of
comparisons that were not run stay as they were. With --set it is left alone. Nothing else should use the machine
meanwhile.
"""

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.compare import COMPARISONS, results
from bench.compare.table import Row, render
from bench.compare.work import asked
from rollout.environment import OPENMP

os.environ.update(OPENMP)


def main() -> None:
    arguments = _arguments()
    asked.extend(arguments.set)
    rows: list[Row] = []
    for name in arguments.comparisons or COMPARISONS:
        print(f"{name}...", file=sys.stderr, flush=True)
        start = time.monotonic()
        found = importlib.import_module(f"bench.compare.{name}").run(arguments.repeats or COMPARISONS[name])
        took = time.monotonic() - start
        print(f"{name} took {took:.0f} s", file=sys.stderr, flush=True)
        if not asked:  # other work has other figures
            results.keep(name, found, took)
        rows += found
    print(render(rows))
    if arguments.publish:
        figures = results.table(results.load(), COMPARISONS)
        results.PAGE.write_text(results.publish(results.PAGE.read_text(), figures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparisons", nargs="*", help=f"of {', '.join(COMPARISONS)}; all by default")
    parser.add_argument("--repeats", type=int, help="how often each is repeated")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of bench/compare/work.toml")
    parser.add_argument("--publish", action="store_true", help="write the table of docs/speed.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.comparisons) - set(COMPARISONS):
        parser.error(f"no comparison is named {min(unknown)!r}; there are: {', '.join(COMPARISONS)}")
    if arguments.publish and arguments.set:
        parser.error("--publish is of the work as it is: leave --set out")
    if arguments.publish and (changed := results.changed()):
        parser.error(f"figures are of a commit, and {changed[0]} differs from it: commit first")
    return arguments


if __name__ == "__main__":
    main()
