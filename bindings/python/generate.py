#!/usr/bin/env python3
"""Writes advrob/_prototypes.py: what include/advrob/*.h declares, as ctypes needs it.

    generate.py            writes the file
    generate.py --check    ends with 1 if the file is not what the headers say
"""
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADERS = HERE.parent.parent / 'include' / 'advrob'
WRITTEN = HERE / 'advrob' / '_prototypes.py'

SCALARS = {'int32_t': 'c_int32', 'int64_t': 'c_int64', 'uint64_t': 'c_uint64', 'size_t': 'c_size_t',
           'double': 'c_double', 'void': 'None'}


def code_of(text):
    """A header without comments, directives and line breaks."""
    text = re.sub(r'/\*.*?\*/', ' ', text, flags=re.S)
    text = re.sub(r'\\\n', ' ', text)
    text = re.sub(r'^\s*#.*$', '', text, flags=re.M)
    return ' '.join(text.replace('extern "C" {', '').split())


def ctype(text, callbacks):
    """The ctypes name of a C type. Texts are c_char_p, callbacks themselves, and every other
    pointer is an address."""
    text = ' '.join(text.replace('*', ' * ').split())
    if text == 'const char *':
        return 'c_char_p'
    if '*' in text:
        return 'c_void_p'
    return text if text in callbacks else SCALARS[text]


def parameters(text, callbacks):
    """The types of a parameter list; names are left out."""
    if text.strip() == 'void':
        return []
    named = [re.fullmatch(r'(.*?[\s*])\w+', item.strip()) for item in text.split(',')]
    return [ctype(match.group(1), callbacks) for match in named]


def tuple_of(names):
    return f'({names[0]},)' if len(names) == 1 else f'({", ".join(names)})'


def wrapped(head, items, tail, width=100):
    """`head` + items + `tail` in lines of at most `width`, one hanging indent deep."""
    line = head + ', '.join(items) + tail
    if len(line) <= width:
        return [line]
    lines, indent = [head], ' ' * 8
    for i, item in enumerate(items):
        item += ',' if i < len(items) - 1 else tail
        if len(lines[-1]) + len(item) + 1 > width:
            lines.append(indent + item)
        else:
            lines[-1] += ('' if lines[-1].endswith('(') else ' ') + item
    return lines


def generated():
    texts = {path.name: path.read_text() for path in sorted(HEADERS.glob('*.h'))}
    code = ' '.join(code_of(text) for text in texts.values())
    version = [re.search(rf'ADVROB_VERSION_{part} (\d+)', texts['version.h']).group(1)
               for part in ('MAJOR', 'MINOR', 'PATCH')]
    codes = re.findall(r'X\((\w+), (-?\d+), "(.*?)"\)', texts['status.h'])
    constants = re.findall(r'\bADVROB_((?:LOG|TYPE)_\w+|[FUI]\d+) = (\d+)', code)
    callbacks = re.findall(r'typedef ([\w ]+?\**) ?\(\*(\w+)\)\((.*?)\);', code)
    known = {name for _, name, _ in callbacks}
    functions = re.findall(r'ADVROB_API ([\w ]+?\**) ?(advrob_\w+)\((.*?)\);', code)

    lines = ['"""What the headers of libadvrob declare. Made by generate.py: do not edit."""',
             'from ctypes import (CFUNCTYPE, c_char_p, c_double, c_int32, c_int64, c_size_t, c_uint64,',
             '                    c_void_p)',
             'from typing import Any, Dict, Tuple', '',
             f"VERSION = '{'.'.join(version)}'", '',
             '# Code: name, general text.', 'STATUS: Dict[int, Tuple[str, str]] = {']
    lines += [f"    {code}: ('{name}', '{text}')," for name, code, text in codes]
    lines += ['}', '']
    lines += [f'{name} = {value}' for name, value in constants]
    lines.append('')
    for result, name, types in callbacks:
        items = [ctype(result, known)] + parameters(types, known)
        lines += wrapped(f'{name} = CFUNCTYPE(', items, ')')
    lines += ['', '# Function: result, parameters.',
              'FUNCTIONS: Dict[str, Tuple[Any, Tuple[Any, ...]]] = {']
    for result, name, types in functions:
        listed = tuple_of(parameters(types, known))
        lines += wrapped(f"    '{name}': (", [ctype(result, known)] + listed.split(', '), '),')
    lines += ['}', '']
    return '\n'.join(lines)


def main():
    text = generated()
    if '--check' in sys.argv:
        fresh = WRITTEN.exists() and WRITTEN.read_text() == text
        print('the prototypes are those of the headers' if fresh else
              f'{WRITTEN} is not what the headers say: run {Path(__file__).name}')
        return not fresh
    WRITTEN.write_text(text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
