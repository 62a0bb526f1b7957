#!/usr/bin/env python3
"""The program examples/reproduce from outside, on the preset "tiny": the same figures for any number
of threads, going on after Ctrl-C and after a kill, the page, and refusal of bad input with one line.

    check_reproduce.py BUILD      BUILD is the build folder

Needs Fashion-MNIST (dataset-fashion-mnist); without it the test is skipped, but fails where CI is set.
"""
import base64
import csv
import gzip
import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DATA = Path('/usr/share/datasets/fashion-mnist')
SKIP = 77
PROGRESS = re.compile(r'\d+/\d+ |\d+ points?, about .* on this machine \(estimate\)$')
RUN_LIMIT = 600


class Failure(Exception):
    pass


def expect(truth, text):
    if not truth:
        raise Failure(text)


def find_program(build):
    found = [path for path in sorted(Path(build, 'examples').rglob('reproduce'))
             if path.is_file() and os.access(path, os.X_OK)]
    expect(found, f'no program "reproduce" under {build}/examples')
    return str(found[0])


def run(program, *arguments, limits=None, limit=RUN_LIMIT):
    """A finished run: status, stdout, stderr."""
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True,
                          timeout=limit, preexec_fn=limits, stdin=subprocess.DEVNULL)


def tiny(program, out, *more, threads=2):
    done = run(program, '--preset', 'tiny', '--data', DATA, '--out', out, '--threads', threads, *more)
    expect(done.returncode == 0, f'run into {out} ended with {done.returncode}: {done.stderr}')
    return done


# Results

def is_time(column):
    """Figures of time and energy are not of the net."""
    return column.startswith('latency_') or column.endswith(('seconds', 'joules'))


def rows(folder, name='results.csv'):
    """The rows of a CSV file, less the columns that hold time."""
    with open(Path(folder, name), newline='', encoding='utf-8') as file:
        table = list(csv.reader(file))
    expect(len(table) > 1, f'{folder}/{name} has no rows')
    expect(all(len(row) == len(table[0]) for row in table), f'{folder}/{name} is ragged')
    kept = [i for i, name in enumerate(table[0]) if not is_time(name)]
    return [[row[i] for i in kept] for row in table]


def models(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder, 'models').iterdir())}


TABLES = ['results.csv', 'history.csv', 'classes.csv', 'curves.csv', 'transfer.csv']


def check_same(one, other, what, part=False):
    """Equal rows and models; with `part`, `other` may have fewer of both."""
    for name in TABLES:
        if part and not Path(other, name).exists():
            continue
        a, b = rows(one, name), rows(other, name)
        expect(a[0] == b[0], f'{what}: {name}: other columns: {a[0]} and {b[0]}')
        expect(part or len(a) == len(b), f'{what}: {name}: {len(a) - 1} rows and {len(b) - 1} rows')
        for row in b[1:]:
            expect(row in a, f'{what}: {name}: no twin of row {dict(zip(a[0], row))}')
            expect(b.count(row) == 1, f'{what}: {name}: twice: {row}')
    first, second = models(one), models(other)
    expect(part or first.keys() == second.keys(), f'{what}: other models')
    for name, data in second.items():
        expect(data == first.get(name), f'{what}: {name} has other bytes')


def check_files(folder):
    """Whatever lies in the folder is whole."""
    for path in Path(folder).rglob('*'):
        expect('.tmp' not in path.name, f'{path} was left behind')
        if path.name.endswith('.json'):
            json.loads(path.read_text(encoding='utf-8'))
        elif path.name.endswith('.safetensors'):
            check_safetensors(path)
        elif path.name == 'results.csv' and path.stat().st_size:
            rows(folder)


def check_page(folder, *texts):
    """The finished folder: nothing at work any more, the page whole, by itself and with `texts`."""
    expect(not list(Path(folder, 'checkpoints').iterdir()), f'{folder}: checkpoints were left')
    page = Path(folder, 'report.html').read_text(encoding='utf-8')
    expect(page.lower().startswith('<!doctype html>') and page.rstrip().endswith('</html>'),
           f'{folder}: report.html is no whole page')
    expect(not re.search(r'(src|href)="https?:', page), f'{folder}: report.html loads from elsewhere')
    for text in ('PGD-20', '--preset tiny', 'paper, clean', *texts):
        expect(text in page, f'{folder}: report.html lacks {text!r}')
    plots = rows(folder, 'plots.csv')
    expect(len(plots) > 50, f'{folder}: plots.csv has {len(plots)} lines')


def check_efficiency(folder):
    """What ships has a size, memory and times; the size is that of the file."""
    for row in read_rows(folder):
        kind = 'advrob' if row['execution'] == 'integer' else 'safetensors'
        size = Path(folder, 'models', f'{row["model_file"]}.{kind}').stat().st_size
        columns = ['bytes', 'memory_bytes', 'latency_ms_batch1', 'latency_ms_batch64',
                   'latency_ms_batch1_threads1', 'latency_ms_batch64_threads1', 'latency_threads']
        if row['execution'] == 'simulated':
            expect(not any(row[name] for name in columns), f'a simulated net has {row}')
            continue
        expect(int(row['bytes']) == size, f'{row["model_file"]} has {size} bytes, not {row["bytes"]}')
        expect(int(row['memory_bytes']) > size, f'{row["model_file"]} runs in {row["memory_bytes"]}')
        expect(all(float(row[name]) > 0 for name in columns), f'no time in {row}')
        for phase in ('base', 'finetune', 'score'):
            expect(float(row[f'{phase}_cpu_seconds']) >= 0, f'no CPU time in {row}')
            joules = row[f'{phase}_joules']
            expect(joules == 'unavailable' or float(joules) >= 0, f'{joules} joules')


def read_rows(folder, name='results.csv'):
    with open(Path(folder, name), newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def check_integers(folder, refused=()):
    """Behind each simulated net stands the same in integers, or why it has no such form: for levels in
    `refused`."""
    table = read_rows(folder)
    floats = {row['base']: int(row['bytes']) for row in table if row['compression'] == 'none'}
    cells = {(row['source'], row['target']): row for row in read_rows(folder, 'transfer.csv')}
    found = [index for index, row in enumerate(table) if row['execution'] == 'simulated']
    expect(found, f'{folder} has no simulated nets')
    expect(len(found) == sum(row['execution'] == 'integer' for row in table) +
           sum(bool(row['refused']) for row in table), f'{folder}: integers without their simulation')
    for index in found:
        row, strong = table[index], table[index]
        if row['level'] in refused:
            expect(row['refused'].startswith('engine: node '), f'no reason in {row}')
        else:
            strong = table[index + 1]
            names = ('base', 'compression', 'level', 'order', 'finetune', 'seed', 'model_digest')
            expect(strong['execution'] == 'integer' and all(row[n] == strong[n] for n in names),
                   f'{strong} stands behind {row}')
            check_integer_row(row, strong, floats[row['base']], cells)
        share, images = float(strong['autoattack_lite_accuracy']), int(strong['autoattack_lite_images'])
        expect(0 <= share <= 1 and images == 10, f'no strong attack in {strong}')
    for (source, target), cell in cells.items():
        expect(0 <= float(cell['low']) <= float(cell['accuracy']) <= float(cell['high']) <= 1 and
               float(cell['accuracy']) <= float(cell['clean_accuracy']), f'{cell}')
    check_diagonal(folder, cells)


def check_integer_row(row, integers, whole, cells):
    """Few codes differ from the simulation's, so few answers do; a quarter of the float net's file. An
    attack on a net in integers is that on the net in the matrix: its first images are the same."""
    expect(abs(float(row['clean_accuracy']) - float(integers['clean_accuracy'])) <= 0.02,
           f'{integers["clean_accuracy"]} in integers of {row}')
    expect(row['autoattack_lite_accuracy'] == row['verdict'] == row['refused'] == '', f'{row}')
    expect(integers['pgd20_images'] == integers['check_images'] == '10', f'{integers}')
    expect(row['pgd20_images'] == row['test_images'] == integers['test_images'] == '200', f'{row}')
    expect(int(integers['bytes']) <= 0.27 * whole, f'{integers["bytes"]} bytes of {whole}')
    verdict, reasons = integers['verdict'], integers['reasons']
    expect(verdict in ('reliable', 'unreliable') and bool(reasons) == (verdict == 'unreliable'),
           f'verdict {verdict}: {reasons}')
    net = integers['model_file']
    if (net, net) in cells:
        expect(cells[net, net]['accuracy'] == integers['pgd20_accuracy'],
               f'{cells[net, net]} and {integers}')


def check_diagonal(folder, cells):
    """The base under its own attack, in the matrix and in the curve, which has the same step there."""
    curve = [row for row in read_rows(folder, 'curves.csv') if float(row['epsilon']) == 0.05]
    for row in curve:
        cell = cells.get((row['net'], row['net']))
        expect(cell is None or cell['accuracy'] == row['accuracy'], f'{cell} and {row}')
    expect(any((row['net'], row['net']) in cells for row in curve), f'{folder}: no base in transfer.csv')


def check_safetensors(path):
    data = path.read_bytes()
    expect(len(data) > 8, f'{path} is cut')
    length = struct.unpack('<Q', data[:8])[0]
    header = json.loads(data[8:8 + length])
    end = max(entry['data_offsets'][1] for name, entry in header.items() if name != '__metadata__')
    expect(8 + length + end == len(data), f'{path} is cut')


# Cases. HALF and BASE are runs of fewer points, to save time.

HALF = ['--base', 'standard', '--only', 'base,prune']
BASE = ['--base', 'standard', '--only', 'base']


def case_threads(program, folder):
    """The same bits for 1, 2 and 3 threads; with 1 and 3 on half of the points."""
    for threads, part in ((2, []), (1, HALF), (3, HALF)):
        tiny(program, folder / f't{threads}', *part, threads=threads)
        check_files(folder / f't{threads}')
        check_efficiency(folder / f't{threads}')
    check_page(folder / 't2', 'Ankle boot', 'Quantized nets in integers', 'int8, integers',
               'Transfer between nets of the standard base, adversarially fine-tuned')
    check_integers(folder / 't2')
    check_same(folder / 't2', folder / 't1', '1 and 2 threads', part=True)
    check_same(folder / 't2', folder / 't3', '2 and 3 threads', part=True)


def case_again(program, folder):
    """A second run repeats nothing; --fresh does all anew."""
    out = folder / 'again'
    shutil.copytree(folder / 't2', out)
    before = (out / 'results.csv').read_bytes()
    (out / 'checkpoints' / 'standard-seed1.0').write_text('left by a kill')
    seconds = []
    for _ in range(2):
        start = time.monotonic()
        tiny(program, out)
        seconds.append(time.monotonic() - start)
    expect(min(seconds) < 2, f'a second run took {min(seconds):.1f} s')
    expect((out / 'results.csv').read_bytes() == before, 'a second run changed results.csv')
    check_page(out, 'Ankle boot')
    done = run(program, '--preset', 'tiny', '--data', DATA, '--out', out, '--resume', '--fresh')
    check_refusal('--resume --fresh', done, (2,))
    tiny(program, out, '--resume')
    expect((out / 'results.csv').read_bytes() == before, '--resume changed results.csv')
    tiny(program, out, '--base', 'standard', '--only', 'quant:int16', '--finetune', 'standard', '--order',
         'finetune_then_quantize')
    check_integers(out, refused=['int16'])
    check_page(out, 'Nets that stay simulated', 'int16, simulated')
    written = {path: path.stat().st_mtime_ns for path in (out / 'models').iterdir()}
    tiny(program, out, '--fresh', *BASE)
    check_same(folder / 't2', out, 'first and fresh run', part=True)
    expect(len(rows(out)) < len(rows(folder / 't2')), '--fresh kept rows')
    for path in (out / 'models').iterdir():
        expect(path.stat().st_mtime_ns > written[path], f'--fresh kept {path.name}')


def case_doubted(program, folder):
    """A verdict that a check would give, written into the results: no figure of that net under attack is
    shown as robust, neither in the table nor on the page."""
    out = folder / 'doubted'
    shutil.copytree(folder / 't2', out)
    table = read_rows(out)
    doubted = next(row for row in table if row['execution'] == 'integer' and row['finetune'] == 'none')
    doubted.update(verdict='unreliable', reasons='made up for a test')
    with open(out / 'results.csv', 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, table[0].keys(), lineterminator='\n')
        writer.writeheader()
        writer.writerows(table)
    done = tiny(program, out)
    share = 100 * float(doubted['pgd20_accuracy'])
    lines = [line for line in done.stdout.splitlines() if f'unreliable ({share:.1f})' in line]
    expect(len(lines) == 1 and lines[0].split()[:4] == ['standard', 'int8,', 'integers', 'none'],
           f'the table has {lines}')
    check_page(out, f'unreliable ({share:.1f} %)', 'unreliable: made up for a test',
               'int8, integers (unreliable)')


def case_chosen(program, folder):
    """--finetune and --order leave points out, on the page too. The first run is killed before a
    quantized net has its rows: both come, with the figures of an undisturbed run."""
    out = folder / 'chosen'
    chosen = ['--base', 'standard', '--finetune', 'adversarial', '--order', 'finetune_then_quantize']
    listed = tiny(program, out, *chosen, '--list').stdout.splitlines()
    expect([line.split(' ', 1)[1] for line in listed] == [
        'standard base', 'standard base, prune 0.5',
        'standard base, prune 0.5, adversarial fine-tuning', 'standard base, int8',
        'standard base, int8 after adversarial fine-tuning'], f'{chosen} list {listed}')
    command = [program, '--preset', 'tiny', '--data', str(DATA), '--out', str(out), '--threads', '2',
               *chosen]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as job:
        wait_for(job, lambda: list((out / 'models').glob('*.advrob')), 'an engine')
        job.kill()
    expect(all(row['execution'] == 'float' for row in read_rows(out)), 'a row without its twin')
    done = tiny(program, out, *chosen)
    check_page(out, ' '.join(chosen))
    check_integers(out)
    check_same(folder / 't2', out, 'undisturbed and chosen run', part=True)
    for text in ('fine-tuned, then int8: adversarial fine-tuning gives', 'It ships as'):
        expect(text in done.stdout, f'no "{text}" in {done.stdout}')
    page = (out / 'report.html').read_text(encoding='utf-8')
    expect('fine-tuned, then quantized' in page, 'the page lacks the chosen order')
    expect('quantized, then fine-tuned' not in page, 'the page shows an order that was left out')


def case_settings(program, folder):
    """Results of other settings are not mixed."""
    done = run(program, '--preset', 'tiny', '--data', DATA, '--out', folder / 't2', '--seed', 7)
    check_refusal('other seed in the same folder', done)
    for name, other in (('model', ['--model', 'conv_small']), ('dataset', ['--dataset', 'mnist'])):
        done = run(program, '--preset', 'tiny', '--data', DATA, '--out', folder / 't2', *other)
        check_refusal(f'other {name} in the same folder', done, (1,))
        expect(f'this run has "{name} = {other[1]}"' in done.stderr, f'no {name} in {done.stderr}')
    settings = (folder / 't2' / 'settings.txt').read_text()
    for name in ('train_digest', 'test_digest', 'cpu'):
        out = folder / f'other_{name}'
        out.mkdir()
        changed = re.sub(rf'^{name} = .*$', f'{name} = other', settings, flags=re.M)
        expect(changed != settings, f'settings.txt has no {name}')
        (out / 'settings.txt').write_text(changed)
        done = run(program, '--preset', 'tiny', '--data', DATA, '--out', out)
        check_refusal(f'other {name} in the same folder', done, (1,))
    for name in ('report.html', 'plots.csv', 'models/standard-seed1.safetensors'):
        out = folder / 'others' / Path(name).stem
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text('of somebody else')
        for more in ([], ['--fresh']):
            done = run(program, '--preset', 'tiny', '--data', DATA, '--out', out, *more)
            check_refusal(f'{name} of somebody else {more}', done, (1,))
            left = [path for path in out.rglob('*') if path.is_file()]
            expect(left == [out / name], f'a refused run left {left}')
            expect((out / name).read_text() == 'of somebody else', f'{name} was changed')


def wait_for(job, truth, what):
    for _ in range(6000):
        expect(job.poll() is None, f'the run was over before {what}')
        if truth():
            return
        time.sleep(0.02)
    raise Failure(f'waited in vain for {what}')


def case_stopped(program, folder):
    """Killed in the middle of the base's training and in the middle of the results, stopped by Ctrl-C
    in between (within a second, status 130): each run goes on where the one before was, and the
    figures are those of an undisturbed run."""
    out = folder / 'stopped'
    command = [program, '--preset', 'tiny', '--data', str(DATA), '--out', str(out), '--threads', '2',
               *HALF]
    missing = run(*command, '--resume')
    check_refusal('--resume without a run', missing, (1,))
    expect(not out.exists(), '--resume made a folder')
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as job:
        wait_for(job, lambda: list((out / 'checkpoints').glob('*')), 'a checkpoint')
        job.kill()
    command.append('--resume')
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        wait_for(job, lambda: len(list((out / 'checkpoints').glob('*.[01]'))) == 2, 'a second epoch')
        job.send_signal(signal.SIGINT)
        start = time.monotonic()
        try:
            job.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            job.kill()
            raise Failure('Ctrl-C had no effect within 30 s') from None
        seconds = time.monotonic() - start
    expect(job.returncode == 130, f'Ctrl-C ended the run with status {job.returncode}')
    expect(seconds < 1, f'Ctrl-C took {seconds:.1f} s')
    check_files(out)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as job:
        wait_for(job, lambda: (out / 'results.csv').exists() and len(rows(out)) > 2, 'two rows')
        job.kill()
        text = job.stderr.read()
        expect('going on with a training' in text, f'the training was not gone on with: {text}')
    (out / 'results.csv.tmp-1-0').write_text('left by a kill')
    tiny(program, out, *HALF)
    check_files(out)
    check_page(out, 'Ankle boot')
    check_same(folder / 't2', out, 'undisturbed and stopped run', part=True)
    expect(len(rows(out)) > 2, 'the run after the stop is not whole')


# Bad input

def check_refusal(what, done, statuses=(1, 2), late=False):
    """One line on stderr, besides those of progress where the run had begun (`late`)."""
    expect(done.returncode in statuses, f'{what}: status {done.returncode}: {done.stderr}')
    lines = [line for line in done.stderr.splitlines() if not (late and PROGRESS.match(line))]
    expect(len(lines) == 1 and lines[0].strip(), f'{what}: not one line on stderr: {done.stderr!r}')


def images(count, magic=0x803, claimed=None):
    pixels = bytes(range(256)) * (count * 784 // 256 + 1)
    return struct.pack('>IIII', magic, claimed or count, 28, 28) + pixels[:count * 784]


def labels(count, wrong=False):
    data = bytearray(i % 10 for i in range(count))
    if wrong:
        data[count // 2] = 10
    return struct.pack('>II', 0x801, count) + bytes(data)


def make_data(folder, **parts):
    """A made-up dataset of 4,000 and 500 images; parts replace files by other bytes."""
    folder.mkdir()
    files = {'train_images': images(4000), 'train_labels': labels(4000),
             't10k_images': images(500), 't10k_labels': labels(500)}
    for name, data in files.items():
        split, what = name.split('_')
        packed = gzip.compress(data, compresslevel=1)
        packed = parts.get(name, lambda plain, packed: packed)(data, packed)
        if packed is not None:
            kind = 'idx3' if what == 'images' else 'idx1'
            (folder / f'{split}-{what}-{kind}-ubyte.gz').write_bytes(packed)
    return folder


def packed(data):
    return lambda _plain, _packed: gzip.compress(data, compresslevel=1)


BROKEN = {
    'missing file': {'t10k_labels': lambda _plain, _packed: None},
    'cut gzip file': {'train_images': lambda _plain, data: data[:len(data) // 2]},
    'cut gzip test file': {'t10k_images': lambda _plain, data: data[:-20]},
    'empty file': {'train_labels': lambda _plain, _packed: b''},
    'no gzip data': {'train_images': lambda _plain, _packed: b'\x1f\x8b' + b'x' * 5000},
    'wrong checksum': {'train_labels': lambda _plain, data: data[:-8] + b'\0' * 4 + data[-4:]},
    'wrong magic': {'train_images': packed(images(4000, magic=0x804))},
    'labels for images': {'train_images': packed(labels(4000))},
    'fewer images than claimed': {'train_images': packed(images(4000, claimed=4001))},
    'huge count': {'train_images': packed(images(4000, claimed=0xffffffff))},
    'counts differ': {'train_labels': packed(labels(3999))},
    'label out of range': {'train_labels': packed(labels(4000, wrong=True))},
}
USAGE = [
    ['--prest', 'tiny'], ['--preset', 'tinny'], ['--preset'], ['--preset='], ['extra'], ['-x'],
    ['--dataset', 'cifar'], ['--model', ''], ['--model', 'a b'], ['--protocol', 'pixels'], ['--base', 'none'], ['--finetune', 'none'],
    ['--order', 'prune_then_finetune'], ['--only', 'prun:0.5'],
    ['--only', 'prune:2'], ['--only', 'prune:-0.5'], ['--only', 'prune:nan'], ['--only', 'quant:int0'],
    ['--only', ''], ['--threads', '-1'], ['--threads', 'nan'], ['--threads', '1e99'],
    ['--threads', '99999999999999999999'], ['--repeats', '0'], ['--repeats', '-3'],
    ['--seed', '-1'], ['--seed', '1.5'], ['--seed', 'nan'], ['--seed', ''], ['--fresh=1'],
    ['--resume=1'], ['--resume', '--fresh'],
]


def case_data(program, folder):
    """Damaged data is refused."""
    done = run(program, '--preset', 'tiny', '--data', folder / 'nowhere', '--out', folder / 'bad')
    check_refusal('missing data folder', done)
    for number, (what, parts) in enumerate(BROKEN.items()):
        data = make_data(folder / f'data{number}', **parts)
        check_refusal(what, run(program, '--preset', 'tiny', '--data', data, '--out', folder / 'bad'))
        shutil.rmtree(data)
        check_files(folder / 'bad')


def make_cifar10(folder, count):
    """Made-up files of `count` images each, of one colour and some noise. Seven of eight are cats, the others
    dogs that look the same: a net learns in a few steps to say cat, and cannot become sure of it."""
    below = folder / 'cifar-10-batches-bin'
    below.mkdir(parents=True)
    for number, name in enumerate(['test_batch'] + [f'data_batch_{i}' for i in range(1, 6)]):
        data = bytearray()
        for image in range(count):
            noise = (bytes(range(0, 251)) * 5)[image + number:][:1024]
            planes = (bytes(level + value // 8 for value in noise) for level in (200, 90, 30))
            data += bytes([5 if image % 8 == 7 else 3]) + b''.join(planes)
        (below / f'{name}.bin').write_bytes(data)


def colored_images(folder):
    """How many of the page's PNG images are in colour (type 2 in their header)."""
    page = Path(folder, 'report.html').read_text(encoding='utf-8')
    pngs = re.findall(r'data:image/png;base64,([A-Za-z0-9+/=]+)', page)
    return sum(base64.b64decode(text[:40])[25] == 2 for text in pngs)


def case_cifar10(program, folder):
    """CIFAR-10 with its own net, epsilon and names; strips in colour; the folder is not mixed."""
    data, out = folder / 'cifar', folder / 'cifar-out'
    make_cifar10(data, 64)
    components = Path(program).with_name('components')
    listed = run(components, 'model').stdout
    net = 'resnet20' if 'model resnet20:' in listed else 'resnet18_cifar10'
    command = [program, '--preset', 'tiny', '--dataset', 'cifar10', '--model', net, '--out', out]
    for what, more in {'missing data': ['--data', folder / 'nowhere'],
                       'too few images': ['--data', folder / 'few'],
                       'unknown net': ['--data', data, '--model', 'resnet21'],
                       'net for other images': ['--data', data, '--model', 'eight_layer_conv']}.items():
        if what == 'too few images':
            make_cifar10(folder / 'few', 3)
        check_refusal(what, run(*command, *more), (1,))
        expect(not out.exists(), f'{what}: made a folder')
    done = run(*command, '--data', data, '--only', 'base,prune')
    expect(done.returncode == 0, f'cifar10 ended with {done.returncode}: {done.stderr}')
    check_files(out)
    check_efficiency(out)
    check_page(out, f'{net} on cifar10', 'epsilon 4/255', 'ResNet-18', 'cat', '50,000 images',
               'crops from 4 pixels of padding, mirrored')
    expect(colored_images(out) >= 5, 'the page shows no images in colour')
    for row in read_rows(out):
        expect((row['dataset'], row['model'], row['base']) == ('cifar10', net, 'standard'), f'{row}')
    before = (out / 'results.csv').read_bytes()
    done = run(program, '--preset', 'tiny', '--data', DATA, '--out', out)
    check_refusal('Fashion-MNIST in a folder of CIFAR-10', done, (1,))
    expect('"dataset = cifar10"' in done.stderr, f'no dataset in {done.stderr}')
    done = run(*command, '--data', data, '--only', 'base,prune', '--resume')
    expect(done.returncode == 0 and (out / 'results.csv').read_bytes() == before,
           f'a second run changed results.csv: {done.stderr}')


def case_usage(program, folder):
    """Wrong arguments are refused."""
    for arguments in USAGE:
        done = run(program, '--data', DATA, '--out', folder / 'usage', *arguments)
        check_refusal(' '.join(arguments), done, (2,))
    expect(not (folder / 'usage').exists(), 'wrong arguments made a folder')


def case_folder(program, folder):
    """A folder that cannot be written, also for root: under a file, under /proc, a full disk."""
    (folder / 'file').write_text('x')
    for out in (folder / 'file', folder / 'file' / 'below', '/proc/advrob', '/dev/null'):
        check_refusal(f'--out {out}', run(program, '--preset', 'tiny', '--data', DATA, '--out', out))
    for size in (64, 65536):
        out = folder / f'full{size}'
        done = run(program, '--preset', 'tiny', '--data', DATA, '--out', out, limits=file_limit(size))
        check_refusal(f'files of at most {size} bytes', done, (1,), late=size > 64)
        check_files(out)


def file_limit(size):
    """EFBIG instead of the signal: what a full disk does."""
    def limits():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return limits


CASES = [case_usage, case_data, case_folder, case_cifar10, case_threads, case_again, case_doubted, case_chosen, case_settings,
         case_stopped]


def main():
    if not DATA.is_dir():
        print(f'skip: {DATA} is missing (Debian package dataset-fashion-mnist)')
        return 1 if os.environ.get('CI') else SKIP
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        program = find_program(sys.argv[1])
        for case in CASES:
            start = time.monotonic()
            try:
                case(program, Path(folder))
                verdict = 'ok'
            except (Failure, OSError, ValueError, subprocess.SubprocessError) as failure:
                failed += 1
                verdict = f'FAILED: {failure}'
            print(f'{case.__name__} ({time.monotonic() - start:.1f} s): {verdict}', flush=True)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
