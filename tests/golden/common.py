"""What the makers of golden files share: safetensors files and random numbers."""

import hashlib
import json
import struct
import zlib

import numpy as np
import torch


# ---- files ----

DTYPES = {np.dtype("int64"): "I64", np.dtype("float32"): "F32"}


def to_numpy(value):
    """F32 for everything real, I64 for everything whole."""
    array = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    kind = np.int64 if array.dtype.kind in "iu" else np.float32
    return np.ascontiguousarray(array.astype(kind))


def save(root, name, tensors, metadata):
    """Writes one safetensors file. By hand, since the library's order of metadata is not fixed."""
    arrays = {key: to_numpy(value) for key, value in tensors.items()}
    header = {"__metadata__": {key: str(metadata[key]) for key in sorted(metadata)}}
    body = b""
    for key in sorted(arrays, key=lambda key: (-arrays[key].itemsize, key)):
        data = arrays[key].astype(arrays[key].dtype.newbyteorder("<")).tobytes()
        header[key] = {"dtype": DTYPES[arrays[key].dtype], "shape": list(arrays[key].shape),
                       "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path = root / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def load(path):
    from safetensors import safe_open
    with safe_open(path, framework="np") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---- random numbers ----

def generator(name):
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def normal(rng, *shape, scale=1.0):
    """Exact in F32, held in float64."""
    return torch.from_numpy((scale * rng.standard_normal(shape)).astype(np.float32).astype(np.float64))


def to_grid(tensor, steps):
    return torch.round(tensor.detach() * steps) / steps
