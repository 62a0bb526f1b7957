"""Builds the wheel (PEP 517, with Python's standard library alone): meson makes libadvrob without
BLAS and with zlib inside where a static one is there; the package and the library are zipped.

    pip install ./bindings/python                    # needs a C compiler, meson, ninja, zlib
    python3 bindings/python/build_wheel.py DIR       # just the wheel

ADVROB_LIBRARY=path at build time takes that library instead of building one.
"""
import base64
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LIBRARY = 'libadvrob.so.0'
OPTIONS = ['--buildtype=release', '-Dblas=none', '-Dtests=false', '-Dexamples=false',
           '-Ddefault_library=shared', '-Dprefer_static=true']


def project(key):
    """A text of pyproject.toml (tomllib came with Python 3.11)."""
    return re.search(rf'^{key} = \W*"(.*)"\W*$', (HERE / 'pyproject.toml').read_text(), re.M).group(1)


def run(*command):
    try:
        done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
    except FileNotFoundError:
        raise SystemExit(f'{command[0]} is missing. Debian: apt-get install gcc meson ninja-build '
                         f'pkg-config zlib1g-dev') from None
    if done.returncode != 0:
        raise SystemExit(f'{done.stdout}\n{" ".join(map(str, command))} ended with {done.returncode}')


def built_library(folder):
    """The bytes of libadvrob, without symbols that only a debugger reads."""
    given = os.environ.get('ADVROB_LIBRARY')
    if not given:
        if not (ROOT / 'meson.build').exists():
            raise SystemExit(f'{ROOT} is not the source of libadvrob: build from its bindings/python')
        run('meson', 'setup', folder, ROOT, *OPTIONS)
        run('meson', 'compile', '-C', folder, 'advrob:shared_library')
        given = Path(folder, 'libadvrob', LIBRARY)
    stripped = Path(folder, 'stripped.so')
    run('strip', '--strip-unneeded', '-o', stripped, given)
    return stripped.read_bytes()


def tag(library):
    """py3-none-PLATFORM: the oldest glibc that has every symbol the library asks for (PEP 600)."""
    minors = [int(minor) for minor in re.findall(rb'GLIBC_2\.(\d+)', library)]
    if not minors:  # another C library
        return f'py3-none-linux_{os.uname().machine}'
    return f'py3-none-manylinux_2_{max([17, *minors])}_{os.uname().machine}'


def metadata():
    return (f'Metadata-Version: 2.1\nName: advrob\nVersion: {project("version")}\n'
            f'Summary: {project("description")}\nLicense: BSD-2-Clause\n'
            f'Requires-Python: {project("requires-python")}\n'
            f'Requires-Dist: {project("dependencies")}\n')


def write(path, files):
    """A wheel of {name: bytes}, with its RECORD; the same bytes for the same files."""
    record = f'advrob-{project("version")}.dist-info/RECORD'
    lines = []
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as wheel:
        for name, data in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()
            lines.append(f'{name},sha256={digest},{len(data)}')
        files = {**files, record: '\n'.join([*lines, f'{record},,', '']).encode()}
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = (0o755 if '.so' in name else 0o644) << 16
            wheel.writestr(entry, data, zipfile.ZIP_DEFLATED)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with tempfile.TemporaryDirectory() as folder:
        library = built_library(folder)
    sources = sorted((HERE / 'advrob').glob('*.py')) + [HERE / 'advrob' / 'py.typed']
    files = {f'advrob/{path.name}': path.read_bytes() for path in sources}
    files[f'advrob/{LIBRARY}'] = library
    info = f'advrob-{project("version")}.dist-info'
    files[f'{info}/LICENSE'] = (ROOT / 'LICENSE').read_bytes()
    files[f'{info}/METADATA'] = metadata().encode()
    files[f'{info}/entry_points.txt'] = f'[console_scripts]\nadvrob = {project("advrob")}\n'.encode()
    files[f'{info}/WHEEL'] = (f'Wheel-Version: 1.0\nGenerator: advrob\nRoot-Is-Purelib: false\n'
                              f'Tag: {tag(library)}\n').encode()
    name = f'advrob-{project("version")}-{tag(library)}.whl'
    write(Path(wheel_directory, name), files)
    return name


def build_sdist(sdist_directory, config_settings=None):
    raise SystemExit('a source distribution is the whole project: use its repository')


if __name__ == '__main__':
    print(build_wheel(sys.argv[1] if len(sys.argv) > 1 else '.'))
