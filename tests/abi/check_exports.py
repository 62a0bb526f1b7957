#!/usr/bin/env python3
"""The built library as the loader sees it: its exports equal the committed list and the headers, it
needs and calls nothing that it promised not to, and it has no state of its own.

    check_exports.py LIBRARY.so LIBRARY.a INCLUDE/advrob [--selftest]

A new public function is a new line in exports.txt; a lost one breaks programs.
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import declarations  # noqa: E402

LIST = Path(__file__).resolve().parent / 'exports.txt'
SONAME = 'libadvrob.so.0'
BANNED = set('''exit _exit abort __assert_fail printf fprintf vprintf vfprintf puts fputs putchar putc
fputc perror snprintf vsnprintf sprintf vsprintf dprintf vdprintf setlocale localeconv signal sigaction
system srand rand random srandom getenv secure_getenv dlopen atexit __cxa_atexit
stdout stderr'''.split())
NEEDED = re.compile(r'(libc\.so\.6|libm\.so\.6|libz\.so\.1|ld-linux[\w.-]*)$')
BLAS = re.compile(r'(libopenblas|libblas|libcblas)[\w.-]*\.so\.\d+$')
WRITABLE = re.compile(r'\.(data|bss)(?!\.rel\.ro)[\w.]*$|\*COM\*$')
TOOLCHAIN = re.compile(r'(__|_)?(asan|ubsan|odr_asan|gcov|llvm|x86)')


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def names(text):
    """Symbols of an `nm -P` listing, without versions."""
    return {line.split()[0].split('@')[0] for line in text.splitlines() if ' ' in line}


def difference(title, wanted, found):
    return ([f'{title}: {name} is missing' for name in sorted(wanted - found)] +
            [f'{title}: {name} is too much' for name in sorted(found - wanted)])


def check_names(library, include, listing):
    # Absolute symbols are the version nodes of the linker map.
    lines = output('nm', '-D', '-P', '--defined-only', library).splitlines()
    exported = {line.split()[0].split('@')[0] for line in lines if line.split()[1] != 'A'}
    lines = listing.read_text().split()
    failures = difference(f'exports against {listing.name}', set(lines), exported)
    failures += difference('exports against the headers',
                           set(declarations.functions(include)), exported)
    if lines != sorted(set(lines)):
        failures.append(f'{listing.name} is not sorted, or names something twice')
    return failures


def check_calls(library):
    undefined = names(output('nm', '-D', '-P', '--undefined-only', library))
    plain = {re.sub(r'^__(\w+)_chk$', r'\1', name) for name in undefined}
    return [f'calls {name}' for name in sorted(plain & BANNED)]


def check_dynamic(library, soname):
    """soname, needed libraries and the flags of the dynamic section."""
    text = output('readelf', '-dW', library)
    failures = []
    if re.findall(r'\(SONAME\).*\[(.*)\]', text) != [soname]:
        failures.append(f'soname is not {soname}')
    others = [name for name in re.findall(r'\(NEEDED\).*\[(.*)\]', text) if not NEEDED.match(name)]
    failures += [f'needs {name}' for name in others if not BLAS.match(name)]
    if len([name for name in others if BLAS.match(name)]) > 1:
        failures.append('needs more than one BLAS')
    for flag in ('TEXTREL', 'STATIC_TLS'):
        if flag in text:
            failures.append(f'has {flag}')
    if not re.search(r'BIND_NOW|FLAGS.*\bNOW\b', text):
        failures.append('is not linked with -z now')
    return failures


def check_segments(library):
    text = output('readelf', '-lW', library)
    failures = [] if 'GNU_RELRO' in text else ['is not linked with -z relro']
    stack = re.search(r'GNU_STACK\s+(?:0x\w+\s+){5}(.*?)\s+0x', text)
    if not stack or 'E' in stack.group(1):
        failures.append('has an executable stack')
    return failures


def check_static(archive):
    """Prefixes of all external symbols, and no object in writable memory, external or not."""
    failures = []
    for line in output('objdump', '-t', archive).splitlines():
        match = re.match(r'[0-9a-f]+ (.)(.).(.)..(.) (\S+)\s+[0-9a-f]+ (?:\.hidden )?(\S+)$', line)
        if not match or TOOLCHAIN.match(match.group(6)):
            continue
        scope, weak, _, kind, section, name = match.groups()
        if section == '*UND*' or kind in 'df':
            continue
        if (scope in 'gu' or weak == 'w') and not re.match(r'(ar|advrob)_', name):
            failures.append(f'static library: {name} has no ar_ or advrob_ prefix')
        if WRITABLE.match(section) and not section.startswith('.tbss'):
            failures.append(f'static library: {name} is writable memory ({section})')
    return failures


def check(library, archive, include, listing=LIST, soname=SONAME):
    return (check_names(library, include, listing) + check_calls(library) +
            check_dynamic(library, soname) + check_segments(library) + check_static(archive))


# Self-test: small libraries with one defect each.

FLAGS = f'-shared -Wl,-soname,{SONAME} -Wl,-z,relro,-z,now'.split()
DEFECTS = [
    ('int advrob_planted(void) { return 1; }', [], 'advrob_planted is too much'),
    ('', ['-DLOSE'], 'advrob_version is missing'),
    ('', ['-Wl,-soname,libadvrob.so.1'], 'soname is not'),
    ('void ar_f(void) { printf("%d", 1); }', [], 'calls printf'),
    ('void ar_f(char *b) { __sprintf_chk(b, 1, 9, "%d", 1); }', [], 'calls sprintf'),
    ('void ar_f(void) { abort(); }', [], 'calls abort'),
    ('void ar_f(void) { exit(1); }', [], 'calls exit'),
    ('void ar_f(int x) { assert(x); }', [], 'calls __assert_fail'),
    ('const char *ar_f(void) { return getenv("X"); }', [], 'calls getenv'),
    ('void ar_f(void) { setlocale(0, ""); }', [], 'calls setlocale'),
    ('void ar_f(void) { signal(2, 0); }', [], 'calls signal'),
    ('int ar_f(void) { return rand(); }', [], 'calls rand'),
    ('', ['-Wl,--no-as-needed', 'OTHER'], 'needs libother.so.3'),
    ('', ['-Wl,-z,execstack'], 'executable stack'),
    ('static int ar_x[9]; void *ar_f(int i) { return ar_x + i; }',
     ['-fno-pic', '-mcmodel=large', '-Wl,-z,notext'], 'has TEXTREL'),
    ('_Thread_local int ar_t; int ar_f(void) { return ar_t++; }',
     ['-fPIC', '-ftls-model=initial-exec'], 'has STATIC_TLS'),
    ('', ['-Wl,-z,norelro'], 'not linked with -z relro'),
    ('', ['-Wl,-z,lazy'], 'not linked with -z now'),
    ('int helper(void) { return 1; }', [], 'helper has no ar_'),
    ('int ar_state = 3;', [], 'ar_state is writable'),
    ('static int hidden_state; int ar_f(void) { return hidden_state++; }', [], 'hidden_state is writable'),
]
PRELUDE = ('#include <assert.h>\n#include <locale.h>\n#include <signal.h>\n#include <stdio.h>\n'
           '#include <stdlib.h>\nint __sprintf_chk(char *, int, size_t, const char *, ...);\n'
           '#pragma GCC visibility push(hidden)\n')
HARMLESS = ('static const char *const ar_names[] = {"a", "b"}; static _Thread_local int ar_t;\n'
            'const char *ar_f(int i) { ar_t++; return ar_names[i]; }')


def build(folder, extra, flags):
    """A library that defines all listed functions and `extra`; returns its .so and its .a."""
    listed = [f'int {name}(void) {{ return 0; }}' for name in LIST.read_text().split()
              if name != 'advrob_version' or '-DLOSE' not in flags]
    public = ['#pragma GCC visibility pop', *listed]
    if extra.startswith('int advrob_'):
        public.append(extra)
        extra = ''
    source = Path(folder, 'planted.c')
    source.write_text('\n'.join([PRELUDE, extra, *public]))
    flags = [str(Path(folder, 'libother.so')) if flag == 'OTHER' else flag for flag in flags]
    compiling = [flag for flag in flags if not flag.startswith('-Wl') and '/' not in flag]
    position = [] if '-fno-pic' in flags else ['-fPIC']
    run(folder, 'gcc', '-w', '-O1', *position, *compiling, '-c', 'planted.c', '-o', 'planted.o')
    run(folder, 'gcc', *FLAGS, 'planted.o', *flags, '-o', 'planted.so')
    Path(folder, 'planted.a').unlink(missing_ok=True)
    run(folder, 'ar', 'rcs', 'planted.a', 'planted.o')
    return str(Path(folder, 'planted.so')), str(Path(folder, 'planted.a'))


def run(folder, *command):
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def selftest(include):
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, 'other.c').write_text('int other(void) { return 1; }\n')
        run(folder, 'gcc', '-shared', '-fPIC', '-Wl,-soname,libother.so.3', 'other.c', '-o', 'libother.so')
        before = set(check(*build(folder, HARMLESS, []), include))
        missed += [f'harmless code was refused: {text}' for text in before if 'headers' not in text
                   and 'exports.txt' not in text]
        for extra, flags, expected in DEFECTS:
            found = set(check(*build(folder, extra, flags), include)) - before
            if not any(expected in text for text in found):
                missed.append(f'not caught: {expected}; found {sorted(found)}')
    return missed


def main():
    arguments = [text for text in sys.argv[1:] if text != '--selftest']
    if '--selftest' in sys.argv:
        missed = selftest(arguments[-1])
        print('\n'.join(missed) or f'{len(DEFECTS)} planted defects caught')
        return bool(missed)
    failures = check(*arguments)
    print('\n'.join(failures) or 'the exports hold')
    return bool(failures)


if __name__ == '__main__':
    sys.exit(main())
