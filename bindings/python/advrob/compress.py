"""Compressors: a model in, a smaller one out."""
import contextlib
import ctypes
from typing import Any, Callable, Iterator, Optional, Tuple

from . import _prototypes
from ._library import Handle, expect, library, made, text_bytes
from .context import Context
from .dataset import Data, Dataset, as_dataset
from .interrupt import caught, guarded
from .model import Model
from .options import Options

Step = Callable[[int, int, Model], Any]
Score = Callable[[Model], float]


@contextlib.contextmanager
def lent(handle: int, context: Context) -> Iterator[Model]:
    """A Model of the library's, which is taken away from it again: whoever keeps it holds none."""
    model = Model(ctypes.c_void_p(handle), context)
    try:
        yield model
    finally:
        model._as_parameter_ = None


class _Compressor(Handle):
    _destroy = library.advrob_compressor_destroy

    def __init__(self, name: str, context: Context, options: Any) -> None:
        self.context = context
        with Options(options) as chosen:
            super().__init__(made(library.advrob_compressor_create, context,
                                  text_bytes(name, 'compressor'), chosen))

    def on_step(self, step: Step) -> None:
        context = self.context  # a callback that held self would never be freed

        def run(number: int, steps: int, handle: int) -> None:
            with lent(handle, context) as model:
                step(number, steps, model)

        self._step = _prototypes.advrob_compress_step_fn(
            lambda _user, number, steps, handle: caught(run, number, steps, handle))
        library.advrob_compressor_on_step(self, self._step, None)

    def on_score(self, score: Score) -> None:
        context = self.context

        def run(handle: int, place: int) -> None:
            with lent(handle, context) as model:
                ctypes.c_double.from_address(place).value = float(score(model))

        self._score = _prototypes.advrob_compress_score_fn(
            lambda _user, handle, place: caught(run, handle, place))
        library.advrob_compressor_on_score(self, self._score, None)


def compress(name: str, model: Model, calibration: Optional[Data] = None, *,
             on_step: Optional[Step] = None, on_score: Optional[Score] = None, **options: Any) -> Model:
    """A smaller model; the given one is not changed.

    small = advrob.compress("prune_l1", model, sparsity=0.5)
    quantized = advrob.compress("quant_ptq", small, calibration=x, activation_bits=7)

    Names: advrob.components("compressor"); every option of advrob.options("compressor", name) is a
    keyword. `calibration`: training images [n, c, h, w], a pair (x, y) or a Dataset, for compressors
    that need them. `on_step(step, steps, model)` is called between the steps of a pruning and may
    fine-tune the model in place. `on_score(model)` says how good a net is where quant_ptq has
    max_drop: the more the better. Raises ValueError, AdvrobError ("E_UNSUPPORTED": a graph that it
    cannot handle)."""
    compressor, data = _prepared(name, model, calibration, options)
    if on_step is not None:
        compressor.on_step(on_step)
    if on_score is not None:
        compressor.on_score(on_score)
    with guarded(model.context):
        return Model(made(library.advrob_compressor_run, compressor, model, data), model.context)


def plan(name: str, model: Model, calibration: Optional[Data] = None, *,
         on_score: Optional[Score] = None, **options: Any) -> str:
    """What `compress` would do, as text, one line a layer. That of a pruning can be edited and given
    to compress("prune_plan", model, plan=text)."""
    compressor, data = _prepared(name, model, calibration, options)
    if on_score is not None:
        compressor.on_score(on_score)
    text = ctypes.c_void_p()
    with guarded(model.context):
        library.advrob_compressor_plan(compressor, model, data, ctypes.byref(text))
    try:
        return ctypes.string_at(text.value or b'').decode()
    finally:
        library.advrob_text_destroy(model.context, text)


def _prepared(name: str, model: Model, calibration: Optional[Data],
              options: Any) -> Tuple[_Compressor, Optional[Dataset]]:
    expect(model, Model, 'model')
    data = None if calibration is None else as_dataset(calibration, model.context, model.classes)
    return _Compressor(name, model.context, options), data
