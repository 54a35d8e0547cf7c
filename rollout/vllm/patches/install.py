"""Put our parts in the place of vLLM's own, before an engine starts in this process."""


def install_patches(*, on_cpu: bool, fuse_adapters: bool) -> None:
    """Install those for every device, those of the CPU build if vLLM is that, and those that a setting asks for."""
    # Each module imports parts of vLLM that the others' platform may lack.
    from rollout.vllm.patches import unnamed_tokens

    unnamed_tokens.install()
    if on_cpu:
        from rollout.vllm.patches import cpu_experts, cpu_head, cpu_lora, cpu_ops, cpu_prompts, cpu_routing, cpu_sampler

        for module in (cpu_lora, cpu_ops, cpu_prompts, cpu_routing, cpu_sampler, cpu_experts, cpu_head):
            module.install()
    if fuse_adapters:
        from rollout.vllm.patches import fused_lora

        fused_lora.install()
