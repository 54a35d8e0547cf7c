"""Forward and backward passes on the wire: a request's data, and what is answered."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from google.protobuf.message import DecodeError
from torch import Tensor

from rl.algorithm.batch.datum import Datum
from rl.wire import tinker_pb2 as pb
from rl.wire.tensors import dense, from_proto

MOST_DATUMS = 65_536
MOST_CELLS = 2**25
"""Most numbers of one request, after sparse tensors are filled: a few bytes could else stand for all memory."""
MODEL_ID, SEQ_ID = 0x0A, re.compile(rb"\x10[\x80-\xff]{0,9}[\x00-\x7f]")
"""The first two fields of a request, in the order in which protobuf writes them: a text's tag, and a whole number."""
PER_TOKEN_BOUNDS = ("clip_low_threshold", "clip_high_threshold")


def read_request(body: bytes) -> pb.ForwardBackwardRequest:
    """Read a request. Raises ValueError if it is no such message."""
    message = pb.ForwardBackwardRequest()
    try:
        message.ParseFromString(body)
    except (DecodeError, RecursionError):
        raise ValueError("the body is no ForwardBackwardRequest in protobuf: use tinker 0.25 or newer") from None
    return message


def read_place(beginning: bytes) -> pb.ForwardBackwardRequest | None:
    """Return the model and the number of a request of which only the first bytes are there; None if they do not say."""
    if len(beginning) < 2 or beginning[0] != MODEL_ID or beginning[1] > 127:
        return None
    number = SEQ_ID.match(beginning, 2 + beginning[1])
    return None if number is None else read_request(beginning[: number.end()])


def loss_config(message: pb.ForwardBackwardRequest) -> dict[str, float | str]:
    """Return the settings of a request's loss, of whichever of the two maps the SDK filled."""
    newer = {
        key: value.text if value.HasField("text") else value.number for key, value in message.loss_fn_config_v2.items()
    }
    return newer or dict(message.loss_fn_config)


def read_datums(message: pb.ForwardBackwardRequest, max_length: int) -> list[Datum]:
    """Return a request's data as its loss takes them.

    Raises:
        ValueError: something is missing, has another length than its input, is too long, or is no text.
    """
    if not message.data:
        raise ValueError("the request has no data: send at least one Datum")
    if len(message.data) > MOST_DATUMS:
        raise ValueError(f"the request has {len(message.data)} datums: send at most {MOST_DATUMS} at a time")
    _check_sizes(message.data, max_length)
    return [_datum(datum, message.loss_fn, f"data[{i}]") for i, datum in enumerate(message.data)]


def read_tokens(chunks: Sequence[pb.Chunk], name: str) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Return the tokens of an input's chunks. Raises ValueError for one that is no text."""
    for chunk in chunks:
        if not chunk.HasField("encoded_text"):
            kind = chunk.WhichOneof("chunk") or "unknown"
            raise ValueError(f"{name} has a chunk of kind {kind}; this server reads encoded_text only")
        if len(chunk.encoded_text.tokens) % 4:
            raise ValueError(f"{name} has a chunk whose bytes are no whole number of int32 tokens")
    return np.frombuffer(b"".join(chunk.encoded_text.tokens for chunk in chunks), np.int32)


def write_output(logprobs: Sequence[Tensor], metrics: Mapping[str, float]) -> bytes:
    """Write the answer: each datum's logprobs, in the shape of its targets, and sums over the request."""
    output = pb.ForwardBackwardOutput(loss_fn_output_type="TorchLossReturn", metrics=dict(metrics))
    for values in logprobs:
        data = values.detach().to(torch.float32).contiguous().numpy()
        offsets = np.array([0, data.nbytes], np.int64)
        field = pb.BatchedTensor(
            data=data.tobytes(), offsets=offsets.tobytes(), dtype=pb.DTYPE_FLOAT32, trailing_shape=data.shape[1:]
        )
        record = pb.ArrayRecord(type_tag="TorchLossReturn", num_datums=1)
        record.fields["logprobs"].CopyFrom(field)
        output.loss_fn_outputs.append(record)
    return output.SerializeToString()


def _check_sizes(data: Sequence[pb.Datum], max_length: int) -> None:
    cells = 0
    for index, datum in enumerate(data):
        length = sum(len(chunk.encoded_text.tokens) for chunk in datum.model_input) // 4
        if length > max_length:
            raise ValueError(f"data[{index}]: model_input must have 1 to {max_length} tokens, and has {length}")
        sparse = (tensor for tensor in datum.loss_fn_inputs.values() if tensor.HasField("sparse_csr"))
        cells += sum(abs(math.prod(tensor.shape)) for tensor in sparse)
    if cells > MOST_CELLS:
        raise ValueError(
            f"the request's sparse tensors have {cells} cells together: send at most {MOST_CELLS} at a time"
        )


def _datum(message: pb.Datum, loss: str, name: str) -> Datum:
    tokens = torch.from_numpy(read_tokens(message.model_input, f"{name}.model_input").astype(np.int64))
    inputs = dict(message.loss_fn_inputs.items())
    if not len(tokens):
        raise ValueError(f"{name}.model_input has no tokens")
    for key in PER_TOKEN_BOUNDS:
        if key in inputs:
            raise ValueError(f"{name}.loss_fn_inputs has {key}: send it in loss_fn_config, for all tokens alike")

    def take(key: str) -> Tensor:
        if key not in inputs:
            raise ValueError(f"{name}.loss_fn_inputs has no {key!r}, which loss {loss!r} needs")
        return dense(from_proto(inputs[key], f"{name}.{key}"), f"{name}.{key}", rows=len(tokens))

    targets = _whole_numbers(take("target_tokens"), f"{name}.target_tokens")
    if loss == "cross_entropy":
        weights = take("weights").float() if "weights" in inputs else torch.ones(targets.shape)
        return Datum(tokens, targets, _like(weights, targets, f"{name}.weights"), torch.zeros(targets.shape))
    weights = _like(take("advantages").float(), targets, f"{name}.advantages")
    rollout = _like(take("logprobs").float(), targets, f"{name}.logprobs")
    mask = take("sequence_ratio_mask") != 0 if loss == "gspo" else None
    return Datum(tokens, targets, weights, rollout, mask)


def _whole_numbers(values: Tensor, name: str) -> Tensor:
    if values.is_floating_point():
        raise ValueError(f"{name} holds float32: send token ids as int64")
    return values.long()


def _like(values: Tensor, targets: Tensor, name: str) -> Tensor:
    if values.shape != targets.shape:
        raise ValueError(
            f"{name} has shape {list(values.shape)}, and target_tokens {list(targets.shape)}: send one each"
        )
    if not torch.isfinite(values).all():
        raise ValueError(f"{name} holds a number that is infinite or NaN")
    return values


def write_request(
    model_id: str, seq_id: int, data: Sequence[Mapping[str, Tensor]], loss: str, config: Mapping[str, float], *,
    forward_only: bool = False,
) -> bytes:  # fmt: skip
    """Write a request. Each datum has `token_ids`, and the inputs of its loss by the protocol's names."""
    message = pb.ForwardBackwardRequest(model_id=model_id, seq_id=seq_id, loss_fn=loss, forward_only=forward_only)
    for key, value in config.items():
        message.loss_fn_config_v2[key].number = value
    for inputs in data:
        datum = message.data.add()
        datum.model_input.add().encoded_text.tokens = inputs["token_ids"].to(torch.int32).numpy().tobytes()
        for key in inputs.keys() - {"token_ids"}:
            datum.loss_fn_inputs[key].CopyFrom(_tensor(inputs[key]))
    return message.SerializeToString()


def _tensor(values: Tensor) -> pb.Tensor:
    dtype = torch.float32 if values.is_floating_point() else torch.int64
    kind = pb.DTYPE_FLOAT32 if values.is_floating_point() else pb.DTYPE_INT64
    return pb.Tensor(dense=values.to(dtype).contiguous().numpy().tobytes(), dtype=kind, shape=list(values.shape))
