#!/usr/bin/env python3
"""PGD, APGD and AutoAttack "standard" on cifar10-resnet-2b: libadvrob against torchattacks, adv-lib
and the authors' AutoAttack, images still right and time as a ratio.

    autoattack.py MODELS CIFAR10 LIBRARY [--original DIR] [--images 500] [--repeats 3] [--capped]
                  [--only pgd,apgd,standard] [--threads 2] [--json FILE]

MODELS: shared/models; CIFAR10: the folder of test_batch.bin; LIBRARY: libadvrob.so; --original: a
clone of fra31/auto-attack (otherwise the package pyautoattack). Ours and the peer take turns; each
row has the best of --repeats on both sides. The peers' net is eager, channels_last or compiled,
whichever takes a gradient fastest here. --capped holds PyTorch to AVX2, which is what our kernels use.
"""
import argparse
import json
import os
import pathlib
import sys
import time
import types

CAPS = {'ONEDNN_MAX_CPU_ISA': 'AVX2', 'ATEN_CPU_CAPABILITY': 'avx2',
        'MKL_ENABLE_INSTRUCTIONS': 'AVX2'}
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
EPSILON = 2 / 255
PGD = {'steps': 40, 'step': 0.5 / 255}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    for name in ('models', 'cifar10', 'library'):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument('--original', type=pathlib.Path)
    parser.add_argument('--images', type=int, default=500)
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--only', default='pgd,apgd,standard')
    parser.add_argument('--capped', action='store_true')
    parser.add_argument('--json', type=pathlib.Path)
    return parser.parse_args()


def build_ours(library, weights):
    """The net node by node."""
    import ctypes

    def options(**values):
        return library.options({key: value for key, value in values.items() if value is not None})

    model = library.made('advrob_model_begin', library.ctx, 3, 32, 32,
                         options(mean=','.join(map(str, MEAN)), std=','.join(map(str, STD))))

    def add(op, name, *inputs, **values):
        names = (ctypes.c_char_p * len(inputs))(*(text.encode() for text in inputs))
        library.call('advrob_model_add', model, op.encode(), name.encode(), names, len(inputs),
                     options(**values))
        return name

    def conv(name, x, outputs, kernel, stride=1):
        return add('conv2d', name, x, outputs=outputs, kernel=kernel, stride=stride,
                   padding=kernel // 2)

    x = add('relu', 'relu1', conv('conv1', 'input', 8, 3, 2))
    y = add('relu', 'relu2', conv('layer1.0.conv1', x, 16, 3, 2))
    y = add('add', 'add1', conv('layer1.0.conv2', y, 16, 3), conv('layer1.0.shortcut.0', x, 16, 1, 2))
    x = add('relu', 'relu3', y)
    y = add('relu', 'relu4', conv('layer1.1.conv1', x, 16, 3))
    y = add('add', 'add2', conv('layer1.1.conv2', y, 16, 3), x)
    x = add('flatten', 'flatten', add('relu', 'relu5', y))
    x = add('relu', 'relu6', add('linear', 'linear1', x, outputs=100))
    add('linear', 'linear2', x, outputs=10)
    library.call('advrob_model_load_weights', model, str(weights).encode())
    return library.target(model)


def build_peer(weights):
    import safetensors.torch
    import torch
    import torch.nn.functional as F
    w = safetensors.torch.load_file(weights)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, value in w.items():
                self.register_buffer(name.replace('.', '_'), value)
            self.register_buffer('mean', torch.tensor(MEAN).view(3, 1, 1))
            self.register_buffer('std', torch.tensor(STD).view(3, 1, 1))

        def conv(self, x, name, stride=1):
            name = name.replace('.', '_')
            weight = getattr(self, name + '_weight')
            return F.conv2d(x, weight, getattr(self, name + '_bias'), stride, weight.shape[2] // 2)

        def forward(self, x):
            x = F.relu(self.conv((x - self.mean) / self.std, 'conv1', 2))
            x = F.relu(self.conv(F.relu(self.conv(x, 'layer1.0.conv1', 2)), 'layer1.0.conv2')
                       + self.conv(x, 'layer1.0.shortcut.0', 2))
            x = F.relu(self.conv(F.relu(self.conv(x, 'layer1.1.conv1')), 'layer1.1.conv2') + x)
            x = F.relu(F.linear(x.flatten(1), self.linear1_weight, self.linear1_bias))
            return F.linear(x, self.linear2_weight, self.linear2_bias)

    return Net().eval()


def read_images(folder, count):
    import numpy
    records = numpy.fromfile(folder / 'test_batch.bin', numpy.uint8).reshape(-1, 3073)[:count]
    x = records[:, 1:].reshape(-1, 3, 32, 32).astype(numpy.float32) / numpy.float32(255)
    return numpy.ascontiguousarray(x), records[:, 0].astype(numpy.int32)


def ours(library, target, x, y, name, **options):
    """Images still right, of all; the work of advrob_attack_run on those that are right."""
    import numpy
    attack = library.attack(name, epsilon=EPSILON, **options)
    right = library.logits(target, x).argmax(1) == y
    images, labels = numpy.ascontiguousarray(x[right]), numpy.ascontiguousarray(y[right])
    predictions = numpy.empty(len(labels), numpy.int32)
    library.run_attack(attack, target, images, labels, predictions=predictions)
    library.lib.advrob_attack_destroy(attack)
    return int((predictions == labels).sum())


def peers(original):
    """{row: {peer: function(net, x, y) -> images still right}}"""
    import torch
    sys.modules.setdefault('visdom', types.ModuleType('visdom'))  # adv-lib imports it, unused
    import torchattacks
    from adv_lib.attacks import apgd, pgd_linf
    if original:
        sys.path.insert(0, str(original))
        from autoattack import AutoAttack
        from autoattack.autopgd_base import APGDAttack
    else:
        from pyautoattack import AutoAttack
        from pyautoattack.autopgd_base import APGDAttack

    def right(net, x, y):
        with torch.no_grad():
            return int((net(x).argmax(1) == y).sum())

    def only_right(attack):
        def run(net, x, y):
            with torch.no_grad():
                keep = net(x).argmax(1) == y
            return right(net, attack(net, x[keep], y[keep]), y[keep])
        return run

    def standard(net, x, y):
        attack = AutoAttack(net, norm='Linf', eps=EPSILON, version='standard', device='cpu',
                            **({'verbose': False} if original else {}))
        attack.seed = 0
        return right(net, attack.run_standard_evaluation(x, y, bs=len(x)), y)

    authors = 'fra31' if original else 'pyautoattack'
    return {
        'pgd': {
            'torchattacks': only_right(lambda net, x, y: torchattacks.PGD(
                net, EPSILON, PGD['step'], PGD['steps'])(x, y)),
            'adv-lib': only_right(lambda net, x, y: pgd_linf(
                net, x, y, EPSILON, steps=PGD['steps'], absolute_step_size=PGD['step']))},
        'apgd': {
            authors: only_right(lambda net, x, y: APGDAttack(
                net, n_iter=100, norm='Linf', eps=EPSILON, seed=0, device='cpu').perturb(x, y)),
            'torchattacks': only_right(lambda net, x, y: torchattacks.APGD(
                net, 'Linf', EPSILON, steps=100)(x, y)),
            'adv-lib': only_right(lambda net, x, y: apgd(net, x, y, EPSILON, norm=float('inf'),
                                                         n_iter=100))},
        'standard': {authors: standard},
    }


OURS = {'pgd': ('pgd', {'early_stop': 1, **PGD}), 'apgd': ('apgd', {}), 'standard': ('autoattack', {})}


def fastest(net, x):
    """The net in the variant that takes forward and input gradient fastest, and its name."""
    import torch

    def gradient(variant):
        images = x.clone().requires_grad_()
        return torch.autograd.grad(variant(images).logsumexp(1).sum(), images)

    class ChannelsLast(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, images):
            return self.net(images.contiguous(memory_format=torch.channels_last))

    variants = {'eager': net, 'channels_last': ChannelsLast().eval(),
                'compiled': torch.compile(net, dynamic=True)}
    seconds = {}
    for name, variant in variants.items():
        try:
            gradient(variant)
            seconds[name] = min(timed(lambda: gradient(variant))[1] for _ in range(5))
        except Exception as failure:  # of the compiler, where there is none
            print(f'{name}: {type(failure).__name__}', file=sys.stderr)
    name = min(seconds, key=seconds.get)
    print('a gradient of all images: ' + ', '.join(f'{n} {1e3 * s:.0f} ms' for n, s in seconds.items()))
    return variants[name], name


def timed(work):
    start = time.perf_counter()
    answer = work()
    return answer, time.perf_counter() - start


def main():
    told = arguments()
    if told.capped and os.environ.get('ATEN_CPU_CAPABILITY') != CAPS['ATEN_CPU_CAPABILITY']:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **CAPS})
    import torch
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    from advrob import Library
    torch.set_num_threads(told.threads)
    weights = told.models / 'cifar10-resnet-2b.safetensors'
    library = Library(str(told.library), {'threads': told.threads})
    target, net = build_ours(library, weights), build_peer(weights)
    x, y = read_images(told.cifar10, told.images)
    tx, ty = torch.from_numpy(x), torch.from_numpy(y).long()
    with torch.no_grad():
        off = abs(net(tx).numpy() - library.logits(target, x)).max()
    if off > 1e-4:
        raise SystemExit(f'the logits differ by {off}')
    net, variant = fastest(net, tx)
    rows = []
    print(f'{told.images} images, epsilon 2/255, {told.threads} threads, PyTorch '
          f'{torch.__version__} ({torch.backends.cpu.get_cpu_capability()}), logits within {off:.1e}, {variant}')
    for row, opponents in peers(told.original).items():
        if row not in told.only.split(','):
            continue
        name, options = OURS[row]
        for peer, attack in opponents.items():
            best, robust = [float('inf')] * 2, [0, 0]
            for _ in range(told.repeats):
                robust[0], seconds = timed(lambda: ours(library, target, x, y, name, **options))
                best[0] = min(best[0], seconds)
                robust[1], seconds = timed(lambda: attack(net, tx, ty))
                best[1] = min(best[1], seconds)
            rows.append({'attack': row, 'peer': peer, 'robust': robust[0], 'peer_robust': robust[1],
                         'seconds': best[0], 'peer_seconds': best[1], 'share': best[0] / best[1]})
            print(f'{row} against {peer}: {robust[0]} and {robust[1]} images right, '
                  f'{best[0]:.2f} s and {best[1]:.2f} s: {best[0] / best[1]:.3f} of its time', flush=True)
    if told.json:
        told.json.write_text(json.dumps({'rows': rows, 'threads': told.threads, 'images': told.images,
                                         'torch': torch.__version__, 'variant': variant, 'capped': told.capped}, indent=1))


if __name__ == '__main__':
    main()
