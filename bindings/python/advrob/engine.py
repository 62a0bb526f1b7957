"""Engines: a quantized model as the integer program that is deployed."""
import ctypes
import os
from typing import Any, Optional, Tuple

import numpy as np

from ._library import Handle, expect, library, loaded, made, path_bytes, saved, shape_of
from .arrays import FloatArray, IntArray, U8, address, images
from .context import Context, current
from .interrupt import guarded
from .model import SHORT, Model
from .options import Options


class Engine(Handle):
    """A quantized model in integers: the same bits on every CPU, for any batch and number of threads.

    quantized = advrob.compress("quant_ptq", model, calibration=x)
    engine = advrob.Engine(quantized)
    engine.save("net.engine")
    logits = engine(x)

    Attacks on it use `gradients`, the model that it was lowered from. Immutable; threads may share
    it."""

    _destroy = library.advrob_engine_destroy

    def __init__(self, model: Model, **options: Any) -> None:
        """Raises AdvrobError (status "E_UNSUPPORTED") naming what has no integer form."""
        expect(model, Model, 'model')
        with Options(options) as chosen:
            self._begin(made(library.advrob_engine_create, model, chosen), model.context, model)

    @classmethod
    def load(cls, path: 'str | os.PathLike[str]', *, gradients: Optional[Model] = None,
             context: Optional[Context] = None) -> 'Engine':
        """An engine's file. `gradients`: the quantized model that it came from, for attacks that need
        gradients. Raises OSError, ValueError (a damaged file)."""
        if gradients is not None:
            expect(gradients, Model, 'gradients')
        engine = cls.__new__(cls)
        ctx = current(context)
        engine._begin(made(library.advrob_engine_load, ctx, path_bytes(path)), ctx, gradients)
        return engine

    def _begin(self, handle: Any, context: Context, gradients: Optional[Model]) -> None:
        Handle.__init__(self, handle)
        self.context, self.gradients = context, gradients
        self._shape = shape_of(library.advrob_engine_shape, self)
        self._classes = int(library.advrob_engine_classes(self))
        self._macs = gradients.macs if gradients is not None else 100 * self.memory()[0]  # about

    def save(self, path: 'str | os.PathLike[str]') -> None:
        """Writes its file, whole or not at all. Raises OSError."""
        library.advrob_engine_save(self, path_bytes(path))

    @property
    def shape(self) -> Tuple[int, int, int]:
        """Channels, height and width of an input."""
        return self._shape

    @property
    def classes(self) -> int:
        return self._classes

    def memory(self) -> Tuple[int, int]:
        """Bytes of what is made once, and of one thread's workspace."""
        fixed, workspace = ctypes.c_int64(), ctypes.c_int64()
        library.advrob_engine_memory(self, ctypes.byref(fixed), ctypes.byref(workspace))
        return fixed.value, workspace.value

    def __call__(self, x: Any) -> FloatArray:
        """Logits [n, classes] of images x [n, c, h, w]; bytes go in as they are."""
        x = images(x, 'x', self._shape)
        run = library.advrob_engine_run_u8 if x.dtype == U8 else library.advrob_engine_run
        n = len(x)
        logits = np.empty((n, self._classes), np.float32)
        if n * self._macs < SHORT:
            run(self, n, address(x), address(logits))
        else:
            with guarded(self.context):
                run(self, n, address(x), address(logits))
        return logits

    def predict(self, x: Any) -> IntArray:
        """The class [n] with the largest logit of each image."""
        classes: IntArray = np.argmax(self(x), axis=1).astype(np.int32)
        return classes

    def __reduce__(self) -> Tuple[Any, ...]:
        return _unpickled, (saved(self.save), self.gradients)

    def __repr__(self) -> str:
        return (f'Engine(input {"x".join(map(str, self.shape))}, {self.classes} classes, '
                f'{self.memory()[0]:,} bytes)')


def _unpickled(data: bytes, gradients: Optional[Model]) -> Engine:
    return loaded(lambda path: Engine.load(path, gradients=gradients), data)
