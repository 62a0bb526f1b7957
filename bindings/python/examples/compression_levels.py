"""Compares levels of compression: clean accuracy and accuracy under PGD of a net pruned and quantized
more and more, in one plot. Rounding hides gradients, so PGD runs twice: by the compressed net's own
gradients and by those of the net that it came from. Needs matplotlib; without it the figures are
printed alone.

    python compression_levels.py [--data FOLDER] [--out levels.png]
"""
import argparse
from typing import Dict, Iterator, List, Tuple

import advrob

Points = Dict[str, List[Tuple[str, float, float]]]


def levels(base: advrob.Model, train: advrob.Dataset) -> Iterator[Tuple[str, str, advrob.Model]]:
    """Kind, level and net."""
    for sparsity in (0, 0.25, 0.5, 0.75):
        yield 'pruned', f'{sparsity:.0%}', advrob.compress('prune_l1', base, sparsity=sparsity)
    for bits in (8, 6, 4, 3):
        yield 'quantized', f'{bits} bits', advrob.compress('quant_ptq', base, train, weight_bits=bits,
                                                           activation_bits=bits)


def draw(points: Points, epsilon: float, path: str) -> None:
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(points), figsize=(9, 4), sharey=True)
    for axis, (kind, values) in zip(axes, points.items()):
        names, clean, robust = zip(*values)
        axis.plot(names, clean, marker='o', label='clean')
        axis.plot(names, robust, marker='s', label=f'PGD, epsilon {epsilon}')
        axis.set(title=kind, ylim=(0, 1), ylabel='accuracy')
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    print(f'the plot is {path}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', default='/usr/share/datasets/fashion-mnist')
    parser.add_argument('--images', type=int, default=20000, help='for training')
    parser.add_argument('--test', type=int, default=500, help='for the figures')
    parser.add_argument('--epsilon', type=float, default=0.02)
    parser.add_argument('--out', default='levels.png')
    chosen = parser.parse_args()

    train = advrob.Dataset.open('fashion-mnist', chosen.data, limit=chosen.images)
    test = advrob.Dataset.open('fashion-mnist', chosen.data, split='test', limit=chosen.test)
    base = advrob.Model.build('conv_small', seed=0)
    advrob.finetune('standard', base, train, epochs=2, lr=0.05, momentum=0.9, batch_size=64, progress=True)

    points: Points = {}
    for kind, level, net in levels(base, train):
        target = advrob.Target.from_model(net)
        target.set_source(base)
        result = advrob.evaluate(target, test, attacks=['pgd', ('pgd', {'transfer': 1})],
                                 labels='own,transfer', epsilon=chosen.epsilon)
        points.setdefault(kind, []).append((level, result.clean, result.robust))
        print(f'{kind:10} {level:8} {100 * result.clean:5.1f} % clean  '
              f'{100 * result.robust:5.1f} % under PGD')
    try:
        draw(points, chosen.epsilon, chosen.out)
    except ImportError:
        print('no plot: matplotlib is not installed')


if __name__ == '__main__':
    main()
