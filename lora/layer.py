"""A frozen linear layer with a trainable low-rank addition: y = W x + (alpha / rank) B A x (Hu et al. 2021, eq. 3)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LoraLinear(nn.Module):
    """Wraps an `nn.Linear` in place. Master weights are float32 whatever the base is.

    A ~ U(-1/sqrt(d_in), 1/sqrt(d_in)) and B = 0, so a fresh adapter gives the base's outputs bit for bit.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = alpha / rank
        self.enabled = True
        device = base.weight.device
        bound = 1 / math.sqrt(base.in_features)
        lora_A = torch.empty(rank, base.in_features)
        if device.type != "meta":
            lora_A.uniform_(-bound, bound, generator=generator)  # drawn on the CPU: the same values on every device
        self.lora_A = nn.Parameter(lora_A.to(device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=device))

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        y = self.base(x)
        if not self.enabled:
            return y
        # The scale goes onto B before the cast, where vLLM puts it too: the sampler and the learner then round alike.
        A, B = self.lora_A.to(x.dtype), (self.scale * self.lora_B).to(x.dtype)
        return y + nn.functional.linear(nn.functional.linear(x, A), B)
