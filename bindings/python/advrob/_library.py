"""Finds and loads libadvrob and gives its functions their types. Every function that answers with a
status raises an exception when that is negative."""
import ctypes
import os
from pathlib import Path
from typing import Any, Callable, List, Tuple, TypeVar

from . import _prototypes
from .errors import error_of

SONAME = 'libadvrob.so.0'


def candidates() -> List[str]:
    """Where the library may be, in the order in which it is looked for."""
    own = Path(__file__).resolve().parent / SONAME
    places = [str(own)] if own.exists() else []
    named = os.environ.get('ADVROB_LIBRARY')
    return places + ([named] if named else []) + [SONAME]


def checked(code: int, function: Any, arguments: Tuple[Any, ...]) -> int:
    """After each call with an int32 result: counts are never negative, failures are."""
    if code < 0:
        raise error_of(code, library.advrob_last_message().decode('utf-8', 'replace'))
    return code


def find() -> Tuple[ctypes.CDLL, str]:
    """The first library that loads, and its path. One of another version is refused."""
    failures = []
    for path in candidates():
        try:
            there = ctypes.CDLL(path)
        except OSError as error:
            failures.append(f'  {path}: {error}')
            continue
        check_version(there, path)
        return there, path
    tried = '\n'.join(failures)
    raise ImportError(f'libadvrob was not found. Set ADVROB_LIBRARY to its path. Tried:\n{tried}')


def check_version(there: ctypes.CDLL, path: str) -> None:
    try:
        text = there.advrob_version_text
    except AttributeError:
        raise ImportError(f'{path} is not libadvrob') from None
    text.restype, text.argtypes = ctypes.c_char_p, ()
    found = text().decode()
    if found != _prototypes.VERSION:
        raise ImportError(f'{path} is version {found} of libadvrob, this package is for version '
                          f'{_prototypes.VERSION}')


def declare(there: ctypes.CDLL) -> None:
    for name, (result, parameters) in _prototypes.FUNCTIONS.items():
        if not hasattr(there, name):
            raise ImportError(f'{library_path} has no {name}: is it the inference-only library?')
        function = getattr(there, name)
        function.restype, function.argtypes = result, parameters
        if result is ctypes.c_int32:
            function.errcheck = checked


library, library_path = find()
declare(library)


class Handle:
    """Owns one object of the library, which is destroyed with it. Passed to library functions as it
    is; ctypes reads `_as_parameter_`."""

    _destroy: Any = None

    def __init__(self, address: Any) -> None:
        self._as_parameter_ = address

    def _free(self) -> None:
        address = self.__dict__.pop('_as_parameter_', None)
        if address is not None:
            type(self)._destroy(address)

    def __del__(self) -> None:
        self._free()

    def __reduce__(self) -> Tuple[Any, ...]:
        raise TypeError(f'{type(self).__name__} objects cannot be copied or pickled')


def expect(thing: Any, kind: type, name: str) -> None:
    """Every handle is an address to ctypes: another kind of object must not get that far."""
    if not isinstance(thing, kind):
        raise TypeError(f'{name} is of type {type(thing).__name__}, expected {kind.__name__}')


def made(create: Any, *arguments: Any) -> Any:
    """Calls a function whose last parameter receives a new object; its address."""
    address = ctypes.c_void_p()
    create(*arguments, ctypes.byref(address))
    return address


def digest_of(function: Any, handle: Handle) -> str:
    buffer = ctypes.create_string_buffer(17)
    function(handle, buffer, len(buffer))
    return buffer.value.decode()


def shape_of(function: Any, handle: Handle) -> Tuple[int, int, int]:
    shape = (ctypes.c_int32 * 3)()
    function(handle, shape)
    return shape[0], shape[1], shape[2]


T = TypeVar('T')


def scratch() -> Any:
    """A folder for as long as a `with` lasts."""
    import tempfile  # rarely needed, and slow to import
    return tempfile.TemporaryDirectory(prefix='advrob-')


def saved(save: Callable[[str], None]) -> bytes:
    """What `save` writes to a file, for pickles."""
    with scratch() as folder:
        path = os.path.join(folder, 'saved')
        save(path)
        return Path(path).read_bytes()


def loaded(load: Callable[[str], T], data: bytes) -> T:
    """What `load` makes of a file with these bytes."""
    with scratch() as folder:
        path = os.path.join(folder, 'saved')
        Path(path).write_bytes(data)
        return load(path)


def path_bytes(path: Any) -> bytes:
    """A path as the library takes it. NUL bytes would cut it short unseen."""
    encoded = os.fsencode(path)
    if b'\0' in encoded:
        raise ValueError(f'embedded null byte in path {path!r}')
    return encoded


def text_bytes(text: str, what: str) -> bytes:
    """A text as the library takes it."""
    if not isinstance(text, str):
        raise TypeError(f'{what} is {text!r}, expected a str')
    encoded = text.encode('utf-8', 'surrogatepass')
    if b'\0' in encoded:
        raise ValueError(f'embedded null character in {what} {text!r}')
    return encoded
