"""Reads C by its surface: what the gates need to know of a file without compiling it."""
import functools
import re

TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
DIRECTIVE = re.compile(r'^[ \t]*#(?:[^\n\\]|\\.|\\\n)*', re.M)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)

CALL = re.compile(r'(?<![\w.>])([A-Za-z_]\w*)\s*\(')


def blank(text):
    """Spaces of the same length and lines, so that positions stay."""
    return re.sub(r'[^\n]', ' ', text)


@functools.cache
def without_comments(code):
    """The code with comments blanked; strings stay."""
    def keep(match):
        return blank(match.group()) if match.group().startswith('/') else match.group()
    return TOKEN.sub(keep, code)


@functools.cache
def strip(code):
    """The code with comments and the insides of strings blanked."""
    def keep(match):
        text = match.group()
        return blank(text) if text.startswith('/') else text[0] + blank(text[1:-1]) + text[-1]
    return TOKEN.sub(keep, code)


@functools.cache
def without_directives(code):
    return DIRECTIVE.sub(lambda match: blank(match.group()), code)


def includes(code):
    """(line, '<' or '"', name) of every include."""
    code = without_comments(code)
    return [(line_of(code, m.start(1)), m.group(1), m.group(2)) for m in INCLUDE.finditer(code)]


def line_of(code, position):
    return code.count('\n', 0, position) + 1


@functools.cache
def calls(code):
    """(position, name) of whatever looks like a call of a plain name, in stripped code."""
    return [(m.start(), m.group(1)) for m in CALL.finditer(code)]


def first_comment(code):
    match = re.match(r'\s*/\*(.*?)\*/', code, re.S)
    return match.group(1) if match else ''


@functools.cache
def outer(code):
    return tuple(statements(code))


def statements(code):
    """Statements at file scope as (position, head, body or None), from stripped code without
    directives. Braces of initialisers and types belong to the statement's body."""
    start, depth, head_end = 0, 0, None
    for position, letter in enumerate(code):
        if letter == '{':
            if depth == 0:
                if code[start:position].strip() in ('extern "C"', 'extern " "'):
                    start = position + 1
                    continue
                head_end = head_end if head_end is not None else position
            depth += 1
        elif letter == '}':
            if depth == 0:
                start = position + 1
                continue
            depth -= 1
            if depth == 0 and code[start:head_end].rstrip().endswith(')'):
                yield piece(code, start, head_end, position + 1)
                start, head_end = position + 1, None
        elif letter == ';' and depth == 0:
            yield piece(code, start, head_end, position)
            start, head_end = position + 1, None


def piece(code, start, head_end, end):
    while start < end and code[start].isspace():
        start += 1
    if head_end is None:
        return start, code[start:end].strip(), None
    return start, code[start:head_end].strip(), code[head_end:end]
