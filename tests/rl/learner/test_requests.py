"""Requests of free-form data on every kind of host: sums with the gradient of their formulas, and steps of AdamW."""

import asyncio
import itertools
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import torch
from helpers.free_form import (
    CROSS_ENTROPY,
    PlainModel,
    made_data,
    moved_state,
    request_of,
    taken_gradient,
    tensors_of,
)
from torch import Tensor

from lora.config import LoraConfig, ModelConfig
from rl.algorithm.batch.datum import Datum, datum_logprobs
from rl.algorithm.objective.summed_loss import SummedLoss
from rl.cluster.ray_host import RayHost
from rl.config import LearnerConfig
from rl.learner.policies.policy import AdamConfig, PolicySpec
from rl.learner.policies.state import state_facts, weights_only_state
from rl.learner.policy_host import LearnerHost, LearnerSpec, LocalHost, PolicyUpdate
from rl.learner.thread_host import ThreadHost
from rl.types import LearnerDied
from rollout.ray.placement import ActorPlacement

LORA = LoraConfig(rank=2)
LOSSES = ("cross_entropy", "importance_sampling", "ppo", "cispo", "dro", "gspo")
NAMES = itertools.count()


def learner_config(**settings: object) -> LearnerConfig:
    return LearnerConfig.model_validate({"tokens_per_microbatch": 24, "lr": 1e-3, **settings})


def opened(kind: str, model: ModelConfig) -> LearnerHost:
    """Return a host of that kind. Microbatches are small, so that a request has several."""
    if kind in ("local", "thread"):
        spec = LearnerSpec(model, "cpu", learner_config())
        return LocalHost(spec) if kind == "local" else ThreadHost(spec)
    count, shard = {"an actor": (1, False), "two actors": (2, False), "two shards": (2, True)}[kind]
    spec = LearnerSpec(model, "cpu", learner_config(num_learners=count, shard=shard))
    return asyncio.run(RayHost.start(spec, lambda rank: ActorPlacement(threads=1)))


@pytest.fixture(
    scope="module",
    params=[
        "local",
        "thread",
        *(pytest.param(kind, marks=pytest.mark.ray) for kind in ("an actor", "two actors", "two shards")),
    ],
)
def host(request: pytest.FixtureRequest, tiny_model: ModelConfig) -> Iterator[LearnerHost]:
    """One host for all tests of its kind, which have policies of their own."""
    if request.param not in ("local", "thread"):
        request.getfixturevalue("ray_cluster")
    made = opened(request.param, tiny_model)
    yield made
    asyncio.run(made.close())


@asynccontextmanager
async def policies(
    host: LearnerHost, model: ModelConfig, *loras: LoraConfig, temperature: float = 0.7
) -> AsyncGenerator[list[str]]:
    """Begin policies whose own temperature and objective are not those of requests; return their names."""
    runs = [f"run-{next(NAMES)}" for _ in loras]
    for seed, (run, lora) in enumerate(zip(runs, loras, strict=True)):
        await host.add(PolicySpec(run, lora, learner_config(objective="gspo"), temperature, seed))
        await host.load_state(run, moved_state(model, lora, seed=seed))
    try:
        yield runs
    finally:
        for run in runs:
            await host.remove(run)


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert tensor.norm() > 0, name
        assert (actual[name] - tensor).norm() <= tolerance * tensor.norm(), name


def off_policy(data: Sequence[Datum], plain: PlainModel) -> list[Datum]:
    """The same with ratios on all sides of the bounds, and a mask of `gspo` that has all advantages in it."""
    shifts = itertools.cycle((-2.0, -0.5, -0.1, 0.1, 0.5, 2.0))
    whole = itertools.cycle((0.0, 0.8, -0.8))
    moved: list[Datum] = []
    with torch.no_grad():
        for datum in data:
            shift = torch.tensor([next(shifts) for _ in datum.targets.flatten()]).view(datum.targets.shape)
            q = plain.logprobs(datum) - shift - next(whole)
            inside = (datum.weights != 0).view(len(datum.token_ids), -1).any(1)
            inside[0] = True
            moved.append(replace(datum, rollout_logprobs=q.float(), in_ratio=inside))
    return moved


@pytest.mark.parametrize("columns", [0, 3], ids=["a target a position", "three"])
@pytest.mark.parametrize("name", LOSSES)
async def test_a_request_has_the_sum_and_the_gradient_of_its_formula(
    host: LearnerHost, tiny_model: ModelConfig, name: str, columns: int
) -> None:
    loss = SummedLoss.of(name, {})
    async with policies(host, tiny_model, LORA) as (run,):
        plain = PlainModel(tiny_model, LORA, await tensors_of(host, run))
        data = off_policy(made_data(3, columns=columns), plain)
        (output,) = await host.forward_backward([request_of(run, data, loss)])
        assert output.metrics["update/loss"] == pytest.approx(plain.loss(data, loss).item(), rel=1e-5)
        assert not output.skipped
        for datum, row in zip(data, output.logprobs, strict=True):
            logprobs = datum_logprobs(datum, row)
            assert logprobs.shape == datum.targets.shape
            torch.testing.assert_close(logprobs.double(), plain.logprobs(datum).detach(), rtol=0, atol=1e-4)
        assert_close(await taken_gradient(host, run), plain.gradient(data, loss))


async def test_a_request_may_be_of_one_datum_or_of_weights_that_are_all_zero(
    host: LearnerHost, tiny_model: ModelConfig
) -> None:
    """The penalty of `dro` is there without advantages; a learner that has no rows must add nothing to it."""
    loss = SummedLoss.of("dro", {"beta": 0.5})
    async with policies(host, tiny_model, LORA) as (run,):
        plain = PlainModel(tiny_model, LORA, await tensors_of(host, run))
        (datum,) = off_policy(made_data(4, (9,)), plain)
        data = [replace(datum, weights=torch.zeros(9))]
        (output,) = await host.forward_backward([request_of(run, data, loss)])
        assert output.metrics["update/loss"] == pytest.approx(plain.loss(data, loss).item(), rel=1e-5)
        assert output.metrics["update/loss"] > 0
        assert output.metrics["update/tokens"] == 0
        (nothing,) = await host.forward_backward([request_of(run, data)])
        assert nothing.metrics["update/loss"] == 0
        assert torch.equal(nothing.logprobs[0], output.logprobs[0])
        assert_close(await taken_gradient(host, run), plain.gradient(data, loss))


async def test_a_request_without_data_adds_nothing(host: LearnerHost, tiny_model: ModelConfig) -> None:
    async with policies(host, tiny_model, LORA, LORA) as (empty, full):
        for call in (host.forward, host.forward_backward):
            outputs = await call([request_of(empty, []), request_of(full, made_data(0))])
            assert outputs[0].metrics == {"update/skipped": 1.0, "update/loss": 0.0}
            assert outputs[0].logprobs == []
            assert not outputs[1].skipped
        assert [await host.gradients_pending(run) for run in (empty, full)] == [False, True]


async def test_a_forward_pass_has_the_numbers_of_both_passes_to_the_bit_and_adds_nothing(
    host: LearnerHost, tiny_model: ModelConfig
) -> None:
    loras = LORA, LoraConfig(rank=1, lm_head=True), LoraConfig(targets=(), lm_head=True)
    async with policies(host, tiny_model, *loras) as runs:
        requests = [request_of(run, made_data(seed), SummedLoss.of("ppo", {})) for seed, run in enumerate(runs)]
        before = [await host.state(run) for run in runs]
        alone = await host.forward(requests)
        assert [await host.gradients_pending(run) for run in runs] == [False] * 3
        both = await host.forward_backward(requests)
        assert [await host.gradients_pending(run) for run in runs] == [True] * 3
        again = await host.forward(requests)
        for outputs in (alone, again):
            for output, expected in zip(outputs, both, strict=True):
                assert output.metrics == expected.metrics
                assert all(map(torch.equal, output.logprobs, expected.logprobs))
        assert [await host.state(run) for run in runs] == before
        for run in runs:
            await host.optim_step(run, AdamConfig(lr=0.0))
        assert [await host.gradients_pending(run) for run in runs] == [False] * 3


async def test_requests_add_up_until_a_step_takes_them(host: LearnerHost, tiny_model: ModelConfig) -> None:
    loss = SummedLoss.of("importance_sampling", {})
    async with policies(host, tiny_model, LORA) as (run,):
        plain = PlainModel(tiny_model, LORA, await tensors_of(host, run))
        data = off_policy(made_data(5), plain)
        losses = [
            (await host.forward_backward([request_of(run, part, of)]))[0].metrics["update/loss"]
            for part, of in ((data[:1], loss), (data[1:3], loss), (data[3:], CROSS_ENTROPY))
        ]
        assert sum(losses[:2]) == pytest.approx(plain.loss(data[:3], loss).item(), rel=1e-5)
        first, second = plain.gradient(data[:3], loss), plain.gradient(data[3:], CROSS_ENTROPY)
        assert_close(await taken_gradient(host, run), {name: first[name] + second[name] for name in first})
        assert not await host.gradients_pending(run)
        zero = await taken_gradient(host, run)
        assert all(not gradient.any() for gradient in zero.values())


async def test_gradients_that_were_held_come_back_to_the_bit(host: LearnerHost, tiny_model: ModelConfig) -> None:
    """As before a request of several calls whose last one failed; the requests before and after it count."""
    spoilt = replace(made_data(7)[0], rollout_logprobs=torch.full((7,), -1e9))
    async with policies(host, tiny_model, LORA) as (run,):
        start = await host.state(run)
        states: list[bytes] = []
        for fails in (True, False):
            await host.load_state(run, start)
            await host.forward_backward([request_of(run, made_data(6))])
            if fails:
                await host.hold_gradients(run)
                await host.forward_backward([request_of(run, made_data(7))])
                await host.forward_backward([request_of(run, [spoilt], SummedLoss.of("importance_sampling", {}))])
                await host.restore_gradients(run)
            await host.forward_backward([request_of(run, made_data(8))])
            assert (await host.optim_step(run, AdamConfig(lr=1e-2)))["update/nonfinite"] == 0
            states.append(await host.state(run))
        assert states[0] == states[1] != start


async def test_held_gradients_may_be_none_at_all(host: LearnerHost, tiny_model: ModelConfig) -> None:
    async with policies(host, tiny_model, LORA) as (run,):
        for _ in range(2):  # never moved, and just moved
            await host.hold_gradients(run)
            await host.forward_backward([request_of(run, made_data(6))])
            await host.restore_gradients(run)
            assert not await host.gradients_pending(run)
            await host.forward_backward([request_of(run, made_data(6))])
            await host.optim_step(run, AdamConfig(lr=1e-2))


async def test_a_state_is_taken_up_under_the_policys_own_name_with_moments_or_without(
    host: LearnerHost, tiny_model: ModelConfig
) -> None:
    async with policies(host, tiny_model, LORA, LORA, LORA) as (first, other, bare):
        for seed in range(2):
            await host.forward_backward([request_of(first, made_data(seed))])
            await host.optim_step(first, AdamConfig(lr=1e-2))
        state = await host.state(first)
        facts = state_facts(state)
        assert facts.description is not None
        assert (facts.run, facts.version, facts.has_moments) == (first, 2, True)
        assert (facts.description.rank, facts.description.alpha) == (2, 32)
        assert facts.description.targets == LORA.all_targets
        weights = weights_only_state(state)
        assert replace(state_facts(weights), has_moments=True) == facts
        assert not state_facts(weights).has_moments
        await host.load_state(other, state)
        await host.load_state(bare, weights)
        published = [await host.publish(run) for run in (first, other, bare)]
        assert [(adapter.run, adapter.version) for adapter in published] == [(first, 2), (other, 2), (bare, 2)]
        assert len({adapter.payload for adapter in published}) == 1
        for run in (first, other, bare):
            await host.forward_backward([request_of(run, made_data(9))])
            await host.optim_step(run, AdamConfig(lr=1e-2))
        published = [await host.publish(run) for run in (first, other, bare)]
        assert published[0].payload == published[1].payload != published[2].payload
        assert state_facts(await host.state(other)).run == other


async def test_a_state_of_another_alpha_is_refused(host: LearnerHost, tiny_model: ModelConfig) -> None:
    async with policies(host, tiny_model, LORA, LoraConfig(rank=2, alpha=16)) as (run, other):
        with pytest.raises(ValueError, match="trained with alpha 32, and this policy has 16"):
            await host.load_state(other, await host.state(run))


async def test_the_number_of_tokens_is_told(host: LearnerHost, tiny_model: ModelConfig) -> None:
    async with policies(host, tiny_model, LORA) as (run,):
        facts = await host.facts(run)
        plain = PlainModel(tiny_model, LORA, await tensors_of(host, run))
        assert facts["vocab_size"] == len(plain.model.get_output_embeddings().weight)


STEPS = [
    AdamConfig(lr=1e-2),
    AdamConfig(lr=1e-2, beta1=0.5, beta2=0.5, eps=1e-12),
    AdamConfig(lr=0.0, weight_decay=0.1),
    AdamConfig(lr=1e-3, weight_decay=0.5, max_grad_norm=0.1),
    AdamConfig(lr=1e-2, beta1=0.0, beta2=0.0, eps=1e4),
    AdamConfig(lr=3e-3, beta2=0.999, eps=1e-8, max_grad_norm=1e6),
]


class Reference:
    """AdamW by hand, in float64, from the gradients that the plain model has."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = {name: tensor.double() for name, tensor in tensors.items()}
        self.moments = {name: (torch.zeros_like(t), torch.zeros_like(t)) for name, t in self.tensors.items()}
        self.steps = 0

    def step(self, gradient: dict[str, Tensor], adam: AdamConfig) -> float:
        """Take a step; return the gradient's norm."""
        self.steps += 1
        norm = torch.stack([part.double().square().sum() for part in gradient.values()]).sum().sqrt().item()
        scale = min(1.0, adam.max_grad_norm / (norm + 1e-6)) if adam.max_grad_norm else 1.0
        for name, parameter in self.tensors.items():
            g, (first, second) = gradient[name].double() * scale, self.moments[name]
            first = adam.beta1 * first + (1 - adam.beta1) * g
            second = adam.beta2 * second + (1 - adam.beta2) * g * g
            self.moments[name] = first, second
            mean, square = first / (1 - adam.beta1**self.steps), second / (1 - adam.beta2**self.steps)
            decayed = parameter * (1 - adam.lr * adam.weight_decay)
            self.tensors[name] = decayed - adam.lr * mean / (square.sqrt() + adam.eps)
        return norm


async def test_steps_are_those_of_adamw_with_settings_of_their_own(host: LearnerHost, tiny_model: ModelConfig) -> None:
    """One of them has no gradient: moments decay, and the policy moves by what is left of them."""
    async with policies(host, tiny_model, LORA) as (run,):
        start = await tensors_of(host, run)
        reference, plain = Reference(start), PlainModel(tiny_model, LORA, start)
        # A smaller eps makes a whole step of a gradient's rounding where it is nearly 0.
        for seed, adam in enumerate(replace(adam, eps=max(adam.eps, 1e-2)) for adam in (*STEPS, *STEPS[:2])):
            plain.layers.load(await tensors_of(host, run))
            if seed == 3:
                gradient = {name: torch.zeros_like(tensor) for name, tensor in start.items()}
            else:
                data = made_data(seed)
                gradient = plain.gradient(data, CROSS_ENTROPY)
                await host.forward_backward([request_of(run, data)])
            metrics = await host.optim_step(run, adam)
            norm = reference.step(gradient, adam)
            assert metrics["update/grad_norm"] == pytest.approx(norm, rel=1e-4)
            assert metrics["update/nonfinite"] == 0
            moved = {name: tensor.double() for name, tensor in (await tensors_of(host, run)).items()}
            for name, tensor in reference.tensors.items():
                assert (moved[name] - tensor).norm() <= 1e-3 * (tensor - start[name]).norm(), (seed, name)
        assert (await host.publish(run)).version == len(STEPS) + 2


# --- one process ---


@pytest.mark.parametrize("adam", STEPS, ids=str)
def test_a_step_is_torchs_adamw_to_the_bit(tiny_model: ModelConfig, adam: AdamConfig) -> None:
    host = LocalHost(LearnerSpec(tiny_model))
    asyncio.run(host.add(PolicySpec("run", LORA, learner_config(), 1.0, 0)))
    policy = host._host.policies["run"]  # pyright: ignore[reportPrivateUsage]
    copies = [parameter.detach().clone().requires_grad_() for parameter in policy.parameters]
    optimizer = torch.optim.AdamW(copies)
    for seed, settings in enumerate((adam, STEPS[0], adam)):
        asyncio.run(host.forward_backward([request_of("run", made_data(seed))]))
        for parameter, copy in zip(policy.parameters, copies, strict=True):
            assert parameter.grad is not None
            copy.grad = parameter.grad.clone()
        if settings.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(copies, settings.max_grad_norm)
        optimizer.param_groups[0].update(
            lr=settings.lr, betas=(settings.beta1, settings.beta2), eps=settings.eps, weight_decay=settings.weight_decay
        )
        optimizer.step()
        asyncio.run(host.optim_step("run", settings))
        assert all(map(torch.equal, policy.parameters, copies))


async def test_a_thread_leaves_the_event_loop_free_and_keeps_the_order_of_calls(tiny_model: ModelConfig) -> None:
    host = await ThreadHost.start(LearnerSpec(tiny_model))
    gate = asyncio.Event()
    async with policies(host, tiny_model, LORA) as (run,):
        release = block(host)
        busy = asyncio.create_task(host.forward_backward([request_of(run, made_data(0))]))
        step = asyncio.create_task(host.optim_step(run, AdamConfig(lr=1e-2)))
        published = asyncio.create_task(host.publish(run))
        asyncio.get_running_loop().call_later(0.05, gate.set)
        await gate.wait()  # the loop's clock goes on
        assert not any(task.done() for task in (busy, step, published))
        release()
        assert not (await busy)[0].skipped
        assert (await step)["update/grad_norm"] > 0
        assert (await published).version == 1
    await host.close()


async def test_a_thread_that_is_closed_ends_the_call_it_is_at_and_refuses_the_rest(tiny_model: ModelConfig) -> None:
    host = await ThreadHost.start(LearnerSpec(tiny_model))
    await host.add(PolicySpec("run", LORA, learner_config(), 1.0, 0))
    release = block(host)
    busy = asyncio.create_task(host.forward_backward([request_of("run", made_data(0))]))
    waiting = asyncio.create_task(host.state("run"))
    await asyncio.sleep(0.05)
    await host.close()
    release()
    assert not (await busy)[0].skipped
    for call in (waiting, host.state("run")):
        with pytest.raises(LearnerDied, match="closed"):
            await call


def block(host: ThreadHost) -> Callable[[], None]:
    """Let the next pass wait until what is returned is called."""
    gate = threading.Event()

    def wait(*_: object) -> None:
        assert gate.wait(60)

    model = host._host.model.model  # pyright: ignore[reportPrivateUsage]
    model.get_decoder().register_forward_pre_hook(wait)  # type: ignore[operator]
    return gate.set


async def test_a_thread_begins_anew_and_tells_what_it_refuses(tiny_model: ModelConfig) -> None:
    with pytest.raises(ValueError, match="no model"):
        await ThreadHost.start(LearnerSpec(ModelConfig(name="./nowhere")))
    host = await ThreadHost.start(LearnerSpec(tiny_model))
    spec = PolicySpec("run", LORA, learner_config(), 1.0, 0)
    await host.add(spec)
    fresh = await host.state("run")
    await host.update([PolicyUpdate("run", request_of("run", made_data(0)).batch)])
    await host.restart()
    with pytest.raises(KeyError):
        await host.state("run")
    await host.add(spec)
    assert await host.state("run") == fresh
    await host.close()
