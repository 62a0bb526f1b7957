#!/usr/bin/env python3
"""Golden paths of the Square Attack, by the original: SquareAttack of fra31's AutoAttack.

    square.py AUTOATTACK [MODELS DATA]   writes square/*.safetensors: AUTOATTACK is the folder with the
                                         package pyautoattack (0.2.0); MODELS has the published nets,
                                         DATA the folder mnist

The original draws one square for a whole batch: here it runs with batches of one image. Its draws
come from a Philox stream for each image, (seed, purpose, image, restart) as base/rng.h has them, in
the order in which the original asks for them, so that a faithful attack takes the same path: per
image the number of queries (the start is the first) and whether it was fooled. Float32, as the
original runs. Weights and images of published nets are not kept: the test reads them.
"""

import gzip
import json
import pathlib
import platform
import sys

import numpy as np
import torch
import torch.nn.functional as F

from common import generator, load, save, sha256

HERE = pathlib.Path(__file__).resolve().parent
SEED, ATTACK = 1, 3  # of a test's context; AR_RNG_ATTACK


class Draws:
    """ar_rng: Philox4x32-10."""

    def __init__(self, sample, restart=0):
        self.key = (SEED & 0xffffffff, SEED >> 32)
        self.counter = [0, sample & 0xffffffff, restart << 16, ATTACK << 24 | sample >> 32]
        self.words = []

    def word(self):
        if not self.words:
            c, (k0, k1) = list(self.counter), self.key
            for _ in range(10):
                p, q = 0xd2511f53 * c[0], 0xcd9e8d57 * c[2]
                c = [q >> 32 ^ c[1] ^ k0, q & 0xffffffff, p >> 32 ^ c[3] ^ k1, p & 0xffffffff]
                k0, k1 = (k0 + 0x9e3779b9) & 0xffffffff, (k1 + 0xbb67ae85) & 0xffffffff
            self.words = c[::-1]
            self.counter[0] += 1
        return self.words.pop()

    def heads(self):
        return self.word() >> 31

    def below(self, n):
        if n <= 1:
            return 0
        word = self.word()
        while word < (1 << 32) % n:
            word = self.word()
        return word % n


def coupled(base):
    """The original with its random numbers exchanged, and nothing else."""

    class Coupled(base):
        def random_choice(self, shape):
            signs = [2.0 * self.draws.heads() - 1 for _ in range(int(np.prod(shape)))]
            return torch.tensor(signs).view(*shape)

        def random_int(self, low=0, high=1, shape=None):
            return torch.tensor([low + self.draws.below(high - low)])

        def eta(self, s):
            rand = torch.rand
            torch.rand = lambda _: torch.tensor([float(self.draws.heads())])
            try:
                return super().eta(s)
            finally:
                torch.rand = rand

    return Coupled


def run(attack, x, y, draws):
    """Queries and success of one image that the net gets right."""
    attack.draws = draws
    attack.init_hyperparam(x)
    queries, best = attack.attack_single_run(x, y)
    with torch.no_grad():
        fooled = attack.predict(best).argmax(1) != y
    return int(queries[0]), int(fooled[0])


def paths(base, net, x, labels, name, norms, tries, rescale):
    """{norm: epsilon} -> tensors."""
    tensors, metadata = {}, {"tries": tries, "rescale": int(rescale), "seed": SEED}
    for norm, epsilon in norms.items():
        options = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "n_queries": tries, "eps": epsilon,
                   "p_init": 0.8, "resc_schedule": rescale, "device": "cpu"}
        attack = coupled(base)(net, **options)
        found = [run(attack, x[i:i + 1], labels[i:i + 1], Draws(i)) for i in range(len(x))]
        tensors[f"{norm}.queries"] = torch.tensor([q for q, _ in found])
        tensors[f"{norm}.fooled"] = torch.tensor([f for _, f in found])
        metadata[f"{norm}.epsilon"] = epsilon
        fooled = np.array([f for _, f in found], bool)
        queries = np.array([q for q, _ in found])
        print(f"{name} {norm}: {fooled.mean():.3f} fooled, median {np.median(queries[fooled])}",
              flush=True)
    return tensors, metadata


def correct(net, x, labels, count):
    with torch.no_grad():
        right = torch.nonzero(net(x).argmax(1) == labels).flatten()[:count]
    return right, x[right], labels[right]


# ---- nets ----

def linear(rng):
    """Three channels, five classes: logits W x + b."""
    weight = torch.from_numpy(rng.standard_normal((5, 300)).astype(np.float32)) * 0.2
    x = torch.from_numpy(rng.integers(0, 256, (60, 3, 10, 10)).astype(np.float32)) / np.float32(255)
    return (lambda v: F.linear(v.flatten(1), weight)), x, {"weight": weight, "x": x}


def tiny(rng):
    arrays, _ = load(HERE / "nets" / "tiny.safetensors")
    p = {key[6:]: torch.from_numpy(value) for key, value in arrays.items() if key.startswith("param.")}

    def net(v):
        v = F.relu(F.conv2d(v, p["conv1.weight"], p["conv1.bias"], padding=1))
        v = F.relu(F.conv2d(v, p["conv2.weight"], p["conv2.bias"], stride=2, padding=1))
        return F.linear(v.flatten(1), p["fc.weight"], p["fc.bias"])

    x = torch.from_numpy(rng.integers(0, 256, (100, 1, 8, 8)).astype(np.float32)) / np.float32(255)
    return net, x, {"x": x}


def mnist_fast_fgsm(models):
    arrays, _ = load(models / "mnist-fast-fgsm.safetensors")
    p = {key: torch.from_numpy(value) for key, value in arrays.items()}

    def net(v):
        v = F.relu(F.conv2d(v, p["0.weight"], p["0.bias"], stride=2, padding=1))
        v = F.relu(F.conv2d(v, p["2.weight"], p["2.bias"], stride=2, padding=1))
        v = F.relu(F.linear(v.flatten(1), p["5.weight"], p["5.bias"]))
        return F.linear(v, p["7.weight"], p["7.bias"])

    return net


def mnist(folder):
    def read(name, skip):
        return np.frombuffer(gzip.open(folder / name).read(), np.uint8)[skip:]
    x = read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28).astype(np.float32) / np.float32(255)
    return torch.from_numpy(x), torch.from_numpy(read("t10k-labels-idx1-ubyte.gz", 8).astype(np.int64))


def main():
    arguments = [pathlib.Path(argument) for argument in sys.argv[1:]]
    torch.set_num_threads(1)
    sys.path.insert(0, str(arguments[0]))
    from pyautoattack import square

    def write(name, net, x, labels, kept, **settings):
        tensors, metadata = paths(square.SquareAttack, net, x, labels, name, **settings)
        save(HERE, f"square/{name}", {**kept, **tensors}, {"net": name, **metadata})

    net, x, kept = linear(generator("square_linear"))
    labels = net(x).argmax(1)
    write("linear", net, x, labels, {**kept, "labels": labels}, norms={"linf": 0.03, "l2": 0.4},
          tries=300, rescale=False)
    net, x, kept = tiny(generator("square_tiny"))
    labels = net(x).argmax(1)
    # l-inf alone: in l2 the original's first grid of bumps falls beside images of 8 x 8.
    write("tiny", net, x, labels, {**kept, "labels": labels}, norms={"linf": 0.02}, tries=200,
          rescale=True)
    if len(arguments) > 1:
        models, data = arguments[1:3]
        net = mnist_fast_fgsm(models)
        index, x, labels = correct(net, *mnist(data / "mnist"), 300)
        write("mnist-fast-fgsm", net, x, labels, {"index": index}, norms={"linf": 0.3, "l2": 1.5},
              tries=500, rescale=True)
    files = sorted((HERE / "square").glob("*.safetensors"))
    manifest = {"torch": torch.__version__, "numpy": np.__version__,
                "python": platform.python_version(),
                "pyautoattack": sha256(pathlib.Path(square.__file__)),
                "sha256": {f"square/{path.name}": sha256(path) for path in files}}
    (HERE / "square/MANIFEST.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
