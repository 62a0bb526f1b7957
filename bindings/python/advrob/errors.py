"""Exceptions: each status code of the library as the kind of exception that Python programs expect,
with the library's own message."""
import re
from typing import Dict, Type

from ._prototypes import STATUS


class AdvrobError(Exception):
    """What the library refused. `status` is its code's name, such as "E_RANGE"."""

    status = 'E_INTERNAL'


class AdvrobValueError(AdvrobError, ValueError):
    """An argument, option, shape, name or file that is not what was expected."""


class AdvrobMemoryError(AdvrobError, MemoryError):
    """Out of memory, or past the context's memory_limit."""


class AdvrobOSError(AdvrobError, OSError):
    """A file that could not be read or written; `errno` and `filename` as the system named them."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ''


class Cancelled(AdvrobError):
    """The context was cancelled, by Context.cancel or a progress function."""


KINDS: Dict[str, Type[AdvrobError]] = {
    'E_INVALID': AdvrobValueError, 'E_FORMAT': AdvrobValueError, 'E_OVERFLOW': AdvrobValueError,
    'E_SHAPE': AdvrobValueError, 'E_RANGE': AdvrobValueError, 'E_UNKNOWN': AdvrobValueError,
    'E_NONFINITE': AdvrobValueError, 'E_NOMEM': AdvrobMemoryError, 'E_IO': AdvrobOSError,
    'E_CANCELLED': Cancelled,
}


def error_of(code: int, message: str) -> AdvrobError:
    """The exception for a status code and the library's message."""
    status = STATUS.get(code, ('E_INTERNAL', ''))[0]
    error = KINDS.get(status, AdvrobError)(message)
    error.status = status
    if isinstance(error, AdvrobOSError):
        number = re.search(r'\(errno (\d+)\)', message)
        if number:
            error.errno = int(number.group(1))
        error.filename = message.split(': ')[0]
    return error
