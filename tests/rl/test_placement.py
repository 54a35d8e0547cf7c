"""How actors share GPUs."""

import pytest

from rl.placement import share_gpus
from rollout.config import RolloutConfig


def test_without_gpus_everything_is_on_the_cpu() -> None:
    shares = share_gpus(0, RolloutConfig(num_workers=3), learner_on_gpu=True)
    assert (shares.learner, shares.worker) == (0, 0)


def test_enough_gpus_give_one_to_each() -> None:
    shares = share_gpus(5, RolloutConfig(num_workers=2, tensor_parallel_size=2), learner_on_gpu=True)
    assert (shares.learner, shares.worker) == (1, 2)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_single_gpu_is_shared_and_never_oversubscribed(workers: int) -> None:
    shares = share_gpus(1, RolloutConfig(num_workers=workers), learner_on_gpu=True)
    assert shares.learner > 0
    assert shares.learner + workers * shares.worker == pytest.approx(1)
    assert workers * shares.memory_fraction < 0.7


def test_too_few_gpus_are_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"needs 5 GPUs .* the cluster has 3"):
        share_gpus(3, RolloutConfig(num_workers=4), learner_on_gpu=True)
