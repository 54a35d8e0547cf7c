"""vLLM's fused CPU kernels, as they are plugged in, against vLLM's own plain formulas."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import torch

if find_spec("vllm") is None:
    pytest.skip("needs vLLM", allow_module_level=True)
if torch.cuda.is_available():
    pytest.skip("these operators are for vLLM's CPU build", allow_module_level=True)


@pytest.fixture(autouse=True)
def cpu_ops() -> Iterator[Any]:
    """Return the module inside a configuration of vLLM, which takes ten seconds to load and whose collecting need not."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.platforms import current_platform

    from rollout.vllm.patches import cpu_ops

    current_platform.import_kernels()
    with set_current_vllm_config(VllmConfig()):
        yield cpu_ops


def close(seen: torch.Tensor, expected: torch.Tensor) -> None:
    """Two bf16 roundings apart at most: the fused kernel rounds once where the plain formula rounds twice."""
    torch.testing.assert_close(seen.float(), expected.float(), rtol=2**-6, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_swiglu(cpu_ops: Any, dtype: torch.dtype) -> None:
    operator = cpu_ops.FusedSiluAndMul(compile_native=False)
    x = torch.randn(7, 64).to(dtype)
    close(operator.forward_cpu(x), operator.forward_native(x))
    wide = torch.randn(7, 128).to(dtype)
    close(operator.forward_cpu(wide[:, :64]), operator.forward_native(wide[:, :64]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_rms_norm(cpu_ops: Any, dtype: torch.dtype) -> None:
    norm = cpu_ops.FusedRMSNorm(48, eps=1e-5, dtype=dtype)
    norm.weight.data.copy_(torch.randn(48))
    x, residual = torch.randn(7, 48).to(dtype), torch.randn(7, 48).to(dtype)
    with torch.no_grad():
        close(norm.forward_cpu(x), norm.forward_native(x.clone()))
        expected = norm.forward_native(x.clone(), residual.clone())
        seen = norm.forward_cpu(x.clone(), residual.clone())
    for one, other in zip(seen, expected, strict=True):
        close(one, other)


def test_models_get_the_fused_operators(cpu_ops: Any) -> None:
    from vllm.model_executor.layers.activation import SiluAndMul
    from vllm.model_executor.layers.layernorm import RMSNorm

    cpu_ops.install()
    cpu_ops.install()
    assert type(SiluAndMul()) is cpu_ops.FusedSiluAndMul
    assert type(RMSNorm(8)) is cpu_ops.FusedRMSNorm
