#!/usr/bin/env python3
"""Lays CIFAR-10's binary files once into a build folder, for the tests that read them.

    unpack_cifar10.py FOLDER STAMP    FOLDER/cifar-10-batches-bin has the files then, or FOLDER/missing
                                      says in one line why it has not; STAMP is written in any case

The images are decoded from the test data (ADVROB_TEST_DATA, or ../shared beside the source tree), which
needs Pillow. What is missing is no error here: the tests skip, and fail where CI is set.
"""
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FILES = ['test_batch.bin'] + [f'data_batch_{i}.bin' for i in range(1, 6)]
SIZE = 10000 * 3073
# The tests hold figures of these very bytes.
SHA256 = {'test_batch.bin': '2eab01ca2938d469e7141dd3e5cb1f50158b036d7bab145dca054efc199a2716',
          'data_batch_1.bin': 'aff488523dfe8480b77630c47eeef75410c1b6fba02eabe49f72aa587794749f'}


def is_whole(folder):
    return all((folder / name).is_file() and (folder / name).stat().st_size == SIZE for name in FILES)


def find_python():
    """One that has Pillow; it may be Debian's alone."""
    for python in (sys.executable, '/usr/bin/python3'):
        done = subprocess.run([python, '-c', 'import PIL.Image'], capture_output=True, check=False)
        if done.returncode == 0:
            return python
    return None


def unpack(out):
    """Why there are no files, or None."""
    given = os.environ.get('ADVROB_TEST_DATA')
    data = Path(given) if given else Path(__file__).resolve().parents[2].parent / 'shared'
    script = data / 'data' / 'cifar10' / 'unpack'
    python = find_python()
    if not script.is_file():
        return f'no test data: {script} is not there'
    if python is None:
        return 'no Pillow (Debian package python3-pil)'
    with tempfile.TemporaryDirectory(dir=out) as folder:
        done = subprocess.run([python, script, folder], capture_output=True, text=True, check=False)
        made = Path(folder, 'cifar-10-batches-bin')
        if done.returncode != 0 or not is_whole(made):
            lines = (done.stderr or done.stdout).strip().splitlines() or ['files of a wrong size']
            return f'{script}: {lines[-1]}'
        for name, wanted in SHA256.items():
            digest = hashlib.sha256((made / name).read_bytes()).hexdigest()
            if digest != wanted:
                return f'{name} has sha256 {digest}, expected {wanted}'
        shutil.rmtree(out / made.name, ignore_errors=True)
        made.rename(out / made.name)
    return None


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    why = None if is_whole(out / 'cifar-10-batches-bin') else unpack(out)
    (out / 'missing').write_text(f'{why}\n' if why else '')
    Path(sys.argv[2]).touch()


main()
