"""Options: keyword arguments as the library's named values, and the listing of what exists."""
import ctypes
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from . import _prototypes
from ._library import Handle, library, made, text_bytes

KINDS = ('model', 'dataset', 'attack', 'compressor', 'finetune', 'operator', 'loss', 'optimizer',
         'schedule', 'context', 'evaluation', 'curve', 'check', 'profile', 'quantization',
         'report')

TYPES = {_prototypes.TYPE_F64: 'number', _prototypes.TYPE_I64: 'whole number',
         _prototypes.TYPE_STR: 'text', _prototypes.TYPE_F64_ARRAY: 'numbers',
         _prototypes.TYPE_HANDLE: 'handle', _prototypes.TYPE_LIST: 'list'}


class Option(NamedTuple):
    """One option of a component, as the library describes it; `default` and `range` are texts."""

    name: str
    type: str
    default: str
    range: str
    help: str


def components(kind: Optional[str] = None) -> List[str]:
    """Names of the library's components of a kind; without one, the kinds.

    >>> advrob.components("attack")
    ['apgd', 'apgd_t', ...]
    """
    if kind is None:
        return [known for known in KINDS if library.advrob_component_count(known.encode())]
    encoded = text_bytes(kind, 'kind')
    count = library.advrob_component_count(encoded)
    if count == 0:
        raise ValueError(f'kind is {kind!r}, expected one of {", ".join(KINDS)}')
    return [library.advrob_component_name_at(encoded, i).decode() for i in range(count)]


def component_help(kind: str, name: str) -> str:
    """The one line that says what a component is."""
    index = components(kind).index(name)
    return str(library.advrob_component_help_at(kind.encode(), index).decode())


def options(kind: str, name: Optional[str] = None) -> List[Option]:
    """The options of a component. `name` may be left out where a kind has one component alone.

    >>> advrob.options("attack", "pgd")[0].name
    'epsilon'
    """
    known = components(kind)
    if name is None and len(known) == 1:
        name = known[0]
    if name not in known:
        raise ValueError(f'{kind} is {name!r}, expected one of {", ".join(known)}')
    return [_option_at(kind.encode(), name.encode(), i)
            for i in range(library.advrob_option_count(kind.encode(), name.encode()))]


def _option_at(kind: bytes, name: bytes, index: int) -> Option:
    option, initial, allowed, text = (ctypes.c_char_p() for _ in range(4))
    number = ctypes.c_int32()
    library.advrob_option_at(kind, name, index, *map(ctypes.byref, (option, number, initial, allowed,
                                                                     text)))
    name_, default, range_, help_ = ((value.value or b'').decode()
                                     for value in (option, initial, allowed, text))
    return Option(name_, TYPES.get(number.value, '?'), default, range_, help_)


class Options(Handle):
    """A set of options for one call of the library. Values: numbers, texts ("8/255" is a number
    too), sequences of numbers, lists of components, objects of this package; a dictionary's names
    follow a dot: attack={"steps": 3} is "attack.steps". None is left out.

    with Options({"epsilon": 0.1}) as chosen: ...
    """

    _destroy = library.advrob_options_destroy

    def __init__(self, values: Dict[str, Any]) -> None:
        super().__init__(made(library.advrob_options_create))
        self._kept: List[Any] = []  # handles are borrowed by the set
        for name, value in flat(values):
            self._set(text_bytes(name, 'an option\'s name'), name, value)

    def __enter__(self) -> 'Options':
        return self

    def __exit__(self, *_: Any) -> None:
        self._free()

    def _set(self, key: bytes, name: str, value: Any) -> None:
        if isinstance(value, str):
            library.advrob_options_set_text(self, key, text_bytes(value, name))
        elif isinstance(value, (bool, np.bool_, int, np.integer)):
            if not -2**63 <= value < 2**63:
                raise ValueError(f'option "{name}" is {value}, expected at most 64 bits')
            library.advrob_options_set_i64(self, key, int(value))
        elif isinstance(value, (float, np.floating)):
            library.advrob_options_set_f64(self, key, float(value))
        elif isinstance(value, Handle):
            self._kept.append(value)
            library.advrob_options_set_handle(self, key, value)
        elif hasattr(value, '__fspath__'):
            library.advrob_options_set_text(self, key, text_bytes(str(value), name))
        else:
            self._set_several(key, name, value)

    def _set_several(self, key: bytes, name: str, value: Any) -> None:
        if not isinstance(value, (list, tuple, np.ndarray)):
            raise TypeError(f'option "{name}" is of type {type(value).__name__}, expected a number, a '
                            f'text, numbers, or a list of components')
        if len(value) > 0 and all(isinstance(item, (str, tuple)) for item in value):
            for item in value:
                self._append(key, *component_of(item))
            return
        try:
            numbers = np.ascontiguousarray(value, np.float64).ravel()
        except (TypeError, ValueError):
            raise TypeError(f'option "{name}" is {value!r}, expected numbers, or a list of components: '
                            f'names or (name, options)') from None
        library.advrob_options_set_f64_array(self, key, numbers.ctypes.data, numbers.size)

    def _append(self, key: bytes, component: str, values: Dict[str, Any]) -> None:
        with Options(values) as sub:
            library.advrob_options_append(self, key, text_bytes(component, 'a component'), sub)


def component_of(item: Any) -> Tuple[str, Dict[str, Any]]:
    """"pgd" or ("pgd", {"steps": 20}) as name and options."""
    name, values = (item, {}) if isinstance(item, str) else item
    return name, dict(values)


def flat(values: Dict[str, Any], prefix: str = '') -> Iterator[Tuple[str, Any]]:
    """Names and values, dictionaries opened, None left out."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f'{prefix}{name}.')
        elif value is not None:
            yield prefix + name, value
