"""Data and shorthands for tests through the official client."""

from typing import Any

import numpy as np
import tinker
from tinker import types

TIMEOUT = 60.0
MODEL = "tiny-random"
SGD = {"beta1": 0.0, "beta2": 0.0, "eps": 1e4}
"""Adam then moves by lr / eps times the gradient, whose size it else hides."""
LESSONS = (
    ("2+3=", "5"),
    ("1+1=", "2"),
    ("4+4=", "8"),
    ("the sky is ", "blue"),
    ("7-5=", "2"),
    ("a longer one: 6+2=", "8"),
)


def trainer(service: tinker.ServiceClient, rank: int = 4, seed: int | None = 1, **more: Any) -> tinker.TrainingClient:
    return service.create_lora_training_client(MODEL, rank=rank, seed=seed, **more).result(TIMEOUT)


def coded(client: tinker.TrainingClient, text: str) -> list[int]:
    return list(client.get_tokenizer().encode(text, add_special_tokens=False))


def datum(ids: list[int], **inputs: Any) -> types.Datum:
    """Return a datum that scores each token of a sequence but the first."""
    given = {name: np.asarray(values, np.float32) for name, values in inputs.items()}
    given["target_tokens"] = np.array(ids[1:], np.int64)
    return types.Datum(model_input=types.ModelInput.from_ints(ids[:-1]), loss_fn_inputs=given)  # type: ignore[arg-type]


def lessons(client: tinker.TrainingClient) -> list[types.Datum]:
    pairs = [(coded(client, question), coded(client, answer)) for question, answer in LESSONS]
    return [datum(q + a, weights=[0.0] * (len(q) - 1) + [1.0] * len(a)) for q, a in pairs]


def step(
    client: tinker.TrainingClient,
    data: list[types.Datum],
    loss: Any = "cross_entropy",
    lr: float = 1e-3,
    config: Any = None,
    **adam: Any,
) -> types.ForwardBackwardOutput:
    sent = client.forward_backward(data, loss, config), client.optim_step(types.AdamParams(learning_rate=lr, **adam))
    output = sent[0].result(TIMEOUT)
    sent[1].result(TIMEOUT)
    return output


def logprobs(client: tinker.TrainingClient, data: list[types.Datum]) -> list[np.ndarray]:
    output = client.forward(data, "cross_entropy").result(TIMEOUT)
    return [values["logprobs"].to_numpy() for values in output.loss_fn_outputs]


def gap(first: Any, second: Any) -> float:
    """Return the largest difference between two lists of arrays."""
    return max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in zip(first, second, strict=True))
