"""The side of verifiers: lists the tasks of an environment, and plays episodes of it.

It is run by the Python that has verifiers, where nothing of rankone is installed, so it imports nothing of ours. Lines
of JSON come in and go out: a set-up, then episodes to play or to cancel. What environments print goes to stderr.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import threading
import traceback
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import IO, Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PATIENCE_S = 3.0
"""Seconds that episodes have to end in when the parent has gone."""

Table = dict[str, Any]


def main() -> None:
    """List tasks or serve episodes, as the first line says, until there are no more lines."""
    _die_with(int(sys.argv[1]))
    lines, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    setup = json.loads(lines.readline())
    sys.path[:0] = setup["path"]
    try:
        if setup["tasks"]:
            send(answers, {"tasks": tasks_of(setup["env"], setup["tasks"])})
            return
        environment = load_environment(setup)
    except BaseException as error:
        send(answers, {"error": one_line(error), "traceback": traceback.format_exc()})
        return
    send(answers, {"ready": True})
    _cap_memory(setup["memory_mb"])
    asyncio.run(_Host(environment, setup, answers).serve(lines))


def tasks_of(env: Table, most: int) -> list[Table]:
    """Return up to so many tasks of a taskset, each as verifiers carries it and with what names it."""
    config = resolve(env)
    tasks = import_module("verifiers.v1.utils.loaders").load_taskset(config.taskset)
    listed: list[Table] = []
    for task in islice(tasks, most):
        hidden = [name for name, field in type(task.data).model_fields.items() if field.exclude]
        if hidden:
            raise ValueError(f"{type(task.data).__name__} leaves {hidden} out of what can be sent to another process")
        label = task.data.id or task.data.name or str(task.data.idx)
        listed.append({"label": label, "prompt": task.data.prompt_text, "data": task.data.model_dump(mode="json")})
    return listed


def resolve(env: Table) -> Any:
    """Return the configuration of an environment. Raises whatever verifiers has against it."""
    return import_module("verifiers.v1.utils.loaders").resolve_env_config(env)


def load_environment(setup: Table) -> Any:
    """Return an environment that keeps to our budget of turns and is not played twice by itself."""
    env: Table = {**setup["env"], "retries": {"max_retries": 0}}
    loaders = import_module("verifiers.v1.utils.loaders")
    config, harnesses = resolve(env), resolve(env).agent_harnesses()
    for role, agent in import_module("verifiers.v1.configs.agent").agent_config_fields(config).items():
        if agent.client is not None:
            continue  # it has a model of its own
        own: Table = {**env.get(role, {}), "retries": {"max_retries": 0}}
        own["max_turns"] = min(agent.max_turns or setup["max_turns"], setup["max_turns"])
        if "runtime" not in own and agent.runtime.type == "prime":
            if loaders.harness_class(harnesses[role].id).EXECUTES_CODE:
                raise ValueError(
                    f"the harness {harnesses[role].id!r} runs what the model writes: say where, by "
                    f'data.env.{role}.runtime.type = "docker", or name another by data.env.{role}.harness.id'
                )
            own["runtime"] = {"type": "subprocess"}
        env[role] = own
    return loaders.load_environment(resolve(env))


class _Host:
    """Episodes under way in this process."""

    def __init__(self, environment: Any, setup: Table, answers: IO[str]) -> None:
        self._environment = environment
        self._answers = answers
        self._playing: dict[str, asyncio.Task[None]] = {}
        client = import_module("verifiers.v1.configs.client").EvalClientConfig
        self._client = client(base_url=setup["base_url"], api_key_var=setup["key_variable"])

    async def serve(self, lines: IO[str]) -> None:
        """Play what comes until the parent closes its end."""
        loop = asyncio.get_running_loop()
        requests: asyncio.Queue[Table | None] = asyncio.Queue()
        threading.Thread(target=_read, args=(lines, loop, requests), daemon=True).start()
        async with self._environment.serving():
            while (message := await requests.get()) is not None:
                name = message["episode"]
                if message.get("cancel"):
                    if (task := self._playing.get(name)) is not None:
                        task.cancel()
                    continue
                self._playing[name] = task = asyncio.create_task(self._answer(name, message["task"]))
            for task in list(self._playing.values()):
                task.cancel()
            if self._playing:
                await asyncio.wait(list(self._playing.values()), timeout=PATIENCE_S)

    async def _answer(self, name: str, data: Table) -> None:
        try:
            answer = await self._play(name, data)
        except asyncio.CancelledError:
            answer = {"error": "was cancelled"}
        except Exception as error:
            answer = {"error": one_line(error), "traceback": traceback.format_exc()}
        self._playing.pop(name, None)
        send(self._answers, {**answer, "episode": name})

    async def _play(self, name: str, data: Table) -> Table:
        environment = self._environment
        kind = type(environment.taskset).task_type()
        task = kind(kind.data_type().model_validate(data), environment.config.taskset.task)
        context = import_module("verifiers.v1.clients").ModelContext(model=name, client=self._client)
        (slot,) = environment.slots(task)
        return report_of(await environment.run_slot(slot, context))


def report_of(episode: Any) -> Table:
    """Return what an episode came to: its reward, or why it has none."""
    traces = [trace for trace in episode.traces if trace.agent.trainable]
    errors = [*episode.errors, *(error for trace in episode.traces for error in trace.errors)]
    rewards = {k: r.value for trace in traces for k, r in trace.rewards.items() if r is not None}
    return {
        "ok": bool(episode.ok),
        "timeout": bool(episode.is_timeout or any(trace.is_timeout for trace in episode.traces)),
        "traces": len(traces),
        "stop": traces[0].stop_condition if traces else None,
        "rewards": rewards,
        "error": f"{errors[-1].type}: {errors[-1].message}" if errors else "",
        "traceback": (errors[-1].traceback or "") if errors else "",
    }


def send(answers: IO[str], answer: Table) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:2000]


def _read(lines: IO[str], loop: asyncio.AbstractEventLoop, requests: "asyncio.Queue[Table | None]") -> None:
    for line in lines:
        loop.call_soon_threadsafe(requests.put_nowait, json.loads(line))
    loop.call_soon_threadsafe(requests.put_nowait, None)
    threading.Event().wait(2 * PATIENCE_S)
    _end()  # an environment that hangs outlives no parent


def _die_with(parent: int) -> None:
    """End with the parent, and everything that was started here too; orphans of it become children of this process."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(0)


def _end(*_: object) -> None:
    for _round in range(3):  # what was starting another one meanwhile
        for pid in _descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(c) for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text().split()]
    except OSError:
        return []
    return [below for child in children for below in (child, *_descendants(child))]


def _cap_memory(memory_mb: int) -> None:
    """Allow so much address space on top of what is in use; programs that are started here have the same bound."""
    statm = Path("/proc/self/statm")
    in_use = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0
    limit = in_use + memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
