#!/usr/bin/env python3
"""The wheel, with the library of this build in it: its files, hashes, tag and size; it runs from a
folder of its own, without the sources; where the library is looked for, and what is refused.

    test_wheel.py LIBRARY            in CI
    test_wheel.py LIBRARY --install  also pip install, in a fresh virtual environment (minutes)
"""
import base64
import csv
import hashlib
import os
import re
import subprocess
import sys
import unittest
import venv
import zipfile

from package import PACKAGE, ROOT, Folder, advrob, main

INSTALL = '--install' in sys.argv
if INSTALL:
    sys.argv.remove('--install')

LIBRARY = os.environ['ADVROB_LIBRARY']
HERE = 'import advrob; print(advrob.library_path)'


def environment(**more):
    """Without what this test was told."""
    kept = {name: value for name, value in os.environ.items()
            if name not in ('ADVROB_LIBRARY', 'PYTHONPATH', 'LD_LIBRARY_PATH')}
    return {**kept, **more}


class Wheel(Folder):
    def built(self):
        done = subprocess.run([sys.executable, PACKAGE / 'build_wheel.py', self.folder], check=True,
                              capture_output=True, text=True, env=environment(ADVROB_LIBRARY=LIBRARY))
        return self.folder / done.stdout.strip()

    def python(self, code, **more):
        return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                              cwd=self.folder, env=environment(**more))

    def test_wheel(self):
        path = self.built()
        version = re.escape(advrob.__version__)
        self.assertRegex(path.name, rf'advrob-{version}-py3-none-manylinux_2_\d+_\w+\.whl')
        self.assertLess(path.stat().st_size, 4 * 2**20)
        with zipfile.ZipFile(path) as wheel:
            names = wheel.namelist()
            record = [name for name in names if name.endswith('.dist-info/RECORD')][0]
            rows = list(csv.reader(wheel.read(record).decode().splitlines()))
            self.assertEqual(sorted(row[0] for row in rows), sorted(names))
            for name, digest, size in rows:
                if name != record:
                    data = wheel.read(name)
                    found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()
                    self.assertEqual((digest, size), (f'sha256={found}', str(len(data))), name)
            wheel.extractall(self.folder / 'site')
        self.check_sources(names)
        self.check_tag(path)
        for more in ({}, {'ADVROB_LIBRARY': '/none/libadvrob.so'}):  # its own comes first
            done = self.python(HERE, PYTHONPATH=str(self.folder / 'site'), **more)
            self.assertEqual(done.stdout.strip(), str(self.folder / 'site' / 'advrob' / 'libadvrob.so.0'))

    def check_sources(self, names):
        sources = {f'advrob/{file.name}' for file in (PACKAGE / 'advrob').iterdir() if file.is_file()}
        self.assertEqual(sources - set(names), set(), 'not in the wheel')

    def check_tag(self, path):
        """The tag's glibc against what readelf says."""
        text = subprocess.run(['readelf', '-VW', self.folder / 'site' / 'advrob' / 'libadvrob.so.0'],
                              capture_output=True, text=True, check=True).stdout
        newest = max(int(minor) for minor in re.findall(r'GLIBC_2\.(\d+)', text))
        self.assertIn(f'manylinux_2_{max(newest, 17)}_', path.name)

    def test_places(self):
        """The environment's library, and what is said when there is none."""
        done = self.python(HERE, PYTHONPATH=str(PACKAGE), ADVROB_LIBRARY=LIBRARY)
        self.assertEqual(done.stdout.strip(), LIBRARY)
        done = self.python(HERE, PYTHONPATH=str(PACKAGE), ADVROB_LIBRARY='/none/libadvrob.so')
        if done.returncode != 0:  # the system has none either
            self.assertIn('/none/libadvrob.so', done.stderr)
            self.assertIn('ADVROB_LIBRARY', done.stderr)

    def test_another_version(self):
        """It is refused, and both versions are named."""
        source, made = self.folder / 'other.c', self.folder / 'other.so'
        source.write_text('const char *advrob_version_text(void) { return "7.8.9"; }\n')
        subprocess.run(['cc', '-shared', '-fPIC', source, '-o', made], check=True)
        done = self.python('import advrob', PYTHONPATH=str(PACKAGE), ADVROB_LIBRARY=str(made))
        self.assertEqual(done.returncode, 1)
        for text in ('ImportError', '7.8.9', advrob.__version__, str(made)):
            self.assertIn(text, done.stderr)
        source.write_text('int other;\n')
        subprocess.run(['cc', '-shared', '-fPIC', source, '-o', made], check=True)
        done = self.python('import advrob', PYTHONPATH=str(PACKAGE), ADVROB_LIBRARY=str(made))
        self.assertIn('is not libadvrob', done.stderr)
        source.write_text(f'const char *advrob_version_text(void) {{ return "{advrob.__version__}"; }}\n')
        subprocess.run(['cc', '-shared', '-fPIC', source, '-o', made], check=True)
        done = self.python('import advrob', PYTHONPATH=str(PACKAGE), ADVROB_LIBRARY=str(made))
        self.assertIn('inference-only', done.stderr)

    @unittest.skipUnless(INSTALL, 'asked for by --install')
    def test_install(self):
        """pip install in a virtual environment with NumPy alone; the self-test there."""
        place = self.folder / 'venv'
        venv.create(place, with_pip=True)
        python = place / 'bin' / 'python'
        subprocess.run([python, '-m', 'pip', 'install', '-q', ROOT / 'bindings' / 'python'], check=True,
                       env=environment(), cwd=self.folder)
        listed = subprocess.run([python, '-m', 'pip', 'list', '--format=freeze'], check=True,
                                capture_output=True, text=True, env=environment()).stdout
        installed = {line.split('==')[0] for line in listed.splitlines()}
        self.assertLessEqual(installed, {'advrob', 'numpy', 'pip', 'setuptools', 'wheel'})
        done = subprocess.run([place / 'bin' / 'advrob', '--selftest'], capture_output=True, text=True,
                              env=environment(), cwd=self.folder)
        print(done.stdout)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        code = ('import time, numpy; began = time.perf_counter(); import advrob; '
                'print(time.perf_counter() - began)')
        times = [float(subprocess.run([python, '-c', code], capture_output=True, text=True, check=True,
                                      env=environment(), cwd=self.folder).stdout) for _ in range(10)]
        print(f'import advrob: {1e3 * min(times):.0f} ms beyond numpy, best of ten')


if __name__ == '__main__':
    main()
