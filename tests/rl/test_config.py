"""A configuration that the program makes is one that a user might have written, and says where it runs for good."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.cluster import ROOT

from rl.cluster.components import with_room
from rl.cluster.placement import request
from rl.config import JsonLines, RunConfig, replaced
from rl.jobs.package import JobPackage
from rl.jobs.spec import read_job_spec
from rl.jobs.sweep_package import write_sweep_job
from rl.launch.sft_recipe import SFT
from rl.launch.train_recipe import TRAIN, prepare_evaluation
from rl.run.directory import RunDirectory
from rl.settings.toml import dump_config, load_config
from rl.sft import with_cross_entropy
from rl.sweep.points import load_sweep
from rl.sweep.run import prepare_sweep

EXAMPLES = ROOT / "examples"


def test_a_replaced_key_is_checked_also_inside_a_table() -> None:
    config = replaced(RunConfig(), num_steps=3, rollout={"engine": "torch"}, data=JsonLines(source="jsonl", train="t"))
    assert (config.num_steps, config.rollout.engine, config.data.source) == (3, "torch", "jsonl")
    assert config.rollout.max_concurrent == RunConfig().rollout.max_concurrent
    for wrong, said in (
        ({"rollout": {"num_workers": 0}}, "num_workers: Input should be greater than or equal to 1"),
        ({"num_stepps": 1}, "num_stepps: Extra inputs are not permitted"),
        ({"runtime": "local"}, 'set rollout.engine = "torch"'),
        ({"lora": {"rank": 513, "allow_large_rank": True}}, "vLLM serves adapters of rank 512 at most"),
        ({"rollout": {"fuse_adapters": True, "tensor_parallel_size": 2}}, "set fuse_adapters = false"),
    ):
        with pytest.raises(ValueError, match=said) as refused:
            replaced(RunConfig(), **wrong)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("sampling", "reason"),
    [
        ({"top_p": 0}, "top_p: Input should be greater than 0"),
        ({"top_p": 1.01}, "top_p: Input should be less than or equal to 1"),
        ({"top_p": float("nan")}, "top_p: Input should be a finite number"),
        ({"top_k": -1}, "top_k: Input should be greater than or equal to 0"),
        ({"min_p": 1}, "min_p: Input should be less than 1"),
        ({"stop_token_ids": (-1,)}, "stop_token_ids.0: Input should be greater than or equal to 0"),
        ({"stop": (5,)}, "stop.0: Input should be a valid string"),
        ({"temperature": 0.001}, "a temperature below 0.01 overflows"),
        ({"top_k": 1}, "sampling.top_k 1 makes a group's completions equal, so nothing is learned; use 0"),
    ],
)
def test_what_cannot_be_sampled_is_refused(sampling: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        replaced(RunConfig(), sampling=sampling)


def test_no_configuration_is_copied_without_being_checked() -> None:
    files = [file for place in ("rl", "rollout", "rewards", "lora", "bench") for file in (ROOT / place).rglob("*.py")]
    assert len(files) > 100
    found = [file for file in files if re.search(r"\.model_copy\(|\.model_construct\(", file.read_text())]
    assert found == []


def configs_of_commands(folder: Path) -> Iterator[tuple[str, RunConfig]]:
    """Every configuration that a command makes of the user's."""
    train, sft = load_config(EXAMPLES / "tiny.toml"), load_config(EXAMPLES / "sft-tiny.toml")
    examined = load_config(EXAMPLES / "sft-tiny.toml", ["sft.accuracy=true", "sampling.temperature=0.5"])
    given = replaced(train, learner={"objective": "cross_entropy"})
    yield "train", TRAIN.prepare(train, EXAMPLES).config
    yield "train on a cluster", TRAIN.prepare(replaced(train, runtime="auto"), EXAMPLES).config
    yield "eval", prepare_evaluation(given, EXAMPLES).config
    for name, config in (("sft", sft), ("sft with accuracy", examined), ("sft with the objective named", given)):
        prepared = SFT.prepare(config, EXAMPLES).config
        yield name, prepared
        yield f"{name}, for the learner", with_cross_entropy(prepared)
    sweep = load_sweep(EXAMPLES / "sweep-tiny.toml")
    points = [one.config for one in prepare_sweep(sweep)]
    yield from (("a point", config) for config in points)
    yield "a sweep's engine", with_room(points, at_once=8, disjoint_devices=True)
    yield "a job", JobPackage(folder, EXAMPLES).add(train)
    write_sweep_job(sweep, folder)
    yield from (("a job's point", point.config) for point in load_sweep(folder / "sweep.toml").points)


def test_what_commands_make_of_a_configuration_is_one_that_may_be_written(tmp_path: Path) -> None:
    made = list(configs_of_commands(tmp_path))
    assert len(made) > 12
    for name, config in made:
        assert RunConfig.model_validate(config.model_dump()) == config, name
        (tmp_path / "config.toml").write_text(dump_config(config))
        assert load_config(tmp_path / "config.toml") == config, name


def test_a_learner_alone_asks_a_cluster_for_no_rollout_worker() -> None:
    for nodes in ([{"CPU": 8.0}], [{"CPU": 8.0, "GPU": 1.0}]):
        alone = request(RunConfig(), nodes, learner=True, workers=False, may_grow=False)
        assert (alone.workers, len(alone.bundles()), alone.fits(nodes)) == (0, 1, True)


def test_reinforcement_learning_refuses_the_objective_of_given_completions(tmp_path: Path) -> None:
    config = load_config(EXAMPLES / "tiny.toml", ["learner.objective=cross_entropy"])
    with pytest.raises(ValueError, match="run `rankone sft`"):
        TRAIN.prepare(config, EXAMPLES)
    (tmp_path / "sweep.toml").write_text(
        f'base = "{EXAMPLES / "tiny.toml"}"\n[axes]\n"learner.objective" = ["ppo", "cross_entropy"]\n'
    )
    with pytest.raises(ValueError, match=r"p001.*run `rankone sft`"):
        prepare_sweep(load_sweep(tmp_path / "sweep.toml"))


# --- where a run is ---

PREPARE: dict[str, Callable[[RunConfig, Path], RunConfig]] = {
    "train": lambda config, base: TRAIN.prepare(config, base).config,
    "sft": lambda config, base: SFT.prepare(config, base).config,
}
PLACES = [
    ("train", [], "ray"),
    ("train", ["runtime=local"], "local"),
    ("sft", [], "local"),
    ("sft", ["runtime=ray"], "ray"),
    ("sft", ["sft.accuracy=true"], "ray"),
    ("sft", ["learner.num_learners=2"], "ray"),
]


def test_a_run_on_a_server_needs_no_setting_of_an_engine_or_a_learner_here(tmp_path: Path) -> None:
    config = load_config(EXAMPLES / "tiny.toml", ["runtime=auto", "rollout.engine=vllm", "server=http://127.0.0.1:1"])
    begun = TRAIN.prepare(config, EXAMPLES).config
    assert (begun.on_ray, begun.rollout.engine) == (False, "vllm")
    directory = RunDirectory.create(tmp_path / "run", begun)
    measured = prepare_evaluation(load_config(directory.path / "config.toml"), directory.path).config
    assert (measured.server, measured.on_ray, measured.rollout.engine) == (None, True, "vllm")
    for own in ({"num_learners": 2}, {"shard": True}):
        with pytest.raises(ValueError, match="a server has learners of its own"):
            replaced(config, learner=own)


def test_a_sweep_has_no_server_whose_learner_it_would_not_use(tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(f'base = "{EXAMPLES / "tiny.toml"}"\n[axes]\nseed = [1, 2]\n')
    with pytest.raises(ValueError, match="train each by `rankone train --server`"):
        load_sweep(tmp_path / "sweep.toml", ["server=http://127.0.0.1:1"])


@pytest.mark.parametrize(("verb", "overrides", "runtime"), PLACES)
def test_a_run_is_resumed_where_it_was(tmp_path: Path, verb: str, overrides: list[str], runtime: str) -> None:
    """The directory's configuration names every key, also what the user's left open; and in a job as well."""
    settings = ["rollout.engine=torch", *overrides]
    config = load_config(EXAMPLES / "sft-tiny.toml", settings)
    begun = PREPARE[verb](config, EXAMPLES)
    directory = RunDirectory.create(tmp_path / "run", begun)
    resumed = PREPARE[verb](load_config(directory.path / "config.toml"), directory.path)
    assert (begun.runtime, resumed.runtime) == (runtime, runtime)
    assert directory.reconfigure(PREPARE[verb](config, EXAMPLES)) == []
    for index, source in enumerate((EXAMPLES / "sft-tiny.toml", directory.path / "config.toml")):
        folder = tmp_path / f"job-{index}"
        folder.mkdir()
        read_job_spec(source, settings if index == 0 else [], sft=verb == "sft").write(folder)
        there = PREPARE[verb](load_config(folder / "config.toml"), folder)
        again = RunDirectory.create(tmp_path / f"run-{index}", there)
        assert there.runtime == PREPARE[verb](load_config(again.path / "config.toml"), again.path).runtime == "ray"
