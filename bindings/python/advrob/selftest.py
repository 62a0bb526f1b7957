"""python -m advrob --selftest: does the library do on this machine what it should? Each check has an
answer of its own: finite differences, arithmetic, the other CPU level."""
import os
import time
from typing import Callable, List, Tuple

import numpy as np

from ._library import scratch
from .arrays import PIXELS, FloatArray
from .attack import attack
from .compress import compress
from .context import Context
from .engine import Engine
from .errors import AdvrobValueError
from .evaluate import evaluate
from .finetune import finetune
from .model import Model
from .target import Target


def images(n: int, shape: Tuple[int, ...], seed: int = 0) -> FloatArray:
    """Images of bytes as floats."""
    return PIXELS[np.random.default_rng(seed).integers(0, 256, (n, *shape))]


def check_levels() -> None:
    """The portable level and this machine's best agree; threads change no bit."""
    with Context(cpu='portable', threads=1):
        plain = Model.build('lenet5', seed=1)
    with Context(threads=2):
        fast = Model.build('lenet5', seed=1)
    with Context(threads=1):
        alone = Model.build('lenet5', seed=1)
    x = images(20, plain.shape)
    a, b = plain(x), fast(x)
    assert np.abs(a - b).max() <= 1e-4 * np.abs(a).max(), 'the levels differ'
    assert (b == alone(x)).all(), 'threads change bits'


def check_gradient() -> None:
    """The loss's gradient by the pixels against differences of losses along random directions; a few
    images may cross the kink of a ReLU on the way."""
    model = Model.build('tiny_residual', seed=3)
    x, y = images(64, model.shape), np.arange(64) % model.classes
    _, dx = model.loss_grad(x, y)
    direction = np.random.default_rng(1).standard_normal(x.shape, np.float32)
    step = np.float32(1e-3)
    up, down = (model.loss_grad(x + sign * step * direction, y)[0] for sign in (1, -1))
    wanted, found = (up - down) / (2 * step), (dx * direction).sum(axis=(1, 2, 3))
    off = np.abs(wanted - found) > 0.01 * np.abs(found).max()
    assert off.mean() < 0.3, f'the gradient is wrong for {off.sum()} of 64 images'


def check_attack() -> None:
    """PGD raises the loss, inside ball and box; a linear net's FGSM is epsilon times a sign."""
    model = Model.build('tiny', seed=2)
    x, y = images(16, model.shape), np.arange(16) % model.classes
    moved = attack('pgd', model, x, y, epsilon=0.1, step=0.02, steps=10)
    assert np.abs(moved - x).max() <= np.float32(0.1) and moved.min() >= 0 and moved.max() <= 1
    assert (model.loss_grad(moved, y)[0] > model.loss_grad(x, y)[0]).all(), 'the loss fell'
    w = np.array([[0.5, -2, 0.25, -0.125], [0, 0, 0, 0]], np.float32)
    linear = Target.from_callable(lambda z: z.reshape(-1, 4) @ w.T, lambda z, d: (d @ w).reshape(z.shape), 2)
    half = np.full((1, 1, 2, 2), 0.5, np.float32)
    fgsm = attack('fgsm', linear, half, [0], epsilon=0.125)
    assert np.allclose(fgsm.ravel(), 0.5 - 0.125 * np.sign(w[0])), 'FGSM does not follow the sign'


def check_engine() -> None:
    """Integers: near the simulation, the same bits at both levels and from bytes."""
    engines = []
    for cpu in ('portable', 'auto'):
        with Context(cpu=cpu):
            model = Model.build('conv_small', seed=5)
            x = images(32, model.shape)
            quantized = compress('quant_ptq', model, x, activation_bits=7)
            engines.append(Engine(quantized))
    with scratch() as folder:
        path = os.path.join(folder, 'net.engine')
        engines[0].save(path)
        engines[1] = Engine.load(path)
    a, b = engines[0](x), engines[1](x)
    assert (a == b).all(), 'the levels differ in a bit'
    assert (engines[1](np.rint(x * 255).astype(np.uint8)) == b).all(), 'bytes and floats differ'
    assert np.abs(quantized(x) - b).max() < 0.05 * np.abs(b).max(), 'far from the simulation'


def check_training() -> None:
    """Fine-tuning learns which half of an image is bright; pruning and saving keep what they should."""
    model = Model.build('tiny', seed=1, classes=2)
    x = images(512, model.shape) * np.float32(0.3)
    y = np.arange(512, dtype=np.int32) % 2
    x[y == 0, :, :, :4] += np.float32(0.5)
    x[y == 1, :, :, 4:] += np.float32(0.5)
    finetune('standard', model, (x, y), epochs=4, lr=0.05, momentum=0.9, batch_size=32)
    assert evaluate(model, x, y).clean > 0.95, 'nothing was learned'
    small = compress('prune_l1', model, sparsity=0.5)
    assert small.parameter_total < model.parameter_total
    with scratch() as folder:
        path = os.path.join(folder, 'net.safetensors')
        small.save(path)
        assert Model.load(path).digest() == small.digest(), 'a saved model is another'


def check_refusals() -> None:
    """Bad input is an exception that names it."""
    model = Model.build('tiny')
    x = images(2, model.shape)
    x[0, 0, 0, 0] = np.nan
    calls: List[Callable[[], object]] = [lambda: model(x),
                                         lambda: attack('pgd', model, x, [0, 1], epsilom=1)]
    for call in calls:
        try:
            call()
        except AdvrobValueError as error:
            assert str(error)
        else:
            raise AssertionError('bad input was taken')


CHECKS: List[Tuple[str, Callable[[], None]]] = [
    ('CPU levels and threads', check_levels), ('gradients', check_gradient), ('attacks', check_attack),
    ('integers', check_engine), ('training, pruning, files', check_training), ('refusals', check_refusals)]


def selftest() -> int:
    """Runs all checks; 0 if they hold."""
    failed = 0
    for name, check in CHECKS:
        began = time.monotonic()
        try:
            check()
            print(f'ok      {name} ({time.monotonic() - began:.2f} s)')
        except Exception as error:
            failed += 1
            print(f'FAILED  {name}: {type(error).__name__}: {error}')
    print('all is well' if not failed else f'{failed} of {len(CHECKS)} checks failed')
    return int(failed > 0)
