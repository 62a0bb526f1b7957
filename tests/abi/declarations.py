"""The public headers as a list of declarations: functions with their types, typedefs, comments."""
import re
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'layering'))
import c_text  # noqa: E402

SCALARS = {'int32_t', 'int64_t', 'uint32_t', 'uint64_t', 'size_t', 'float', 'double'}
POINTED = SCALARS | {'void', 'char', 'uint8_t', 'int8_t', 'int16_t', 'uint16_t'}


class Header:
    """One header: what it declares and what is wrong with it."""

    def __init__(self, path, opaque, callbacks):
        self.path, self.text = Path(path), Path(path).read_text()
        self.opaque, self.callbacks = opaque, callbacks
        self.functions, self.failures = [], []
        code = c_text.without_directives(c_text.without_comments(self.text))
        for position, head, body in c_text.outer(code):
            self.statement(c_text.line_of(code, position), ' '.join(head.split()), body)

    def fail(self, line, text):
        self.failures.append(f'{self.path.name}:{line}: {text}')

    def statement(self, line, head, body):
        if not head or head == '}':
            return
        if body is not None and not head.startswith('enum') and not head.startswith('typedef enum'):
            self.fail(line, 'a struct layout or a function body crosses the border')
        elif head.startswith('typedef'):
            self.typedef(line, head)
        elif '(' in head:
            self.function(line, head)
        elif not head.startswith(('enum', 'struct')):
            self.fail(line, f'a public object: {head}')

    def typedef(self, line, head):
        match = re.fullmatch(r'typedef (.*?)\(\*(\w+)\)\((.*)\)', head)
        if match:
            self.types(line, match.group(2), match.group(1), match.group(3))
        elif not re.fullmatch(r'typedef struct (\w+) \1', head):
            self.fail(line, f'neither an opaque handle nor a callback: {head}')

    def function(self, line, head):
        match = re.fullmatch(r'(ADVROB_API )?(.*?)(\w+) ?\((.*)\)', head)
        if not match:
            self.fail(line, f'not understood: {head}')
            return
        exported, result, name, parameters = match.groups()
        if not exported:
            self.fail(line, f'{name} has no ADVROB_API')
        if not name.startswith('advrob_'):
            self.fail(line, f'{name} has no advrob_ prefix')
        self.functions.append(name)
        self.types(line, name, result, parameters)
        if not has_comment(self.text.split('\n'), line - 1):
            self.fail(line, f'{name} has no comment above it or above its group')

    def types(self, line, name, result, parameters):
        if result.strip() != 'void':
            self.type(line, name, result)
        if parameters.strip() != 'void':
            for parameter in parameters.split(','):
                named = re.fullmatch(r'(.*[\s*])\w+(?:\[\w*\])?', parameter.strip())
                self.type(line, name, named.group(1) if named else parameter)

    def type(self, line, name, text):
        stars = text.count('*')
        base = ' '.join(text.replace('*', ' ').replace('const', ' ').split())
        by_value = base in SCALARS or base in self.callbacks
        pointed = base in POINTED or base in self.opaque
        if not (pointed if stars else by_value):
            self.fail(line, f'{name}: type "{text.strip()}" must not cross the border')


def has_comment(lines, index):
    """Whether the run of lines without a gap that ends at `index` starts below a comment."""
    while index > 0 and lines[index - 1].strip():
        index -= 1
        if lines[index].rstrip().endswith('*/'):
            return True
    return False


def read(folder):
    """All headers of include/advrob."""
    paths = sorted(Path(folder).glob('*.h'))
    text = '\n'.join(c_text.without_comments(path.read_text()) for path in paths)
    opaque = set(re.findall(r'typedef\s+struct\s+(\w+)\s+\1\s*;', text))
    callbacks = set(re.findall(r'typedef\s[^;{]*?\(\*(\w+)\)\s*\(', text))
    return [Header(path, opaque, callbacks) for path in paths]


def functions(folder):
    return sorted(name for header in read(folder) for name in header.functions)
