"""Rollout workers on two nodes answer as one would."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group_table

from rl.algorithm.sampling.draws import Draws
from rl.cluster.components import open_components
from rl.cluster.connect import disconnect
from rl.launch.recipe import Prepared
from rl.launch.train_recipe import TRAIN
from rl.settings.toml import load_config
from rl.train import roll_out
from rl.types import Group

EXAMPLE = Path(__file__).parents[3] / "examples" / "tiny.toml"


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two raylets on this machine with room for a worker each, which runs join through `RAY_ADDRESS`."""
    node = {"num_cpus": 1, "resources": {"worker": 1}, "object_store_memory": 128 * 2**20}
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as directory:
        monkeypatch.setenv("RAY_TMPDIR", directory)  # also for the file that names the machine's newest cluster
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        try:
            cluster.add_node(**node)
            monkeypatch.setenv("RAY_ADDRESS", cluster.address)
            yield
        finally:
            disconnect()
            cluster.shutdown()


async def first_groups(prepared: Prepared) -> tuple[list[Group], int]:
    """The groups of the first step, and how many nodes the workers were on."""
    async with open_components(prepared.config, "run", prepared.encode) as parts:
        draws = Draws(prepared.config, prepared.problems.train)
        rollout = await roll_out(prepared.config, draws, parts, 0, await parts.learner.publish())
        (held,) = [g for g in cast("dict[str, Any]", placement_group_table()).values() if g["state"] == "CREATED"]
        homes = held["bundles_to_node_id"]
        return list(rollout.groups), len({homes[bundle] for bundle in homes if bundle > 0})  # 0 is the learner's


def plain(groups: list[Group]) -> list[Any]:
    """All of them but logprobs, which are rounded otherwise in batches of another size."""
    return [replace(group, completions=[replace(c, logprobs=()) for c in group.completions]) for group in groups]


async def test_two_workers_on_two_nodes_sample_the_groups_of_one(two_nodes: None) -> None:
    settings = ["runtime=ray", "problems_per_step=12", "sampling.group_size=4", "reward.workers=1"]
    settings.append("placement.worker_resources={ worker = 1 }")
    one, two = (
        TRAIN.prepare(load_config(EXAMPLE, [*settings, f"rollout.num_workers={count}"]), EXAMPLE.parent)
        for count in (1, 2)
    )
    alone, nodes_of_one = await first_groups(one)
    together, nodes_of_two = await first_groups(two)
    assert (nodes_of_one, nodes_of_two) == (1, 2)
    assert plain(together) == plain(alone)
    assert len({c.text for group in alone for c in group.completions}) > 3, "all the same would show nothing"
    mine, theirs = ([p for g in groups for c in g.completions for p in c.logprobs] for groups in (together, alone))
    assert mine == pytest.approx(theirs, abs=1e-4)
