"""Whether vLLM serves a family's adapters, judged by the liveness check."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from bench.families.engine import SEQUENCES
from bench.families.measure import PROMPTS, begin, model_config
from rl.algorithm.liveness import Agreement
from rl.learner.bases.shared_model import SharedModel
from rl.learner.policies.policy import Policy

TOLERANCE = 0.01
"""Nats a token, in float32."""
START_S = 300


def served(directory: Path) -> dict[str, Any]:
    """Return how vLLM's logprobs agree with the learner's, of given tokens and of its own; or why there are none."""
    shared, policy = begin(model_config(directory))
    asked = directory / "asked.pickle"
    asked.write_bytes(pickle.dumps((policy.spec.lora, policy.publish(torch.float32))))
    child = subprocess.run(
        [sys.executable, "-m", "bench.families.engine", str(directory), str(asked)],
        capture_output=True, text=True, check=False, timeout=START_S,
        env={**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
    )  # fmt: skip
    if child.returncode == 0:
        return _compared(json.loads(child.stdout.splitlines()[-1]), shared, policy)
    errors = [line for line in child.stderr.splitlines() if "Error" in line or "EngineDied" in line]
    last = (errors or [f"status {child.returncode}"])[-1]
    return {"error": last.rpartition("vLLM failed: ")[2].rpartition("vLLM could not start: ")[2]}


def _compared(answer: Mapping[str, Any], shared: SharedModel, policy: Policy) -> dict[str, Any]:
    mine, base = (shared.score(SEQUENCES, policy, under) for under in ("policy", "base"))
    agreement = Agreement.measure(*(list(chain.from_iterable(scores)) for scores in (answer["scores"], mine, base)))
    return {
        "difference": agreement.difference,
        "slope": agreement.from_base.value,
        "sampled_difference": max(_difference(one, shared, policy) for one in answer["completions"]),
        "fault": agreement.fault(TOLERANCE, 0.0),
    }


def _difference(one: Mapping[str, Any], shared: SharedModel, policy: Policy) -> float:
    """Return the largest difference of a logprob that a token was sampled with from the learner's."""
    (scores,) = shared.score([[*PROMPTS[0], *one["token_ids"]]], policy)
    return max(abs(a - b) for a, b in zip(one["logprobs"], scores[len(PROMPTS[0]) - 1 :], strict=True))
