"""Data sets of a hub, and local ones in the formats of the `datasets` library."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from lora.messages import single_line
from rewards.types import Problem
from rl.config import Hub
from rl.data.columns import Columns
from rl.data.files import locate
from rl.data.split import Split, set_apart

Rows = Iterable[Mapping[str, Any]]
_BUILDERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"}


def load_hub(config: Hub, seed: int, base: Path) -> Split:
    """Two splits of one data set, or one that is split. Raises ValueError with the library's reason when it fails."""
    splits = _load(config, base)
    train = _problems(config, splits, config.train_split)
    if config.held_out_split is None:
        return set_apart(train, config.num_held_out, seed, f"{config.path} ({config.train_split})")
    return Split(tuple(train), tuple(_problems(config, splits, config.held_out_split)))


def _problems(config: Hub, splits: Mapping[str, Rows], name: str) -> list[Problem]:
    if name not in splits:
        raise ValueError(f"{config.path} has no split {name!r}; its splits are {', '.join(map(repr, splits))}")
    columns = Columns(config.question, config.answer, config.answer_after)
    problems = [
        columns.problem(row, id=f"hub/{name}/{number}", where=f"{config.path} ({name}), row {number}")
        for number, row in enumerate(splits[name])
    ]
    if not problems:
        raise ValueError(f"{config.path} ({name}) is empty")
    return problems


def _load(config: Hub, base: Path) -> Mapping[str, Rows]:
    local = locate(config.path, base)
    try:
        loaded = _load_hub(config) if local is None else _load_local(config, local)
    except Exception as error:  # the library and the formats under it raise nearly everything
        reason = single_line(error) or type(error).__name__
        place = "is no local path, and the hub fails" if local is None else "cannot be loaded"
        raise ValueError(f"data.path: {config.path!r} {place}: {reason[:300]}") from error
    # A data set that was saved alone is not a mapping of splits.
    return cast("Mapping[str, Rows]", loaded if isinstance(loaded, Mapping) else {config.train_split: loaded})


def _load_hub(config: Hub) -> object:
    return _library().load_dataset(config.path, config.name)


def _load_local(config: Hub, path: Path) -> object:
    if path.is_file():
        builder = _BUILDERS.get(path.suffix.lower())
        if builder is None:
            raise ValueError(f"a file must end in one of {', '.join(_BUILDERS)}")
        return _library().load_dataset(builder, data_files={config.train_split: str(path)})
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return _library().load_from_disk(str(path))
    return _library().load_dataset(str(path), config.name)


def _library() -> Any:
    # Late, because it takes seconds that only runs which need it should pay; by name, because it has no types.
    return import_module("datasets")
