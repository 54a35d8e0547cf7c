"""Settings of a run's places on a cluster."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from rl.config.strict import Strict

Amount = Annotated[float, Field(ge=1e-4, allow_inf_nan=False)]
"""An amount of one of Ray's resources, which are counted in ten-thousandths."""


class PlacementConfig(Strict):
    """The nodes of a cluster that learner and rollout workers run on, each in a bundle of a placement group."""

    strategy: Literal["auto", "PACK", "SPREAD"] = "auto"
    """`PACK` uses few nodes, `SPREAD` many; `auto` packs GPUs, and spreads over nodes that have none."""
    learner_resources: dict[str, Amount] = Field(default_factory=dict)
    """More that the learner's node must have, in Ray's words, such as `{ "accelerator_type:H100" = 0.001 }`."""
    worker_resources: dict[str, Amount] = Field(default_factory=dict)
    """The same for each rollout worker."""
    wait_for_nodes: Literal["auto", "yes", "no"] = "auto"
    """Wait for more nodes if a run is too large for those there are; `auto` does where Ray autoscales."""

    @field_validator("learner_resources", "worker_resources")
    @classmethod
    def _not_counted_elsewhere(cls, resources: dict[str, float]) -> dict[str, float]:
        if "GPU" in resources:
            raise ValueError(
                "GPU: a learner has one by itself and a rollout worker rollout.tensor_parallel_size; "
                "set learner.num_learners, rollout.num_workers or rollout.tensor_parallel_size"
            )
        if "object_store_memory" in resources:
            raise ValueError("object_store_memory: Ray cannot reserve it; set --object-store-memory of `ray start`")
        return resources
