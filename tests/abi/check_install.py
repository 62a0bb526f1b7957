#!/usr/bin/env python3
"""The installed library as a packager and a user see it: into DESTDIR, found by pkg-config, linked
shared and static, run.

    check_install.py BUILD SOURCE [--selftest]
"""
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HELLO = '''#include <stdio.h>
#include <string.h>

#include <advrob/advrob.h>

int main(void) {
    advrob_context *ctx = NULL;
    advrob_model *model = NULL;
    int32_t status = advrob_context_create(NULL, &ctx);
    if (status == ADVROB_OK) status = advrob_model_build(ctx, "tiny", NULL, &model);
    if (status != ADVROB_OK) fprintf(stderr, "%s\\n", advrob_last_message());
    printf("%s\\n", advrob_version_text());
    advrob_model_destroy(model);
    advrob_context_destroy(ctx);
    return status == ADVROB_OK ? 0 : 1;
}
'''


class Failure(Exception):
    pass


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise Failure(f'{" ".join(map(str, command))}: {done.stdout}{done.stderr}')
    return done.stdout


def only(root, pattern):
    found = sorted(Path(root).rglob(pattern))
    if len(found) != 1:
        raise Failure(f'{len(found)} files {pattern} were installed, not one')
    return found[0]


def compile_hello(root, folder, static):
    """hello.c against the tree `root`, by pkg-config alone."""
    config = only(root, 'advrob.pc').parent
    environment = dict(os.environ, PKG_CONFIG_SYSROOT_DIR=str(root), PKG_CONFIG_PATH=str(config))
    extra = ['--static'] if static else []
    flags = run('pkg-config', *extra, '--cflags', '--libs', 'advrob', env=environment).split()
    program = Path(folder, 'hello')
    Path(folder, 'hello.c').write_text(HELLO)
    run('gcc', '-std=c11', '-Wall', '-Wextra', '-Werror', Path(folder, 'hello.c'), '-o', program, *flags)
    return program


def check_shared(root, folder, version):
    program = compile_hello(root, folder, static=False)
    environment = dict(os.environ, LD_LIBRARY_PATH=str(only(root, 'libadvrob.so').parent))
    if run(program, env=environment).strip() != version:
        raise Failure('hello, linked shared, has another version')
    if 'libadvrob.so.0' not in run('readelf', '-d', program):
        raise Failure('hello is not linked with libadvrob.so.0')


def check_static(root, folder, version):
    """With the shared library away, the archive is what is left to link."""
    copy = Path(folder, 'static')
    shutil.copytree(root, copy, symlinks=True)
    for path in list(copy.rglob('libadvrob.so*')):
        path.unlink()
    program = compile_hello(copy, folder, static=True)
    if run(program).strip() != version:
        raise Failure('hello, linked static, has another version')


def check_files(root, source):
    wanted = {path.name for path in Path(source, 'include', 'advrob').glob('*.h')}
    found = {path.name for path in Path(root).rglob('include/advrob/*')}
    if found != wanted:
        raise Failure(f'installed headers differ: {sorted(found ^ wanted)}')
    for link in ('libadvrob.so', 'libadvrob.so.0'):
        if not only(root, link).is_symlink():
            raise Failure(f'{link} is no link')
    if 'PATH)' in run('readelf', '-dW', only(root, 'libadvrob.so')):
        raise Failure('the installed library has a search path of its own')


def check(root, source):
    with tempfile.TemporaryDirectory() as folder:
        try:
            version = only(root, 'advrob.pc').read_text().split('Version:')[1].split()[0]
            check_files(root, source)
            check_shared(root, folder, version)
            check_static(root, folder, version)
        except Failure as failure:
            return str(failure)
    return None


def edit(name, old, new):
    def plant(root):
        path = only(root, name)
        path.write_text(path.read_text().replace(old, new))
    return plant


def search_path(root):
    """A library that looks for others where it was built."""
    path = only(root, 'libadvrob.so').resolve()
    path.unlink()
    run('gcc', '-shared', '-Wl,-soname,libadvrob.so.0', '-Wl,-rpath,/tmp', '-o', path)


DEFECTS = {
    'no pkg-config file': lambda root: only(root, 'advrob.pc').unlink(),
    'a header is missing': lambda root: only(root, 'target.h').unlink(),
    'a header too much': lambda root: (only(root, 'target.h').parent / 'x.h').write_text(''),
    'no static library': lambda root: only(root, 'libadvrob.a').unlink(),
    'no link for the linker': lambda root: only(root, 'libadvrob.so').unlink(),
    'wrong version': edit('advrob.pc', 'Version: ', 'Version: 9'),
    'wrong library': edit('advrob.pc', '-ladvrob', '-ladvrub'),
    'no private libraries': edit('advrob.pc', '.private', '.ignored'),
    'a search path': search_path,
    'a broken header': edit('target.h', 'int32_t', 'int32'),
}


def selftest(root, source):
    missed = []
    for what, plant in DEFECTS.items():
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, 'root')
            shutil.copytree(root, copy, symlinks=True)
            plant(copy)
            if check(copy, source) is None:
                missed.append(f'not caught: {what}')
    return missed


def main():
    build, source = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as root:
        run('meson', 'install', '--no-rebuild', '--quiet', '-C', build, '--destdir', root)
        failure = check(root, source)
        if '--selftest' in sys.argv:
            missed = [failure] if failure else selftest(root, source)
            print('\n'.join(missed) or f'{len(DEFECTS)} planted defects caught')
            return bool(missed)
    print(failure or 'the installed library works')
    return bool(failure)


if __name__ == '__main__':
    sys.exit(main())
