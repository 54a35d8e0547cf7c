"""An adapter's products in a decoding step of the 8B shape, vLLM's and ours: ``python -m bench.gpu.adapter``.

One layer's linear layers with rank-1 adapters in bfloat16, the base's product alone and with either, as CUDA graphs.
Errors are relative to the same in float64.
"""

import argparse
import json
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from bench.gpu import card
from rollout.vllm.patches.fused_lora import MULTIPLE, add
from rollout.vllm.patches.joined_lora import join, padded

LAYERS = {
    "qkv": (4096, (4096, 1024, 1024)),
    "o": (4096, (4096,)),
    "gate_up": (4096, (12_288, 12_288)),
    "down": (12_288, (4096,)),
}
SLOTS, RANK = 2, 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[256, 16])
    arguments = parser.parse_args()
    print(json.dumps({"ready": True}), flush=True)
    for rows in arguments.rows:
        for name, (d_in, outs) in LAYERS.items():
            with card.turn(), torch.inference_mode():
                print(
                    json.dumps({"layer": name, "rows": rows, "card": card.name()} | measure(rows, d_in, outs)),
                    flush=True,
                )


def measure(rows: int, d_in: int, outs: tuple[int, ...]) -> dict[str, float]:
    """Return the microseconds of the base, with vLLM's kernels and with ours, and both errors."""
    draw = torch.Generator(card.device()).manual_seed(0)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=draw, device=card.device(), dtype=torch.bfloat16) * scale

    x, weight = normal(rows, d_in), normal(sum(outs), d_in, scale=d_in**-0.5)
    a_stacked = tuple(normal(SLOTS, 1, RANK, d_in, scale=d_in**-0.5) for _ in outs)
    b_stacked = tuple(normal(SLOTS, 1, out, RANK) for out in outs)
    adapters = torch.arange(rows, device=card.device()) % (SLOTS + 1) - 1  # one in three has none
    expected = reference(x, weight, a_stacked, b_stacked, adapters)
    timed = {"base": graphed(lambda: linear(x, weight))[0]}
    errors: dict[str, float] = {}
    for name, prepare in {"vllm": vllm, "ours": ours}.items():
        timed[name], result = graphed(prepare(x, weight, a_stacked, b_stacked, adapters))
        errors[name] = ((result.double() - expected).norm() / expected.norm()).item()
    return {f"{k}_us": v for k, v in timed.items()} | {f"{k}_error": v for k, v in errors.items()}


def ours(x: Tensor, weight: Tensor, a_stacked: Any, b_stacked: Any, adapters: Tensor) -> Callable[[], Tensor]:
    """Return our step, compiled."""
    a_own, b_own = (tuple(each.clone() for each in stacked) for stacked in (a_stacked, b_stacked))
    A, B = join(a_own, b_own, multiple=MULTIPLE)
    rows, columns = padded(A, MULTIPLE), B.flatten(0, 1)
    slots = torch.arange(SLOTS, device=A.device).repeat_interleave(A.shape[1])
    compiled = torch.compile(lambda x: add(linear(x, weight), x, rows, columns, adapters, slots))
    return lambda: compiled(x)


def vllm(x: Tensor, weight: Tensor, a_stacked: Any, b_stacked: Any, adapters: Tensor) -> Callable[[], Tensor]:
    """Return vLLM's step."""
    from vllm.lora.ops.triton_ops import LoRAKernelMeta, lora_expand, lora_shrink

    meta = LoRAKernelMeta.make(SLOTS, 8192, device=x.device, captured_lora_counts=[SLOTS + 1])
    meta.prepare_tensors(adapters)
    arguments = meta.meta_args(len(x), False)

    def step() -> Tensor:
        y = linear(x, weight)
        buffer = torch.empty((len(a_stacked), len(x), RANK), dtype=torch.float32, device=x.device)
        lora_shrink(x, a_stacked, buffer, *arguments, 1.0)
        lora_expand(buffer, b_stacked, y, *arguments, offset_start=0, add_inputs=True)
        return y

    return step


def reference(x: Tensor, weight: Tensor, a_stacked: Any, b_stacked: Any, adapters: Tensor) -> Tensor:
    """Return the same in float64, adapter by adapter and slice by slice."""
    y = x.double() @ weight.double().T
    for slot in range(SLOTS):
        deltas = [
            x.double() @ a[slot, 0].double().T @ b[slot, 0].double().T
            for a, b in zip(a_stacked, b_stacked, strict=True)
        ]
        y += torch.cat(deltas, dim=1) * (adapters == slot)[:, None]
    return y


def graphed(step: Callable[[], Tensor], repeats: int = 20) -> tuple[float, Tensor]:
    """Return the median microseconds of a step in a CUDA graph of `repeats` of them, and its result."""
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            result = step()
    graph.replay()
    seconds: list[float] = []
    for _ in range(10):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        seconds.append(start.elapsed_time(end))
    return median(seconds) * 1e3 / repeats, result


if __name__ == "__main__":
    main()
