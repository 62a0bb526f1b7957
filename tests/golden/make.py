#!/usr/bin/env python3
"""Makes the golden files of this folder with PyTorch.

    make.py            write every file and MANIFEST.json beside this script
    make.py --check    remake into a temporary folder and compare with the committed files

Every reference is computed in float64 from inputs that are exact in F32, then rounded to F32 once,
so it is better than what is tested against it. Fake quantization alone is computed in float32, which
is its definition. Random numbers come from numpy, seeded by the name of the case, so that a new
case leaves the others as they are.
"""

import argparse
import gzip
import json
import pathlib
import platform
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F

from common import generator, load, normal, save, sha256, to_grid
from norm import make_norm

HERE = pathlib.Path(__file__).resolve().parent
FASHION_MNIST = pathlib.Path("/usr/share/datasets/fashion-mnist")
FOLDERS = ("ops", "norm", "losses", "nets", "quant")

CHECK_RELATIVE = 1e-5  # of each value ...
CHECK_ABSOLUTE = 1e-6  # ... plus this part of the largest value of its tensor


# ---- operators ----

def save_op(root, name, op, attributes, rng, inputs, parameters, function):
    """Runs one operator forward and, from a random upstream gradient, backward."""
    leaves = {**inputs, **parameters}
    for leaf in leaves.values():
        leaf.requires_grad_(True)
    y = function()
    dy = normal(rng, *y.shape)
    y.backward(dy)
    tensors = {**leaves, "y": y, "dy": dy, **{f"d{key}": leaf.grad for key, leaf in leaves.items()}}
    save(root, f"ops/{name}", tensors, {"op": op, **attributes})


def make_conv2d(root, kernel, stride, padding, channels, outputs, size, n=3, bias=True,
                dilation=1, groups=1):
    height, width = size if isinstance(size, tuple) else (size, size)
    name = f"conv2d_k{kernel}s{stride}p{padding}_{channels}_{outputs}_{height}x{width}"
    name += ("" if n == 3 else f"_n{n}") + ("" if bias else "_nobias")
    name += ("" if dilation == 1 else f"_d{dilation}") + ("" if groups == 1 else f"_g{groups}")
    rng = generator(name)
    x = normal(rng, n, channels, height, width)
    fan_in = channels // groups * kernel * kernel
    parameters = {"weight": normal(rng, outputs, channels // groups, kernel, kernel,
                                   scale=fan_in ** -0.5)}
    if bias:
        parameters["bias"] = normal(rng, outputs)
    attributes = {"kernel": kernel, "stride": stride, "padding": padding, "bias": int(bias)}
    if dilation != 1:
        attributes["dilation"] = dilation
    if groups != 1:
        attributes["groups"] = groups
    save_op(root, name, "conv2d", attributes, rng, {"x": x}, parameters,
            lambda: F.conv2d(x, parameters["weight"], parameters.get("bias"), stride, padding,
                             dilation, groups))


def make_linear(root, inputs, outputs, n=3, bias=True):
    name = f"linear_{inputs}_{outputs}" + ("" if n == 3 else f"_n{n}") + ("" if bias else "_nobias")
    rng = generator(name)
    x = normal(rng, n, inputs)
    parameters = {"weight": normal(rng, outputs, inputs, scale=inputs ** -0.5)}
    if bias:
        parameters["bias"] = normal(rng, outputs)
    save_op(root, name, "linear", {"bias": int(bias)}, rng, {"x": x}, parameters,
            lambda: F.linear(x, parameters["weight"], parameters.get("bias")))


def make_simple(root, name, op, function, x, rng, **attributes):
    save_op(root, name, op, attributes, rng, {"x": x}, {}, lambda: function(x))


def make_max_pool(root, name, kernel, stride, padding, shape, draw):
    rng = generator(name)
    make_simple(root, name, "max_pool2d", lambda x: F.max_pool2d(x, kernel, stride, padding),
                draw(rng, shape), rng, kernel=kernel, stride=stride, padding=padding)


def make_avg_pool(root, name, kernel, stride, padding, shape):
    rng = generator(name)
    make_simple(root, name, "avg_pool2d",
                lambda x: F.avg_pool2d(x, kernel, stride, padding, count_include_pad=True),
                normal(rng, *shape), rng, kernel=kernel, stride=stride, padding=padding,
                count_include_pad=1)


def make_ops(root):
    for arguments in [  # kernel, stride, padding, input channels, output channels, size
            (3, 1, 1, 1, 5, 9), (3, 1, 1, 6, 7, 7), (3, 1, 1, 13, 27, 5), (3, 1, 1, 3, 4, (5, 9)),
            (3, 1, 1, 4, 4, 1), (3, 2, 1, 6, 4, 9), (3, 2, 1, 6, 4, 8), (3, 2, 1, 6, 4, 7),
            (4, 2, 1, 3, 8, 8), (1, 1, 0, 5, 9, 6), (1, 2, 0, 5, 6, 7), (1, 2, 0, 4, 8, 8),
            (5, 1, 2, 3, 6, 8), (3, 1, 0, 4, 5, 7), (3, 3, 1, 4, 5, 8), (2, 2, 0, 4, 6, 8)]:
        make_conv2d(root, *arguments)
    make_conv2d(root, 3, 1, 1, 6, 7, 7, n=17)
    make_conv2d(root, 3, 2, 1, 6, 4, 9, n=17)
    make_conv2d(root, 3, 1, 1, 4, 6, 6, bias=False)
    make_conv2d(root, 3, 1, 2, 4, 5, 7, dilation=2)
    make_conv2d(root, 3, 2, 4, 3, 4, (8, 9), bias=False, dilation=3)
    make_conv2d(root, 3, 1, 1, 6, 9, 6, groups=3)
    make_conv2d(root, 3, 2, 1, 8, 14, (7, 6), groups=2)
    make_conv2d(root, 1, 1, 0, 16, 8, 4, bias=False, groups=4)
    make_conv2d(root, 3, 1, 1, 7, 7, 8, groups=7)
    make_conv2d(root, 3, 2, 2, 5, 10, (7, 8), groups=5, dilation=2)
    make_conv2d(root, 5, 2, 2, 6, 6, 9, bias=False, groups=6)
    make_linear(root, 17, 11)
    make_linear(root, 64, 10)
    make_linear(root, 17, 11, n=17)
    make_linear(root, 17, 11, bias=False)

    rng = generator("relu")
    x = normal(rng, 3, 4, 5, 5)
    x.view(-1)[::7] = 0.0  # the gradient at zero is zero
    x.view(-1)[3::14] = -0.0
    make_simple(root, "relu", "relu", F.relu, x, rng)

    def any_sign(rng, shape):
        return normal(rng, *shape)

    def negative(rng, shape):  # padding taken as zero would win
        return -normal(rng, *shape).abs() - 0.125

    def with_ties(rng, shape):  # the first maximum of a window in row order takes the gradient
        return torch.from_numpy(rng.integers(-2, 2, shape) * 0.5)

    make_max_pool(root, "max_pool2d_k2s2p0", 2, 2, 0, (3, 4, 8, 8), any_sign)
    make_max_pool(root, "max_pool2d_k2s2p0_odd", 2, 2, 0, (3, 4, 7, 9), any_sign)
    make_max_pool(root, "max_pool2d_k3s2p1", 3, 2, 1, (3, 4, 9, 9), any_sign)
    make_max_pool(root, "max_pool2d_k3s2p1_negative", 3, 2, 1, (3, 4, 8, 8), negative)
    make_max_pool(root, "max_pool2d_k3s1p1", 3, 1, 1, (3, 4, 6, 6), any_sign)
    make_max_pool(root, "max_pool2d_k3s1p1_ties", 3, 1, 1, (3, 4, 6, 6), with_ties)
    make_avg_pool(root, "avg_pool2d_k2s2p0", 2, 2, 0, (3, 4, 8, 8))
    make_avg_pool(root, "avg_pool2d_k3s2p1", 3, 2, 1, (3, 4, 9, 9))
    make_avg_pool(root, "avg_pool2d_k3s2p1_even", 3, 2, 1, (3, 4, 8, 8))

    for name, n in (("global_avg_pool", 3), ("global_avg_pool_n17", 17)):
        rng = generator(name)
        make_simple(root, name, "global_avg_pool", lambda x: F.adaptive_avg_pool2d(x, 1),
                    normal(rng, n, 5, 7, 6), rng)
    rng = generator("flatten")
    make_simple(root, "flatten", "flatten", lambda x: torch.flatten(x, 1),
                normal(rng, 3, 4, 3, 5), rng)
    rng = generator("add")
    x0, x1 = normal(rng, 3, 4, 5, 5), normal(rng, 3, 4, 5, 5)
    save_op(root, "add", "add", {}, rng, {"x0": x0, "x1": x1}, {}, lambda: x0 + x1)


# ---- losses ----

def margin_loss(logits, labels):
    """max over i != y of z_i, less z_y. Of equal maxima the first index takes the gradient."""
    rows = torch.arange(len(labels))
    others = logits.detach().clone()
    others[rows, labels] = -torch.inf
    rival = torch.from_numpy(others.numpy().argmax(axis=1))  # numpy's argmax takes the first
    return logits[rows, rival] - logits[rows, labels]


def dlr_loss(logits, labels):
    """-(z_y - max over i != y of z_i) / (z_1 - z_3 + 1e-12), z sorted; below three classes over 1."""
    margin = margin_loss(logits, labels)
    if logits.shape[1] < 3:
        return margin
    order = torch.from_numpy(np.argsort(-logits.detach().numpy(), axis=1, kind="stable"))
    rows = torch.arange(len(labels))
    return margin / (logits[rows, order[:, 0]] - logits[rows, order[:, 2]] + 1e-12)


def loss_cases():
    """Prefix, logits [n, C] and labels [n]; F32 values in float64."""
    rng = generator("losses")
    for prefix, n, classes in (("c10", 17, 10), ("c2", 6, 2), ("c3", 3, 3), ("c100", 3, 100)):
        yield prefix, normal(rng, n, classes, scale=3.0), rng.integers(0, classes, n)
    confident = normal(rng, 10, 10)
    confident[torch.arange(10), torch.arange(10)] += 12.0  # even rows right, odd rows wrong
    yield "confident", confident, (np.arange(10) + np.arange(10) % 2) % 10
    huge = normal(rng, 10, 10, scale=1e4)
    huge[0], huge[1] = 1e4, -1e4  # all equal
    huge[2] = 1e4 - torch.arange(10)  # near the top, one apart
    huge[3] = torch.arange(10) - 1e4
    huge[4] = 0.0
    huge[4, 7] = 1e4
    huge[5] = -1e4
    huge[5, 0] = 1e4
    yield "huge", huge, np.array([0, 9, 0, 4, 7, 9, 6, 7, 8, 9])
    yield "huge2", torch.tensor([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4]]).double(), np.array([0, 0, 1])
    close = 5.0 + 2.0 ** -21 * rng.integers(-3, 4, (6, 10))  # units in the last place
    yield "close", torch.from_numpy(close), np.array([0, 9, 3, 4, 5, 6])
    tiny = torch.from_numpy((1e-6 * rng.standard_normal((4, 10))).astype(np.float32).astype(np.float64))
    yield "tiny", tiny, np.array([0, 3, 5, 9])
    ties = torch.from_numpy(rng.integers(-1, 2, (10, 10)) * 1.0)
    ties[0], ties[1] = 0.0, 0.0
    yield "ties", ties, np.array([0, 9, 2, 3, 4, 5, 6, 7, 8, 9])
    yield "ties2", torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]).double(), np.array([0, 1, 0])


def make_losses(root):
    functions = {"ce": lambda z, y: F.cross_entropy(z, y, reduction="none"), "margin": margin_loss,
                 "dlr": dlr_loss}
    for name, function in functions.items():
        tensors, prefixes = {}, []
        for prefix, logits, labels in loss_cases():
            labels = torch.from_numpy(np.asarray(labels, dtype=np.int64))
            logits.requires_grad_(True)
            loss = function(logits, labels)
            loss.sum().backward()  # so each row is the gradient of its own sample
            prefixes.append(prefix)
            tensors.update({f"{prefix}.logits": logits, f"{prefix}.labels": labels,
                            f"{prefix}.loss": loss, f"{prefix}.dlogits": logits.grad})
        save(root, f"losses/{name}", tensors, {"loss": name, "cases": " ".join(prefixes)})


# ---- nets: parameters are a dictionary of "<layer>.weight" and "<layer>.bias" ----

EPSILON, STEP, STEPS = 0.05, 0.005, 20
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, SGD_STEPS = 0.05, 0.9, 1e-4, 5


def conv(p, name, x, stride=1, padding=1):
    return F.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], stride, padding)


def linear(p, name, x):
    return F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])


def eight_layer_conv(p, x):
    x = (x - 0.5) / 0.5
    for i in range(1, 7):
        x = F.relu(conv(p, f"conv{i}", x, stride=1 + (i % 2 == 0)))
    return linear(p, "fc2", F.relu(linear(p, "fc1", torch.flatten(x, 1))))


def tiny(p, x):
    x = F.relu(conv(p, "conv1", x))
    x = F.relu(conv(p, "conv2", x, stride=2))
    return linear(p, "fc", torch.flatten(x, 1))


def residual(p, x):
    a = F.relu(conv(p, "conv1", x))
    b = F.relu(conv(p, "conv2", a) + a)
    c = F.relu(conv(p, "conv3", b, stride=2) + conv(p, "shortcut", b, stride=2, padding=0))
    return linear(p, "fc", c.mean(dim=(2, 3)))


def initial(rng, shapes):
    """He's normal weights, small biases."""
    parameters = {}
    for name, shape in shapes.items():
        fan_in = int(np.prod(shape[1:]))
        parameters[f"{name}.weight"] = normal(rng, *shape, scale=(2.0 / fan_in) ** 0.5)
        parameters[f"{name}.bias"] = normal(rng, shape[0], scale=0.05)
    return parameters


def gradients(net, parameters, x, labels):
    leaves = {key: value.detach().clone().requires_grad_(True) for key, value in parameters.items()}
    loss = F.cross_entropy(net(leaves, x), labels)
    loss.backward()
    return loss.item(), {key: leaf.grad for key, leaf in leaves.items()}


def sgd_step(parameters, momenta, gradient, rate, momentum, decay):
    """torch.optim.SGD: the first step's momentum is the gradient itself."""
    for key, value in parameters.items():
        momenta[key] = momentum * momenta.get(key, 0.0) + gradient[key] + decay * value
        parameters[key] = value - rate * momenta[key]


def train(net, parameters, rng, x, labels, steps, batch, rate):
    """On a grid of 2^-14 in the end, so that a remake elsewhere lands on the same weights."""
    parameters, momenta = dict(parameters), {}
    for _ in range(steps):
        rows = torch.from_numpy(rng.integers(0, len(x), batch))
        _, gradient = gradients(net, parameters, x[rows], labels[rows])
        sgd_step(parameters, momenta, gradient, rate, 0.9, 0.0)
    return {key: to_grid(value, 2.0 ** 14) for key, value in parameters.items()}


def pixel_gradient(net, parameters, x, labels):
    """Logits, loss per sample, and the gradient of the sum of the losses by the pixels."""
    x = x.detach().clone().requires_grad_(True)
    logits = net(parameters, x)
    loss = F.cross_entropy(logits, labels, reduction="none")
    loss.sum().backward()
    return logits.detach(), loss.detach(), x.grad


def fgsm(net, parameters, x, labels):
    _, _, gradient = pixel_gradient(net, parameters, x, labels)
    return (x + EPSILON * gradient.sign()).clamp(0.0, 1.0)


def pgd(net, parameters, x, labels):
    """Last images, losses before and after every step, last predictions. Starts at x."""
    image, losses = x, []
    for step in range(STEPS + 1):
        logits, loss, gradient = pixel_gradient(net, parameters, image, labels)
        losses.append(loss)
        if step < STEPS:
            image = image + STEP * gradient.sign()
            image = torch.minimum(torch.maximum(image, x - EPSILON), x + EPSILON).clamp(0.0, 1.0)
    return image, torch.stack(losses), logits.argmax(dim=1)


def clean_tensors(net, parameters, x, labels):
    logits, loss, dx = pixel_gradient(net, parameters, x, labels)
    _, gradient = gradients(net, parameters, x, labels)
    return {"x": x, "labels": labels, "logits": logits, "loss": loss, "dx": dx,
            **{f"param.{key}": value for key, value in parameters.items()},
            **{f"grad.{key}": value for key, value in gradient.items()}}


def attack_tensors(net, parameters, x, labels):
    image, losses, predictions = pgd(net, parameters, x, labels)
    return {"pgd.final": image, "pgd.loss": losses, "pgd.pred": predictions,
            "fgsm.final": fgsm(net, parameters, x, labels)}


def sgd_tensors(net, parameters, x, labels):
    """The loss before every step, and the parameters after the last, by torch.optim.SGD."""
    leaves = {key: value.detach().clone().requires_grad_(True) for key, value in parameters.items()}
    optimizer = torch.optim.SGD(leaves.values(), lr=LEARNING_RATE, momentum=MOMENTUM,
                                weight_decay=WEIGHT_DECAY)
    losses = []
    for _ in range(SGD_STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(leaves, x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {"sgd.loss": losses, **{f"sgd.{key}": leaf for key, leaf in leaves.items()}}


ATTRIBUTES = {"epsilon": EPSILON, "step": STEP, "steps": STEPS, "clip_low": 0, "clip_high": 1,
              "lr": LEARNING_RATE, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY,
              "sgd_steps": SGD_STEPS}


def save_net(root, name, net, parameters, x, labels, **attributes):
    save(root, f"nets/{name}", {**clean_tensors(net, parameters, x, labels),
                                **attack_tensors(net, parameters, x, labels),
                                **sgd_tensors(net, parameters, x, labels)},
         {"net": name, **attributes, **ATTRIBUTES})


def fashion_mnist(part, count):
    """The first images, as the F32 nearest to byte / 255, and their labels."""
    with gzip.open(FASHION_MNIST / f"{part}-images-idx3-ubyte.gz") as file:
        data = np.frombuffer(file.read(16 + 784 * count), np.uint8, offset=16)
    with gzip.open(FASHION_MNIST / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + count), np.uint8, offset=8).astype(np.int64)
    pixels = data.reshape(count, 1, 28, 28).astype(np.float32) / np.float32(255)
    return torch.from_numpy(pixels.astype(np.float64)), torch.from_numpy(labels)


def synthetic(rng, prototypes, count, noise):
    """Noisy prototypes, in [0,1] on a grid of 1/256."""
    labels = torch.from_numpy(rng.integers(0, len(prototypes), count))
    return to_grid((prototypes[labels] + normal(rng, count, *prototypes.shape[1:], scale=noise))
                   .clamp(0.0, 1.0), 256.0), labels


def make_eight_layer_conv(root):
    rng = generator("eight_layer_conv")
    widths = (1, 4, 4, 8, 8, 16, 16)
    shapes = {f"conv{i}": (widths[i], widths[i - 1], 3, 3) for i in range(1, 7)}
    shapes.update(fc1=(16, 256), fc2=(10, 16))
    x, labels = fashion_mnist("train", 10000)
    parameters = train(eight_layer_conv, initial(rng, shapes), rng, x, labels, 400, 64, 0.02)
    x, labels = fashion_mnist("t10k", 20)
    save_net(root, "eight_layer_conv", eight_layer_conv, parameters, x, labels, mean=0.5, std=0.5,
             layers="conv1 relu conv2/2 relu conv3 relu conv4/2 relu conv5 relu conv6/2 relu "
                    "flatten fc1 relu fc2")


TINY_CONTRAST, TINY_NOISE = 0.4, 0.2  # so that PGD fools some images and no loss vanishes


def make_tiny(root):
    rng = generator("tiny")
    prototypes = torch.from_numpy(0.5 + TINY_CONTRAST * (rng.random((10, 1, 8, 8)) - 0.5))
    shapes = {"conv1": (4, 1, 3, 3), "conv2": (6, 4, 3, 3), "fc": (10, 96)}
    x, labels = synthetic(rng, prototypes, 2000, TINY_NOISE)
    parameters = train(tiny, initial(rng, shapes), rng, x, labels, 300, 32, 0.02)
    x, labels = synthetic(rng, prototypes, 20, TINY_NOISE)
    save_net(root, "tiny", tiny, parameters, x, labels, mean=0, std=1,
             layers="conv1 relu conv2/2 relu flatten fc")


def make_residual(root):
    rng = generator("residual")
    shapes = {"conv1": (4, 2, 3, 3), "conv2": (4, 4, 3, 3), "conv3": (6, 4, 3, 3),
              "shortcut": (6, 4, 1, 1), "fc": (3, 6)}
    parameters = {key: to_grid(value, 2.0 ** 14) for key, value in initial(rng, shapes).items()}
    x = torch.from_numpy(rng.random((20, 2, 6, 6)).astype(np.float32).astype(np.float64))
    labels = torch.from_numpy(rng.integers(0, 3, 20))
    save(root, "nets/residual", clean_tensors(residual, parameters, x, labels),
         {"net": "residual", "mean": 0, "std": 1,
          "layers": "a=relu(conv1(x)) b=relu(conv2(a)+a) c=relu(conv3/2(b)+shortcut/2(b)) "
                    "global_avg_pool fc"})


def make_nets(root):
    make_tiny(root)
    make_residual(root)
    make_eight_layer_conv(root)


# ---- fake quantization ----

def away_from_ties(x, scale):
    """Moves what rounds ambiguously in float32 by a quarter of a step."""
    position = x / scale
    unsafe = np.abs(position - np.floor(position) - 0.5) < 0.02
    return np.where(unsafe, x + 0.25 * scale, x).astype(np.float32)


def save_quant(root, name, x, scale, zero_point, low, high, bits, axis=None):
    x = torch.from_numpy(x).requires_grad_(True)
    scale, zero_point = np.atleast_1d(np.float32(scale)), np.atleast_1d(np.int64(zero_point))
    if axis is None:
        y = torch.fake_quantize_per_tensor_affine(x, float(scale[0]), int(zero_point[0]), low, high)
    else:
        y = torch.fake_quantize_per_channel_affine(
            x, torch.from_numpy(scale), torch.from_numpy(zero_point.astype(np.int32)), axis, low, high)
    y.backward(torch.ones_like(y))
    save(root, f"quant/{name}",
         {"x": x, "scale": scale, "zero_point": zero_point, "quant_min": [low], "quant_max": [high],
          "y": y, "dx": x.grad},
         {"op": f"fake_quantize_per_{'tensor' if axis is None else 'channel'}_affine", "bits": bits,
          **({} if axis is None else {"axis": axis})})


def make_quant(root):
    for bits in (16, 8, 4, 2):
        top = 2 ** (bits - 1)
        for name, low, high, zero_point, clip in [  # clip: what is in range, of the largest value
                (f"tensor_int{bits}_symmetric", 1 - top, top - 1, 0, 1.0),
                (f"tensor_int{bits}_symmetric_clip", -top, top - 1, 0, 0.4),
                (f"tensor_uint{bits}_affine", 0, 2 * top - 1, (2 * top) // 3, 0.8),
                (f"tensor_uint{bits}_relu", 0, 2 * top - 1, 0, 0.7)]:
            rng = generator(name)
            x = rng.standard_normal((3, 4, 5, 5)).astype(np.float32)
            x.reshape(-1)[::50] = 0.0
            scale = np.float32(clip * np.abs(x).max() / (high - zero_point))
            save_quant(root, name, away_from_ties(x, scale), scale, zero_point, low, high, bits)

    # Exact halves, which go to even; the ends are clipped.
    x = (np.arange(-26, 27) * 0.125).astype(np.float32)
    save_quant(root, "tensor_int4_halves", x, 0.25, 0, -8, 7, 4)
    save_quant(root, "tensor_uint4_halves", x, 0.25, 5, 0, 15, 4)

    for bits in (8, 4, 2):
        top = 2 ** (bits - 1)
        for name, low, high, axis, shape, affine in [
                (f"channel_int{bits}_conv", 1 - top, top - 1, 0, (6, 4, 3, 3), False),
                (f"channel_int{bits}_conv_clip", -top, top - 1, 0, (5, 3, 3, 3), False),
                (f"channel_int{bits}_linear", 1 - top, top - 1, 0, (11, 17), False),
                (f"channel_uint{bits}_axis1", 0, 2 * top - 1, 1, (3, 5, 4, 4), True)]:
            rng = generator(name)
            count = shape[axis]
            spread = [1] * len(shape)
            spread[axis] = count
            size = rng.uniform(0.1, 3.0, count).astype(np.float32)
            x = (rng.standard_normal(shape) * size.reshape(spread)).astype(np.float32)
            x.reshape(-1)[::50] = 0.0
            zero_point = rng.integers(0, top + 1, count) if affine else np.zeros(count, np.int64)
            others = tuple(i for i in range(len(shape)) if i != axis)
            clip = 0.4 if name.endswith("clip") else 1.0
            scale = (clip * np.abs(x).max(axis=others) / (high - zero_point)).astype(np.float32)
            save_quant(root, name, away_from_ties(x, scale.reshape(spread)), scale, zero_point,
                       low, high, bits, axis)


# ---- all of it ----

def make_all(root):
    make_ops(root)
    make_losses(root)
    make_quant(root)
    make_nets(root)
    make_norm(root)


def names(root):
    return sorted(path.relative_to(root).as_posix()
                  for folder in FOLDERS for path in (root / folder).glob("*.safetensors"))


def write():
    for name in names(HERE):
        (HERE / name).unlink()
    make_all(HERE)
    manifest = {"torch": torch.__version__, "numpy": np.__version__,
                "python": platform.python_version(),
                "sha256": {name: sha256(HERE / name) for name in names(HERE)}}
    (HERE / "MANIFEST.json").write_text(json.dumps(manifest, indent=2) + "\n")


def difference(committed, remade):
    """What is wrong with a remade file, or nothing."""
    (old, old_metadata), (new, new_metadata) = load(committed), load(remade)
    if old_metadata != new_metadata:
        return "metadata differ"
    if old.keys() != new.keys():
        return f"tensors differ: {sorted(old.keys() ^ new.keys())}"
    for key, a in old.items():
        b = new[key]
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"{key}: type or shape differs"
        if a.dtype.kind == "i":
            close = np.array_equal(a, b)
        else:
            close = np.allclose(b, a, CHECK_RELATIVE, CHECK_ABSOLUTE * np.abs(a).max(initial=0.0))
        if not close:
            return f"{key}: values differ by up to {np.abs(a - b).max()}"
    return None


def check():
    manifest = json.loads((HERE / "MANIFEST.json").read_text())["sha256"]
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        make_all(root)
        if not names(HERE) == names(root) == sorted(manifest):
            faults.append("the files, MANIFEST.json and make.py do not name the same cases")
        for name in sorted(set(names(HERE)) & set(names(root))):
            if manifest.get(name) != sha256(HERE / name):
                faults.append(f"{name}: sha256 is not that of MANIFEST.json")
            fault = difference(HERE / name, root / name)
            if fault:
                faults.append(f"{name}: {fault}")
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(manifest)} files, {len(faults)} faults")
    return 1 if faults else 0


def main():
    parser = argparse.ArgumentParser(description="Makes the golden files with PyTorch.")
    parser.add_argument("--check", action="store_true", help="remake and compare, write nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    return check() if arguments.check else write()


if __name__ == "__main__":
    sys.exit(main())
