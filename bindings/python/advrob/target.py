"""Targets: what is attacked or evaluated: a model, an engine, or any program behind two functions."""
import ctypes
import threading
from typing import Any, Callable, Optional, Tuple, Union

import numpy as np

from . import _prototypes
from ._library import Handle, expect, library, made, shape_of, text_bytes
from .arrays import AnyArray, FloatArray, address, box_of, doubles, foreign, images, labels, pixels
from .context import Context, current
from .engine import Engine
from .interrupt import caught, guarded
from .model import Model

Forward = Callable[[FloatArray], Any]
Backward = Callable[[FloatArray, FloatArray], Any]


class Target(Handle):
    """What an attack sees: logits, gradients, the box of valid pixels.

    A model or an engine can stand in place of its target everywhere; one is made explicitly to attack
    a program of one's own, for 8-bit images (`set_lattice`) and for attacks by transfer
    (`set_source`). While a target on a model lives, the model cannot be changed (AdvrobError, status
    "E_BUSY")."""

    _destroy = library.advrob_target_destroy

    def __init__(self, address: Any, context: Context, *kept: Any) -> None:
        super().__init__(address)
        self.context = context
        self._kept = kept  # what the target borrows: callbacks
        self._source: Optional[Target] = None

    @classmethod
    def from_model(cls, model: Model) -> 'Target':
        """A target on a model; a quantized one gives straight-through gradients."""
        expect(model, Model, 'model')
        return cls(made(library.advrob_target_from_model, model), model.context)

    @classmethod
    def from_engine(cls, engine: Engine, gradients: Optional[Model] = None) -> 'Target':
        """A target on an engine's own answers. `gradients`: the quantized model that it was lowered
        from; None: it gives none."""
        expect(engine, Engine, 'engine')
        if gradients is not None:
            expect(gradients, Model, 'gradients')
        return cls(made(library.advrob_target_from_engine, engine, gradients), engine.context)

    @classmethod
    def from_callable(cls, forward: Forward, backward: Optional[Backward] = None, classes: int = 10,
                      *, shape: Optional[Tuple[int, int, int]] = None, low: float = 0,
                      high: float = 1, context: Optional[Context] = None) -> 'Target':
        """A target on one's own functions, which are called on the thread of the attack.

        forward(x) -> logits [n, classes]; backward(x, dlogits) -> dx [n, c, h, w], the
        vector-Jacobian product; without it, attacks by scores remain. x and dlogits are float32
        arrays of their own; answers may be anything with DLPack. `shape`: channels, height, width;
        None: those of the first images. Exceptions come out of the attack."""
        calls, ctx = _Callable(forward, backward, classes), current(context)
        if shape is None:
            return _Late(calls, low, high, ctx)
        return cls(*calls.bound(ctx, shape, low, high))

    def set_box(self, low: Any, high: Any, unit: Any) -> None:
        """The valid values of a target on functions, and what 1 of an attack's epsilon is, by channel:
        (0 - mean) / std, (1 - mean) / std, 1 / std for one that takes normalised images."""
        channels = self.shape[0]
        three = [doubles(np.broadcast_to(value, (channels,)), name, channels)
                 for value, name in ((low, 'low'), (high, 'high'), (unit, 'unit'))]
        library.advrob_target_set_box(self, *map(address, three))

    def set_lattice(self, steps: int) -> None:
        """Attacked images hold only values low + k / steps * (high - low): 255 for images that are
        stored as bytes; 0: any."""
        library.advrob_target_set_lattice(self, steps)

    def set_source(self, source: 'Union[Target, Model, Engine, None]') -> None:
        """Attacks with transfer=1 run on `source`, and only their answers are tried here."""
        held = None if source is None else as_target(source)
        library.advrob_target_set_source(self, held)
        self._source = held

    @property
    def shape(self) -> Tuple[int, int, int]:
        """Channels, height and width of an image."""
        return shape_of(library.advrob_target_shape, self)

    @property
    def classes(self) -> int:
        return int(library.advrob_target_classes(self))

    def bind(self, shape: Tuple[int, ...]) -> None:
        """Tells a target on functions what images it gets, if nobody did before."""

    def fit(self, x: Any) -> FloatArray:
        """Images x as this target takes them: float32 [n, c, h, w]."""
        self.bind(images(x).shape[1:])
        shape = self.shape
        return pixels(x, 'x', shape, box_of(library.advrob_target_box, self, shape[0]))

    def __call__(self, x: Any) -> FloatArray:
        """Logits [n, classes] of images x [n, c, h, w]."""
        x = self.fit(x)
        logits = np.empty((len(x), self.classes), np.float32)
        with guarded(self.context):
            library.advrob_target_forward(self, len(x), address(x), address(logits))
        return logits

    def loss_grad(self, x: Any, y: Any, loss: str = 'ce') -> Tuple[AnyArray, FloatArray]:
        """The loss [n] of each image ("ce", "dlr", "margin") and its gradient by the pixels
        [n, c, h, w]."""
        x = self.fit(x)
        y = labels(y, len(x))
        losses, dx = np.empty(len(x)), np.empty_like(x)
        with guarded(self.context):
            library.advrob_target_loss_gradient(self, text_bytes(loss, 'loss'), len(x), address(x),
                                                address(y), address(losses), address(dx))
        return losses, dx

    def __repr__(self) -> str:
        return f'Target(input {"x".join(map(str, self.shape))}, {self.classes} classes)'


class _Callable:
    """Two Python functions as the library's callbacks."""

    def __init__(self, forward: Forward, backward: Optional[Backward], classes: int) -> None:
        for function in (forward, backward):
            if function is not None and not callable(function):
                raise TypeError(f'{function!r} is no function')
        self.forward, self.backward, self.classes = forward, backward, classes
        self.shape: Tuple[int, ...] = ()

    def bound(self, context: Context, shape: Tuple[int, ...], low: float,
              high: float) -> Tuple[Any, ...]:
        """Handle, context and what must live as long, for a target on images of `shape`."""
        self.shape = tuple(shape)
        ahead = _prototypes.advrob_forward_fn(self.on_forward)
        back = (_prototypes.advrob_backward_fn(self.on_backward) if self.backward
                else _prototypes.advrob_backward_fn())
        handle = made(library.advrob_target_from_callbacks, context, *shape, self.classes, low, high,
                      ahead, back, None)
        return handle, context, ahead, back

    def on_forward(self, _user: Any, n: int, x: int, logits: int) -> int:
        return caught(self.run_forward, n, x, logits)

    def on_backward(self, _user: Any, n: int, x: int, dlogits: int, dx: int) -> int:
        return caught(self.run_backward, n, x, dlogits, dx)

    def run_forward(self, n: int, x: int, logits: int) -> None:
        answer = self.forward(copied(x, (n, *self.shape)))
        store(answer, logits, (n, self.classes), 'forward')

    def run_backward(self, n: int, x: int, dlogits: int, dx: int) -> None:
        assert self.backward is not None
        answer = self.backward(copied(x, (n, *self.shape)), copied(dlogits, (n, self.classes)))
        store(answer, dx, (n, *self.shape), 'backward')


def view(memory: int, shape: Tuple[int, ...]) -> FloatArray:
    """The library's floats at an address, for as long as the callback runs."""
    buffer = (ctypes.c_float * int(np.prod(shape))).from_address(memory)
    return np.frombuffer(memoryview(buffer), np.float32).reshape(shape)


def copied(memory: int, shape: Tuple[int, ...]) -> FloatArray:
    """A copy: a function may keep what it was given."""
    return view(memory, shape).copy()


def store(answer: Any, memory: int, shape: Tuple[int, ...], name: str) -> None:
    array = answer if isinstance(answer, np.ndarray) else foreign(answer, f'what {name} returned')
    if array.shape != shape or array.dtype.kind not in 'fiu':
        raise ValueError(f'{name} returned {array.dtype} {list(array.shape)}, expected float32 '
                         f'{list(shape)}')
    view(memory, shape)[...] = array


class _Late(Target):
    """A target on functions that learns its shape from the first images."""

    def __init__(self, calls: _Callable, low: float, high: float, context: Context) -> None:
        super().__init__(None, context)
        del self._as_parameter_
        self._late = calls, low, high
        self._lock = threading.Lock()  # the first images may come from two threads

    @property
    def shape(self) -> Tuple[int, int, int]:
        if '_as_parameter_' not in self.__dict__:
            raise ValueError('the target has no shape yet: give Target.from_callable a shape')
        return super().shape

    @property
    def classes(self) -> int:
        return self._late[0].classes

    def bind(self, shape: Tuple[int, ...]) -> None:
        with self._lock:
            if '_as_parameter_' not in self.__dict__:
                calls, low, high = self._late
                super().__init__(*calls.bound(self.context, shape, low, high))

    def __repr__(self) -> str:
        return super().__repr__() if '_as_parameter_' in self.__dict__ else 'Target(functions)'


Attackable = Union[Target, Model, Engine]


def as_target(thing: Attackable) -> Target:
    """The target of a model or an engine, or the target itself."""
    if isinstance(thing, Target):
        return thing
    if isinstance(thing, Model):
        return Target.from_model(thing)
    if isinstance(thing, Engine):
        return Target.from_engine(thing, thing.gradients)
    raise TypeError(f'the target is of type {type(thing).__name__}, expected a Model, an Engine or a '
                    f'Target (Target.from_callable for anything else)')
