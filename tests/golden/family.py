#!/usr/bin/env python3
"""Golden answers of the FGSM family and of PGD in l2, by torchattacks, on the small net of
nets/tiny.safetensors.

    family.py    writes attacks/family.safetensors and attacks/MANIFEST.json

Attacks without random starts: BIM, MI-FGSM, PGDL2; untargeted and towards given classes. Computed in
float64 from inputs that are exact in F32, rounded to F32 once.
"""

import json
import pathlib
import platform

import numpy as np
import torch
import torch.nn.functional as F
import torchattacks

from common import generator, load, save, sha256

HERE = pathlib.Path(__file__).resolve().parent
IMAGES = 60


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        arrays, _ = load(HERE / "nets" / "tiny.safetensors")
        self.p = {key[6:]: torch.from_numpy(value.astype(np.float64)) for key, value in arrays.items()
                  if key.startswith("param.")}
        self.dummy = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x):
        p = self.p
        x = F.relu(F.conv2d(x, p["conv1.weight"], p["conv1.bias"], padding=1))
        x = F.relu(F.conv2d(x, p["conv2.weight"], p["conv2.bias"], stride=2, padding=1))
        return F.linear(x.flatten(1), p["fc.weight"], p["fc.bias"])


def main():
    rng = generator("family")
    net = Tiny().eval()
    # Images keep away from the box: torchattacks clips to it behind the l2 ball, libadvrob before.
    x = torch.from_numpy(rng.integers(52, 204, (IMAGES, 1, 8, 8)) / 255).float().double()
    labels = net(x).argmax(1)
    targets = (labels + torch.from_numpy(rng.integers(1, 10, IMAGES))) % 10
    tensors = {"x": x, "labels": labels, "targets": targets}
    for name, make in {
            "bim": lambda: torchattacks.BIM(net, eps=0.05, alpha=0.01, steps=10),
            "mi_fgsm": lambda: torchattacks.MIFGSM(net, eps=0.05, alpha=0.005, steps=10, decay=1.0),
            "pgd_l2": lambda: torchattacks.PGDL2(net, eps=0.4, alpha=0.1, steps=10, random_start=False),
    }.items():
        tensors[f"{name}.plain"] = make()(x, labels)
        attack = make()
        attack.set_mode_targeted_by_label(quiet=True)
        tensors[f"{name}.targeted"] = attack(x, targets)
        for kind in ("plain", "targeted"):
            y = net(tensors[f"{name}.{kind}"]).argmax(1)
            print(name, kind, "wrong", int((y != labels).sum()), "at the target", int((y == targets).sum()))
    save(HERE, "attacks/family", tensors, {"net": "tiny"})
    manifest = {"torch": torch.__version__, "numpy": np.__version__,
                "python": platform.python_version(), "torchattacks": torchattacks.__version__,
                "sha256": {"attacks/family.safetensors": sha256(HERE / "attacks/family.safetensors")}}
    (HERE / "attacks/MANIFEST.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
