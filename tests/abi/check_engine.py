#!/usr/bin/env python3
"""The inference-only library: it is built (-Dcomponents=engine) and installed, its exports equal its
own list and its headers, it needs no more than the C library, and on engine files that the whole
library made it gives that library's bits, from ctypes and from the example classify: those that a
reading of the documents gives (engine_reader.py).

    check_engine.py LIBRARY.so SOURCE [CLASSIFY]      CLASSIFY: the example of the whole build
"""
import ctypes
import os
import subprocess
import sys
import tempfile
from ctypes import byref, c_char_p, c_float, c_int32, c_int64, c_void_p
from pathlib import Path

sys.dont_write_bytecode = True
import check_exports  # noqa: E402
from engine_reader import Engine  # noqa: E402

LIST = Path(__file__).resolve().parent / 'exports_engine.txt'
IMAGES = 20
U8 = 2  # ADVROB_U8
# Nodes of a net with what no zoo net has: name, operator, inputs, options.
NODES = [('a', 'conv2d', ['input'], 'outputs=5 kernel=3 padding=1 bias=1'), ('b', 'relu', ['a'], ''),
         ('c', 'conv2d', ['b'], 'outputs=6 kernel=3 padding=1'),  # of both signs: a zero point
         ('d', 'avg_pool', ['c'], 'kernel=3 stride=2 padding=1'),
         ('e', 'max_pool', ['c'], 'kernel=3 stride=2 padding=1'), ('f', 'concat', ['d', 'e'], ''),
         ('g', 'pad_channels', ['f'], 'before=1 after=2'), ('h', 'add', ['g', 'g'], ''),
         ('i', 'conv2d', ['h'], 'outputs=5 kernel=3 padding=2 dilation=2 bias=1'),
         ('j', 'global_avg_pool', ['i'], ''), ('k', 'linear', ['j'], 'outputs=7')]


def run(*command, **more):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)
    if done.returncode != 0:
        sys.exit(f'{" ".join(map(str, command))}: {done.stdout}{done.stderr}')
    return done.stdout


class Library:
    """A library and a context of it; calls by name, without the prefix."""

    def __init__(self, path):
        self.lib = ctypes.CDLL(str(path))
        self.lib.advrob_last_message.restype = c_char_p
        self.ctx = self.made('context_create', None)

    def call(self, name, *arguments):
        status = getattr(self.lib, 'advrob_' + name)(*arguments)
        if status != 0:
            sys.exit(f'{name}: {status}: {self.lib.advrob_last_message().decode()}')

    def made(self, name, *arguments):
        handle = c_void_p()
        self.call(name, *arguments, byref(handle))
        return handle

    def options(self, text):
        handle = self.made('options_create')
        for word in text.split():
            name, value = word.split('=')
            self.call('options_set_text', handle, name.encode(), value.encode())
        return handle

    def run(self, engine, pixels):
        """Logits of the bytes, as bytes."""
        logits = (c_float * (IMAGES * self.lib.advrob_engine_classes(engine)))()
        self.call('engine_run_u8', engine, c_int64(IMAGES), pixels, logits)
        return bytes(logits)


def own_net(full):
    model = full.made('model_begin', full.ctx, 2, 9, 8, None)
    for name, op, inputs, text in NODES:
        names = (c_char_p * len(inputs))(*[word.encode() for word in inputs])
        full.call('model_add', model, op.encode(), name.encode(), names, len(inputs),
                  full.options(text))
    full.call('model_initialise', model, b'he', c_int64(3))
    return model


def make_engine(full, model, path):
    """Pixels and the logits of the whole library; the engine's file goes to path."""
    shape = (c_int32 * 3)()
    full.call('model_input_shape', model, shape)
    size = IMAGES * shape[0] * shape[1] * shape[2]
    pixels = bytes((i * i * 31 + i * 7) % 251 for i in range(size))
    data = full.made('dataset_from_memory', full.ctx, U8, pixels, (c_int32 * IMAGES)(),
                     c_int64(IMAGES), *shape, full.lib.advrob_model_classes(model))
    quant = full.made('compressor_create', full.ctx, b'quant_ptq', full.options('activation_bits=7'))
    quantized = full.made('compressor_run', quant, model, data)
    engine = full.made('engine_create', quantized, None)
    full.call('engine_save', engine, str(path).encode())
    return pixels, full.run(engine, pixels)


def check_bits(full, small, folder, programs):
    """Every net: the small library's logits, and what both programs print."""
    failures = []
    nets = {name: full.made('model_build', full.ctx, name.encode(), None)
            for name in ('tiny_residual', 'lenet5', 'resnet20')}
    nets['own'] = own_net(full)
    for name, model in nets.items():
        path, image = Path(folder, name + '.advrob'), Path(folder, name + '.raw')
        pixels, wanted = make_engine(full, model, path)
        image.write_bytes(pixels)
        if len(set(wanted[i:i + 4] for i in range(0, len(wanted), 4))) < IMAGES:
            failures.append(f'{name}: all logits are alike, which proves nothing')
        engine = small.made('engine_load', small.ctx, str(path).encode())
        if small.run(engine, pixels) != wanted:
            failures.append(f'{name}: other logits than the whole library')
        if name != 'resnet20':  # too much for Python
            size, mine = len(pixels) // IMAGES, []
            for i in range(2):
                mine += Engine(path.read_bytes()).logits(pixels[i * size:(i + 1) * size])
            if bytes((c_float * len(mine))(*mine)) != wanted[:4 * len(mine)]:
                failures.append(f'{name}: other logits than docs/file-format.md and docs/engine.md say')
        printed = {run(program, path, image, len(pixels) // IMAGES) for program in programs}
        if len(printed) != 1 or not printed.pop().startswith('class '):
            failures.append(f'{name}: the two programs classify say different things')
    return failures


def main():
    library, source, *programs = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        build, root = Path(folder, 'build'), Path(folder, 'root')
        run('meson', 'setup', build, source, '-Dcomponents=engine')
        run('meson', 'compile', '-C', build)
        print((build / 'examples' / 'size.txt').read_text().rstrip())
        run('meson', 'install', '-C', build, '--no-rebuild', '--quiet',
            env=dict(os.environ, DESTDIR=str(root)))
        so = next(root.rglob('libadvrob_engine.so.0'))
        archive = next(root.rglob('libadvrob_engine.a'))
        include = next(root.rglob('include')) / 'advrob'
        failures = check_exports.check(so, archive, include, LIST, 'libadvrob_engine.so.0')
        whole = set(check_exports.LIST.read_text().split())
        failures += [f'{name} is not in exports.txt' for name in LIST.read_text().split()
                     if name not in whole]
        if 'libz' in check_exports.output('readelf', '-dW', so):
            failures.append('needs zlib')
        failures += check_bits(Library(library), Library(so), folder,
                               [build / 'examples' / 'classify', *programs])
    print('\n'.join(failures) or 'the inference-only library holds')
    return bool(failures)


if __name__ == '__main__':
    sys.exit(main())
