"""A server on Ray whose learner or rollout worker is killed: what is lost is told, and nothing older is served."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import tinker
from helpers.serving import Served, serving
from helpers.tinker_client import MODEL, TIMEOUT, gap, lessons, logprobs, step, trainer
from helpers.warm_processes import descendants
from tinker import types

ON_RAY = ("rollout.engine=torch", "model.dtype=float32", "model.max_length=128", "kept_state_mib=1")
"""A state of rank 4 is kept after every step, one of rank 32 is not."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("ray"), *ON_RAY) as server:
        yield server


def kill(served: Served, actor: str) -> None:
    """End an actor of the server's cluster as the kernel would."""
    processes = descendants(served.process.pid)
    named = [process for process in processes if process.name().startswith(f"ray::{actor}")]
    assert named, [process.name() for process in processes]
    for process in named:
        process.kill()


def test_a_small_policy_loses_no_step_with_its_learner(served: Served) -> None:
    service = served.client()
    client = trainer(service, rank=2, seed=3, train_unembed=False)
    other = trainer(service, rank=2, seed=4, train_unembed=False)
    for _ in range(3):
        step(client, lessons(client), lr=2e-3)
    expected = logprobs(client, lessons(client))
    other.forward_backward(lessons(other), "cross_entropy").result(TIMEOUT)
    kill(served, "LearnerActor")
    with pytest.raises(tinker.RequestFailedError) as told:
        client.forward_backward(lessons(client), "cross_entropy").result(TIMEOUT)
    assert told.value.category == types.RequestErrorCategory.Server
    assert "not carried out" in str(told.value)
    with pytest.raises(tinker.RequestFailedError, match="gradients"):  # whose gradients died with it
        other.optim_step(types.AdamParams()).result(TIMEOUT)
    with pytest.raises(tinker.RequestFailedError, match="gradients"):
        client.optim_step(types.AdamParams()).result(TIMEOUT)
    assert gap(logprobs(client, lessons(client)), expected) == 0.0
    step(client, lessons(client), lr=2e-3)  # and on it goes
    step(other, lessons(other), lr=2e-3)


def test_a_large_policy_says_what_it_lost_and_where_to_go_on(served: Served) -> None:
    service = served.client()
    client = trainer(service, rank=32, seed=3)
    step(client, lessons(client), lr=2e-3)
    path = client.save_state("kept").result(TIMEOUT).path
    step(client, lessons(client), lr=2e-3)
    kill(served, "LearnerActor")
    for _ in range(2):  # the first may be told of the death alone
        with pytest.raises(tinker.RequestFailedError) as told:
            client.forward(lessons(client), "cross_entropy").result(TIMEOUT)
        assert told.value.category == types.RequestErrorCategory.Server
    assert path in str(told.value)
    again = service.create_training_client_from_state_with_optimizer(path).result(TIMEOUT)
    step(again, lessons(again), lr=2e-3)


def test_samples_outlive_the_worker_that_draws_them(served: Served) -> None:
    sampler = served.client().create_sampling_client(base_model=MODEL).result(TIMEOUT)
    prompt = types.ModelInput.from_ints([3, 4, 5])
    settings = [types.SamplingParams(max_tokens=60, seed=seed, stop=[]) for seed in range(40)]
    expected = [sampler.sample(prompt, 1, each).result(TIMEOUT).sequences[0].tokens for each in settings[:5]]
    sent = [sampler.sample(prompt, 1, each) for each in settings]
    kill(served, "EngineActor")
    with ThreadPoolExecutor(8) as threads:
        drawn = list(threads.map(lambda future: future.result(TIMEOUT).sequences[0].tokens, sent))
    assert drawn[:5] == expected
    assert len(drawn) == 40
