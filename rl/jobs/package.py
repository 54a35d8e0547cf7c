"""The files that a run on a cluster needs from this machine, in one folder: configuration, data, reward functions.

The model is not among them, because every node finds or loads it itself, nor is anything else that lies beside the
configuration: no `.venv`,
no cache, no earlier runs. So there is nothing to ignore, and nothing that an ignore file could leave out in silence.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from lora.config import LoraConfig
from lora.peft.files import write_peft
from rewards.config import RewardConfig, RewardTerm
from rewards.functions.term import load_terms
from rl.algorithm.objective.custom import split_name
from rl.config import EpisodesConfig, LearnerConfig, ProblemsConfig, RunConfig, replaced
from rl.config.episodes import VERIFIERS
from rl.data.evaluation_sets import with_files
from rl.data.files import locate, with_paths
from rl.data.verifiers import with_python
from rl.episodes.environments.factory import load_environment
from rl.episodes.open import absolute_episodes
from rl.episodes.tools.environment import load_tools
from rl.run.export import find_adapter
from rl.run.frozen_adapters import absolute_adapter
from rl.run.warm_start import absolute_init
from rl.settings.toml import dump_config

MAX_BYTES = 100 * 2**20
"""Largest directory of a job that Ray takes; more it refuses with a bare HTTP 413."""
REWARDS = "reward_files"
"""Folder of files with reward functions, and of the neighbours that they import. Ray puts the job's folder before all
else on Python's path: there a `rewards.py` would be taken for our package, and a `random.py` for Python's."""
NOT_SENT = (".gitignore", ".rayignore", ".git")
"""Names that are left out. Ray obeys the first two wherever they lie, and would leave data behind without a word; it
never sends the third."""


def write_job(config: RunConfig, base: Path, folder: Path) -> None:
    """Fill `folder`; relative paths in `config` start at `base`.

    Raises:
        ValueError: the reward function cannot be loaded, or the files are more than Ray takes.
    """
    resolved = JobPackage(folder, base).add(config)
    (folder / "config.toml").write_text(dump_config(resolved), encoding="utf-8")
    check_size(folder)


class JobPackage:
    """A folder that fills with what runs need. What several of them need is in it once."""

    def __init__(self, folder: Path, base: Path) -> None:
        """Relative paths in the runs' configurations start at `base`."""
        self._folder = folder
        self._base = base
        self._places: dict[Path, str] = {}
        """Place in the folder of each file or directory that is in it."""

    def add(self, config: RunConfig) -> RunConfig:
        """Put in what a run needs, and return its configuration with the new places.

        Raises:
            ValueError: as `write_job`, or two different files would have one place.
        """
        data = self._add_sources(with_paths(with_python(config.data, self._base), self._copied))
        reward = self._add_reward(config.reward)
        episodes = self._add_episodes(config.episodes)
        model = config.model
        model = replaced(model, name=_absolute_model(model.name))
        lora = self._add_init(absolute_init(config.lora, self._base))
        reference = self._added_adapter(config.learner.kl_reference, "learner.kl_reference", "reference")
        learner = replaced(self._add_objective(config.learner), kl_reference=reference)
        own = config.teacher.model and _absolute_model(config.teacher.model)
        adapter = self._added_adapter(config.teacher.adapter, "teacher.adapter", "teacher")
        teacher = replaced(config.teacher, adapter=adapter, model=own)
        evaluate = with_files(config.evaluate, self._copied)
        return replaced(
            config, model=model, data=data, reward=reward, episodes=episodes, lora=lora, learner=learner,
            evaluate=evaluate, teacher=teacher,
        )  # fmt: skip

    def _add_objective(self, learner: LearnerConfig) -> LearnerConfig:
        """Copy the file of an objective of the user's own, and return the settings with its new place."""
        if learner.objective_function is None:
            return learner
        file, name = split_name(learner.objective_function)
        return replaced(learner, objective_function=f"{self._copied(file)}:{name}")

    def _copied(self, path: str) -> str:
        """Copy a file or directory of data, and return its new place."""
        original = locate(path, self._base)
        if original is None:
            return path  # a hub's id
        source = original.resolve()
        if source in self._places:
            return self._places[source]
        check_size(source)
        place = self._place_of(source, f"data/{source.name}")
        target = self._folder / place
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(*NOT_SENT))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
        return place

    def _add_init(self, lora: LoraConfig) -> LoraConfig:
        """Copy the adapter that the run begins from, and return the configuration with its new place."""
        if lora.init is None:
            return lora
        source = Path(lora.init)
        if source not in self._places:
            write_peft(find_adapter(source), self._folder / self._place_of(source, "init"))
        return replaced(lora, init=self._places[source])

    def _added_adapter(self, path: str | None, key: str, part: str) -> str | None:
        """Copy an adapter that the policy is compared with, and return its new place."""
        path = absolute_adapter(path, self._base, key)
        if path is None:
            return None
        if Path(path) not in self._places:
            write_peft(find_adapter(Path(path)), self._folder / self._place_of(Path(path), part))
        return self._places[Path(path)]

    def _add_reward(self, reward: RewardConfig) -> RewardConfig:
        """Copy the user's modules with reward functions, and return the configuration with their new places."""
        for term in load_terms(reward):
            self._add_modules(term.name, term.modules)
        terms = tuple(_term_there(term) for term in reward.terms)
        return replaced(reward, function=_there(reward.function), terms=terms)

    def _add_sources(self, data: ProblemsConfig) -> ProblemsConfig:
        """Do the same for the rewards and the episodes that sources have of their own."""
        if not isinstance(data, tuple):
            return data
        rewards = [None if source.reward is None else self._add_reward(source.reward) for source in data]
        played = [None if source.episodes is None else self._add_episodes(source.episodes) for source in data]
        own = zip(data, rewards, played, strict=True)
        return tuple(replaced(source, reward=reward, episodes=episodes) for source, reward, episodes in own)

    def _add_episodes(self, episodes: EpisodesConfig) -> EpisodesConfig:
        """Copy the user's modules with an environment, and return the configuration with their new places.

        Of one of verifiers the taskset's file goes with the data; the rest is in its Python, which is the driver's
        node's own.
        """
        if episodes.taskset is not None:
            file = self._copied(episodes.taskset) if episodes.taskset.endswith(".py") else episodes.taskset
            return replaced(episodes, environment=f"{VERIFIERS}{file}")
        places = absolute_episodes(episodes, self._base)
        if places.environment is not None:
            factory = load_environment(places.environment)
            self._add_modules(factory.name, factory.modules)
            return replaced(episodes, environment=_there(factory.name))
        for tool in places.tools:
            self._add_modules(tool, load_tools((tool,)).modules)
        return replaced(episodes, tools=tuple(map(_there, places.tools)))

    def _add_modules(self, function: str, modules: Sequence[str]) -> None:
        home = self._folder / REWARDS if _is_file(function) else self._folder
        for name in modules:
            source = Path(sys.modules[name].__file__ or "")
            if source.is_file():
                self._copy_module(source, home / _place(name, source))

    def _copy_module(self, source: Path, target: Path) -> None:
        if target.exists() and target.read_bytes() != source.read_bytes():
            raise ValueError(f"two reward files of this job would both be {target.name} there; rename {source}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)

    def _place_of(self, source: Path, preferred: str) -> str:
        """Return a place that nothing else has, near the preferred one."""
        place = Path(preferred)
        while str(place) in self._places.values():
            place = place.with_name(f"_{place.name}")
        self._places[source] = str(place)
        return str(place)


def _place(name: str, source: Path) -> Path:
    """Return the place where an import of that name will look for it."""
    if name.startswith("rankone_reward_"):  # loaded by its path, not by a name
        return Path(source.name)
    parts = Path(*name.split("."))
    return parts / "__init__.py" if source.name == "__init__.py" else parts.with_suffix(".py")


def _term_there(term: RewardTerm) -> RewardTerm:
    if term.function is not None:
        return replaced(term, function=_there(term.function))
    if term.reward_model is not None and Path(term.reward_model).is_dir():  # as the model itself: all nodes share it
        return replaced(term, reward_model=str(Path(term.reward_model).resolve()))
    return term


def _absolute_model(name: str) -> str:
    """Return the place of a model's directory, which all nodes share, or each has: it is not ours to choose."""
    directory = Path(name)
    return str(directory.resolve()) if directory.is_dir() else name


def _there(function: str) -> str:
    """Return the job's name of `some/where/my_rewards.py:brevity`."""
    place, colon, attribute = function.rpartition(":")
    return f"{REWARDS}/{Path(place).name}{colon}{attribute}" if _is_file(function) else function


def _is_file(function: str) -> bool:
    return function.rpartition(":")[0].endswith(".py")


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
