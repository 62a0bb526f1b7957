"""Models: float nets and simulated quantized ones."""
import ctypes
import os
import threading
from typing import Any, Dict, Iterator, List, MutableMapping, Optional, Tuple

import numpy as np

from . import _prototypes
from ._library import (Handle, digest_of, library, loaded, made, path_bytes, saved, shape_of,
                       text_bytes)
from .arrays import AnyArray, FloatArray, IntArray, address, box_of, pixels
from .context import Context, current
from .interrupt import guarded
from .options import Options

# A forward pass of fewer multiply-adds takes some 20 milliseconds: Ctrl-C can wait for it.
SHORT = 5 * 10**8

DTYPES = {_prototypes.F32: np.float32, _prototypes.U8: np.uint8, _prototypes.I32: np.int32,
          _prototypes.I64: np.int64}


class Tensor(Handle):
    """A tensor of the library."""

    _destroy = library.advrob_tensor_destroy

    def array(self) -> AnyArray:
        """Its elements, without a copy; the array keeps the tensor alive."""
        rank = library.advrob_tensor_rank(self)
        shape = [library.advrob_tensor_dim(self, axis) for axis in range(rank)]
        dtype = np.dtype(DTYPES[library.advrob_tensor_dtype(self)])
        size = library.advrob_tensor_count(self) * dtype.itemsize
        if size == 0:
            return np.empty(shape, dtype)
        memory = (ctypes.c_uint8 * size).from_address(library.advrob_tensor_data(self))
        memory._owner = self
        return np.frombuffer(memory, dtype).reshape(shape)


class Parameters(MutableMapping[str, FloatArray]):
    """The parameters of a model by name, running statistics included: copies out, checked values in.

    weights = model.parameters["conv1.weight"]
    model.parameters["conv1.weight"] = 0.5 * weights
    """

    def __init__(self, model: 'Model') -> None:
        self._model = model

    def __getitem__(self, name: str) -> FloatArray:
        if name not in list(self):
            raise KeyError(name)
        tensor = made(library.advrob_model_get_parameter, self._model, text_bytes(name, 'name'))
        return Tensor(tensor).array()

    def __setitem__(self, name: str, value: Any) -> None:
        array = np.ascontiguousarray(value, np.float32)
        shape = (ctypes.c_int64 * max(array.ndim, 1))(*array.shape)
        tensor = Tensor(made(library.advrob_tensor_create, self._model.context, _prototypes.F32,
                             array.ndim, shape))
        tensor.array()[...] = array
        library.advrob_model_set_parameter(self._model, text_bytes(name, 'name'), tensor)

    def __delitem__(self, name: str) -> None:
        raise TypeError('a model\'s parameters cannot be deleted')

    def __iter__(self) -> Iterator[str]:
        return iter([library.advrob_model_parameter_name_at(self._model, i).decode()
                     for i in range(len(self))])

    def __len__(self) -> int:
        return int(library.advrob_model_parameter_count(self._model))


class Model(Handle):
    """A net with its parameters, normalisation and, if it is quantized, its quantization points.

    model = advrob.Model.load("net.safetensors")
    logits = model(x)

    Inputs are pixels [n, c, h, w], float32 or uint8 (k is the pixel low + k / 255 * (high - low)).
    Several threads may run one model; whoever changes it must be alone. Pickles, and copies by
    copy.deepcopy."""

    _destroy = library.advrob_model_destroy
    _summary_lock = threading.Lock()

    def __init__(self, address: Any, context: Context) -> None:
        super().__init__(address)
        self.context = context
        self._shape = shape_of(library.advrob_model_input_shape, self)
        self._box = box_of(library.advrob_model_box, self, self._shape[0])
        self._classes = int(library.advrob_model_classes(self))
        self._macs = int(library.advrob_model_macs(self))

    # ---- Where models come from ----

    @classmethod
    def load(cls, path: 'str | os.PathLike[str]', *, context: Optional[Context] = None) -> 'Model':
        """A model file that `save` (or the C library) wrote. Raises OSError, ValueError (not such a
        file, or a damaged one)."""
        ctx = current(context)
        return cls(made(library.advrob_model_load, ctx, path_bytes(path), None), ctx)

    @classmethod
    def build(cls, name: str, *, context: Optional[Context] = None, **options: Any) -> 'Model':
        """A net of the zoo, advrob.components("model"). Options, advrob.options("model", name): seed,
        init, classes, mean and std, low and high, weights: a safetensors file with PyTorch's names."""
        ctx = current(context)
        with Options(options) as chosen:
            return cls(made(library.advrob_model_build, ctx, text_bytes(name, 'model'), chosen), ctx)

    def copy(self) -> 'Model':
        """A model of its own with the same graph and parameters."""
        return type(self)(made(library.advrob_model_clone, self), self.context)

    __copy__ = copy

    def __deepcopy__(self, _memo: Any) -> 'Model':
        return self.copy()

    def __reduce__(self) -> Tuple[Any, ...]:
        return _unpickled, (saved(self.save),)

    def save(self, path: 'str | os.PathLike[str]') -> None:
        """Writes one safetensors file, whole or not at all. Raises OSError."""
        library.advrob_model_save(self, path_bytes(path))

    # ---- What it is ----

    @property
    def shape(self) -> Tuple[int, int, int]:
        """Channels, height and width of an input."""
        return self._shape

    @property
    def classes(self) -> int:
        return self._classes

    @property
    def macs(self) -> int:
        """Multiply-adds of one image."""
        return self._macs

    @property
    def bytes(self) -> int:
        """Bytes of the parameters."""
        return int(library.advrob_model_bytes(self))

    @property
    def parameter_total(self) -> int:
        """Trained parameters."""
        return int(library.advrob_model_parameter_total(self))

    @property
    def parameters(self) -> Parameters:
        """Name to array."""
        return Parameters(self)

    @property
    def nodes(self) -> List[str]:
        """Names of the nodes in order of execution; the first is the input."""
        return [library.advrob_model_node_name_at(self, i).decode()
                for i in range(library.advrob_model_node_count(self))]

    def summary(self) -> str:
        """A table of the nodes, for people."""
        text = ctypes.c_char_p()
        with self._summary_lock:  # the text is the model's, until the next call
            library.advrob_model_summary(self, ctypes.byref(text))
            return (text.value or b'').decode()

    def digest(self) -> str:
        """16 hex digits that name graph, parameters and quantization."""
        return digest_of(library.advrob_model_digest, self)

    def __repr__(self) -> str:
        return (f'Model(input {"x".join(map(str, self.shape))}, {self.classes} classes, '
                f'{self.parameter_total:,} parameters, {self.macs:,} multiply-adds)')

    def _repr_html_(self) -> str:
        from .notebook import table_of_nodes
        return table_of_nodes(repr(self), self.summary())

    # ---- What it does ----

    def __call__(self, x: Any) -> FloatArray:
        """Logits [n, classes] of images x [n, c, h, w]."""
        x = pixels(x, 'x', self._shape, self._box)
        n = len(x)
        logits = np.empty((n, self._classes), np.float32)
        if n * self._macs < SHORT:
            library.advrob_model_forward(self, n, address(x), address(logits))
        else:
            with guarded(self.context):
                library.advrob_model_forward(self, n, address(x), address(logits))
        return logits

    def predict(self, x: Any) -> IntArray:
        """The class [n] with the largest logit of each image."""
        classes: IntArray = np.argmax(self(x), axis=1).astype(np.int32)
        return classes

    def node_output(self, name: str, x: Any) -> FloatArray:
        """What the node `name` gives for x: [n, channels, height, width]."""
        x = pixels(x, 'x', self._shape, self._box)
        with guarded(self.context):
            tensor = made(library.advrob_model_node_output, self, text_bytes(name, 'name'), len(x),
                          address(x))
        return Tensor(tensor).array()

    def loss_grad(self, x: Any, y: Any, loss: str = 'ce') -> Tuple[AnyArray, FloatArray]:
        """The loss [n] of each image ("ce", "dlr", "margin") and its gradient by the pixels
        [n, c, h, w]."""
        from .target import Target
        return Target.from_model(self).loss_grad(x, y, loss)

    def latency(self, batch: int = 1, repeats: int = 10) -> float:
        """Milliseconds of one forward pass of `batch` images, best of `repeats`."""
        milliseconds = ctypes.c_double()
        with guarded(self.context):
            library.advrob_model_latency(self, batch, repeats, ctypes.byref(milliseconds))
        return milliseconds.value

    def profile(self, **options: Any) -> List[Dict[str, Any]]:
        """Where the time goes: a dictionary for each layer and pass. Options:
        advrob.options("profile"). The figures: docs of advrob_report_profile."""
        from .report import Report
        report = Report(context=self.context)
        report.profile(self, **options)
        return report.rows

    # ---- What changes it ----

    def initialise(self, how: str = 'he', seed: int = -1) -> None:
        """Draws all parameters anew: "he" or "pytorch". seed -1: the context's."""
        library.advrob_model_initialise(self, text_bytes(how, 'how'), seed)

    def load_weights(self, path: 'str | os.PathLike[str]') -> None:
        """Reads the parameters from a safetensors file with PyTorch's names."""
        library.advrob_model_load_weights(self, path_bytes(path))


def _unpickled(data: bytes) -> Model:
    return loaded(Model.load, data)
