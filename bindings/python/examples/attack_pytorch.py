"""Attacks a PyTorch model: two functions are all that libadvrob needs of it.

    python attack_pytorch.py [--data FOLDER] [--epsilon 0.03]

Needs PyTorch; the model here is a small one that is trained for a few seconds.
"""
import argparse
from typing import Any

import torch
from torch import nn

import advrob


def train(net: Any, x: Any, y: Any) -> None:
    """An epoch of SGD."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for images, labels in zip(torch.from_numpy(x).split(64), torch.from_numpy(y).long().split(64)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()


def target_of(net: Any, classes: int) -> advrob.Target:
    """A PyTorch module as a target."""
    net.eval()

    def forward(x: Any) -> Any:
        with torch.no_grad():
            return net(torch.from_numpy(x))

    def backward(x: Any, dlogits: Any) -> Any:
        pixels = torch.from_numpy(x).requires_grad_()
        return torch.autograd.grad(net(pixels), pixels, torch.from_numpy(dlogits))[0]

    return advrob.Target.from_callable(forward, backward, classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', default='/usr/share/datasets/fashion-mnist')
    parser.add_argument('--images', type=int, default=10000, help='for training')
    parser.add_argument('--test', type=int, default=500, help='to attack')
    parser.add_argument('--epsilon', type=float, default=0.03)
    chosen = parser.parse_args()

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(),
                        nn.Flatten(), nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10))
    train(net, *advrob.Dataset.open('fashion-mnist', chosen.data, limit=chosen.images).arrays())
    x, y = advrob.Dataset.open('fashion-mnist', chosen.data, split='test', limit=chosen.test).arrays()

    target = target_of(net, 10)
    result = advrob.evaluate(target, x, y, attacks=['fgsm', 'pgd'], epsilon=chosen.epsilon,
                             progress=True)
    print(f'{100 * result.clean:.1f} % right; at epsilon {chosen.epsilon}:')
    for name, share in result.attacks.items():
        print(f'{100 * share:6.1f} % under {name}')


if __name__ == '__main__':
    main()
