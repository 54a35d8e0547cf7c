"""A server for half an hour while its parts and its clients are killed: is anything lost, doubled, or does it grow?

    python bench/serve_soak.py                           30 minutes, three clients, a kill every 15 s or so
    python bench/serve_soak.py --minutes 5 --every 8

The server is `rankone serve` with Ray and vLLM. Each client is a process with the official SDK that trains a policy for 40
steps, over and over: passes, steps, saved weights, samples. A kill is a SIGKILL to the learner, to the rollout worker, to a
client in the midst of whatever it does, or to the server, which is started again on the same directory. All clients do the
same as one that nobody disturbed before, in float32: after whatever happened, each loss must be that one's at the same step,
so that a step that was lost or taken twice shows at once. What was acknowledged as saved must load, as of its step. In the
second half the server itself is left alone, and its memory, files and threads must be where they were when that half began.
The table goes to standard output. Exit status 1 if anything is wrong.
"""

import argparse
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
MODEL = "tiny-random"
STEPS = 40
"""Steps of a policy, after which its client makes a new one."""
TOLERANCE = 1e-4
GROWTH = 1.1
PATIENCE_S = 180.0
SETTINGS = ("model.dtype=float32", "model.max_length=128", "kept_state_mib=8")


# --- a client ---


@dataclass
class Tenant:
    """A client that goes on from what it had saved, whatever ended it before."""

    url: str
    key: str
    state: Path
    """File of the newest weights that were acknowledged as saved, and of their step."""
    expected: list[float]
    """Losses of a client that nobody disturbed; empty of that one itself."""
    step: int = 0
    client: Any = None
    service: Any = None

    def run(self, steps: int | None) -> None:
        """Train until killed, or for so many steps."""
        random.seed()
        while steps is None or self.step < steps:
            try:
                self.one_step()
            except Exception as error:  # whatever the SDK raises of a server that is being killed
                self.tell("refused", error=f"{type(error).__name__}: {error}"[:200])
                if "not carried out" not in str(error) and "was not taken" not in str(error):
                    self.client = None
                    time.sleep(1)

    def one_step(self) -> None:
        from tinker import AdamParams

        if self.client is None:
            self.open()
        sent = self.client.forward_backward(self.data, "cross_entropy"), self.client.optim_step(AdamParams(learning_rate=2e-3))  # fmt: skip
        loss = sent[0].result(PATIENCE_S).metrics["loss:sum"]
        if self.expected and abs(loss - self.expected[self.step]) > TOLERANCE * max(1.0, abs(self.expected[self.step])):
            self.tell("wrong", step=self.step, loss=loss, expected=self.expected[self.step])
        sent[1].result(PATIENCE_S)
        self.step += 1
        self.tell("step", step=self.step, loss=loss)
        if self.expected and self.step == STEPS:
            self.state.unlink(missing_ok=True)
            self.client, self.step = None, 0
            return
        if self.expected and self.step % 4 == 0:
            self.save()
        if self.step % 5 == 0:
            self.sample()

    def open(self) -> None:
        """Make a policy, or go on from the newest that was saved."""
        import tinker

        if self.service is None:
            self.service = tinker.ServiceClient(base_url=self.url, api_key=self.key)
        if self.state.exists():
            saved = json.loads(self.state.read_text())
            made = self.service.create_training_client_from_state_with_optimizer(saved["path"])
            self.client, self.step = made.result(PATIENCE_S), saved["step"]
            self.tell("loaded", step=self.step)
        else:
            made = self.service.create_lora_training_client(MODEL, rank=2, seed=1, train_unembed=False)
            self.client, self.step = made.result(PATIENCE_S), 0
        self.data = lessons(self.client)

    def save(self) -> None:
        path = (
            self.client.save_state(f"at-{self.step}-{random.getrandbits(32):08x}", ttl_seconds=3600)
            .result(PATIENCE_S)
            .path
        )
        new = self.state.with_suffix(".new")
        new.write_text(json.dumps({"path": path, "step": self.step}))
        new.replace(self.state)
        self.tell("saved", step=self.step)

    def sample(self) -> None:
        from tinker import ModelInput, SamplingParams

        sampler = self.client.save_weights_and_get_sampling_client().result(PATIENCE_S)
        drawn = sampler.sample(ModelInput.from_ints([5, 6, 7]), 4, SamplingParams(max_tokens=20)).result(PATIENCE_S)
        assert len(drawn.sequences) == 4
        self.tell("sampled")

    def tell(self, event: str, **more: Any) -> None:
        print(json.dumps({"event": event, **more}), flush=True)


def lessons(client: Any) -> list[Any]:
    """Return some sums to learn."""
    import numpy as np
    from tinker import Datum, ModelInput

    tokenizer = client.get_tokenizer()
    data: list[Any] = []
    for question, answer in (("2+3=", "5"), ("1+1=", "2"), ("4+4=", "8"), ("7-5=", "2"), ("a longer one: 6+2=", "8")):
        ask, tell = (list(tokenizer.encode(text, add_special_tokens=False)) for text in (question, answer))
        ids, weights = ask + tell, [0.0] * (len(ask) - 1) + [1.0] * len(tell)
        given: Any = {"target_tokens": np.array(ids[1:], np.int64), "weights": np.array(weights, np.float32)}
        data.append(Datum(model_input=ModelInput.from_ints(ids[:-1]), loss_fn_inputs=given))
    return data


# --- the server and those who kill ---


@dataclass
class Server:
    """A server that is started again where it was."""

    out: Path
    port: int = 0
    key: str = ""
    process: Any = None
    left: list[psutil.Process] = field(default_factory=list)
    """Processes below servers that were killed. They must end by themselves; Ray's agents look for their head for a minute."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        sets = [part for setting in SETTINGS for part in ("--set", setting)]
        command = [
            sys.executable,
            "-m",
            "rl.cli",
            "serve",
            "--model",
            MODEL,
            "--port",
            str(self.port),
            "--out",
            str(self.out),
        ]
        log = (self.out.parent / "server.log").open("a+")
        begin = log.seek(0, os.SEEK_END)
        self.process = subprocess.Popen([*command, *sets], stdout=log, stderr=log, cwd=ROOT)
        while self.process.poll() is None:
            log.seek(begin)
            if match := re.search(r"TINKER_BASE_URL=\S+:(\d+) TINKER_API_KEY=(\S+)", log.read()):
                self.port, self.key = int(match[1]), match[2]
                return
            time.sleep(0.5)
        raise SystemExit(f"the server ended with {self.process.wait()}: see {log.name}")

    def actors(self, name: str) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in children if process.name().startswith(f"ray::{name}")]

    def kill(self) -> None:
        self.left += psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()

    def held(self) -> dict[str, float]:
        """Return what the server's own process holds."""
        process = psutil.Process(self.process.pid)
        return {
            "MiB": process.memory_info().rss / 2**20, "files": process.num_fds(), "threads": process.num_threads(),
        }  # fmt: skip


@dataclass
class Soak:
    """All of it, and what was seen."""

    server: Server
    place: Path
    clients: list[Any] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)

    def start_client(self, number: int) -> Any:
        log = (self.place / f"client-{number}.jsonl").open("a")
        arguments = ["--tenant", self.server.url, self.server.key, str(self.place / f"state-{number}.json")]
        command = [sys.executable, __file__, *arguments, "--expected", str(self.place / "expected.json")]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.DEVNULL, cwd=ROOT)

    def kill_something(self, *, server_too: bool) -> None:
        kinds = ["learner", "worker", "client", *["server"] * server_too]
        kind = random.choice(kinds)
        if kind == "client":
            number = random.randrange(len(self.clients))
            self.clients[number].kill()
            self.clients[number].wait()
            self.clients[number] = self.start_client(number)
        elif kind == "server":
            self.server.kill()
            self.server.start()
        else:
            actors = self.server.actors("LearnerActor" if kind == "learner" else "EngineActor")
            for process in actors:
                process.send_signal(signal.SIGKILL)
            if not actors:
                return  # it is still being started again
        self.kills[kind] += 1

    def events(self) -> Iterator[dict[str, Any]]:
        for log in self.place.glob("client-*.jsonl"):
            for line in log.read_text().splitlines():
                if line.endswith("}"):  # the last one may be cut off by a kill
                    yield json.loads(line)


def soak(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        place = Path(directory)
        server = Server(place / "serve")
        server.start()
        undisturbed = [
            sys.executable,
            __file__,
            "--tenant",
            server.url,
            server.key,
            str(place / "none"),
            "--steps",
            str(STEPS),
        ]
        told = subprocess.run(undisturbed, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True).stdout.splitlines()
        losses = [row["loss"] for row in map(json.loads, told) if row["event"] == "step"]
        assert len(losses) == STEPS, told
        (place / "expected.json").write_text(json.dumps(losses))
        run = Soak(server, place)
        run.clients = [run.start_client(number) for number in range(options.clients)]
        try:
            return watched(run, options)
        finally:
            for client in run.clients:
                client.kill()
            server.process.terminate()
            server.process.wait()


def watched(run: Soak, options: argparse.Namespace) -> int:
    begin, half = time.monotonic(), 30 * options.minutes
    while time.monotonic() < begin + half:
        time.sleep(random.expovariate(1 / options.every))
        run.kill_something(server_too=True)
    time.sleep(min(60.0, half / 4))  # for the clients to be back at work
    before = run.server.held()
    while time.monotonic() < begin + 2 * half:
        time.sleep(random.expovariate(1 / options.every))
        run.kill_something(server_too=False)
    time.sleep(30)
    after = run.server.held()
    _, left = psutil.wait_procs(run.server.left, timeout=90)
    seen = Counter(event["event"] for event in run.events())
    wrong = [event for event in run.events() if event["event"] == "wrong"]
    reasons = Counter(re.sub(r"[\d-]{3,}|[0-9a-f-]{8,}", "#", event["error"])[:110] for event in run.events() if event["event"] == "refused")  # fmt: skip
    grown = [name for name in before if after[name] > GROWTH * before[name] + 2]
    print("| seen | |\n|---|---|")
    print("\n".join(f"| kills of a {kind} | {count} |" for kind, count in run.kills.items()))
    print("\n".join(f"| {event} | {count} |" for event, count in seen.items()))
    print("\n".join(f"| {name} of the server | {before[name]:.0f} -> {after[name]:.0f} |" for name in before))
    for reason, count in reasons.most_common(12):
        print(f"refused {count} times: {reason}")
    print("\n".join(f"WRONG {event}" for event in wrong[:10]))
    print("\n".join(f"LEFT {process}" for process in left))
    return int(bool(wrong or grown or left or not seen["step"]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--every", type=float, default=15, help="seconds between two kills, on average")
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--tenant", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--expected", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.tenant:
        return soak(options)
    logging.getLogger("tinker").setLevel(logging.CRITICAL)
    url, key, state = options.tenant
    Tenant(url, key, Path(state), json.loads(options.expected.read_text()) if options.expected else []).run(
        options.steps
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
