"""Attacks: images near the given ones that the target gets wrong."""
from typing import Any, NamedTuple, Optional

import numpy as np

from ._library import Handle, library, made, text_bytes
from .arrays import AnyArray, FloatArray, IntArray, address, labels
from .context import Context, current
from .interrupt import guarded
from .options import Options
from .progress import Progress, receiver
from .target import Attackable, as_target


class Attacked(NamedTuple):
    """What an attack gave: images [n, c, h, w], the target's answers [n] to exactly these, and the
    attack's losses [n] there."""

    images: FloatArray
    predictions: IntArray
    losses: AnyArray
    fooled: AnyArray  # [n], bool: the prediction is wrong, or that which was aimed at


class Attack(Handle):
    """An attack with its options, to run several times; immutable, threads may share it.

    pgd = advrob.Attack("pgd", epsilon=8/255, steps=20)
    images, predictions, losses, fooled = pgd(model, x, y)

    Names: advrob.components("attack"). Options: advrob.options("attack", name). Raises ValueError
    naming the option, its value and its range."""

    _destroy = library.advrob_attack_destroy

    def __init__(self, name: str, *, context: Optional[Context] = None, **options: Any) -> None:
        self.context, self.name = current(context), name
        with Options(options) as chosen:
            super().__init__(made(library.advrob_attack_create, self.context,
                                  text_bytes(name, 'attack'), chosen))

    def __call__(self, target: Attackable, x: Any, y: Any, *, targets: Any = None,
                 progress: Progress = None) -> Attacked:
        """Attacks images x [n, c, h, w] with true labels y [n]. `targets` [n]: the classes to aim at,
        for an attack with targeted=1. Every image stays in its epsilon ball, exactly in float32.
        Raises ValueError (a label, a pixel out of the box, NaN), AdvrobError ("E_UNSUPPORTED": the
        target gives no gradients), and whatever a target's function raised."""
        goal = as_target(target)
        x = goal.fit(x)
        n = len(x)
        y = labels(y, n)
        images, predictions, losses = np.empty_like(x), np.empty(n, np.int32), np.empty(n)
        outputs = address(images), address(predictions), address(losses)
        with guarded(goal.context, receiver(progress)):
            if targets is None:
                library.advrob_attack_run(self, goal, n, address(x), address(y), *outputs)
                return Attacked(images, predictions, losses, predictions != y)
            aims = labels(targets, n, 'targets')
            library.advrob_attack_run_targeted(self, goal, n, address(x), address(y), address(aims),
                                               *outputs)
        return Attacked(images, predictions, losses, predictions == aims)

    def __repr__(self) -> str:
        return f'Attack({self.name!r})'


def attack(name: str, target: Attackable, x: Any, y: Any, *, targets: Any = None,
           progress: Progress = None, **options: Any) -> FloatArray:
    """Adversarial images [n, c, h, w] for x with labels y, by the attack `name`.

    adversarial = advrob.attack("pgd", model, x, y, epsilon=8/255, steps=20)

    Every option of advrob.options("attack", name) is a keyword; epsilon counts in pixels of [0, 1].
    `targets` [n] aims at classes. For predictions and losses, too: advrob.Attack."""
    goal = as_target(target)
    if targets is not None:
        options.setdefault('targeted', 1)
    made_attack = Attack(name, context=goal.context, **options)
    return made_attack(goal, x, y, targets=targets, progress=progress).images
