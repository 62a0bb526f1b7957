#!/usr/bin/env python3
"""The public headers: each compiles alone, twice and in any order, as C11 and C++17 without a
warning; only plain types cross the border; every function has a comment.

    check_headers.py INCLUDE [--selftest]      INCLUDE is the folder above advrob/
"""
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import declarations  # noqa: E402

WARNINGS = '-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wundef -Werror'.split()
C = ['-x', 'c', '-std=c11', '-Wstrict-prototypes']
CXX = ['-x', 'c++', '-std=c++17']


def compilers():
    """Those that are there; gcc and g++ must be."""
    for name, flags in (('gcc', C), ('g++', CXX), ('clang', C), ('clang++', CXX)):
        if shutil.which(name) or name in ('gcc', 'g++'):
            yield name, flags


def program(names):
    return ''.join(f'#include <advrob/{name}>\n' for name in names) + 'extern int unused_;\n'


def compile_error(compiler, include, names):
    name, flags = compiler
    done = subprocess.run([name, *flags, *WARNINGS, '-fsyntax-only', '-I', include, '-'],
                          input=program(names), capture_output=True, text=True)
    if done.returncode == 0:
        return None
    return f'{name} {flags[2]}, {" ".join(names)}: {done.stderr.strip().splitlines()[0]}'


def check_compile(include):
    names = [path.name for path in sorted(Path(include, 'advrob').glob('*.h'))]
    units = [[name, name] for name in names] + [names, names[::-1]]
    errors = [compile_error(compiler, include, unit) for compiler in compilers() for unit in units]
    return [error for error in errors if error]


def check(include):
    headers = declarations.read(Path(include, 'advrob'))
    failures = [text for header in headers for text in header.failures]
    if not any(header.functions for header in headers):
        failures.append('no functions found')
    names = [name for header in headers for name in header.functions]
    failures += [f'{name} is declared twice' for name in sorted(set(names)) if names.count(name) > 1]
    return failures + check_compile(include)


API = '/* Planted. */\nADVROB_API int32_t advrob_planted'
DEFECTS = [
    ('typedef struct s_ { int x; } s_;\n', 'struct layout'),
    ('/* x */\nADVROB_API int32_t advrob_planted(int64_t a, long b);\n', '"long"'),
    (API + '(unsigned flags);\n', '"unsigned"'),
    (API + '(FILE *file);\n', 'FILE'),
    (API + '(const char *format, ...);\n', '"..."'),
    (API + '(_Bool on);\n', '_Bool'),
    (API + '(enum color which);\n', 'enum color'),
    (API + '(struct pair value);\n', 'struct pair'),
    (API + '(advrob_context ctx);\n', '"advrob_context"'),
    ('typedef int32_t (*advrob_planted_fn)(void *user, int n);\n', 'advrob_planted_fn'),
    ('ADVROB_API int32_t advrob_planted(void);\n', 'has no comment'),
    ('/* x */\nint32_t advrob_planted(void);\n', 'has no ADVROB_API'),
    ('/* x */\nADVROB_API int32_t planted(void);\n', 'no advrob_ prefix'),
    ('extern int32_t advrob_planted;\n', 'public object'),
    (API + '();\n', 'gcc'),
    (API + '(int32_t class);\n', 'g++'),
    ('#if PLANTED\n#endif\n', 'gcc'),
    ('/* x */\nstatic inline int32_t advrob_planted(int64_t n) { return n; }\n', 'gcc'),
    ('/* x */\nADVROB_API int32_t advrob_version(void);\n', 'declared twice'),
]


def plant(folder, text):
    """A header with the defect inside its guard and linkage block."""
    Path(folder, 'advrob', 'planted.h').write_text(
        '#ifndef PLANTED_H\n#define PLANTED_H\n#include <advrob/context.h>\n'
        '#ifdef __cplusplus\nextern "C" {\n#endif\n\n' + text +
        '\n#ifdef __cplusplus\n}\n#endif\n#endif\n')


def selftest(include):
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(Path(include, 'advrob'), Path(folder, 'advrob'))
        headers = declarations.read(Path(folder, 'advrob'))
        before = {text for header in headers for text in header.failures}
        missed = []
        for text, expected in DEFECTS:
            plant(folder, text)
            if not any(expected in found for found in set(quick(folder, expected)) - before):
                missed.append(f'not caught ({expected}): {text.strip()}')
        missed += compile_defects(folder)
    return missed


def quick(folder, expected):
    """The parser's findings, and the compiler's where one is expected to complain."""
    if expected == 'declared twice':
        return check(folder)
    headers = declarations.read(Path(folder, 'advrob'))
    found = [text for header in headers for text in header.failures]
    if expected in ('gcc', 'g++'):
        found += [compile_error((expected, C if expected == 'gcc' else CXX), folder, ['planted.h']) or '']
    return found


def compile_defects(folder):
    """A header without a guard, and one that leans on another."""
    missed = []
    planted = Path(folder, 'advrob', 'planted.h')
    for text, what in (('enum { PLANTED = 1 };\n', 'no guard'),
                       ('#ifndef P_H\n#define P_H\nint32_t planted_(int32_t n);\n#endif\n', 'leans')):
        planted.write_text(text)
        if not any('planted.h' in found for found in check_compile(folder)):
            missed.append(f'not caught: {what}')
    planted.unlink()
    return missed


def main():
    if '--selftest' in sys.argv:
        missed = selftest(sys.argv[1])
        print('\n'.join(missed) or f'{len(DEFECTS) + 2} planted defects caught')
        return bool(missed)
    failures = check(sys.argv[1])
    print('\n'.join(failures) or 'the headers hold')
    return bool(failures)


if __name__ == '__main__':
    sys.exit(main())
