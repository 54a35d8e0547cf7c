"""Measure families on tiny random models, and write the table in docs/models.md: ``python -m bench.families [NAME ...]``.

With `--vllm` each family is served by the vLLM that is there, too, in a process of its own. What was measured before
stays for what is not measured now.
"""

import argparse
import asyncio
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.families.measure import measure
from bench.families.serve import served
from bench.families.shapes import FAMILIES, write_model
from bench.families.table import put_into

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def main() -> None:
    """Measure, keep the figures in `results.json`, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="families, by default all")
    parser.add_argument("--vllm", action="store_true", help="serve them by vLLM, too")
    options = parser.parse_args()
    for family in FAMILIES:
        if options.names and family.name not in options.names:
            continue
        with tempfile.TemporaryDirectory() as directory:
            write_model(family, Path(directory))
            result = {"trained": trained(Path(directory))}
            if options.vllm:
                result["vllm"] = served(Path(directory))
        print(family.name, result, flush=True)
        keep(family.name, result)
    write_page(results())


def results() -> dict[str, Any]:
    """Return what was measured so far."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def keep(name: str, result: dict[str, Any]) -> None:
    """Write a family's figures beside the others'."""
    known = results()
    known[name] = known.get(name, {}) | result
    ordered = {family.name: known[family.name] for family in FAMILIES if family.name in known}
    RESULTS.write_text(json.dumps(ordered, indent=1) + "\n")


def write_page(measured: dict[str, Any]) -> None:
    """Put the table into the page."""
    PAGE.write_text(put_into(PAGE.read_text(encoding="utf-8"), measured), encoding="utf-8")


def trained(directory: Path) -> dict[str, Any]:
    """Return what is trained of the model there, and how exactly; or the line of its refusal."""
    try:
        return asdict(asyncio.run(measure(directory)))
    except ValueError as error:
        return {"refused": str(error)}


if __name__ == "__main__":
    main()
