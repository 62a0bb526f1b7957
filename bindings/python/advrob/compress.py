"""Compressors: a model in, a smaller one out."""
import ctypes
from typing import Any, Callable, Optional

from . import _prototypes
from ._library import Handle, library, made, text_bytes
from .context import Context
from .dataset import Data, as_dataset
from .interrupt import caught, guarded
from .model import Model
from .options import Options

Step = Callable[[int, int, Model], Any]


class _Compressor(Handle):
    _destroy = library.advrob_compressor_destroy

    def __init__(self, name: str, context: Context, options: Any) -> None:
        with Options(options) as chosen:
            super().__init__(made(library.advrob_compressor_create, context,
                                  text_bytes(name, 'compressor'), chosen))

    def on_step(self, step: Step, context: Context) -> None:
        """The function is called with the net as it is, which is the library's: it is taken away from
        the Model again when the function returns."""
        def run(number: int, steps: int, handle: int) -> None:
            model = Model(ctypes.c_void_p(handle), context)
            try:
                step(number, steps, model)
            finally:
                model._as_parameter_ = None

        def called(_user: Any, number: int, steps: int, handle: int) -> int:
            return caught(run, number, steps, handle)

        self._step = _prototypes.advrob_compress_step_fn(called)
        library.advrob_compressor_on_step(self, self._step, None)


def compress(name: str, model: Model, calibration: Optional[Data] = None, *,
             on_step: Optional[Step] = None, **options: Any) -> Model:
    """A smaller model; the given one is not changed.

    small = advrob.compress("prune_l1", model, sparsity=0.5)
    quantized = advrob.compress("quant_ptq", small, calibration=x, activation_bits=7)

    Names: advrob.components("compressor"); every option of advrob.options("compressor", name) is a
    keyword. `calibration`: training images [n, c, h, w], a pair (x, y) or a Dataset, for compressors
    that need them. `on_step(step, steps, model)` is called between the steps of a pruning and may
    fine-tune the model in place. Raises ValueError, AdvrobError ("E_UNSUPPORTED": a graph that it
    cannot handle)."""
    compressor, data = _prepared(name, model, calibration, options)
    if on_step is not None:
        compressor.on_step(on_step, model.context)
    with guarded(model.context):
        return Model(made(library.advrob_compressor_run, compressor, model, data), model.context)


def plan(name: str, model: Model, calibration: Optional[Data] = None, **options: Any) -> str:
    """What `compress` would do, as text, one line a layer. That of a pruning can be edited and given
    to compress("prune_plan", model, plan=text)."""
    compressor, data = _prepared(name, model, calibration, options)
    text = ctypes.c_void_p()
    with guarded(model.context):
        library.advrob_compressor_plan(compressor, model, data, ctypes.byref(text))
    try:
        return ctypes.string_at(text.value or b'').decode()
    finally:
        library.advrob_text_destroy(model.context, text)


def _prepared(name: str, model: Model, calibration: Optional[Data], options: Any) -> Any:
    if not isinstance(model, Model):
        raise TypeError(f'model is of type {type(model).__name__}, expected a Model')
    data = None
    if calibration is not None:
        data = as_dataset(calibration, model.context, model.classes)
    return _Compressor(name, model.context, options), data
