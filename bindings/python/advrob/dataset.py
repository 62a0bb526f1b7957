"""Datasets: labelled images."""
import ctypes
import os
from typing import Any, Optional, Tuple, Union, overload

import numpy as np

from . import _prototypes
from ._library import Handle, digest_of, library, made, path_bytes, shape_of, text_bytes
from .arrays import FloatArray, IntArray, U8, address, images, labels
from .context import Context, current
from .interrupt import guarded
from .options import Options


class Dataset(Handle):
    """Labelled images, immutable; pixels in [0, 1].

    train = advrob.Dataset.open("fashion-mnist", "/usr/share/datasets/fashion-mnist")
    mine = advrob.Dataset(x, y)          # copies x [n, c, h, w] and y [n]
    """

    _destroy = library.advrob_dataset_destroy

    def __init__(self, x: Any, y: Any = None, classes: Optional[int] = None, *,
                 context: Optional[Context] = None) -> None:
        """x: float32 in [0, 1] or uint8. y None: labels 0, for images that need none. `classes` None:
        the largest label's, and at least 2. Raises ValueError (a pixel or label out of range)."""
        x = images(x)
        y = np.zeros(len(x), np.int32) if y is None else labels(y, len(x))
        if classes is None:
            classes = max(int(y.max(initial=0)) + 1, 2)
        self.context = current(context)
        dtype = _prototypes.U8 if x.dtype == U8 else _prototypes.F32
        super().__init__(made(library.advrob_dataset_from_memory, self.context, dtype, address(x),
                              address(y), *x.shape, classes))

    @classmethod
    def open(cls, name: str, folder: 'str | os.PathLike[str]', *, context: Optional[Context] = None,
             **options: Any) -> 'Dataset':
        """A known dataset's files in `folder`; names: advrob.components("dataset"). Options: split
        ("train", "test"), limit. Raises OSError (missing files), ValueError (damaged ones)."""
        ctx = current(context)
        with Options(options) as chosen, guarded(ctx):
            return cls._of(made(library.advrob_dataset_open, ctx, text_bytes(name, 'dataset'),
                                path_bytes(folder), chosen), ctx)

    @classmethod
    def _of(cls, handle: Any, context: Context) -> 'Dataset':
        dataset = cls.__new__(cls)
        Handle.__init__(dataset, handle)
        dataset.context = context
        return dataset

    @property
    def shape(self) -> Tuple[int, int, int]:
        """Channels, height and width of an image."""
        return shape_of(library.advrob_dataset_shape, self)

    @property
    def classes(self) -> int:
        return int(library.advrob_dataset_classes(self))

    def __len__(self) -> int:
        return int(library.advrob_dataset_count(self))

    @overload
    def __getitem__(self, index: slice) -> 'Dataset': ...

    @overload
    def __getitem__(self, index: int) -> Tuple[FloatArray, int]: ...

    def __getitem__(self, index: Union[int, slice]) -> 'Union[Dataset, Tuple[FloatArray, int]]':
        """dataset[a:b]: those images as a dataset that shares the pixels; dataset[i]: image
        [c, h, w] and label."""
        if isinstance(index, slice):
            first, last, step = index.indices(len(self))
            if step != 1:
                raise ValueError(f'the slice has step {step}, expected 1')
            return self._of(made(library.advrob_dataset_slice, self, first, max(last - first, 0)),
                            self.context)
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f'image {index} of {len(self)}')
        x, y = self.arrays(place, 1)
        return x[0], int(y[0])

    def arrays(self, first: int = 0, n: Optional[int] = None) -> Tuple[FloatArray, IntArray]:
        """Images [n, c, h, w] and labels [n] from image `first` on, copied; n None: all."""
        n = len(self) - first if n is None else n
        x, y = np.empty((max(n, 0), *self.shape), np.float32), np.empty(max(n, 0), np.int32)
        library.advrob_dataset_read(self, first, n, address(x), address(y))
        return x, y

    def split(self, count: int, seed: int = 0) -> 'Tuple[Dataset, Dataset]':
        """`count` images drawn at random, and all others."""
        part, rest = ctypes.c_void_p(), ctypes.c_void_p()
        library.advrob_dataset_split(self, count, seed, ctypes.byref(part), ctypes.byref(rest))
        return self._of(part, self.context), self._of(rest, self.context)

    def digest(self) -> str:
        """16 hex digits that name pixels and labels."""
        return digest_of(library.advrob_dataset_digest, self)

    def __reduce__(self) -> Tuple[Any, ...]:
        return Dataset, (*self.arrays(), self.classes)

    def __repr__(self) -> str:
        return f'Dataset({len(self)} images of {"x".join(map(str, self.shape))}, {self.classes} classes)'


Data = Union[Dataset, Tuple[Any, Any], Any]


def as_dataset(data: Data, context: Context, classes: Optional[int] = None) -> Dataset:
    """A dataset, a pair (x, y), or images alone as a dataset."""
    if isinstance(data, Dataset):
        return data
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return Dataset(data[0], data[1], classes, context=context)
    return Dataset(data, None, classes, context=context)
