#!/usr/bin/env python3
"""Golden paths of APGD, taken by its authors' own code (github.com/fra31/auto-attack, as packaged in
pyautoattack 0.2.0).

    autoattack.py SOURCE            writes autoattack/apgd.safetensors; SOURCE holds pyautoattack/
    autoattack.py SOURCE --check    remakes it elsewhere and compares

The net is nets/eight_layer_conv; the images are its own and then their mirror images, the labels
what it answers to them, in float32 as all that follows. Each case starts at the image and does not
stop at the first wrong answer. Per pass but the last: the loss of each image; per checkpoint: the
largest loss so far, and how often the step size had been halved. `held`: the passes before the first
wrong answer, of all passes; `firm`: whether the path is the same in float64 (elsewhere roundings
decide whether a loss that stands still has risen). The original runs as it is: what it does is read from the frame that calls the net.
`passes`: forwards and backwards of one image that holds, through the original's own `perturb` with
its random start.
"""

import argparse
import json
import math
import pathlib
import platform
import sys
import tempfile

import numpy as np
import torch

from common import generator, load, normal, save, sha256, to_grid
from make import eight_layer_conv

HERE = pathlib.Path(__file__).resolve().parent
IMAGES, STEPS, TARGETS = 40, 100, 2
EPSILON = {"Linf": 0.02, "L2": 0.2}
NAME = "autoattack/apgd"


def read_net():
    tensors, _ = load(HERE / "nets/eight_layer_conv.safetensors")
    parameters = {key[6:]: torch.from_numpy(value) for key, value in tensors.items()
                  if key.startswith("param.")}
    return parameters, torch.from_numpy(tensors["x"])


def draw_images(x):
    return torch.cat([x, x.flip(3)])


class Spy:
    """The net, which notes what the attack that calls it knows."""

    def __init__(self, parameters):
        self.parameters = {kind: {key: value.to(kind) for key, value in parameters.items()}
                           for kind in (torch.float32, torch.float64)}
        self.forwards, self.backwards, self.passes, self.steps, self.best, self.held = 0, 0, [], [], [], []

    def __call__(self, x):
        caller = sys._getframe(1).f_locals
        if "loss_steps" in caller:
            # `loss_indiv` still is that of the pass before.
            if "loss_indiv" in caller:
                self.passes.append(caller["loss_indiv"].detach().clone())
            if "step_size" in caller:
                self.steps.append(caller["step_size"].flatten().clone())
                self.best.append(caller["loss_best"].clone())
                self.held.append(caller["acc"].clone())
        self.forwards += len(x)
        if x.requires_grad:
            x.register_hook(self.count)
        return eight_layer_conv(self.parameters[x.dtype], x)

    def count(self, gradient):
        self.backwards += len(gradient)


def checkpoints(attack):
    """Steps after which it looks at what it has reached."""
    at, gap, found = 0, attack.n_iter_2, []
    while at + gap < STEPS:
        at += gap
        found.append(at)
        gap = max(gap - attack.size_decr, attack.n_iter_min)
    return found


def run(attack, spy, x, labels):
    """One run from the image: losses [passes, n]; best and halvings [checkpoints, n]; held [n]."""
    spy.passes, spy.steps, spy.best, spy.held = [], [], [], []
    attack.init_hyperparam(x)
    _, held, _, _ = attack.attack_single_run(x, labels, x_init=x)
    losses = torch.stack(spy.passes)  # no call follows the last pass, so its loss is not seen
    assert losses.shape == (STEPS, len(x))
    at = checkpoints(attack)
    # steps[i] leads to pass i + 1; a checkpoint after i steps shows in steps[i].
    halvings = torch.stack([torch.log2(2 * attack.eps / spy.steps[i]) for i in at])
    best = torch.stack([spy.best[i] for i in at])
    held = torch.stack(spy.held + [held]).long().sum(0)
    return {"loss": losses, "best": best, "halvings": halvings.round().long(), "held": held}


def follow(attack, spy, x, labels):
    """A run, and `firm` [n]: whether it goes the same way in double, as long as the image holds."""
    single = run(attack, spy, x, labels)
    torch.set_default_dtype(torch.float64)
    double = run(attack, spy, x.double(), labels)
    torch.set_default_dtype(torch.float32)
    held, at = single["held"], torch.tensor(checkpoints(attack))
    off = (single["loss"] - double["loss"]).abs() > 1e-3 * double["loss"].abs().clamp(min=1e-2)
    off &= torch.arange(STEPS)[:, None] < held
    turned = (single["halvings"] != double["halvings"]) & (at[:, None] < held)
    single["firm"] = (~off.any(0) & ~turned.any(0) & (held == double["held"])).long()
    return single


def count(attack, spy, x, labels, held):
    """Forwards and backwards of the original for an image that holds to the end."""
    spy.forwards = spy.backwards = 0
    attack.perturb(x[held][:1], labels[held][:1])
    return torch.tensor([spy.forwards, spy.backwards])


def make(root, source):
    sys.path.insert(0, str(source))
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
    parameters, x = read_net()
    x = draw_images(x)
    labels = eight_layer_conv(parameters, x).argmax(1)
    spy = Spy(parameters)
    tensors = {"labels": labels}
    for norm, epsilon in EPSILON.items():
        for loss in ("ce", "dlr"):
            attack = APGDAttack(spy, n_iter=STEPS, norm=norm, eps=epsilon, loss=loss, device="cpu")
            found = follow(attack, spy, x, labels)
            case = f"{loss}_{norm.lower()}"
            tensors.update({f"{case}.{key}": value for key, value in found.items()})
            tensors[f"{case}.passes"] = count(attack, spy, x, labels, found["held"] > STEPS)
        ranks = eight_layer_conv(parameters, x).sort(dim=1)[1]
        held = torch.ones(len(x), dtype=torch.bool)
        attack = APGDAttack_targeted(spy, n_iter=STEPS, norm=norm, eps=epsilon, device="cpu",
                                     n_target_classes=TARGETS)
        for target in range(TARGETS):
            attack.y_target = ranks[:, -2 - target]
            found = follow(attack, spy, x, labels)
            held &= found["held"] > STEPS
            case = f"t{target}_{norm.lower()}"
            tensors.update({f"{case}.{key}": value for key, value in found.items()})
        tensors[f"t_{norm.lower()}.passes"] = count(attack, spy, x, labels, held)
    save(root, NAME, tensors,
         {"net": "eight_layer_conv", "steps": STEPS, "targets": TARGETS,
          "epsilon_linf": EPSILON["Linf"], "epsilon_l2": EPSILON["L2"]})
    return tensors


def show(tensors):
    for key in sorted(tensors):
        if key.endswith("held"):
            halvings = tensors[key[:-4] + "halvings"][-1]
            print(f"{key}: {int((tensors[key] > STEPS).sum())} of {IMAGES}, "
                  f"firm {int(tensors[key[:-4] + 'firm'].sum())}, halvings 0 to 8: {halvings.bincount(minlength=9).tolist()}")
        if key.endswith("passes"):
            print(f"{key}: {tensors[key].tolist()}")


def main():
    parser = argparse.ArgumentParser(description="Makes the golden paths of APGD.")
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--check", action="store_true", help="remake and compare, write nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.check:
        with tempfile.TemporaryDirectory() as folder:
            make(pathlib.Path(folder), arguments.source)
            old, new = (load(root / f"{NAME}.safetensors")[0]
                        for root in (HERE, pathlib.Path(folder)))
        same = old.keys() == new.keys() and all(np.array_equal(old[key], new[key]) for key in old)
        print("the same" if same else "differs")
        return 0 if same else 1
    show(make(HERE, arguments.source))
    manifest = {"torch": torch.__version__, "numpy": np.__version__,
                "python": platform.python_version(),
                "pyautoattack": sha256(arguments.source / "pyautoattack/autopgd_base.py"),
                "sha256": {f"{NAME}.safetensors": sha256(HERE / f"{NAME}.safetensors")}}
    (HERE / "autoattack/MANIFEST.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
