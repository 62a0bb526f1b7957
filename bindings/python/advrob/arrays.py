"""Arrays at the border. Contiguous float32 and uint8 go in as they are, without a copy; anything
else is refused by name, and `as_images` converts it when asked. What speaks DLPack is taken too;
what comes out are NumPy arrays, which speak it themselves."""
from typing import Any, Optional, Tuple

import numpy as np

# Without numpy.typing, whose import takes a tenth of this package's.
FloatArray = np.ndarray[Any, np.dtype[np.float32]]
DoubleArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int32]]
AnyArray = np.ndarray[Any, np.dtype[Any]]

F32, U8, I32 = np.dtype(np.float32), np.dtype(np.uint8), np.dtype(np.int32)

# k / 255 rounded once, as the library and PyTorch's ToTensor have it.
PIXELS = np.arange(256, dtype=np.float32) / np.float32(255)


def address(array: AnyArray) -> int:
    """Where the elements are."""
    return int(array.__array_interface__['data'][0])


def foreign(x: Any, name: str) -> AnyArray:
    """A NumPy view of what speaks DLPack; an array of what else NumPy understands."""
    if hasattr(x, '__dlpack__'):
        try:
            return np.from_dlpack(x)
        except Exception as error:
            raise TypeError(f'{name}: no array of the CPU\'s memory could be made of this '
                            f'{type(x).__module__}.{type(x).__name__}: {error}') from error
    if isinstance(x, (list, tuple)) or hasattr(x, '__array__'):
        return np.asarray(x)
    raise TypeError(f'{name} is of type {type(x).__name__}, expected a NumPy array or anything with '
                    f'DLPack')


def as_images(x: Any) -> AnyArray:
    """Any array of floats or bytes as the library takes it: uint8 stays, floats become native,
    contiguous float32. Copies only where it must.

    >>> advrob.attack("pgd", model, advrob.as_images(x64), y, epsilon=8/255)
    """
    array = x if isinstance(x, np.ndarray) else foreign(x, 'x')
    if array.dtype.kind != 'f' and array.dtype != U8:
        raise TypeError(f'x has dtype {array.dtype}, expected floats, or bytes as uint8')
    return np.require(array, U8 if array.dtype == U8 else F32, ['C', 'A'])


def images(x: Any, name: str = 'x', shape: Optional[Tuple[int, ...]] = None) -> AnyArray:
    """x as float32 or uint8 [n, c, h, w] without a copy, or an exception that says what it is."""
    array: AnyArray = x if isinstance(x, np.ndarray) else foreign(x, name)
    if array.dtype != F32 and array.dtype != U8 or not array.dtype.isnative:
        raise TypeError(f'{name} has dtype {array.dtype.str} ({array.dtype}), expected native float32 '
                        f'or uint8; advrob.as_images converts')
    if array.ndim != 4 or shape is not None and array.shape[1:] != shape:
        wanted = 'n, channels, height, width' if shape is None else f'n, {shape[0]}, {shape[1]}, {shape[2]}'
        raise ValueError(f'{name} has shape {list(array.shape)}, expected [{wanted}]')
    if not array.flags.c_contiguous or not array.flags.aligned:
        raise ValueError(f'{name} is not contiguous and aligned (strides {array.strides}); '
                         f'advrob.as_images copies')
    return array


def box_of(function: Any, handle: Any, channels: int) -> Optional[Tuple[DoubleArray, DoubleArray]]:
    """Lowest and highest pixel of each channel, from a getter of the library; None: 0 and 1."""
    low, high = np.empty(channels), np.empty(channels)
    function(handle, address(low), address(high), None)
    return None if (low == 0).all() and (high == 1).all() else (low, high)


def pixels(x: Any, name: str = 'x', shape: Optional[Tuple[int, ...]] = None,
           box: Optional[Tuple[DoubleArray, DoubleArray]] = None) -> FloatArray:
    """The same as float32: bytes k become k / 255, or of a box, the lowest and highest pixel of each
    channel, low + k / 255 * (high - low)."""
    array = images(x, name, shape)
    if array.dtype == F32:
        return array
    if box is None:
        return PIXELS[array]
    low, high = (bound[:, np.newaxis] for bound in box)
    tables = (low + np.arange(256) / 255 * (high - low)).astype(F32)
    converted: FloatArray = tables[np.arange(array.shape[1])[:, np.newaxis, np.newaxis], array]
    return converted


def labels(y: Any, n: int, name: str = 'y') -> IntArray:
    """Whole numbers [n] as int32; any integer type is converted."""
    array = y if isinstance(y, np.ndarray) else foreign(y, name)
    if array.dtype.kind not in 'iu' and array.size > 0:
        raise TypeError(f'{name} has dtype {array.dtype}, expected integers')
    if array.shape != (n,):
        raise ValueError(f'{name} has shape {list(array.shape)}, expected [{n}]: a label for each image')
    if array.dtype != I32 and n > 0:
        low, high = int(array.min()), int(array.max())
        if low < -2**31 or high >= 2**31:
            raise ValueError(f'{name} holds {low if low < -2**31 else high}, which is no class')
    return np.ascontiguousarray(array, I32)


def doubles(values: Any, name: str, n: Optional[int] = None) -> DoubleArray:
    """Numbers [n] as contiguous float64."""
    array = np.ascontiguousarray(values, np.float64)
    if array.ndim != 1 or n is not None and len(array) != n:
        raise ValueError(f'{name} has shape {list(array.shape)}, expected [{"n" if n is None else n}]')
    return array
