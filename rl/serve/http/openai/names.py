"""The policy that a model's name means: `base`, `RUN@latest`, `RUN@12`, or a path of saved weights."""

from lora.types import Adapter
from rl.serve.errors import Rejected
from rl.serve.service import Service
from rl.wire.bodies import ModelInput, Sample, SamplingParams
from rl.wire.tinker_path import SCHEME

BASE = "base"


async def find_adapter(service: Service, user: str, name: str | None) -> Adapter:
    """Return the adapter of that name. Raises Rejected if there is none."""
    if name is None or name == BASE or name in service.facts.names:
        return await service.samplers.adapter(user, _request(base_model=service.facts.name))
    if name.startswith(SCHEME):
        try:
            return await service.samplers.adapter(user, _request(model_path=name))
        except ValueError as error:
            raise Rejected(404, str(error)) from None
    run, at, version = name.rpartition("@")
    if not at:
        raise Rejected(
            404, f"there is no model {name[:200]!r}: ask for {BASE!r}, RUN@latest, RUN@12 or a {SCHEME} path"
        )
    if version == "latest":
        model = await service.models.get(user, run)
        return await service.trainer.publish(model.policy)
    source = service.samplers.snapshot(user, run, version)
    if source is None:
        raise Rejected(404, f"version {version!r} of {run} was not saved for sampling, or its session ended")
    return await service.samplers.read(source)


def _request(*, base_model: str | None = None, model_path: str | None = None) -> Sample:
    nothing = ModelInput(chunks=())
    return Sample(prompt=nothing, sampling_params=SamplingParams(), base_model=base_model, model_path=model_path)
