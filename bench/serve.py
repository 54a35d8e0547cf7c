"""A server's speed, side by side in one run: its front, a client's loop against `rankone train`, eight tenants, a burst.

    python bench/serve.py                    all four, on SmolLM2-135M
    python bench/serve.py front tenants      some of them
    python bench/serve.py --model tiny-random --steps 3

Nothing else should use the machine meanwhile. What is compared has the same model, type, problems, number of samples and
lengths (`ignore_eos`). The table goes to standard output.
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

TIMEOUT = 600.0
PROBLEMS, SAMPLES, TOKENS = 16, 8, 24
TENANTS = 8
TENANT_SIZES = ((4, 4, 24), (4, 4, 96), (1, 8, 192))
"""Problems, samples of each, and tokens of each sample."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    value: str
    target: str = ""


@contextmanager
def server(model: str, out: Path) -> Generator[tuple[str, str]]:
    """Run a server inside the block; yields its URL and key."""
    command = [sys.executable, "-m", "rl.cli", "serve", "--model", model, "--port", "0", "--out", str(out)]
    command += ["--set", "model.max_length=256"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if match := re.search(r"TINKER_BASE_URL=(\S+) TINKER_API_KEY=(\S+)", line):
                yield match[1], match[2]
                return
        raise SystemExit(f"the server ended with {process.wait()}")
    finally:
        process.terminate()
        process.wait()


def front(url: str, key: str, _: argparse.Namespace) -> list[Row]:
    """Time requests that do no work of a model's."""
    http = requests.Session()
    http.headers["X-API-Key"] = key
    session = http.post(f"{url}/api/v1/create_session", json={"tags": [], "sdk_version": "0.38.0"}).json()["session_id"]

    def timed(path: str, body: dict[str, Any]) -> float:
        start = time.perf_counter()
        http.post(f"{url}/api/v1/{path}", json=body).raise_for_status()
        return time.perf_counter() - start

    beats = [timed("session_heartbeat", {"session_id": session}) for _ in range(300)][20:]
    made = http.post(
        f"{url}/api/v1/create_sampling_session",
        json={"session_id": session, "sampling_session_seq_id": 0, "base_model": model_of(http, url)},
    ).json()["sampling_session_id"]
    sample = {"sampling_session_id": made, "prompt": {"chunks": [{"type": "encoded_text", "tokens": [5, 6, 7]}]},
              "sampling_params": {"max_tokens": 1}}  # fmt: skip
    submitted = []
    for number in range(100):
        submitted.append(timed("asample", sample | {"seq_id": number}))
        time.sleep(0.05)  # its work is not the front's
    return [
        Row("front: a heartbeat, median", f"{1000 * median(beats):.2f} ms", "<= 5 ms"),
        Row("front: a sample's submission, median", f"{1000 * median(submitted):.2f} ms", "<= 5 ms"),
    ]


def burst(url: str, key: str, options: argparse.Namespace) -> list[Row]:
    """Time heartbeats, from a process that does nothing else, while a client waits for 2,000 samples."""
    import tinker
    from tinker import types

    sampler = tinker.ServiceClient(base_url=url, api_key=key).create_sampling_client(base_model=options.model)
    parameters = types.SamplingParams(max_tokens=16)
    with subprocess.Popen([sys.executable, "-c", BEATS, url, key], stdout=subprocess.PIPE, text=True) as beating:
        assert beating.stdout is not None
        beating.stdout.readline()
        futures = [
            sampler.sample(types.ModelInput.from_ints([10 + number % 20, 11, 12]), 1, parameters)
            for number in range(BURST)
        ]
        for future in futures:
            future.result()
        beating.terminate()
        beats = sorted(map(float, beating.stdout))
    return [
        Row(f"burst: a heartbeat beside {BURST:,} samples, median", f"{1000 * median(beats):.0f} ms"),
        Row("burst: the slowest heartbeat", f"{1000 * beats[-1]:.0f} ms", "<= 1000 ms"),
    ]


BURST = 2000
BEATS = """
import requests, sys, time
url, http = sys.argv[1], requests.Session()
http.headers["X-API-Key"] = sys.argv[2]
body = {"tags": [], "sdk_version": "0.38.0"}
session = http.post(f"{url}/api/v1/create_session", json=body).json()["session_id"]
while True:
    start = time.perf_counter()
    http.post(f"{url}/api/v1/session_heartbeat", json={"session_id": session}).raise_for_status()
    print(time.perf_counter() - start, flush=True)
    time.sleep(0.1)
"""
"""The process that sends them."""


def model_of(http: requests.Session, url: str) -> str:
    """Return the name of the server's model."""
    return http.get(f"{url}/api/v1/get_server_capabilities").json()["supported_models"][0]["model_name"]


def loop(url: str, key: str, options: argparse.Namespace) -> list[Row]:
    """Time a client's loop, and between two halves of it `rankone train` on the same work."""
    client = Loop(url, key, seed=0)
    client.step(0, PROBLEMS, SAMPLES, TOKENS)
    seconds, own = [], []
    for half in range(2):
        first = 1 + half * options.steps
        seconds += [client.step(step, PROBLEMS, SAMPLES, TOKENS) for step in range(first, first + options.steps)]
        if half == 0:
            own = train(options)
    client.close()
    return [
        Row(f"loop: a step of {PROBLEMS} x {SAMPLES} samples through the SDK, median", f"{median(seconds):.2f} s"),
        Row("loop: the same step of `rankone train`", f"{median(own):.2f} s"),
        Row("loop: SDK / train", f"{median(seconds) / median(own):.3f}", "<= 1.15"),
    ]


def train(options: argparse.Namespace) -> list[float]:
    """Return the seconds of `rankone train`'s steps, in which it learns from every sample, as the client does."""
    with tempfile.TemporaryDirectory(prefix="train-") as scratch:
        reward, run = Path(scratch) / "reward.py", Path(scratch) / "run"
        reward.write_text(REWARD)
        settings = [
            f"model.name={options.model}", "model.dtype=float32", "model.max_length=256", "lora.rank=1",
            f"num_steps={options.steps + 2}", f"problems_per_step={PROBLEMS}", f"sampling.group_size={SAMPLES}",
            f"sampling.max_tokens={TOKENS}", "sampling.ignore_eos=true", "evaluate.every=1000",
            "evaluate.num_problems=1", "liveness.every=1000", "reward.truncated=grade", "learner.max_ratio=1e6",
            f"reward.function={reward}:noisy", "prompt.chat_template=false",
        ]  # fmt: skip
        sets = [part for setting in settings for part in ("--set", setting)]
        example = str(ROOT / "examples/addition.toml")
        command = [sys.executable, "-m", "rl.cli", "train", example, "--out", str(run), *sets]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [step["time/step_s"] for step in steps[1:-1]]  # the first and the last have evaluations in them


REWARD = """
def noisy(problems, completions):
    return [float(problem.answer in text) + 0.01 * (index % 2) for index, (problem, text) in
            enumerate(zip(problems, completions))]
"""


def tenants(url: str, key: str, options: argparse.Namespace) -> list[Row]:
    """Time eight clients' loops, one after another and all at once, with answers of several lengths."""
    loops = [Loop(url, key, seed=seed) for seed in range(TENANTS)]
    rows: list[Row] = []
    for problems, samples, tokens in TENANT_SIZES:
        in_turn, together = _in_turn_and_together(loops, max(2, options.steps // 2), (problems, samples, tokens))
        what = f"tenants: {TENANTS} loops of {problems} x {samples} samples of {tokens} tokens"
        rows += [
            Row(f"{what}, in turn", f"{in_turn:.1f} s"),
            Row(f"{what}, together", f"{together:.1f} s"),
            Row("tenants: together / in turn", f"{together / in_turn:.3f}", "<= 0.5"),
        ]
    for each in loops:
        each.close()
    return rows


def _in_turn_and_together(loops: Sequence["Loop"], steps: int, size: tuple[int, int, int]) -> tuple[float, float]:
    def run_steps(each: Loop, first: int) -> None:
        for step in range(first, first + steps):
            each.step(step, *size)

    async def all_at_once() -> None:
        await asyncio.gather(*(asyncio.to_thread(run_steps, each, 100) for each in loops))

    for each in loops:
        each.step(0, *size)
    start = time.monotonic()
    for each in loops:
        run_steps(each, 1)
    between = time.monotonic()
    asyncio.run(all_at_once())
    return between - start, time.monotonic() - between


class Loop:
    """A client that learns additions by reinforcement learning, as a cookbook's loop does."""

    def __init__(self, url: str, key: str, seed: int) -> None:
        import tinker

        self._service = tinker.ServiceClient(base_url=url, api_key=key)
        names = [model.model_name for model in self._service.get_server_capabilities().supported_models]
        self._client = self._service.create_lora_training_client(
            names[0], rank=1, seed=seed, train_unembed=False
        ).result(TIMEOUT)
        self._tokenizer = self._client.get_tokenizer()

    def step(self, step: int, problems: int, samples: int, tokens: int) -> float:
        """Sample, grade and learn; return the seconds that it took."""
        from tinker import types

        start = time.monotonic()
        sampler = self._client.save_weights_and_get_sampling_client()
        sampler = sampler.result(TIMEOUT)
        params = types.SamplingParams(max_tokens=tokens, stop=[], seed=step)
        asked = [
            (a, b) for a, b in (((step * 31 + i) % 90 + 10, (step * 17 + i * 7) % 90 + 10) for i in range(problems))
        ]
        prompts = [self._tokenizer.encode(f"What is {a} + {b}? ", add_special_tokens=False) for a, b in asked]
        sent = [sampler.sample(types.ModelInput.from_ints(ids), samples, params) for ids in prompts]
        data = []
        for ids, pair, future in zip(prompts, asked, sent, strict=True):
            data += self._data(ids, pair, future.result(TIMEOUT).sequences)
        passed = self._client.forward_backward(data, "importance_sampling")
        stepped = self._client.optim_step(types.AdamParams(learning_rate=1e-5, eps=1e-8))
        passed.result(TIMEOUT)
        stepped.result(TIMEOUT)
        return time.monotonic() - start

    def _data(self, ids: Sequence[int], pair: tuple[int, int], sequences: Any) -> list[Any]:
        import numpy as np
        from tinker import types

        rewards = [float(str(sum(pair)) in self._tokenizer.decode(one.tokens)) for one in sequences]
        data = []
        for index, (one, reward) in enumerate(zip(sequences, rewards, strict=True)):
            advantage = (
                reward - float(np.mean(rewards)) + (0.01 if index % 2 else -0.01)
            )  # every sample is learned from
            whole, before = [*ids, *one.tokens], [0.0] * (len(ids) - 1)
            inputs = {
                "target_tokens": np.array(whole[1:], np.int64),
                "logprobs": np.array([*before, *one.logprobs], np.float32),
                "advantages": np.array([*before, *[advantage] * len(one.tokens)], np.float32),
            }
            data.append(types.Datum(model_input=types.ModelInput.from_ints(whole[:-1]), loss_fn_inputs=inputs))
        return data

    def close(self) -> None:
        """End the session."""
        self._service.close("success").result(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="of front, loop, tenants, burst; all by default")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    parts = options.parts or ["front", "loop", "tenants", "burst"]
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="serve-") as scratch,
        server(options.model, Path(scratch) / "serve") as (url, key),
    ):
        for name in parts:
            rows += {"front": front, "loop": loop, "tenants": tenants, "burst": burst}[name](url, key, options)
    print("| figure | value | target |\n|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.value} | {row.target} |")


if __name__ == "__main__":
    main()
