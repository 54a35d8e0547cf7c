"""What a run on a cluster needs from this machine, in one folder: its configuration, its data, its reward's source.

Not the model, which every node finds or loads itself, nor anything else that lies beside the configuration: no `.venv`,
no cache, no earlier runs. So there is nothing to ignore, and nothing that an ignore file could leave out in silence.
"""

import shutil
import sys
from pathlib import Path

from lora.config import LoraConfig
from lora.files import write_peft
from rewards.config import RewardConfig
from rewards.custom import load_terms
from rl.config import DataConfig, RunConfig
from rl.data.files import locate, with_paths
from rl.export import find_adapter
from rl.settings import dump_config
from rl.warm_start import absolute_init

MAX_BYTES = 100 * 2**20
"""What Ray takes as a job's directory; more it refuses with a bare HTTP 413."""
NOT_SENT = (".gitignore", ".rayignore", ".git")
"""Ray heeds the first two wherever they lie, and would leave data behind without a word. The third it never sends."""


def write_job(config: RunConfig, base: Path, folder: Path) -> None:
    """Fill `folder`; relative paths in `config` start at `base`.

    Raises:
        ValueError: the reward function cannot be loaded, or the files are more than Ray takes.
    """
    data = copy_data(config.data, base, folder)
    reward = copy_reward(config.reward, folder)
    model = config.model
    if (here := Path(model.name)).is_dir():  # one that all nodes share, or each has: its place does not depend on ours
        model = model.model_copy(update={"name": str(here.resolve())})
    lora = copy_init(absolute_init(config.lora, base), folder)
    resolved = config.model_copy(update={"model": model, "data": data, "reward": reward, "lora": lora})
    (folder / "config.toml").write_text(dump_config(resolved), encoding="utf-8")
    check_size(folder)


def copy_data(data: DataConfig, base: Path, folder: Path) -> DataConfig:
    """The files and directories that the data consists of, and its configuration with their new paths."""
    taken: set[str] = set()

    def copied(path: str) -> str:
        found = locate(path, base)
        if found is None:
            return path  # a hub's id
        name = found.name
        while name in taken:
            name = f"_{name}"
        taken.add(name)
        check_size(found)
        target = folder / "data" / name
        if found.is_dir():
            shutil.copytree(found, target, ignore=shutil.ignore_patterns(*NOT_SENT))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(found, target)
        return f"data/{name}"

    return with_paths(data, copied)


def copy_init(lora: LoraConfig, folder: Path) -> LoraConfig:
    """The adapter that the run begins from, and the configuration with its new place."""
    if lora.init is None:
        return lora
    write_peft(find_adapter(Path(lora.init)), folder / "init")
    return lora.model_copy(update={"init": "init"})


def copy_reward(reward: RewardConfig, folder: Path) -> RewardConfig:
    """The user's own modules that the reward functions are made of, and the configuration with their new places."""
    for term in load_terms(reward):
        for name in term.modules:
            source = Path(sys.modules[name].__file__ or "")
            if source.is_file():
                target = folder / _place(name, source)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
    terms = tuple(term.model_copy(update={"function": _beside(term.function)}) for term in reward.terms)
    return reward.model_copy(update={"function": _beside(reward.function), "terms": terms})


def _place(name: str, source: Path) -> Path:
    """Where an import of that name will look for it."""
    if name.startswith("rankone_reward_"):  # loaded by its path, not by a name
        return Path(source.name)
    parts = Path(*name.split("."))
    return parts / "__init__.py" if source.name == "__init__.py" else parts.with_suffix(".py")


def _beside(function: str) -> str:
    """`some/where/my_rewards.py:brevity` where the file lies beside the configuration."""
    place, colon, attribute = function.rpartition(":")
    return f"{Path(place).name}{colon}{attribute}" if place.endswith(".py") else function


def check_size(place: Path) -> None:
    """Raises ValueError that names the largest files if Ray would refuse what is at `place`, a file or a directory."""
    files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    sizes = sorted(
        ((file.stat().st_size, file) for file in files if not set(file.relative_to(place).parts) & set(NOT_SENT)),
        reverse=True,
    )
    if sum(size for size, _ in sizes) > MAX_BYTES:
        beside = place.parent if place.is_file() else place
        largest = ", ".join(f"{file.relative_to(beside)} ({size / 2**20:.0f} MiB)" for size, file in sizes[:3])
        raise ValueError(
            f"the job's files are larger than the {MAX_BYTES // 2**20} MiB that Ray takes: {largest}; make "
            "them smaller, or run from a directory that all nodes share: "
            "ray job submit -- rankone train /shared/run.toml"
        )
