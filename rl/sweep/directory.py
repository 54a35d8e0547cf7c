"""A sweep as a directory: `sweep.toml`, one run's directory for each point, and what was found."""

import logging
from collections.abc import Sequence
from pathlib import Path

from lora.files.atomic_write import write_atomic
from rl.config import replaced
from rl.data import absolute_paths
from rl.data.evaluation_sets import absolute_files
from rl.episodes.open import absolute_episodes, absolute_sources
from rl.launch.recipe import Prepared
from rl.launch.run_paths import newest_directory
from rl.launch.train_recipe import absolute_learner
from rl.run.changes import in_words
from rl.run.directory import RunDirectory, holds_run
from rl.run.directory_lock import SWEEP as FILE
from rl.run.frozen_adapters import absolute_adapter
from rl.run.warm_start import absolute_init
from rl.sweep.points import Sweep, dump_sweep, load_sweep
from rl.sweep.results import load_final

log = logging.getLogger(__name__)

MAY_CHANGE = (
    "runtime", "placement.", "rollout.", "reward.workers", "learner.device", "learner.num_learners",
    "learner.tokens_per_microbatch", "learner.tokens_per_row", "learner.gradient_checkpointing", "learner.compile",
    "learner.max_restarts", "learner.stall_timeout", "checkpoint_every", "liveness.", "tensorboard", "wandb", "mlflow",
)  # fmt: skip
"""Settings that decide where, how fast and how safely a run is trained, and not what comes out of it."""


def open_directory(sweep: Sweep, prepared: Sequence[Prepared], path: Path, *, resume: bool) -> list[str]:
    """Put the sweep's file into its directory, which is new or to be gone on with; what differs from before, in words.

    Raises:
        ValueError: there is a sweep in it already, or one whose runs would not be comparable with the new ones.
    """
    if (path / FILE).exists() and not resume:
        raise ValueError(f"{path} holds a sweep already; continue it with --resume, or choose another --out")
    if (path / FILE).exists():
        _check_stopping(sweep, path)
    begun = [
        (RunDirectory(path / point.name), run.config)
        for point, run in zip(sweep.points, prepared, strict=True)
        if holds_run(path / point.name)
    ]
    for directory, _ in begun:
        directory.require_kind(sweep.config.recipe)
    changes = {directory: directory.changes(config) for directory, config in begun}
    for directory, changed in changes.items():
        if fixed := [f"{name} is {new}, and was {old}" for name, (old, new) in changed.items() if _is_fixed(name)]:
            raise ValueError(
                f"{directory.path} was run with other settings: {'; '.join(fixed)}; leave them as they were, or choose "
                "another --out (only what decides where and how fast a run is trained may change)"
            )
    for directory, config in begun:
        if load_final(directory.path) is None:  # a run that is done stays as it was
            directory.write_config(config)
    try:
        write_atomic(path / FILE, _resolved(sweep).encode())
    except OSError as error:
        raise ValueError(f"cannot write {path / FILE}: {error.strerror}; choose another --out") from error
    return list(dict.fromkeys(line for changed in changes.values() for line in in_words(changed)))


def newest_sweep(name: str) -> Path:
    """The newest sweep of that name below `runs/`. Raises ValueError if there is none."""
    return newest_directory(name, kind="sweep", file=FILE)


def _check_stopping(sweep: Sweep, path: Path) -> None:
    """Raises ValueError if runs would be stopped by another rule than those that were."""
    try:
        before = load_sweep(path / FILE).config.stop
    except ValueError as error:
        log.warning("it cannot be told whether [stop] has changed: %s", error)
        return
    if before != sweep.config.stop:
        raise ValueError(
            f"{path} was run with other settings: stop is {sweep.config.stop}, and was {before}; leave it as it was, "
            "or choose another --out"
        )


def _is_fixed(name: str) -> bool:
    return name == "rollout.engine" or not name.startswith(MAY_CHANGE)


def _resolved(sweep: Sweep) -> str:
    """The sweep's file with its base in it, whose relative paths would lead elsewhere."""
    base, start = sweep.base, sweep.directory
    base = replaced(
        base,
        data=absolute_sources(absolute_paths(base.data, start), start),
        evaluate=absolute_files(base.evaluate, start),
        episodes=absolute_episodes(base.episodes, start),
        lora=absolute_init(base.lora, start),
        learner=absolute_learner(base.learner, start),
        teacher={"adapter": absolute_adapter(base.teacher.adapter, start, "teacher.adapter")},
    )
    return dump_sweep(sweep.config, sweep.name, base)
