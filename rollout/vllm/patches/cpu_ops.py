"""Operators that vLLM's CPU build has and does not use.

vLLM leaves SwiGLU and RMSNorm on a CPU to torch.compile, which fuses them. Without it, as here, each is a row of small
products, casts and copies. Their fused kernels are in the build all the same; they plug in where vLLM takes the
operators of other platforms (`CustomOp.register_oot`).
"""

import torch
from torch import Tensor
from vllm.model_executor.custom_op import op_registry_oot
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.layernorm import RMSNorm


def install() -> None:
    """Make models that are built in this process from now on use the fused kernels."""
    for plain, fused in ((SiluAndMul, FusedSiluAndMul), (RMSNorm, FusedRMSNorm)):
        if plain.__name__ not in op_registry_oot:
            plain.register_oot(name=plain.__name__)(fused)


class FusedSiluAndMul(SiluAndMul):
    """silu(x[:d]) * x[d:] in one pass."""

    def forward_cpu(self, x: Tensor) -> Tensor:
        if not x.is_contiguous():  # the kernel takes rows as they lie in memory
            return self.forward_native(x)
        out = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
        torch.ops._C.silu_and_mul(out, x)
        return out


class FusedRMSNorm(RMSNorm):
    """w * x / sqrt(E[x^2] + eps) in one pass, and with a residual r of both x + r and its norm."""

    def forward_cpu(self, x: Tensor, residual: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        # The kernel has one type for input and weight, and one size for the mean of squares and the norm.
        plain = not self.has_weight or self.variance_size_override is not None or self.weight.dtype != x.dtype
        if plain or not x.is_contiguous() or not (residual is None or residual.is_contiguous()):
            return self.forward_native(x, residual)
        if residual is not None:
            # In place, both: x becomes the norm, and residual the sum x + r.
            torch.ops._C.fused_add_rms_norm(x, residual, self.weight.data, self.variance_epsilon)
            return x, residual
        out = torch.empty_like(x)
        torch.ops._C.rms_norm(out, x, self.weight.data, self.variance_epsilon)
        return out
