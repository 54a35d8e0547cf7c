"""A cluster's GPUs are all used, divided so that sampling and updates take about equally long."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen3Config

from rl.cluster.division import StepCosts, divide_gpus
from rl.cluster.placement import PlacementError, Request, Resources, request
from rl.config import RunConfig, replaced


@pytest.fixture(scope="module")
def qwen3_8b(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The shapes, which are all that is read."""
    directory = tmp_path_factory.mktemp("qwen3")
    Qwen3Config(
        vocab_size=151_936, hidden_size=4096, intermediate_size=12_288, num_hidden_layers=36, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=False, architectures=["Qwen3ForCausalLM"],
    ).save_pretrained(str(directory))  # fmt: skip
    return str(directory)


def config(model: str = "smollm2-135m", **settings: Any) -> RunConfig:
    return RunConfig.model_validate({"model": {"name": model, "max_length": 8192}} | settings)


def counts(config: RunConfig, gpus: int, *, learner: bool = True, workers: bool = True) -> tuple[int, int]:
    nodes = [{"CPU": 16.0, "GPU": float(min(8, gpus - first))} for first in range(0, max(1, gpus), 8)]
    settled = divide_gpus(config, nodes, gpus, learner=learner, workers=workers)
    return settled.learner.learner_count, settled.rollout.worker_count


@pytest.mark.parametrize("gpus", [2, 3, 8, 64])
def test_every_gpu_is_used_and_neither_side_is_empty(gpus: int, qwen3_8b: str) -> None:
    for max_tokens in (64, 512, 4096):
        learners, workers = counts(config(qwen3_8b, sampling={"max_tokens": max_tokens}), gpus)
        assert learners + workers == gpus
        assert min(learners, workers) >= 1


@pytest.mark.parametrize("gpus", [2, 8, 16])
@pytest.mark.parametrize("problems", [4, 16, 128])
def test_no_other_division_makes_a_shorter_step(gpus: int, problems: int, qwen3_8b: str) -> None:
    run = config(qwen3_8b, problems_per_step=problems, sampling={"max_tokens": 2048})
    costs = StepCosts.of(run)

    def step_s(learners: int, workers: int) -> float:
        return max(costs.update_s(learners), costs.rollout_s(workers))

    shortest = min(step_s(learners, gpus - learners) for learners in range(1, min(gpus, problems + 1)))
    assert step_s(*counts(run, gpus)) == shortest


def test_a_larger_batch_has_more_learners_for_it(qwen3_8b: str) -> None:
    """A decoding step reads the weights, however many sequences it serves; an update's operations grow with them."""
    small, large = (
        counts(config(qwen3_8b, problems_per_step=problems, sampling={"max_tokens": 2048}), 8)[0]
        for problems in (4, 256)
    )
    assert small < large


def test_wide_engines_take_whole_shares() -> None:
    learners, workers = counts(config(rollout={"tensor_parallel_size": 2}), 8)
    assert learners + 2 * workers in (7, 8)
    assert workers >= 1


@pytest.mark.parametrize(
    ("gpus", "settings", "expected"),
    [
        (0, {}, (1, 1)),
        (1, {}, (1, 1)),
        (8, {"learner": {"num_learners": 2}, "rollout": {"num_workers": 3}}, (2, 3)),
        (8, {"learner": {"num_learners": 2}}, (2, 6)),
        (8, {"learner": {"device": "cpu"}}, (1, 8)),
    ],
)
def test_what_is_set_stays(gpus: int, settings: dict[str, Any], expected: tuple[int, int]) -> None:
    assert counts(config(**settings), gpus) == expected


def test_engines_that_are_wide_fit_into_nodes() -> None:
    nodes = [{"CPU": 8.0, "GPU": 3.0}] * 3
    settled = divide_gpus(config(rollout={"tensor_parallel_size": 2}), nodes, 9, learner=True, workers=True)
    assert settled.rollout.worker_count == 3, "nine GPUs would hold four, but three nodes do not"
    two = divide_gpus(config(rollout={"tensor_parallel_size": 4}), nodes, 9, learner=True, workers=True)
    assert two.rollout.num_workers == "auto", "none fits, which is for the reservation to say"


def test_only_learners_or_only_workers_take_all() -> None:
    assert counts(config(), 8, workers=False) == (8, 1)
    many = {"num_problems": 4000}
    assert counts(config(evaluate=many), 8, learner=False) == (1, 8)


def test_nobody_is_without_work() -> None:
    small = config(problems_per_step=2, sampling={"group_size": 2})
    assert counts(small, 64, workers=False) == (2, 1)
    learners, workers = counts(small, 64)
    assert learners <= 2
    assert workers <= 4
    assert counts(config(evaluate={"num_problems": 100}), 8, learner=False) == (1, 1), "one batch"
    assert counts(config(learner={"objective": "cross_entropy"}), 8) == (7, 1), "it answers at evaluations alone"


def test_what_a_step_computes_besides_is_counted_and_a_minibatch_has_rows_for_every_learner(qwen3_8b: str) -> None:
    def flops(**learner: Any) -> float:
        return StepCosts.of(config(qwen3_8b, learner=learner)).update_flops

    update, forward = flops(), flops(kl_coef=0.1) - flops()
    assert forward == pytest.approx(update / 2, rel=0.01), "an update is a forward pass and a backward one"
    assert flops(epochs=3, minibatches=2) == pytest.approx(3 * update + forward)
    assert flops(epochs=2, kl_coef=0.1) == pytest.approx(2 * update + 4 * forward)
    assert flops(epochs=2, kl_coef=0.1, kl_in="reward") == pytest.approx(2 * update + 2 * forward)
    assert counts(config(problems_per_step=16, learner={"minibatches": 4}), 64, workers=False) == (4, 1)


def test_gpus_that_others_hold_are_left_to_them() -> None:
    nodes = [{"CPU": 16.0, "GPU": 8.0}]
    settled = divide_gpus(config(), nodes, 3, learner=True, workers=True)
    assert settled.learner.learner_count + settled.rollout.worker_count == 3
    unsettled = divide_gpus(config(), nodes, 1, learner=True, workers=True)
    assert unsettled.rollout.num_workers == "auto", "it waits for two, as it always did"


def test_a_run_on_policy_shortens_the_sum_of_both_parts(qwen3_8b: str) -> None:
    run = config(qwen3_8b, max_off_policy_steps=0, problems_per_step=64)
    costs = StepCosts.of(run)
    sums = {learners: costs.update_s(learners) + costs.rollout_s(8 - learners) for learners in range(1, 8)}
    assert sums[counts(run, 8)[0]] == min(sums.values())


def test_workers_that_are_set_leave_the_rest_to_learners() -> None:
    """More learners than the update needs are idle GPUs otherwise."""
    learners, workers = counts(config(rollout={"num_workers": 3}), 8)
    assert workers == 3
    assert learners <= 5


def holds(asked: Request, nodes: Sequence[Resources]) -> bool:
    """Place one after another: each learner where it takes the fewest workers' places, then the workers."""

    def places(bundle: Resources, node: Resources) -> int:
        return min(int(node.get(name, 0) / amount + 1e-3) for name, amount in bundle.items() if amount)

    def without(node: Resources) -> Resources:
        return {name: amount - (asked.learner or {}).get(name, 0) for name, amount in node.items()}

    free = list(nodes)
    for _ in range(asked.learners if asked.learner else 0):
        holding = [i for i, node in enumerate(free) if places(asked.learner or {}, node)]
        if not holding:
            return False
        best = min(holding, key=lambda i: places(asked.worker, free[i]) - places(asked.worker, without(free[i])))
        free[best] = without(free[best])
    return sum(places(asked.worker, node) for node in free) >= asked.workers


def divisions(run: RunConfig, nodes: Sequence[Resources], free: int, roles: dict[str, bool]) -> list[tuple[int, int]]:
    """Try all numbers of learners and workers, each as a request of its own."""
    fitting: list[tuple[int, int]] = []
    for learners in range(1, free + 1) if run.learner.num_learners == "auto" else [run.learner.learner_count]:
        for workers in range(1, free + 1) if run.rollout.num_workers == "auto" else [run.rollout.worker_count]:
            each = replaced(run, learner={"num_learners": learners}, rollout={"num_workers": workers})
            try:
                asked = request(each, nodes, **roles, may_grow=False)
            except PlacementError:
                continue
            if asked.gpus <= free and holds(asked, nodes):
                fitting.append((learners, workers))
    return fitting


NODES = st.lists(
    st.fixed_dictionaries({"CPU": st.sampled_from([1.0, 4.0]), "GPU": st.sampled_from([0.0, 1.0, 2.0, 3.0])}),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(
    nodes=NODES,
    held=st.integers(0, 2),
    width=st.sampled_from([1, 1, 2]),
    learners=st.sampled_from(["auto", "auto", 1, 2]),
    workers=st.sampled_from(["auto", "auto", 1, 3]),
    device=st.sampled_from(["auto", "cpu"]),
    on_policy=st.booleans(),
)
def test_what_is_chosen_is_the_best_of_all_that_fit(
    nodes: list[Resources], held: int, width: int, learners: Any, workers: Any, device: str, on_policy: bool
) -> None:
    run = config(
        learner={"num_learners": learners, "device": device}, max_off_policy_steps=0 if on_policy else None,
        rollout={"num_workers": workers, "tensor_parallel_size": width},
    )  # fmt: skip
    free = max(0, int(sum(node["GPU"] for node in nodes)) - held)
    settled = divide_gpus(run, nodes, free, learner=True, workers=True)
    possible = divisions(run, nodes, free, {"learner": True, "workers": True})
    if device == "cpu":
        possible = [pair for pair in possible if pair[0] == (1 if learners == "auto" else learners)]
    if free < 2 or "auto" not in (learners, workers) or not possible:
        assert settled == run
        return
    costs, widest = StepCosts.of(run), {pair[0]: pair for pair in sorted(possible)}
    best = min(widest.values(), key=lambda pair: costs.step_s(*pair, in_turn=on_policy))
    assert (settled.learner.learner_count, settled.rollout.worker_count) == best


def test_hundreds_of_gpus_are_divided_without_a_request_for_each_division(monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[RunConfig]()
    monkeypatch.setattr(
        "rl.cluster.division.request", lambda run, *a, **k: (made.append(run), request(run, *a, **k))[1]
    )
    learners, workers = counts(config(problems_per_step=1024), 512)
    assert learners + workers == 512
    assert len(made) == 1
