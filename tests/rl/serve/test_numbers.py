"""The mathematics that the protocol promises: sums, losses and steps, seen through the official client."""

from typing import Any

import numpy as np
import pytest
import tinker
from helpers.tinker_client import SGD, TIMEOUT, coded, datum, gap, lessons, logprobs, step, trainer
from tinker import types

MOVE = types.AdamParams(learning_rate=20.0, **SGD)


def test_the_loss_is_the_weighted_sum_and_falls(service: tinker.ServiceClient) -> None:
    client = trainer(service)
    data = lessons(client)
    first = step(client, data, lr=2e-3)
    scored = [values["logprobs"].to_numpy() for values in first.loss_fn_outputs]
    weights = [one.loss_fn_inputs["weights"].to_numpy() for one in data]
    by_hand = -sum(float((p * w).sum()) for p, w in zip(scored, weights, strict=True))
    assert first.metrics["loss:sum"] == pytest.approx(by_hand, rel=1e-5)
    for _ in range(30):
        last = step(client, data, lr=2e-3)
    assert last.metrics["loss:sum"] < 0.5 * by_hand


def test_gradients_add_up_whatever_they_were_divided_into(service: tinker.ServiceClient) -> None:
    def after(*parts: list[int], forward_first: bool = False) -> list[np.ndarray]:
        client = trainer(service, seed=3)
        data = lessons(client)
        sent: list[Any] = [client.forward(data, "cross_entropy")] if forward_first else []
        sent += [client.forward_backward([data[i] for i in part], "cross_entropy") for part in parts]
        sent.append(client.optim_step(MOVE))
        for one in sent:
            one.result(TIMEOUT)
        return logprobs(client, data)

    everything = [0, 1, 2, 3, 4, 5]
    whole = after(everything)
    assert gap(whole, after(everything)) == 0.0
    assert gap(whole, after([0, 1, 2], [3, 4, 5])) < 1e-3
    assert gap(whole, after(*([i] for i in everything))) < 1e-3
    assert gap(whole, after(everything, forward_first=True)) == 0.0
    assert gap(whole, after(everything + everything)) > 0.01  # twice is twice: a sum, and no mean


@pytest.mark.parametrize(
    ("loss", "config"),
    [
        ("importance_sampling", None),
        ("ppo", None),
        ("ppo", {"clip_low_threshold": 0.5, "clip_high_threshold": 1.1}),
        ("cispo", {"clip_low_threshold": 0.0, "clip_high_threshold": 1.05}),
        ("dro", {"beta": 0.1}),
        ("gspo", {"clip_low_threshold": 0.9, "clip_high_threshold": 1.1}),
    ],
)
def test_a_losss_gradient_is_that_of_its_formula(service: tinker.ServiceClient, loss: Any, config: Any) -> None:
    """A step of it moves the policy as a step of cross-entropy whose weights are -d loss / d logprob."""
    client, other = trainer(service, seed=7), trainer(service, seed=7)
    ids = coded(client, "one two three four five 2+2=4")
    scored = logprobs(client, [datum(ids, weights=np.ones(len(ids) - 1))])[0]
    random = np.random.default_rng(0)
    sampled = (np.arange(len(scored)) >= 8).astype(np.float32)
    rollout = scored + sampled * random.normal(0, 0.4, len(scored))
    advantages = sampled * random.normal(0, 1, len(scored))
    inputs = {"logprobs": rollout, "advantages": advantages}
    if loss == "gspo":
        inputs["sequence_ratio_mask"] = sampled
    output = client.forward_backward([datum(ids, **inputs)], loss, config).result(TIMEOUT)
    value, weights = formula(loss, config or {}, scored, rollout, advantages, sampled)
    assert output.metrics["loss:sum"] == pytest.approx(value, rel=1e-3, abs=1e-3)
    other.forward_backward([datum(ids, weights=weights)], "cross_entropy").result(TIMEOUT)
    data = lessons(client)
    before = logprobs(client, data)
    for one in (client, other):
        one.optim_step(MOVE).result(TIMEOUT)
    moved = logprobs(client, data)
    assert gap(before, moved) > 1e-3
    assert gap(moved, logprobs(other, data)) < 0.01 * gap(before, moved)


def formula(
    loss: str, config: dict[str, float], p: np.ndarray, q: np.ndarray, A: np.ndarray, mask: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return a loss and -d loss / d p, as the protocol has them."""
    r = np.exp(p - q)
    low, high = config.get("clip_low_threshold", 0.8), config.get("clip_high_threshold", 1.2)
    if loss == "importance_sampling":
        return float(-(r * A).sum()), r * A
    if loss == "cispo":
        weight = np.clip(r, low, high)
        return float(-(weight * p * A).sum()), weight * A
    if loss == "dro":
        beta = config["beta"]
        return float(-(p * A - beta / 2 * (p - q) ** 2).sum()), A - beta * (p - q)
    if loss == "gspo":
        s = np.exp(((p - q) * mask).sum() / mask.sum())
        clipped = np.clip(s, low, high)
        inside = s * A <= clipped * A
        share = mask / mask.sum()
        return float(-np.minimum(s * A, clipped * A).sum()), share * (s * A * inside).sum()
    clipped = np.clip(r, low, high)
    return float(-np.minimum(r * A, clipped * A).sum()), np.where(r * A <= clipped * A, r * A, 0.0)


def test_several_targets_a_position_and_targets_that_are_not_the_input(service: tinker.ServiceClient) -> None:
    client = trainer(service)
    ids = coded(client, "1+2=3")
    inputs = types.ModelInput.from_ints(ids[:-1])
    several = np.stack([np.roll(ids, -1)[:-1], np.roll(ids, 1)[:-1]], axis=1).astype(np.int64)
    soft = types.Datum(
        model_input=inputs,
        loss_fn_inputs={"target_tokens": several, "weights": np.full(several.shape, 0.5, np.float32)},
    )  # type: ignore[arg-type]
    output = client.forward([soft], "cross_entropy").result(TIMEOUT)
    scored = output.loss_fn_outputs[0]["logprobs"].to_numpy()
    assert scored.shape == several.shape
    for column in range(2):
        one = types.Datum(
            model_input=inputs,
            loss_fn_inputs={"target_tokens": several[:, column], "weights": np.ones(len(several), np.float32)},
        )  # type: ignore[arg-type]
        alone = client.forward([one], "cross_entropy").result(TIMEOUT).loss_fn_outputs[0]["logprobs"].to_numpy()
        assert np.abs(scored[:, column] - alone).max() < 1e-4


def test_a_sampler_and_the_learner_agree_and_a_snapshot_stays(service: tinker.ServiceClient) -> None:
    client = trainer(service)
    texts = [coded(client, text) for text in ("the answer to 2+3 is 5", "one two three four five", "9-4=5 and 5+4=9.")]
    data = [datum(ids, weights=np.ones(len(ids) - 1)) for ids in texts]

    def scored(sampler: tinker.SamplingClient) -> list[Any]:
        return [sampler.compute_logprobs(types.ModelInput.from_ints(ids)).result(TIMEOUT)[1:] for ids in texts]

    fresh = client.save_weights_and_get_sampling_client().result(TIMEOUT)
    before = logprobs(client, data)
    assert gap(before, scored(fresh)) < 1e-3
    for _ in range(5):
        step(client, lessons(client) + data, lr=2e-3)
    after = client.save_weights_and_get_sampling_client().result(TIMEOUT)
    assert gap(logprobs(client, data), scored(after)) < 1e-3
    assert gap(logprobs(client, data), before) > 0.05
    assert gap(scored(fresh), before) < 1e-3
    drawn = after.sample(
        types.ModelInput.from_ints(texts[0][:6]), 3, types.SamplingParams(max_tokens=12, seed=5)
    ).result(TIMEOUT)
    whole = [datum([*texts[0][:6], *s.tokens], weights=np.zeros(5 + len(s.tokens))) for s in drawn.sequences]
    assert gap([values[5:] for values in logprobs(client, whole)], [s.logprobs for s in drawn.sequences]) < 1e-3


def test_policies_of_unlike_shape_learn_together_as_alone(service: tinker.ServiceClient) -> None:
    shapes: list[dict[str, Any]] = [
        {"rank": 1, "seed": 11}, {"rank": 8, "seed": 12}, {"rank": 32, "seed": 14},
        {"rank": 4, "seed": 13, "train_unembed": False, "train_mlp": False},
    ]  # fmt: skip
    adam = types.AdamParams(learning_rate=2e-3)

    def data_of(client: tinker.TrainingClient, which: int) -> list[types.Datum]:
        data = lessons(client)
        return data[which:] + data[:which]

    def alone(which: int) -> list[np.ndarray]:
        client = trainer(service, **shapes[which])
        for _ in range(3):
            client.forward_backward(data_of(client, which), "cross_entropy").result(TIMEOUT)
            client.optim_step(adam).result(TIMEOUT)
        return logprobs(client, lessons(client))

    expected = [alone(which) for which in range(len(shapes))]
    clients = [trainer(service, **shape) for shape in shapes]
    waiting: list[Any] = []
    for _ in range(3):
        waiting += [client.forward_backward(data_of(client, i), "cross_entropy") for i, client in enumerate(clients)]
        waiting += [client.optim_step(adam) for client in clients]
    for one in waiting:
        one.result(TIMEOUT)
    for which, client in enumerate(clients):
        assert gap(logprobs(client, lessons(client)), expected[which]) == 0.0, shapes[which]
