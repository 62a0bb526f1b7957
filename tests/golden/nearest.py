#!/usr/bin/env python3
"""Distances that other programs' minimal-distance attacks find, on the published net mnist-wong.

    nearest.py MODELS MNIST AUTO_ATTACK ADV_LIB    writes nearest/mnist-wong.safetensors

MODELS has mnist-wong.safetensors (shared/models), MNIST the test images and labels, AUTO_ATTACK and
ADV_LIB are the folders of fra31/auto-attack (commit a392200) and jeromerony/adv-lib (0.2.8, BSD);
foolbox (3.3.4) is a package. Of the first IMAGES test images: labels, and for every attack the
distance of its answer, 0 where the net is wrong already, -1 where there is no answer:

    fab.linf, fab.l2 [TARGETS, IMAGES]             FAB-T's runs, one target each (auto-attack)
    <peer>.deepfool_l2, .deepfool_linf, .carlini_wagner [IMAGES]     of adv_lib and of foolbox

Carlini-Wagner takes CW_STEPS of CW_RATE for each constant, far enough for pixels at the ends of the
box, and does not abort early, which both peers decide for a whole batch. All compute in float32 on one thread; the seconds that each took are printed.
nearest/MANIFEST.json has versions and the sha256.
"""

import gzip
import json
import pathlib
import platform
import sys
import time
import types
from importlib.metadata import version

import numpy as np
import torch
from torch import nn

from common import load, save, sha256

HERE = pathlib.Path(__file__).resolve().parent
IMAGES, TARGETS, CW_STEPS, CW_RATE = 100, 9, 300, 0.03


def read_images(folder):
    folder = pathlib.Path(folder)
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)[:IMAGES]
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)[:IMAGES]
    return (torch.from_numpy(pixels.astype(np.float32) / np.float32(255)),
            torch.from_numpy(labels.astype(np.int64)))


def read_net(models):
    net = nn.Sequential(nn.Conv2d(1, 16, 4, stride=2, padding=1), nn.ReLU(),
                        nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
                        nn.Linear(32 * 7 * 7, 100), nn.ReLU(), nn.Linear(100, 10))
    arrays, _ = load(pathlib.Path(models) / "mnist-wong.safetensors")
    net.load_state_dict({key: torch.from_numpy(value) for key, value in arrays.items()}, strict=True)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    return net.eval()


def distances(net, x, y, adversarial, norm):
    moved = (adversarial - x).double().flatten(1)
    found = net(adversarial).argmax(1) != y
    far = moved.abs().amax(1) if norm == "linf" else moved.norm(dim=1)
    far = torch.where(found, far, torch.full_like(far, -1))
    return torch.where(net(x).argmax(1) != y, torch.zeros_like(far), far)


def timed(name, call):
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    good = result[result > 0] if result.ndim == 1 else torch.where(result < 0, torch.inf, result).amin(0)
    print(f"{name}: {seconds:.2f} s, median {good[good > 0].median():.6f}, "
          f"none for {int((result < 0).sum())}", flush=True)
    return result


def fab(net, x, y, norm):
    from autoattack.fab_pt import FABAttack_PT
    attack = FABAttack_PT(net, norm={"linf": "Linf", "l2": "L2"}[norm], n_restarts=1, n_iter=100,
                          eps=1e6, seed=0, targeted=True, device="cpu")
    rows = []
    for target in range(TARGETS):
        attack.target_class = target + 2
        rows.append(distances(net, x, y, attack.attack_single_run(x, y, is_targeted=True), norm))
    return torch.stack(rows)


def adv_lib(net, x, y, attack):
    from adv_lib.attacks import carlini_wagner_l2, df
    if attack == "carlini_wagner":
        return distances(net, x, y, carlini_wagner_l2(net, x, y, max_iterations=CW_STEPS,
                                                        learning_rate=CW_RATE,
                                                        abort_early=False), "l2")
    norm = attack.removeprefix("deepfool_")
    return distances(net, x, y, df(net, x.clone(), y, steps=50,
                                   norm=2 if norm == "l2" else float("inf")), norm)


def foolbox(net, x, y, attack):
    import foolbox as fb
    model = fb.PyTorchModel(net, bounds=(0, 1), device="cpu")
    made, norm = {"carlini_wagner": (fb.attacks.L2CarliniWagnerAttack(steps=CW_STEPS, stepsize=CW_RATE,
                                                                        abort_early=False), "l2"),
                  "deepfool_l2": (fb.attacks.L2DeepFoolAttack(), "l2"),
                  "deepfool_linf": (fb.attacks.LinfDeepFoolAttack(), "linf")}[attack]
    moved = made.run(model, x, fb.criteria.Misclassification(y))
    failed = moved.flatten(1).amax(1) == 0  # Carlini-Wagner answers with an empty image then
    return distances(net, x, y, torch.where(failed[:, None, None, None], x, moved), norm)


def main():
    models, mnist, auto_attack, adv = sys.argv[1:5]
    sys.path[:0] = [auto_attack, adv]
    sys.modules["visdom"] = types.ModuleType("visdom")  # adv-lib imports it and uses it for plots alone
    sys.modules["visdom"].Visdom = None
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = read_net(models)
    x, y = read_images(mnist)
    tensors = {"labels": y}
    for attack in ("deepfool_l2", "deepfool_linf", "carlini_wagner"):
        for peer in (adv_lib, foolbox):
            key = f"{peer.__name__}.{attack}"
            tensors[key] = timed(key, lambda: peer(net, x, y, attack))
    for norm in ("linf", "l2"):
        tensors[f"fab.{norm}"] = timed(f"fab.{norm}", lambda: fab(net, x, y, norm))
    save(HERE, "nearest/mnist-wong", tensors,
         {"net": "mnist-wong", "images": IMAGES, "targets": TARGETS, "cw_steps": CW_STEPS, "cw_rate": CW_RATE})
    write_manifest()


def write_manifest():
    manifest = {"auto-attack": "a39220048b3c9f2cca9a4d3a54604793c68eca7e",
                "adv-lib": "0.2.8", **{name: version(name) for name in ("foolbox", "torch", "numpy")},
                "python": platform.python_version(),
                "sha256": {"nearest/mnist-wong.safetensors":
                           sha256(HERE / "nearest/mnist-wong.safetensors")}}
    (HERE / "nearest/MANIFEST.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
