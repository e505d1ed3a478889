"""Values as data, between the judge and the process that a learner's code runs in.

A message is JSON with its length before it. Nothing is unpickled: what comes from a learner can hold numbers, text,
tensors and lists of these, and no code. (`torch.load` is not used either: before torch 2.6 even weights_only=True was
not safe.) Tensors with a gradient to come are sent beside the value they stand in, so that either side can put its own
in their place.
"""

import base64
import json
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

LARGEST = 256_000_000  # bytes of a message

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}


def send(stream: BinaryIO, message: dict[str, Any]) -> None:
    body = json.dumps(message).encode()
    stream.write(len(body).to_bytes(8, "big") + body)
    stream.flush()


def receive(stream: BinaryIO) -> dict[str, Any]:
    """The next message.

    Raises:
        EOFError: the other side is gone.
        ValueError: it sent what is no message.
    """
    size = int.from_bytes(_exactly(stream, 8), "big")
    if size > LARGEST:
        raise ValueError(f"a message of {size} bytes")
    message = json.loads(_exactly(stream, size))
    if not isinstance(message, dict):
        raise ValueError("no message")
    return message


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def pack(value: Any, live: list[Tensor] | None = None) -> Any:
    """A value as JSON. What cannot be said in data is named by its class; tensors that need a gradient go to `live`."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return int(value)
    if isinstance(value, float):
        return float(value)
    if value is ...:
        return {"ellipsis": True}
    if isinstance(value, Tensor):
        if live is not None and value.requires_grad:
            live.append(value)
            return {"live": len(live) - 1}
        return _pack_tensor(value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        plain = np.ascontiguousarray(value)
        facts = {"dtype": plain.dtype.str, "shape": list(value.shape), "scalar": isinstance(value, np.generic)}
        return {"array": _text(plain.tobytes()), **facts}
    if isinstance(value, tuple | list):
        return {"tuple" if isinstance(value, tuple) else "list": [pack(v, live) for v in value]}
    if isinstance(value, dict):
        return {"dict": [[pack(k, live), pack(v, live)] for k, v in value.items()]}
    if isinstance(value, torch.Generator):
        return {"generator": _pack_tensor(value.get_state())}
    return {"thing": type(value).__name__}


def unpack(data: Any, live: list[Tensor] | tuple[Tensor, ...] = ()) -> Any:
    """The value again, with the tensors of `live` where they stood.

    Raises:
        ValueError, TypeError, LookupError, ...: `data` was not made by `pack`.
    """
    if not isinstance(data, dict):
        if isinstance(data, list):
            raise ValueError("a bare list")
        return data
    match next(iter(data)):
        case "ellipsis":
            return ...
        case "live":
            return live[data["live"]]
        case "tensor":
            dtype, shape = DTYPES[data["dtype"]], data["shape"]
            if 0 in shape:
                return torch.zeros(shape, dtype=dtype)
            return torch.frombuffer(bytearray(base64.b64decode(data["tensor"])), dtype=dtype).reshape(shape)
        case "array":
            array = np.frombuffer(bytearray(base64.b64decode(data["array"])), _numeric(data["dtype"]))
            array = array.reshape(data["shape"])
            return array[()] if data["scalar"] else array
        case "tuple":
            return tuple(unpack(v, live) for v in data["tuple"])
        case "list":
            return [unpack(v, live) for v in data["list"]]
        case "dict":
            return {unpack(k, live): unpack(v, live) for k, v in data["dict"]}
        case "generator":
            return torch.Generator().set_state(unpack(data["generator"]))
        case "thing":
            return type(str(data["thing"]), (), {})()
    raise ValueError(f"no value: {str(data)[:80]}")


def _pack_tensor(x: Tensor) -> dict[str, Any]:
    name = str(x.dtype).removeprefix("torch.")
    if x.layout != torch.strided or x.device.type == "meta" or x.is_quantized or name not in DTYPES:
        return {"thing": f"Tensor_{str(x.layout).removeprefix('torch.')}_{x.device.type}_{name}"}
    flat = x.detach().cpu().resolve_conj().resolve_neg().contiguous().flatten()
    data = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return {"tensor": _text(data), "dtype": name, "shape": list(x.shape)}


def _numeric(text: str) -> np.dtype:
    dtype = np.dtype(text)
    if dtype.kind not in "biufc":
        raise ValueError(f"an array of {text}")
    return dtype


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
