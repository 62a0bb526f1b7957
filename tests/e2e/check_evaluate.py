#!/usr/bin/env python3
"""The program examples/evaluate from outside: a gate whose exit status is the verdict. Its net is
linear, so that the images that withstand any attack are known by arithmetic.

    check_evaluate.py BUILD      BUILD is the build folder
"""
import csv
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

SIDE, PIXELS, IMAGES, CLASSES = 8, 64, 150, 10
EPSILON = 8 / 255


def expect(truth, text):
    if not truth:
        sys.exit(f'check_evaluate: {text}')


def find_program(build):
    found = [path for path in sorted(Path(build, 'examples').rglob('evaluate'))
             if path.is_file() and os.access(path, os.X_OK)]
    expect(found, f'no program "evaluate" under {build}/examples')
    return str(found[0])


def floats(values):
    return struct.pack(f'<{len(values)}f', *values)


def write_net(path, rows, biases):
    """flatten and linear, as docs/file-format.md has it."""
    graph = {'input': [1, SIDE, SIDE], 'mean': [0], 'std': [1], 'box': [0, 1], 'nodes': [
        {'name': 'flatten', 'op': 'flatten', 'inputs': ['input']},
        {'name': 'fc', 'op': 'linear', 'inputs': ['flatten'], 'outputs': CLASSES, 'bias': True}]}
    weights, bias = floats([w for row in rows for w in row]), floats(biases)
    header = json.dumps({
        '__metadata__': {'format': 'advrob', 'version': '1', 'graph': json.dumps(graph)},
        'fc.weight': {'dtype': 'F32', 'shape': [CLASSES, PIXELS], 'data_offsets': [0, len(weights)]},
        'fc.bias': {'dtype': 'F32', 'shape': [CLASSES],
                    'data_offsets': [len(weights), len(weights) + len(bias)]}}).encode()
    header += b' ' * (-len(header) % 8)
    path.write_bytes(struct.pack('<Q', len(header)) + header + weights + bias)


def write_data(folder, images, labels):
    folder.mkdir()
    head = struct.pack('>IIII', 0x803, len(images), SIDE, SIDE)
    (folder / 't10k-images-idx3-ubyte').write_bytes(head + bytes(p for x in images for p in x))
    (folder / 't10k-labels-idx1-ubyte').write_bytes(
        struct.pack('>II', 0x801, len(labels)) + bytes(labels))


class Task:
    """Two classes that count, the other logits are far below. The margin of class 0 is d . x + b;
    within the ball and the box its least and largest value are those of each pixel by itself."""

    def __init__(self, folder, scale=1.0):
        rng = random.Random(4)
        d = [struct.unpack('<f', struct.pack('<f', rng.uniform(-1, 1)))[0] for _ in range(PIXELS)]
        b = -sum(d) / 2
        images, labels, self.clean, self.robust = [], [], 0, 0
        while len(images) < IMAGES:
            x = [rng.randrange(256) for _ in range(PIXELS)]
            y = rng.randrange(2) if len(images) % 9 == 0 else None
            margin = sum(w * p / 255 for w, p in zip(d, x)) + b
            y = (0 if margin > 0 else 1) if y is None else y
            sign = 1 if y == 0 else -1
            moves = [min(sign * w * max(-EPSILON, -p / 255), sign * w * min(EPSILON, 1 - p / 255))
                     for w, p in zip(d, x)]
            least = sign * margin + sum(moves)
            if abs(least) < 1e-3 or abs(margin) < 1e-3:
                continue
            images.append(x)
            labels.append(y)
            self.clean += sign * margin > 0
            self.robust += least > 0
        self.images, self.labels = images, labels
        self.net = folder / 'net.safetensors'
        write_net(self.net, [[w * scale for w in d]] + [[0] * PIXELS] * (CLASSES - 1),
                  [b * scale, 0] + [-1e6 * scale] * (CLASSES - 2))


def run(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True,
                          timeout=300, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


def line(output, begin):
    found = [text for text in output.splitlines() if text.startswith(begin)]
    expect(len(found) == 1, f'{len(found)} lines begin with "{begin}":\n{output}')
    return found[0]


def check_gate(program, task, common, folder):
    share = task.robust / IMAGES
    expect(0.1 < share < task.clean / IMAGES < 1, f'a dull task: {task.robust} of {task.clean}')
    for wanted, status in ((share - 1e-6, 0), (share, 0), (share + 1e-6, 1), (0, 0), (1, 1)):
        code, out, err = run(program, *common, '--attack', 'pgd', '--min-robust', repr(wanted))
        expect(code == status, f'status {code} where {wanted} of {share} are wanted: {out}{err}')
    expect(f'{100 * task.clean / IMAGES:.2f} %' in line(out, 'clean'), out)
    expect(f'{100 * share:.2f} %' in line(out, 'robust'), out)
    expect(line(out, 'verdict').endswith(' reliable'), out)
    code, out, _ = run(program, *common, '--attack', 'fgsm', '--attack', 'pgd', '--attack', 'square',
                       '--min-robust', '0', '--json', folder / 'r.json', '--name', 'linear "8"')
    expect(code == 0 and f'{100 * share:.2f} %' in line(out, 'robust'), out)
    report = json.loads((folder / 'r.json').read_text())
    wanted = {'name': 'linear "8"', 'dataset': 'mnist', 'threat_model': 'Linf', 'eps': '8/255',
              'clean_acc': f'{100 * task.clean / IMAGES:.2f}', 'worst_acc': f'{100 * share:.2f}',
              'unreliable': 0}
    expect(report['settings'] == wanted, f'settings {report["settings"]}, expected {wanted}')
    expect(report['rows'][0]['worst_accuracy'] == share, 'the row in JSON')


def check_records(program, task, common, folder):
    path = folder / 'records.csv'
    gate = [*common, '--attack', 'pgd', '--min-robust', '0', '--check', '0', '--records', path]
    code, calm, _ = run(program, *gate)
    expect(code == 0 and 'not checked' in line(calm, 'verdict'), calm)
    whole = path.read_bytes()
    rows = list(csv.DictReader(whole.decode().splitlines()))
    expect(len(rows) == IMAGES, f'{len(rows)} records')
    expect([int(row['label']) for row in rows] == task.labels, 'labels in the records')
    held = sum(row['prediction'] == row['label'] for row in rows)
    expect(held == task.robust, f'{held} records hold, {task.robust} images do')
    expect(all(float(row['linf']) <= EPSILON for row in rows), 'a record outside the ball')
    code, again, _ = run(program, *gate, '--threads', '1')
    expect(code == 0 and again == calm and path.read_bytes() == whole, 'the finished run again')
    code, _, err = run(program, *gate[:-2], '--records', path, '--options', 'steps=3')
    expect(code == 2 and 'other attacks or options' in err, err)
    expect(path.read_bytes() == whole, "another run's records were touched")


def check_masked(program, plain, folder, data):
    (folder / 'masked').mkdir()
    task = Task(folder / 'masked', 1e5)
    path = folder / 'masked.json'
    code, out, err = run(program, '--model', task.net, '--data', data, '--attack', 'pgd',
                         '--epsilon', '8/255', '--min-robust', '0', '--json', path)
    expect(code == 1, f'a masked net passed: {code} {out}{err}')
    expect('robust' not in out, f'a flagged number is called robust:\n{out}')
    line(out, 'unreliable')
    expect('unreliable: ' in line(out, 'verdict') and 'gradient is 0' in out, out)
    expect(json.loads(path.read_text())['settings']['unreliable'] == 1, 'unreliable in JSON')
    code, out, err = run(program, '--model', task.net, '--source', plain.net, '--data', data,
                         '--attack', 'pgd', '--options', 'transfer=1', '--epsilon', '8/255',
                         '--min-robust', '0', '--check', '0')
    share = f'{100 * plain.robust / IMAGES:.2f} %'
    expect(code == 0 and share in line(out, 'robust'), f'{share} by transfer: {out}{err}')


def check_misuse(program, common):
    for arguments, says in ((['--attack', 'pgt'], 'did you mean "pgd"'),
                            (['--attack', 'pgd', '--min-robust', '1.5'], '1.5'),
                            (['--attack', 'pgd', '--min-robust', 'x'], 'x'),
                            (['--attack', 'pgd', '--model', '/nowhere'], '/nowhere'),
                            (['--attack', 'pgd', '--data', '/nowhere'], '/nowhere'),
                            (['--attack', 'pgd', '--epsilon', '-1'], 'epsilon'),
                            (['--attack', 'pgd', '--check', '2'], '--check'),
                            (['--attack', 'pgd', '--min_robust', '0'], '--min_robust'),
                            (['--attack', 'pgd', '--attack', 'pgd'], '"pgd"'),
                            (['--attack'], '--attack'),
                            ([], '--attack'),
                            (['--attack', 'pgd', 'stray'], 'stray')):
        code, out, err = run(program, *common, '--min-robust', '0', *arguments)
        expect(code == 2 and says in err and out == '', f'{arguments}: {code}, {out}{err}')


def main():
    program = find_program(sys.argv[1])
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top)
        task = Task(folder)
        write_data(folder / 'data', task.images, task.labels)
        common = ['--model', task.net, '--data', folder / 'data', '--epsilon', '8/255']
        check_gate(program, task, common, folder)
        check_records(program, task, common, folder)
        check_masked(program, task, folder, folder / 'data')
        check_misuse(program, common)
    print(f'{task.clean} of {IMAGES} images right, {task.robust} withstand any attack: met, not met '
          f'and unreliable by exit status')


if __name__ == '__main__':
    main()
