"""A base model in parts: each learner keeps a share of every block's weights and fetches the others' for as long as the
block computes. Embeddings, last norm and output layer stay whole, and so do adapters, which are small.
"""

from typing import Any

import torch
from torch import nn

from lora.base.architecture import language_model


def shard_blocks(model: nn.Module, device: str) -> None:
    """Replace the blocks' weights, which may be on the CPU, by this process's share of them on the device."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    distributed: Any = torch.distributed
    mesh = init_device_mesh(device.partition(":")[0], (distributed.get_world_size(),))
    decoder = language_model(model)
    model.requires_grad_(False)
    blocks = [block for child in decoder.children() if isinstance(child, nn.ModuleList) for block in child]
    for block in blocks:
        fully_shard(block, mesh=mesh)
    whole = set(decoder.parameters()) - {parameter for block in blocks for parameter in block.parameters()}
    fully_shard(decoder, mesh=mesh, ignored_params=whole)
