#!/usr/bin/env python3
"""Golden input gradients of the published CIFAR-10 nets (shared/models), by PyTorch.

    published.py MODELS CIFAR10    writes published/*.safetensors: MODELS has the nets' safetensors,
                                   CIFAR10 test_batch.bin

Of the first IMAGES test images: labels, logits, losses (cross-entropy) and their gradients by the
input, a pixel in [0, 1] for cifar10-resnet20, a normalised one for cifar10-resnet-2b. Computed in
float64, rounded to F32 once. Weights and images are not kept here: the test reads them.
"""

import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

from common import load, save

HERE = pathlib.Path(__file__).resolve().parent
IMAGES = 4
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]


def read_images(folder):
    records = np.fromfile(pathlib.Path(folder) / "test_batch.bin", np.uint8).reshape(-1, 3073)
    pixels = records[:IMAGES, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / np.float32(255)
    return torch.from_numpy(pixels.astype(np.float64)), torch.from_numpy(records[:IMAGES, 0].astype(np.int64))


def norm(x, w, name):
    return F.batch_norm(x, w[f"{name}.running_mean"], w[f"{name}.running_var"], w[f"{name}.weight"],
                        w[f"{name}.bias"], eps=1e-5)


def resnet20(x, w):
    x = (x - w["mean"]) / w["std"]
    x = F.relu(norm(F.conv2d(x, w["net.conv1.weight"], padding=1), w, "net.bn1"))
    for stage in (1, 2, 3):
        for i in range(3):
            block = f"net.layer{stage}.{i}"
            stride = 2 if stage > 1 and i == 0 else 1
            y = F.conv2d(x, w[f"{block}.conv1.weight"], stride=stride, padding=1)
            y = F.relu(norm(y, w, f"{block}.bn1"))
            y = norm(F.conv2d(y, w[f"{block}.conv2.weight"], padding=1), w, f"{block}.bn2")
            if stride == 2:
                pad = x.shape[1] // 2
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, pad, pad))
            x = F.relu(y + x)
    return F.linear(x.mean((2, 3)), w["net.linear.weight"], w["net.linear.bias"])


def resnet_2b(x, w):
    def conv(x, name, stride=1):
        weight = w[f"{name}.weight"]
        return F.conv2d(x, weight, w[f"{name}.bias"], stride=stride, padding=weight.shape[2] // 2)

    x = F.relu(conv(x, "conv1", 2))
    x = F.relu(conv(F.relu(conv(x, "layer1.0.conv1", 2)), "layer1.0.conv2") +
               conv(x, "layer1.0.shortcut.0", 2))
    x = F.relu(conv(F.relu(conv(x, "layer1.1.conv1")), "layer1.1.conv2") + x)
    x = F.relu(F.linear(x.flatten(1), w["linear1.weight"], w["linear1.bias"]))
    return F.linear(x, w["linear2.weight"], w["linear2.bias"])


def make(models, name, net, x, labels):
    arrays, _ = load(pathlib.Path(models) / f"{name}.safetensors")
    weights = {key: torch.from_numpy(value.astype(np.float64)) for key, value in arrays.items()}
    reference = np.load(pathlib.Path(models) / f"{name}.logits100.npy")[:IMAGES]
    x = x.clone().requires_grad_(True)
    logits = net(x, weights)
    off = np.abs(logits.detach().numpy() - reference).max()
    assert off < 1e-4, f"{name}: logits are off by {off} from the published ones"
    losses = F.cross_entropy(logits, labels, reduction="none")
    losses.sum().backward()
    save(HERE, f"published/{name}", {"labels": labels, "logits": logits, "loss": losses, "dx": x.grad},
         {"net": name, "images": IMAGES})
    print(f"{name}: logits within {off:.1e} of the published ones")


def main():
    models, folder = sys.argv[1:3]
    x, labels = read_images(folder)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (MEAN, STD))
    # As float32 programs have them: what the test feeds is these very numbers.
    normalised = ((x.float() - mean.float()) / std.float()).double()
    make(models, "cifar10-resnet20", resnet20, x, labels)
    make(models, "cifar10-resnet-2b", resnet_2b, normalised, labels)


if __name__ == "__main__":
    main()
