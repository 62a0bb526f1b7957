#!/usr/bin/env python3
"""The house rules of libadvrob/ that a compiler does not know: who includes whom, what is never
called, no mutable state, sizes, first comments, component lists.

    check_layers.py ROOT              checks a source tree
    check_layers.py ROOT --selftest   plants one defect of each kind in a copy; each must be caught
"""
import re
import shutil
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import c_text  # noqa: E402

LONGEST_FILE = 600
LONGEST_FUNCTION = 90

# Folder -> folders whose headers it may include, its own left out.
BELOW = {'base': [], 'kernel': ['base'], 'tensor': ['kernel', 'base']}
BELOW['op'] = ['tensor'] + BELOW['tensor']
BELOW['model'] = ['op'] + BELOW['op']
BELOW['data'] = ['base']
SIDES = ['io', 'attack', 'train', 'compress', 'engine', 'certify']
for side in SIDES:
    BELOW[side] = ['data', 'model'] + BELOW['model']
BELOW['method'] = SIDES + BELOW['io']
BELOW['report'] = ['method'] + BELOW['method']
BELOW['api'] = ['report'] + BELOW['report']

PRINTS = ('printf|fprintf|sprintf|snprintf|dprintf|vprintf|vfprintf|vsprintf|vsnprintf|vdprintf|'
          'puts|fputs|putchar|putc|fputc|perror')
TEXT = 'strtod|strtof|strtold|atof|atoi|atol|atoll|strtol|strtoll|strtoul|strtoull|strcpy|strcat|gets'
EVERYWHERE = f'{PRINTS}|{TEXT}|assert|abort|exit|_exit|getenv|secure_getenv|setlocale|alloca|fopen'
MEMORY = 'malloc|calloc|realloc|free|aligned_alloc|posix_memalign|strdup|strndup'
FORBIDDEN = set(EVERYWHERE.split('|'))
ALLOCATES = set(MEMORY.split('|'))

STANDARD = set('''assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp
signal stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath
threads time uchar wchar wctype dirent fcntl getopt pthread sys/ioctl sys/resource sys/stat
sys/time sys/types sys/wait unistd'''.split())


class Tree:
    """A source tree and what was found wrong in it."""

    def __init__(self, root):
        self.root = Path(root)
        self.library = self.root / 'libadvrob'
        self.failures = []

    def fail(self, path, line, text):
        self.failures.append(f'{path.relative_to(self.root)}:{line}: {text}')

    def sources(self, *endings):
        return [p for p in sorted(self.library.rglob('*')) if p.suffix in endings]

    def folder(self, path):
        parts = path.relative_to(self.library).parts
        return parts[0] if len(parts) > 1 else ''


# Includes

def shown_headers(tree, folder):
    """The headers that a folder shows others: its main one and those its first comment names."""
    main = tree.library / folder / f'{folder}.h'
    shown = {f'{folder}.h'}
    if main.exists():
        sentence = re.search(r'\bOthers\b.*?(?:\.\s|\.?\s*$)',
                             c_text.first_comment(main.read_text()) + '\n', re.S)
        named = re.findall(r'[\w/]+\.h\b', sentence.group()) if sentence else []
        extra = set(named) - shown
        if len(extra) > 2:
            tree.fail(main, 1, 'shows more than two further headers')
        shown |= extra
    return shown


def resolve(tree, path, name):
    for base in (path.parent, tree.library):
        if (base / name).is_file():
            return (base / name).resolve()
    return None


def check_include(tree, path, line, name):
    found = resolve(tree, path, name)
    if name.split('/')[-1] == 'internal.h':
        tree.fail(path, line, 'no catch-all internal.h')
    if found is None or tree.library.resolve() not in found.parents:
        tree.fail(path, line, f'include of "{name}", which is no file of libadvrob')
        return
    relative = found.relative_to(tree.library.resolve())
    own, other = tree.folder(path), relative.parts[0]
    if own == other:
        return
    if other not in BELOW.get(own, []):
        tree.fail(path, line, f'{own} must not include {other} ("{name}")')
    elif '/'.join(relative.parts[1:]) not in shown_headers(tree, other):
        tree.fail(path, line, f'"{name}" is private to {other}')


def check_includes(tree):
    for path in tree.sources('.c', '.h'):
        if tree.folder(path) not in BELOW:
            tree.fail(path, 1, 'in a folder that the design does not know')
        for line, kind, name in c_text.includes(path.read_text()):
            if kind == '"':
                check_include(tree, path, line, name)
            elif name.startswith('advrob/') and not (tree.root / 'include' / name).is_file():
                tree.fail(path, line, f'<{name}> does not exist')


def check_outsiders(tree):
    """Examples and bindings see the public headers only."""
    for top in ('examples', 'bindings'):
        for path in sorted((tree.root / top).rglob('*.[ch]')):
            for line, kind, name in c_text.includes(path.read_text()):
                if kind == '"':
                    allowed = '/' not in name and (path.parent / name).is_file()
                else:
                    allowed = name.startswith('advrob/') or name[:-2] in STANDARD
                if not allowed:
                    tree.fail(path, line, f'{top} may include <advrob/...> and standard headers '
                                          f'only, not {name}')


# Calls and state

def check_calls(tree):
    for path in tree.sources('.c', '.h'):
        code = c_text.strip(path.read_text())
        allocator = path.relative_to(tree.library).as_posix() == 'base/memory.c'
        forbidden = FORBIDDEN if allocator else FORBIDDEN | ALLOCATES
        for position, name in c_text.calls(code):
            if name in forbidden:
                tree.fail(path, c_text.line_of(code, position), f'calls {name}()')
        for match in re.finditer(r'#\s*pragma\s+omp|_Pragma\s*\(\s*"[^"]*omp', code):
            tree.fail(path, c_text.line_of(code, match.start()), 'uses OpenMP')
        check_arrays(tree, path, c_text.without_directives(code))


def check_arrays(tree, path, code):
    """Local arrays whose size is no constant: capitals, numbers and sizeof are constants."""
    local = re.compile(r'^[ \t]+((?:[A-Za-z_]\w*[ \t]+)+)\**\w+\[([^\]\n]+)\](?:\[[^\]]*\])*[ \t]*[;,=]',
                       re.M)
    for match in local.finditer(code):
        words = match.group(1).split()
        size = re.sub(r'sizeof\s*\([^)]*\)', '', match.group(2))
        if words[0] in ('return', 'goto', 'else', 'case', 'typedef', 'extern'):
            continue
        if re.search(r'\b(?!AR_|ADVROB_)\w*[a-z]\w*', re.sub(r'\b\d\w*', '', size)):
            tree.fail(path, c_text.line_of(code, match.start(2)), 'looks like a variable-length array')


def is_mutable(head):
    """Whether the object declared by `static ...` can be changed."""
    declarator = re.split(r'[=\[]', head, maxsplit=1)[0]
    if '_Thread_local' in declarator or '(' in declarator.replace('(*', ''):
        return False
    return not re.search(r'\bconst\b', declarator.split('*')[-1] if '*' in declarator else declarator)


def check_state(tree):
    for path in tree.sources('.c', '.h'):
        code = c_text.without_directives(c_text.strip(path.read_text()))
        for position, head, body in c_text.outer(code):
            line = c_text.line_of(code, position)
            if head.startswith('static') and is_mutable(head):
                tree.fail(path, line, 'mutable static object')
            elif path.suffix == '.c' and is_object(head) and is_mutable(head):
                tree.fail(path, line, 'mutable global object')
            if head.endswith(')') and body is not None:
                for match in re.finditer(r'\bstatic\b([^;{(]*)', body):
                    if is_mutable(match.group()):
                        tree.fail(path, line, 'mutable static object inside a function')


def is_object(head):
    words = re.split(r'[=\[]', head, maxsplit=1)[0]
    return (bool(re.match(r'[A-Za-z_]\w*[\s*]+[A-Za-z_]', words)) and '(' not in words
            and not re.match(r'(extern|typedef|static|struct\s+\w+\s*$|union|enum|_Static_assert)', words))


# Sizes, comments, lists

def check_border(tree):
    """Only api defines public functions; nothing below it has their prefix."""
    for path in tree.sources('.c'):
        if tree.folder(path) == 'api':
            continue
        for position, head, body in c_text.outer(c_text.without_directives(c_text.strip(path.read_text()))):
            if body is not None and re.search(r'\badvrob_\w+\s*\([^()]*\)$', head):
                tree.fail(path, c_text.line_of(c_text.strip(path.read_text()), position),
                          'defines a public function outside api')


def check_sizes(tree):
    for path in tree.sources('.c', '.h'):
        text = path.read_text()
        lines = text.count('\n')
        if lines > LONGEST_FILE:
            tree.fail(path, lines, f'{lines} lines, more than {LONGEST_FILE}')
        if not text.startswith('/*'):
            tree.fail(path, 1, 'does not start with a comment')
        if tree.folder(path) == 'kernel':
            continue
        code = c_text.without_directives(c_text.strip(text))
        for position, head, body in c_text.outer(code):
            if body is not None and head.endswith(')'):
                length = (head + body).count('\n') + 2
                if length > LONGEST_FUNCTION:
                    tree.fail(path, c_text.line_of(code, position),
                              f'function of {length} lines, more than {LONGEST_FUNCTION}')


def list_prefix(folder, macro):
    """What AR_OP(name) makes of a name: the part before ## in the folder's own definition."""
    for path in sorted(folder.glob('*.[ch]')):
        match = re.search(rf'#\s*define\s+{macro}\(\w+[^)]*\)[^\n]*?\b(\w+)##', path.read_text())
        if match:
            return match.group(1)
    return None


def check_lists(tree):
    for path in tree.sources('.inc'):
        entries = re.findall(r'^ *(AR_\w+)\((\w+)', path.read_text(), re.M)
        if not entries:
            tree.fail(path, 1, 'lists nothing')
        for macro in sorted({macro for macro, _ in entries}):
            check_list(tree, path, macro, [name for m, name in entries if m == macro])


def definitions(folder, prefix, names):
    """Name -> source of the descriptors: of the type that the listed ones have."""
    found = []
    for source in sorted(folder.glob('*.c')):
        code = c_text.strip(source.read_text())
        for match in re.finditer(rf'^const\s+(\w+)\s+{prefix}(\w+)\s*=', code, re.M):
            found.append((match.group(1), match.group(2), source))
    types = {kind for kind, name, _ in found if name in names}
    return {name: source for kind, name, source in found if kind in types}


def check_list(tree, path, macro, names):
    prefix = list_prefix(path.parent, macro)
    if prefix is None:
        tree.fail(path, 1, f'nobody reads {macro}')
        return
    defined = definitions(path.parent, prefix, names)
    for name in names:
        own = path.parent / f'{name}.c'
        if name not in defined or (own.exists() and defined[name] != own):
            tree.fail(path, 1, f'{name} is listed, but no source file defines {prefix}{name}')
    for name, source in defined.items():
        if name not in names:
            tree.fail(source, 1, f'{prefix}{name} is not listed in {path.name}')
    for name in names:
        if names.count(name) > 1:
            tree.fail(path, 1, f'{name} is listed twice')


def check(root):
    tree = Tree(root)
    for step in (check_includes, check_outsiders, check_calls, check_state, check_border, check_sizes,
                 check_lists):
        step(tree)
    return tree.failures


# Self-test

def put(name, text):
    """A defect: a new file with a comment, so that only `text` is wrong."""
    return lambda root: write(root / name, '/* Planted. */\n' + text)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def add(name, text):
    def plant(root):
        path = root / name
        path.write_text(path.read_text() + text)
    return plant


def body(code):
    return put('libadvrob/op/planted.c', f'int f(int n);\nint f(int n) {{\n    {code}\n    return n;\n}}\n')


DEFECTS = [
    (put('libadvrob/base/planted.c', '#include "kernel/kernel.h"\n'), 'base must not include kernel'),
    (put('libadvrob/kernel/planted.c', '#include "tensor/tensor.h"\n'), 'kernel must not include'),
    (put('libadvrob/data/planted.c', '#include "model/model.h"\n'), 'data must not include model'),
    (put('libadvrob/model/planted.c', '#include "data/data.h"\n'), 'model must not include data'),
    (put('libadvrob/attack/planted.c', '#include "io/io.h"\n'), 'attack must not include io'),
    (put('libadvrob/io/planted.c', '#include "io/nowhere.h"\n'), 'no file of libadvrob'),
    (put('libadvrob/method/planted.c', '#include "../../meson.build"\n'), 'no file of libadvrob'),
    (put('libadvrob/attack/planted.c', '#include "model/zoo/zoo.h"\n'), 'private to model'),
    (put('libadvrob/attack/planted.c', '#include "op/window.h"\n'), 'private to op'),
    (put('libadvrob/attack/planted.c', '#include <advrob/nowhere.h>\n'), 'does not exist'),
    (put('libadvrob/helpers/planted.c', 'int x(void);\n'), 'design does not know'),
    (lambda root: (put('libadvrob/api/api.h', '')(root),
                   put('libadvrob/report/planted.c', '#include "api/api.h"\n')(root)),
     'report must not include api'),
    (lambda root: (put('libadvrob/op/internal.h', '')(root),
                   put('libadvrob/op/planted.c', '#include "internal.h"\n')(root)), 'catch-all'),
    (lambda root: write(root / 'libadvrob/engine/engine.h',
                        '/* engine. Others include this header, a.h, b.h and c.h. */\n')
     or put('libadvrob/method/planted.c', '#include "engine/engine.h"\n')(root), 'more than two'),
    (put('examples/planted.c', '#include "base/base.h"\n'), 'examples may include'),
    (put('examples/planted.c', '#include <zlib.h>\n'), 'examples may include'),
    (put('bindings/planted.c', '#include "../libadvrob/op/op.h"\n'), 'bindings may include'),
    (body('for (int i = 0; i < n; i++) if (i) free(0);'), 'calls free()'),
    (body('void *p = malloc(4); (void)p;'), 'calls malloc()'),
    (body('void *p = realloc (0, 4); (void)p;'), 'calls realloc()'),
    (body('void *p = calloc(4, 1); (void)p;'), 'calls calloc()'),
    (body('printf("%d", n);'), 'calls printf()'),
    (body('char b[4]; snprintf(b, 4, "x");'), 'calls snprintf()'),
    (body('assert(n);'), 'calls assert()'),
    (body('if (n) abort();'), 'calls abort()'),
    (body('exit(1);'), 'calls exit()'),
    (body('getenv("X");'), 'calls getenv()'),
    (body('setlocale(0, "");'), 'calls setlocale()'),
    (body('n = (int)strtod("1", 0);'), 'calls strtod()'),
    (body('n = atoi("1");'), 'calls atoi()'),
    (body('char *p = alloca(4); (void)p;'), 'calls alloca()'),
    (body('strcpy(0, "a");'), 'calls strcpy()'),
    (body('#pragma omp parallel for\n'), 'OpenMP'),
    (body('double a[n];'), 'variable-length'),
    (body('static int calls = 0; n = calls++;'), 'inside a function'),
    (put('libadvrob/op/planted.c', 'static int counter;\n'), 'mutable static'),
    (put('libadvrob/op/planted.c', 'static const char *name = "x";\n'), 'mutable static'),
    (put('libadvrob/op/planted.c', 'int ar_counter = 1;\n'), 'mutable global'),
    (put('libadvrob/op/planted.c', 'int advrob_planted(void) { return 1; }\n'), 'outside api'),
    (put('libadvrob/op/planted.c', 'int x(void);\n' * LONGEST_FILE), f'more than {LONGEST_FILE}'),
    (body('n++;\n' * LONGEST_FUNCTION), f'more than {LONGEST_FUNCTION}'),
    (lambda root: write(root / 'libadvrob/op/planted.c', 'int x(void);\n'), 'start with a comment'),
    (add('libadvrob/op/ops.inc', 'AR_OP(nowhere)\n'), 'nowhere is listed'),
    (add('libadvrob/op/ops.inc', 'AR_OP(relu)\n'), 'listed twice'),
    (put('libadvrob/op/planted.c', 'const ar_op ar_op_planted = {0};\n'), 'is not listed in ops.inc'),
]

# What must not be taken for a defect.
HARMLESS = '''#include <advrob/status.h>
#include "base/base.h"
/* malloc(1); static int x; */
static const char text[] = "printf(\\"x\\") abort()";
static const char *const names[] = {"a", "b"};
static _Thread_local int here;
_Static_assert(sizeof(here) == 4, "int");
struct planted { int x; };
enum { PLANTED = 4 };
static int twice(int n) {
    static const int table[PLANTED] = {1, 2};
    int own[PLANTED], more[sizeof(own) / sizeof(own[0])];
    own[0] = more[0] = n;
    return table[n] + own[n];
}
'''


def selftest(root):
    with tempfile.TemporaryDirectory() as folder:
        clean = Path(folder) / 'clean'
        for part in ('libadvrob', 'include', 'examples', 'bindings'):
            if (Path(root) / part).is_dir():
                shutil.copytree(Path(root) / part, clean / part)
        before = set(check(clean))
        missed = []
        for number, (plant, expected) in enumerate(DEFECTS):
            copy = Path(folder) / str(number)
            shutil.copytree(clean, copy)
            plant(copy)
            found = set(check(copy)) - before
            if not any(expected in text for text in found):
                missed.append(f'defect {number} was not caught: {expected!r}; found {sorted(found)}')
            shutil.rmtree(copy)
        put('libadvrob/op/planted.c', HARMLESS)(clean)
        missed += [f'harmless code was refused: {text}' for text in set(check(clean)) - before]
    return missed, len(DEFECTS)


def main():
    root = Path(sys.argv[1]).resolve()
    if '--selftest' in sys.argv:
        missed, count = selftest(root)
        print('\n'.join(missed) or f'{count} planted defects caught')
        return bool(missed)
    failures = check(root)
    print('\n'.join(failures) or 'the layers hold')
    return bool(failures)


if __name__ == '__main__':
    sys.exit(main())
