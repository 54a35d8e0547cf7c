"""A sweep's file as the list of its runs, every one of them checked before the first begins."""

import copy
import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import tomlkit
from pydantic import ValidationError

from lora.config import ALL_LINEAR, layers_label
from rl.config import RunConfig, replaced
from rl.settings import paths
from rl.settings.keys import all_keys, find_key, hint
from rl.settings.toml import Table, config_of, dump_config, read_table
from rl.sweep.config import MOST_RUNS, SearchConfig, SweepConfig

SEED = "seed"
NOT_SWEPT = ("name", "runtime", "wandb", "mlflow")
SHORT = {"weights": "", "problems_per_step": "batch"}
MOST_NAME_BYTES = 200
"""Most bytes of a directory's name, of which file systems take 255."""

Settings = dict[str, Any]
"""Values by their keys' names."""


@dataclass(frozen=True, slots=True)
class Point:
    """One run of a sweep.

    Example: ``Point("p003-rank4-lr0.003-seed0", {"lora.rank": 4, "learner.lr": 0.003, "seed": 0}, config)``
    """

    name: str
    """Its directory below the sweep's."""
    settings: Settings
    """Settings that it has apart from the base."""
    config: RunConfig


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep as its file says."""

    name: str
    config: SweepConfig
    base: RunConfig
    directory: Path
    """Relative paths in the base begin there."""
    points: list[Point]


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Return the sweep in a TOML file, its base changed by `a.b=value` overrides.

    Raises ValueError with one line for each thing that is wrong.
    """
    return sweep_of(_sweep_config(path), path, overrides)


def sweep_of(config: SweepConfig, path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Return the sweep of a configuration that came from `path`, beside which its base lies. Raises as `load_sweep`."""
    file = path.parent / config.base if isinstance(config.base, str) else path
    table = read_table(file) if isinstance(config.base, str) else copy.deepcopy(config.base)
    base = config_of(table, file, overrides)
    name = config.name or f"{base.name}-sweep"
    points = list(_points(config, table, path, name))
    if any(point.config.server is not None for point in points):
        raise ValueError(
            f"{path}: the runs of a sweep share a base model here, and server names another machine: leave it out, or "
            "train each by `rankone train --server`"
        )
    same: dict[str, Point] = {}
    for point in points:
        first = same.setdefault(repr(point.config.model_dump(exclude={"name"})), point)
        if first is not point:
            raise ValueError(f"{path}: {first.name} and {point.name} are the same run; remove one of them")
    return Sweep(name, config, base, file.parent, points)


def dump_base(config: RunConfig) -> Table:
    """The base run's tables, as a sweep's file may hold them."""
    import tomllib

    return tomllib.loads(dump_config(config))


def dump_sweep(config: SweepConfig, name: str, base: RunConfig) -> str:
    """A sweep's file with its base in it."""
    table = config.model_dump(mode="json", exclude={"base"}, exclude_none=True)
    return tomlkit.dumps({**table, "name": name, "base": dump_base(base)})


def with_values(config: SweepConfig, change: Callable[[str, Any], Any]) -> SweepConfig:
    """The same sweep with every value that a setting takes, given with the setting's name, changed."""

    def changed(table: Mapping[str, Any]) -> Settings:
        flat = _flat(Path(), table)
        return {
            name: [change(name, element) for element in value] if _is_axis(name, value) else change(name, value)
            for name, value in flat.items()
        }

    return replaced(config, axes=changed(config.axes), also=tuple(map(changed, config.also)))


def _sweep_config(path: Path) -> SweepConfig:
    try:
        return SweepConfig.model_validate(read_table(path))
    except ValidationError as error:
        raise ValueError(
            "\n".join(_problem(path, dict(detail)) for detail in error.errors(include_url=False))
        ) from None


def _problem(path: Path, detail: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in detail["loc"] if part not in ("str", "dict[str,any]"))
    match detail["type"]:
        case "extra_forbidden":
            known = ", ".join(SweepConfig.model_fields)
            return f"{path}: unknown key {name}; a sweep's keys are {known}, and a run's belong into its base"
        case "missing":
            return f"{path}: {name} is missing; a sweep needs it"
        case "value_error":
            return f"{path}: {detail['ctx']['error']}"
        case _:
            return f"{path}: {name}: {detail['msg'][0].lower()}{detail['msg'][1:]}, and is {detail['input']!r}"


def _points(config: SweepConfig, table: Table, path: Path, sweep: str) -> Iterator[Point]:
    axes = {name: _axis(path, name, value) for name, value in _flat(path, config.axes).items()}
    chosen = _search(axes, config.search, path) if axes else []
    for settings in _also(config, path):
        chosen += _grid(settings, path)
    if any("preset" in settings for settings in chosen):
        raise ValueError(
            f"{path}: preset cannot differ between the runs of a sweep, whose base has all values written out; vary "
            "the settings that it stands for (docs/objectives.md)"
        )
    for index, settings in enumerate(chosen):
        run = _config(table, settings, path, f"{sweep}-p{index:03d}")  # first: labels are of values that are right
        labels = [label for key, value in settings.items() if (label := _label(key, value))]
        name = "-".join([f"p{index:03d}", *labels]).encode()[:MOST_NAME_BYTES].decode(errors="ignore")
        yield Point(name, settings, run)


def _also(config: SweepConfig, path: Path) -> Iterator[dict[str, list[Any]]]:
    for table in config.also:
        flat = _flat(path, table)
        if empty := next((name for name, value in flat.items() if value == [] and _is_axis(name, value)), None):
            raise ValueError(f"{path}: also: {empty} has no values; name some, or leave it out")
        yield {name: value if _is_axis(name, value) else [value] for name, value in flat.items()}


def _grid(axes: Mapping[str, list[Any]], path: Path) -> list[Settings]:
    """Return all combinations of values. Raises ValueError if they are too many."""
    count = math.prod(map(len, axes.values()))
    if count > MOST_RUNS:
        raise ValueError(
            f"{path}: a grid of {' x '.join(str(len(values)) for values in axes.values())} = {count} runs is above "
            f'{MOST_RUNS}: list fewer values, or set search.kind = "random" and search.samples'
        )
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _config(table: Table, settings: Settings, path: Path, name: str) -> RunConfig:
    changed = copy.deepcopy(table)
    full = settings.get("learner.weights", changed.get("learner", {}).get("weights")) == "full"
    more = {"rollout.engine": "torch"} if full and "rollout.engine" not in settings else {}
    try:
        for key, value in (settings | more | {"name": name}).items():
            if key.startswith("data.") and isinstance(changed.get("data"), list):
                raise ValueError(f"{key} is of one [data] table, and the base has several: write a sweep for each")
            paths.put(changed, key, value)
        return config_of(changed, None)
    except ValueError as error:
        shown = ", ".join(f"{key} = {value}" for key, value in settings.items())
        raise ValueError(f"{path}: with {shown}: {error}") from None


def _flat(path: Path, axes: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """By dotted names, however they are written; `{ min, max }` is a range and no table of names."""
    flat: dict[str, Any] = {}
    for key, value in axes.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and not _is_range(cast("Table", value)) and not _is_value(name):
            inner = _flat(path, cast("Table", value), f"{name}.")
        else:
            _check_name(path, name)
            inner = {name: value}
        if twice := next((name for name in inner if name in flat), None):
            raise ValueError(f"{path}: {twice} is given twice, as one name and in a table; leave one of them out")
        flat |= inner
    return flat


def _is_value(name: str) -> bool:
    return any(key.name == name and not key.is_table for key in all_keys())


def _check_name(path: Path, name: str) -> None:
    if name in NOT_SWEPT:
        raise ValueError(f"{path}: {name} is the same for all runs of a sweep; set it in the base")
    keys = [key for key in all_keys() if key.name == name]
    if not keys:
        raise ValueError(f"{path}: unknown key {name}; {hint(name, None)}")
    if keys[0].is_table:
        raise ValueError(f"{path}: {name} is a table; name one of its keys, such as lora.rank")


def _axis(path: Path, name: str, value: Any) -> list[Any] | Table:
    if isinstance(value, dict) and _is_range(cast("Table", value)):
        return _checked_range(path, name, cast("Table", value))
    if not _is_axis(name, value) or not value:
        raise ValueError(f"{path}: axes: {name} needs a list of its values, and is {value!r}")
    return cast("list[Any]", value)


def _is_axis(name: str, value: Any) -> bool:
    """Return True for a list of values; where each value is a list itself, or "all-linear", one of those is none."""
    if not isinstance(value, list):
        return False
    key = find_key(name, None) or next(key for key in all_keys() if key.name == name)
    is_list = any(getattr(kind, "__origin__", None) in (tuple, list) for kind in key.types)
    return not is_list or all(isinstance(part, list) or part == ALL_LINEAR for part in cast("list[Any]", value))


def _is_range(value: Table) -> bool:
    return "min" in value and "max" in value


def _checked_range(path: Path, name: str, value: Table) -> Table:
    low, high = value["min"], value["max"]
    log = value.get("log", False)
    numbers = all(
        isinstance(bound, int | float) and not isinstance(bound, bool) and abs(bound) < 1e300 for bound in (low, high)
    )
    if value.keys() - {"min", "max", "log"} or not isinstance(log, bool):
        raise ValueError(f"{path}: axes: {name} is a range of min, max and log (true or false), and is {value!r}")
    if not numbers or not low < high or (log and low <= 0):
        raise ValueError(f"{path}: axes: {name} needs min below max{' and above 0' if log else ''}, and is {value!r}")
    return value


def _search(axes: Mapping[str, list[Any] | Table], search: SearchConfig, path: Path) -> list[Settings]:
    """Return every point, or some; of each setting that is drawn, a run with each seed."""
    ranges = [name for name, values in axes.items() if isinstance(values, dict)]
    if search.kind == "grid":
        if ranges:
            raise ValueError(f'{path}: axes: {ranges[0]} is a range; list its values, or set search.kind = "random"')
        return _grid(cast("Mapping[str, list[Any]]", axes), path)
    if SEED in ranges:
        raise ValueError(f"{path}: axes: seed must be a list, because each setting is run with every seed")
    rng = random.Random(search.seed)
    seeds = axes.get(SEED, [0])
    drawn: list[Settings] = []
    for _ in range(100 * search.samples):
        point = {name: _draw(rng, values) for name, values in axes.items() if name != SEED}
        if point not in drawn:
            drawn.append(point)
        if len(drawn) == search.samples:
            break
    return [point | ({SEED: seed} if SEED in axes else {}) for point in drawn for seed in seeds]


def _draw(rng: random.Random, values: list[Any] | Table) -> Any:
    if isinstance(values, list):
        return rng.choice(values)
    low, high = values["min"], values["max"]
    log = values.get("log")
    drawn = math.exp(rng.uniform(math.log(low), math.log(high))) if log else rng.uniform(low, high)
    if isinstance(low, int) and isinstance(high, int):
        return round(drawn)
    # Three digits, and more where a range is so narrow that they would not tell its values apart.
    digits = 3 + max(0, math.floor(math.log10(max(abs(low), abs(high)) / (high - low))))
    return min(max(float(f"{drawn:.{digits}g}"), float(low)), float(high))


def _label(name: str, value: Any) -> str:
    """A setting in the name of a directory."""
    leaf = name.rpartition(".")[2]
    if leaf == "targets":
        return _as_in_a_name(layers_label([value] if isinstance(value, str) else value), "._+-")
    text = f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
    return f"{SHORT.get(leaf, leaf)}{_as_in_a_name(text)}"[:40]


def _as_in_a_name(text: str, signs: str = "._+") -> str:
    return "".join(letter if letter.isalnum() or letter in signs else "_" for letter in text)
