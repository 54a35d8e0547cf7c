"""The server of warm processes: for each kind there is one that has loaded everything, of which copies are made.

Variables that only a new program reads, of the C library and of OpenMP, are honoured: a set of them is a kind of its own.
It runs as a program, and imports nothing of ours.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

VARIABLE = "RANKONE_WARM_PROCESSES"
"""As in `warm_processes.py`."""
F_SETSIG = 10
"""Linux's, which Python 3.11 has no name for."""
LARGEST_CALL = 2**18
"""Bytes of a call: arguments and variables."""
MOST_FILES = 5
"""The standard three, and a grading process's connection and stack."""
READ_AT_START = ("LD_", "GLIBC_", "OMP_", "GOMP_", "KMP_", "MKL_", "VLLM_", "PYTORCH_", "TORCH", "TOKENIZERS_", "HF_")
"""Beginnings of variables that count when a program starts or a library loads."""
OF_GPUS = {
    "LD_LIBRARY_PATH", "PYTORCH_ALLOC_CONF", "PYTORCH_NVML_BASED_CUDA_CHECK", "TORCHINDUCTOR_COMPILE_THREADS",
}  # fmt: skip
"""Variables that change nothing here. Some come from vLLM, in whose process a test has loaded it."""
READ_BY_RAY = {
    "RAY_AUTH_MODE",
    "RAY_gcs_rpc_server_reconnect_timeout_s",
    "RAY_enable_pipe_based_agent_to_parent_health_check",
}
"""Variables that Ray reads when it loads."""
OF_RAY = (
    "ray", "ray.dashboard.agent", "ray.dashboard.dashboard", "ray._private.runtime_env.agent.main",
    "ray._private.log_monitor", "ray.autoscaler._private.monitor",
    "ray.dashboard.modules.aggregator.aggregator_agent", "ray.dashboard.modules.job.job_agent",
    "ray.dashboard.modules.reporter.reporter_agent", "ray.dashboard.modules.log.log_agent",
    "ray.dashboard.modules.platform_events.platform_event_head",
)  # fmt: skip
OF_WORKERS = (
    "torch", "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama", "accelerate", "numpy", "aiohttp", "attr", "google.protobuf.text_format",
    "jsonschema", "requests", "uvloop", "rl.learner.policy_host", "rl.types", "rollout.torch.engine",
    "rewards.grading.pool",
)  # fmt: skip
"""Modules of workers and what Ray loads. Ray itself reads the variables of one worker, such as its job, when it loads."""
OF_GRADERS = ("rewards.grading.worker", "rewards.math_answer", "rewards.mathematics.compare.equivalence")
OF_COMMANDS = (
    "torch.utils.tensorboard", "matplotlib.figure", "matplotlib.backends.backend_agg", "sympy", "pydantic",
    "rich.console", "typer", "fastapi", "sqlalchemy.orm", "uvicorn", "math_verify",
)  # fmt: skip
OF_VLLM = (
    "vllm", "vllm.engine.arg_utils", "vllm.engine.llm_engine", "vllm.v1.engine.llm_engine", "vllm.v1.worker.cpu_worker",
    "vllm.renderers.hf", "vllm.distributed.elastic_ep.elastic_execute", "vllm.v1.attention.backends.cpu_attn",
    "vllm.model_executor.layers.quantization.online.base", "vllm.utils.cpu_triton_utils",
    "rollout.vllm.patches.cpu_experts", "rollout.vllm.patches.cpu_head", "rollout.vllm.patches.cpu_lora",
    "rollout.vllm.patches.cpu_ops", "rollout.vllm.patches.cpu_prompts", "rollout.vllm.patches.cpu_routing",
    "rollout.vllm.patches.cpu_sampler", "rollout.vllm.patches.unnamed_tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """Processes that load the same modules and read the same variables when they start."""

    name: Literal["worker", "setup", "agent", "command", "grader"]
    variables: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, script: str, environment: Mapping[str, str]) -> Self:
        """Return the kind of a script, or of a module that is run as one."""
        names = {"default_worker.py": "worker", "setup_worker.py": "setup", "-c": "grader"}
        is_command = Path(script).name == "rankone" or not (script.endswith(".py") or script == "-c")
        name = "command" if is_command else names.get(Path(script).name, "agent")
        return cls(name, tuple(sorted((key, text) for key, text in environment.items() if _counts(key, name))))

    def start(self) -> socket.socket:
        """Start a process that will be warm. It says so when it is."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own = {key: text for key, text in os.environ.items() if not _counts(key, "agent")}
        arguments = [sys.executable, __file__, str(theirs.fileno()), self.name]
        environment = own | dict(self.variables)
        subprocess.Popen(arguments, stdin=subprocess.DEVNULL, env=environment, pass_fds=[theirs.fileno()])
        theirs.close()
        return ours

    def load(self) -> None:
        """Load what these processes need."""
        if self.name in ("agent", "setup"):
            _load(OF_RAY)
            return
        if self.name == "grader":
            _load(OF_GRADERS)
            sys.modules["rewards.mathematics.compare.equivalence"].equivalent("x^2 - 1", "(x - 1)(x + 1)")
            return
        sys.modules["ray"] = None  # vLLM does without it where it is not there
        vllm = self.name == "worker" and "VLLM_ENABLE_V1_MULTIPROCESSING" in os.environ
        _load(OF_WORKERS + OF_VLLM * vllm + OF_COMMANDS * (self.name == "command"))
        del sys.modules["ray"]


def _counts(key: str, name: str) -> bool:
    honoured = name == "command" and key == "OMP_NUM_THREADS"  # by the copy
    if honoured or key in OF_GPUS or name == "grader":
        return False
    return (key.startswith(READ_AT_START) and name != "setup") or (key in READ_BY_RAY and name == "agent")


def _load(names: Sequence[str]) -> None:
    for name in names:
        importlib.import_module(name)


def serve(listener: socket.socket) -> None:
    """Pass each call on to the warm process of its kind. The first of a kind starts it, and is refused, as all are until
    it is warm: the caller then starts as it would have without us."""
    warm: dict[Kind, socket.socket] = {}
    ready: set[Kind] = set()
    while select.select([listener, 0], [], [])[0] == [listener]:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            asked, files, _, _ = socket.recv_fds(connection, LARGEST_CALL, MOST_FILES)
            call = json.loads(asked)
            kind = Kind.of(call["arguments"][0], call["environment"])
            if kind not in warm:
                warm[kind] = kind.start()
            if kind not in ready and select.select([warm[kind]], [], [], 0)[0]:
                ready.add(kind)
            if kind in ready:
                socket.send_fds(warm[kind], [asked], [connection.fileno(), *files])
            else:
                connection.send(b"0")
            for file in files:
                os.close(file)


def be_warm(calls: socket.socket, kind: Kind) -> None:
    """Load everything, say so, and answer calls with copies until there are no more callers."""
    kind.load()
    gc.collect()
    gc.freeze()  # copies neither look through what was loaded nor write to its pages
    with contextlib.suppress(BrokenPipeError):  # nobody waits any more
        calls.send(b"ready")
    ends, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writing)
    callers: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([calls, ends], [], [])
        if ends in ready:
            os.read(ends, 4096)
            _tell_ends(callers)
        if calls in ready:
            try:
                asked, files, _, _ = socket.recv_fds(calls, LARGEST_CALL, 1 + MOST_FILES)
            except ConnectionResetError:  # it ended with calls unanswered
                return
            if not asked:
                return
            caller = socket.socket(fileno=files[0])
            own = (calls.fileno(), ends, writing, *(other.fileno() for other in callers.values()))
            copy = _fork(json.loads(asked), caller, files[1:], own)
            callers[copy] = caller
            with contextlib.suppress(OSError):
                caller.send(str(copy).encode())


def _fork(asked: dict[str, Any], caller: socket.socket, files: list[int], own: Sequence[int]) -> int:
    """Return the copy's process id; it has no use for the files in `own`."""
    copy = os.fork()
    if copy == 0:
        for file in own:
            os.close(file)
        _be_copy(asked, caller, files)
    for file in files:
        os.close(file)
    return copy


def _tell_ends(callers: dict[int, socket.socket]) -> None:
    """Tell the callers of copies that have ended how they ended."""
    while True:
        try:
            pid, ended = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        with callers.pop(pid) as caller, contextlib.suppress(OSError):
            caller.send(str(os.waitstatus_to_exitcode(ended)).encode())


def _be_copy(asked: dict[str, Any], caller: socket.socket, files: list[int]) -> None:
    """Run the caller's script in this copy, and end, whatever happens."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        # The kernel kills this copy when its caller is gone, which is when the other end of their socket is closed.
        stand_in, _, _ = struct.unpack("3i", caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        fcntl.fcntl(caller, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(caller, F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(caller, fcntl.F_SETFL, fcntl.fcntl(caller, fcntl.F_GETFL) | os.O_ASYNC)
        if select.select([caller], [], [], 0)[0]:  # it is gone already
            return
        os.set_inheritable(caller.detach(), True)  # also of the program that this one may become
        for number, file in enumerate(files[:3]):
            os.dup2(file, number)
            os.close(file)
        os.environ.clear()
        os.environ.update(asked["environment"])
        if VARIABLE in os.environ:
            about = {"stand_in": stand_in, "environment": asked["environment"], "arguments": asked["arguments"]}
            Path(os.environ[VARIABLE]).with_name(str(os.getpid())).write_text(json.dumps(about))
        os.chdir(asked["directory"])
        status = _run(_with_files(asked["arguments"], files[3:]))
        threading._shutdown()  # as at the end of every program: threads are waited for, and what is registered is called
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _with_files(arguments: list[str], files: Sequence[int]) -> list[str]:
    """Return them with the numbers of a grading process's files as they are here."""
    if not files:
        return arguments
    connection, stack = files
    os.getppid = lambda: int(arguments[5])  # it ends with the one for which it stands in
    return [*arguments[:4], str(connection), arguments[5], str(stack)]


def _run(arguments: list[str]) -> int:
    """Run the script as the interpreter itself would."""
    import random

    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules and (threads := os.environ.get("OMP_NUM_THREADS")):
        sys.modules["torch"].set_num_threads(int(threads))
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(line_buffering=True, write_through=True)
    if "RAY_RAYLET_PID" in os.environ:  # Ray's agents end when their parent is no longer their raylet
        import psutil

        psutil.Process.parent = _parent
    if arguments[0] == "-c":
        return _run_program(arguments)
    is_module = not arguments[0].endswith(".py") and "/" not in arguments[0]
    script = Path(arguments[0])
    sys.argv = arguments
    added = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    first = str(Path.cwd()) if is_module else str(script.parent)
    sys.path[:] = [first, *added, *(path for path in sys.path[1:] if path not in added)]
    main = types.ModuleType("__main__")
    main.__file__ = arguments[0]
    sys.modules["__main__"] = main
    return _status(lambda: _execute(arguments, main, is_module=is_module))


def _run_program(arguments: list[str]) -> int:
    """Run the text of a program; warnings are set by a variable that only a new interpreter reads."""
    import warnings

    if os.environ.get("PYTHONWARNINGS") == "ignore":
        warnings.simplefilter("ignore")
    sys.argv = ["-c", *arguments[2:]]
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    return _status(lambda: exec(arguments[1], main.__dict__))


def _execute(arguments: list[str], main: types.ModuleType, *, is_module: bool) -> None:
    if is_module:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        exec(compile(Path(arguments[0]).read_bytes(), arguments[0], "exec"), main.__dict__)


def _status(run: Callable[[], object]) -> int:
    """Return the exit status of a program."""
    try:
        run()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _parent(process) -> object:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(int(os.environ["RAY_RAYLET_PID"]) if process.pid == os.getpid() else process.ppid())
    return None


if __name__ == "__main__":
    ends = socket.socket(fileno=int(sys.argv[1]))
    if len(sys.argv) > 2:
        be_warm(ends, Kind(sys.argv[2], ()))
    else:
        serve(ends)
