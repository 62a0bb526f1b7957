"""python -m advrob: the library from the command line."""
import argparse
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np

from . import __version__, _library, options
from .attack import Attack
from .compress import compress, plan
from .context import Context, current
from .dataset import Dataset
from .engine import Engine
from .evaluate import curve, evaluate
from .finetune import finetune
from .model import Model
from .options import component_help, components
from .report import Report

NET = 'a .safetensors model, an engine\'s file, or zoo:NAME or zoo:NAME:weights.safetensors'
DATA = 'a folder with MNIST\'s, Fashion-MNIST\'s or CIFAR-10\'s files, or an .npz with x and y'


# ---- What the arguments name ----

def open_net(text: str) -> Union[Model, Engine]:
    if text.startswith('zoo:'):
        name, _, weights = text[4:].partition(':')
        return Model.build(name, weights=weights or None)
    with open(text, 'rb') as file:
        is_model = file.read(9)[8:] == b'{'  # safetensors: a length of 8 bytes, then JSON
    return Model.load(text) if is_model else Engine.load(text)


def open_model(text: str) -> Model:
    net = open_net(text)
    if not isinstance(net, Model):
        raise ValueError(f'{text} is an engine, expected a model')
    return net


def open_data(path: str, split: str, limit: int) -> Dataset:
    folder = Path(path)
    if folder.suffix == '.npz':
        with np.load(folder) as file:
            missing = {'x', 'y'} - set(file.files)
            if missing:
                raise ValueError(f'{path} holds {", ".join(file.files)}, expected x [n, c, h, w] and y [n]')
            return Dataset(file['x'][:limit or None], file['y'][:limit or None])
    if not folder.is_dir():
        raise FileNotFoundError(2, f'no such folder, nor an .npz file: {path}')
    names = [entry.name for place in (folder, folder / 'cifar-10-batches-bin') if place.is_dir()
             for entry in place.iterdir()]
    kind = 'cifar10' if any(name.startswith(('data_batch', 'test_batch')) for name in names) else 'mnist'
    return Dataset.open(kind, path, split=split, limit=limit)


def named(pairs: Sequence[str]) -> Dict[str, str]:
    """NAME=VALUE of --option; the library reads the values."""
    wrong = [pair for pair in pairs if '=' not in pair]
    if wrong:
        raise ValueError(f'--option {wrong[0]}: expected NAME=VALUE')
    return dict(pair.split('=', 1) for pair in pairs)


def chosen(arguments: argparse.Namespace, *names: str) -> Dict[str, Any]:
    """Those of the named arguments that were given, and all of --option."""
    given = {name: getattr(arguments, name) for name in names}
    return {**{name: value for name, value in given.items() if value is not None},
            **named(arguments.option)}


def percent(share: float) -> str:
    return f'{100 * share:.2f} %'


# ---- Commands ----

def show() -> int:
    """Version, library and machine: what a bug report needs."""
    context = current()
    print(f'advrob {__version__}\nlibrary {_library.library_path}\ncpu {context.cpu}\n'
          f'blas {blas_of(Path(_library.library_path))}\nthreads {context.threads}\n'
          f'numpy {np.__version__}\npython {sys.version.split()[0]}')
    return 0


def blas_of(path: Path) -> str:
    """The BLAS that a library names among those it needs."""
    if not path.exists():  # found by the system's loader
        return 'unknown'
    found = re.search(rb'lib(?:openblas|blas|cblas)[\w.-]*\.so[.\d]*', path.read_bytes())
    return found.group().decode() if found else 'none'


def list_components(arguments: argparse.Namespace) -> int:
    """What there is: kinds, components of a kind, options of a component."""
    if arguments.kind is None:
        print('\n'.join(components()))
    elif arguments.name is None:
        print('\n'.join(f'{name:24} {component_help(arguments.kind, name)}'
                        for name in components(arguments.kind)))
    else:
        for option in options(arguments.kind, arguments.name):
            print(f'{option.name:24} {option.type:13} default {option.default or "-":12} '
                  f'{option.range or "-"}\n{"":24} {option.help}')
    return 0


def run_evaluate(arguments: argparse.Namespace) -> int:
    net = open_net(arguments.net)
    data = open_data(arguments.data, arguments.split, arguments.limit)
    result = evaluate(net, data, attacks=arguments.attack, progress=arguments.progress,
                      title=f'{arguments.net} under attack', **chosen(arguments, 'epsilon'))
    if arguments.json:
        print(json.dumps(result.row))
    else:
        for name, share in {'clean': result.clean, **result.attacks}.items():
            low, high = (percent(result.row[f'{name}_{end}']) for end in ('low', 'high'))
            print(f'{name:20} {percent(share)}   (95 %: {low} to {high})')
        print(f'{"robust":20} {percent(result.robust)}   of {len(data)} images')
    if arguments.out:
        result.save(arguments.out)
    return int(result.robust < arguments.min_robust)


def run_attack(arguments: argparse.Namespace) -> int:
    net = open_net(arguments.net)
    x, y = open_data(arguments.data, arguments.split, arguments.limit).arrays()
    attack = Attack(arguments.attack, **chosen(arguments, 'epsilon', 'steps'))
    done = attack(net, x, y, progress=arguments.progress)
    np.savez_compressed(arguments.out, x=done.images, y=y, predictions=done.predictions)
    print(f'{done.fooled.sum()} of {len(y)} images are wrong; they are in {arguments.out}')
    return 0


def run_prune(arguments: argparse.Namespace) -> int:
    model = open_model(arguments.net)
    data = None if arguments.data is None else open_data(arguments.data, 'train', arguments.limit)
    settings = chosen(arguments, 'sparsity')
    if arguments.plan:
        print(plan(arguments.method, model, data, **settings), end='')
        return 0
    small = compress(arguments.method, model, data, **settings)
    small.save(arguments.out)
    print(f'{model}\n{small}')
    return 0


def run_quantize(arguments: argparse.Namespace) -> int:
    data = open_data(arguments.data, 'train', arguments.limit)
    quantized = compress('quant_ptq', open_model(arguments.net), data,
                         **chosen(arguments, 'weight_bits', 'activation_bits'))
    quantized.save(arguments.out)
    print(f'{arguments.out}: {quantized}')
    if arguments.engine:
        engine = Engine(quantized)
        engine.save(arguments.engine)
        print(f'{arguments.engine}: {engine}')
    return 0


def run_finetune(arguments: argparse.Namespace) -> int:
    model = open_model(arguments.net)
    data = open_data(arguments.data, 'train', arguments.limit)
    train, valid = data, None
    if arguments.valid:
        valid, train = data.split(arguments.valid, 0)
    settings = chosen(arguments, 'epochs', 'lr', 'batch_size', 'momentum')
    if arguments.epsilon is not None:
        settings['attack.epsilon'] = arguments.epsilon
    began = time.monotonic()
    history = finetune(arguments.method, model, train, valid, progress=arguments.progress, **settings)
    for row in history.rows:
        print('  '.join(f'{name} {row[name]:.4g}' for name in ('epoch', 'loss', 'accuracy',
                                                               'valid_accuracy', 'valid_robust_accuracy')
                        if row[name] == row[name]))
    model.save(arguments.out)
    print(f'{arguments.out}: {history.ended} in {time.monotonic() - began:.1f} s')
    return 0


def run_report(arguments: argparse.Namespace) -> int:
    """A page: accuracy by epsilon of each net, their sizes."""
    data = open_data(arguments.data, arguments.split, arguments.limit)
    epsilons = [0.5, 1, 2, 4, 8, 16] if arguments.epsilons is None else arguments.epsilons
    report = Report(f'Under attack: {arguments.data}', command=' '.join(sys.argv))
    report.add_plot('Accuracy by epsilon', 'epsilon (255ths)', 'accuracy', y_low=0, y_high=1, percent_y=1)
    rows = []
    for text in arguments.nets:
        net = open_net(text)
        points = curve(net, data, epsilons=[value / 255 for value in epsilons], attacks=arguments.attack,
                       progress=arguments.progress, **named(arguments.option))
        clean = points[0]['clean_accuracy']
        report.add_series(Path(text).name, [0, *epsilons],
                          [clean, *(point['robust_accuracy'] for point in points)])
        for point in points:
            report.add_row(net=text, **point)
        rows.append([Path(text).name, percent(clean), percent(points[-1]['robust_accuracy']), size(net)])
    report.add_table('Nets', ['net', 'clean', f'at {epsilons[-1]:g}/255', 'size'], rows)
    report.save(arguments.out)
    print(f'{arguments.out}: {len(rows)} nets on {len(data)} images')
    return 0


def size(net: Union[Model, Engine]) -> str:
    if isinstance(net, Engine):
        return f'{net.memory()[0]:,} bytes, integers'
    return f'{net.parameter_total:,} parameters, {net.macs:,} multiply-adds'


# ---- Arguments ----

def fraction(text: str) -> float:
    """0.03 or 8/255."""
    over, _, under = text.partition('/')
    return float(over) / float(under or 1)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog='advrob', description='Attack, compress, fine-tune and measure small neural networks.',
        epilog='Without a command: version, library and machine. Any option of the library: --option '
               'NAME=VALUE; "advrob components attack pgd" lists them.')
    top.add_argument('--selftest', action='store_true', help='a few seconds of checks')
    top.add_argument('--version', action='version', version=f'advrob {__version__}')
    commands = top.add_subparsers(title='commands', metavar='')

    listing = commands.add_parser('components', help='what there is, and its options')
    listing.add_argument('kind', nargs='?', help=', '.join(components()))
    listing.add_argument('name', nargs='?')
    listing.set_defaults(run=list_components)

    one = add_command(commands, 'evaluate', run_evaluate, 'accuracy, clean and under attacks', 'test')
    one.add_argument('net', help=NET)
    one.add_argument('data', help=DATA)
    one.add_argument('--attack', action='append', default=[], help='may be given several times')
    one.add_argument('--epsilon', help='radius in pixels of [0, 1]: 0.03 or 8/255')
    one.add_argument('--min-robust', type=float, default=0, metavar='SHARE',
                     help='end with status 1 below this share of robust images')
    one.add_argument('--json', action='store_true', help='all figures as JSON')
    one.add_argument('--out', help='a report: .html, .json or .csv')

    one = add_command(commands, 'attack', run_attack, 'adversarial images as an .npz file', 'test')
    one.add_argument('net', help=NET)
    one.add_argument('data', help=DATA)
    one.add_argument('out', help='the .npz file: x, y, predictions')
    one.add_argument('--attack', default='pgd', help='default: pgd')
    one.add_argument('--epsilon', help='radius in pixels of [0, 1]: 0.03 or 8/255')
    one.add_argument('--steps')

    one = add_command(commands, 'prune', run_prune, 'remove filters', None)
    one.add_argument('net', help=NET)
    one.add_argument('out', help='the smaller model')
    one.add_argument('--method', default='prune_l1', help='default: prune_l1')
    one.add_argument('--sparsity', help='share of filters that go')
    one.add_argument('--data', help=f'for prune_taylor: {DATA}')
    one.add_argument('--plan', action='store_true', help='only print what would be done')

    one = add_command(commands, 'quantize', run_quantize, 'a quantized model and its integer engine', None)
    one.add_argument('net', help=NET)
    one.add_argument('data', help=f'calibration: {DATA}')
    one.add_argument('out', help='the quantized model')
    one.add_argument('--weight-bits')
    one.add_argument('--activation-bits')
    one.add_argument('--engine', help='also write the integer program to this file')

    one = add_command(commands, 'finetune', run_finetune, 'train, clean or adversarially', None)
    one.add_argument('net', help=NET)
    one.add_argument('data', help=DATA)
    one.add_argument('out', help='the trained model')
    one.add_argument('--method', default='pgd_at', help='standard or pgd_at (default)')
    for name in ('epochs', 'lr', 'momentum', 'batch-size'):
        one.add_argument(f'--{name}')
    one.add_argument('--epsilon', help='of the attack of the training: 0.03 or 8/255')
    one.add_argument('--valid', type=int, default=0, metavar='N',
                     help='keep N images aside; the model ends as its best epoch on them')

    one = add_command(commands, 'report', run_report, 'a page that compares nets under attack', 'test')
    one.add_argument('data', help=DATA)
    one.add_argument('nets', nargs='+', metavar='net', help=NET)
    one.add_argument('--out', default='report.html', help='default: report.html')
    one.add_argument('--attack', action='append', default=None, help='default: pgd')
    one.add_argument('--epsilons', type=fraction, nargs='+', help='in 255ths; default: 0.5 1 2 4 8 16')
    return top


def add_command(commands: Any, name: str, run: Any, text: str, split: Optional[str]) -> Any:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + '.')
    command.set_defaults(run=run, split=split)
    command.add_argument('--option', action='append', default=[], metavar='NAME=VALUE',
                         help='any option of the library; may be given several times')
    command.add_argument('--limit', type=int, default=0, metavar='N', help='only the first N images')
    command.add_argument('--threads', type=int, default=0, help='0: one per core')
    command.add_argument('--seed', type=int, default=0)
    command.add_argument('--cpu', default='auto', help='auto, portable or avx2')
    command.add_argument('--quiet', action='store_true', help='no progress bar')
    if split is not None:
        command.add_argument('--split', default=split, help=f'train or test; default: {split}')
    return command


def main(argv: Optional[List[str]] = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        if arguments.selftest:
            from .selftest import selftest
            return int(selftest())
        if not hasattr(arguments, 'run'):
            return show()
        if arguments.run is list_components:
            return int(list_components(arguments))
        arguments.progress = not arguments.quiet and sys.stderr.isatty()
        with Context(threads=arguments.threads, seed=arguments.seed, cpu=arguments.cpu):
            return int(arguments.run(arguments))
    except KeyboardInterrupt:
        print('advrob: interrupted', file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # a message in place of a traceback
        print(f'advrob: error: {error}', file=sys.stderr)
        return 2
