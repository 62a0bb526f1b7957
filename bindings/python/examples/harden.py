"""Hardens a net: trains it, prunes half of its filters, fine-tunes the pruned net on adversarial
images, and shows what that does under attack, in a table and a page.

    python harden.py [--data FOLDER] [--images N] [--out report.html]
"""
import argparse

import advrob


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', default='/usr/share/datasets/fashion-mnist')
    parser.add_argument('--images', type=int, default=20000, help='for training')
    parser.add_argument('--test', type=int, default=1000, help='for the figures')
    parser.add_argument('--epsilon', type=float, default=0.05)
    parser.add_argument('--out', default='report.html')
    chosen = parser.parse_args()

    train = advrob.Dataset.open('fashion-mnist', chosen.data, limit=chosen.images)
    test = advrob.Dataset.open('fashion-mnist', chosen.data, split='test', limit=chosen.test)

    base = advrob.Model.build('conv_small', seed=0)
    advrob.finetune('standard', base, train, epochs=3, lr=0.05, momentum=0.9, batch_size=64,
                    schedule='cosine', progress=True)
    pruned = advrob.compress('prune_l1', base, sparsity=0.5)
    hardened = pruned.copy()
    advrob.finetune('pgd_at', hardened, train, epochs=3, lr=0.05, momentum=0.9, batch_size=64,
                    schedule='cosine', attack=dict(epsilon=chosen.epsilon, steps=5), progress=True)

    report = advrob.Report('A hardened net', data=chosen.data, epsilon=chosen.epsilon)
    report.add_plot('Accuracy by epsilon', 'epsilon', 'accuracy', y_low=0, y_high=1, percent_y=1)
    for name, net in (('trained', base), ('pruned', pruned), ('pruned and fine-tuned', hardened)):
        epsilons = [chosen.epsilon * share for share in (0.25, 0.5, 1, 1.5)]
        points = advrob.curve(net, test, epsilons=epsilons, attacks=['pgd'])
        clean, robust = points[0]['clean_accuracy'], points[2]['robust_accuracy']
        print(f'{name:24} {100 * clean:5.1f} % clean  {100 * robust:5.1f} % under PGD at '
              f'{chosen.epsilon}  {net.macs:,} multiply-adds')
        report.add_row(net=name, clean=clean, robust=robust, multiply_adds=net.macs)
        report.add_series(name, [0, *epsilons], [clean, *(p['robust_accuracy'] for p in points)])
    report.save(chosen.out)
    print(f'the page is {chosen.out}')


if __name__ == '__main__':
    main()
