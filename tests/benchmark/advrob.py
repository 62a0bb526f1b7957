"""libadvrob by ctypes, with numpy arrays: as much of it as the comparison needs."""
import ctypes
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int32, c_int64, c_void_p

import numpy

PROGRESS = ctypes.CFUNCTYPE(c_int32, c_void_p, c_char_p, c_int64, c_int64, c_double)


class Library:
    """The loaded library and one context."""

    def __init__(self, path, context):
        self.lib = ctypes.CDLL(path)
        for name in ('advrob_last_message', 'advrob_version_text', 'advrob_context_cpu'):
            getattr(self.lib, name).restype = c_char_p
        self.lib.advrob_dataset_count.restype = c_int64
        self.ctx = self.made('advrob_context_create', self.options(context))

    def call(self, name, *arguments):
        if getattr(self.lib, name)(*arguments) != 0:
            raise RuntimeError(f'{name}: {self.lib.advrob_last_message().decode()}')

    def made(self, name, *arguments):
        """A call whose last parameter receives a new handle."""
        handle = c_void_p()
        self.call(name, *arguments, byref(handle))
        return handle

    def options(self, values):
        """Texts are converted by whoever reads the option."""
        handle = self.made('advrob_options_create')
        for name, value in values.items():
            self.call('advrob_options_set_text', handle, name.encode(), str(value).encode())
        return handle

    def facts(self):
        return {'version': self.lib.advrob_version_text().decode(),
                'cpu': self.lib.advrob_context_cpu(self.ctx).decode(),
                'threads': self.lib.advrob_context_threads(self.ctx)}

    def build(self, net, **options):
        return self.made('advrob_model_build', self.ctx, net.encode(), self.options(options))

    def load(self, path):
        return self.made('advrob_model_load', self.ctx, path.encode(), None)

    def save(self, model, path):
        self.call('advrob_model_save', model, path.encode())

    def prune(self, model, sparsity):
        prune = self.made('advrob_compressor_create', self.ctx, b'prune_l1',
                          self.options({'sparsity': sparsity}))
        return self.made('advrob_compressor_run', prune, model, None)

    def open_dataset(self, name, folder, split):
        return self.made('advrob_dataset_open', self.ctx, name.encode(), folder.encode(),
                         self.options({'split': split}))

    def read_dataset(self, dataset, first, count):
        shape = (c_int32 * 3)()
        self.call('advrob_dataset_shape', dataset, shape)
        x = numpy.empty((count, *shape), numpy.float32)
        y = numpy.empty(count, numpy.int32)
        self.call('advrob_dataset_read', dataset, c_int64(first), c_int64(count), floats(x),
                  integers(y))
        return x, y

    def dataset(self, x, y, classes):
        """dtype 1 is ADVROB_F32."""
        return self.made('advrob_dataset_from_memory', self.ctx, c_int32(1), floats(x), integers(y),
                         c_int64(len(y)), *(c_int32(side) for side in x.shape[1:]), c_int32(classes))

    def target(self, model):
        return self.made('advrob_target_from_model', model)

    def logits(self, target, x):
        z = numpy.empty((len(x), self.lib.advrob_target_classes(target)), numpy.float32)
        self.call('advrob_target_forward', target, c_int64(len(x)), floats(x), floats(z))
        return z

    def forward(self, model, x):
        """The same without a target: what inference alone takes."""
        z = numpy.empty((len(x), self.lib.advrob_model_classes(model)), numpy.float32)
        self.call('advrob_model_forward', model, c_int64(len(x)), floats(x), floats(z))
        return z

    def engine(self, model, dataset, **options):
        """An engine of quant_ptq's integers, calibrated on the dataset."""
        quant = self.made('advrob_compressor_create', self.ctx, b'quant_ptq', self.options(options))
        return self.made('advrob_engine_create',
                         self.made('advrob_compressor_run', quant, model, dataset), None)

    def run(self, engine, x):
        z = numpy.empty((len(x), self.lib.advrob_engine_classes(engine)), numpy.float32)
        self.call('advrob_engine_run', engine, c_int64(len(x)), floats(x), floats(z))
        return z

    def loss_gradient(self, target, x, y):
        """Cross-entropy by sample, and its gradient."""
        losses, dx = numpy.empty(len(y), numpy.float64), numpy.empty_like(x)
        self.call('advrob_target_loss_gradient', target, b'ce', c_int64(len(y)), floats(x),
                  integers(y), losses.ctypes.data_as(POINTER(c_double)), floats(dx))
        return losses, dx

    def attack(self, name, **options):
        return self.made('advrob_attack_create', self.ctx, name.encode(), self.options(options))

    def run_attack(self, attack, target, x, y, adversarial=None, predictions=None):
        self.call('advrob_attack_run', attack, target, c_int64(len(y)), floats(x), integers(y),
                  None if adversarial is None else floats(adversarial),
                  None if predictions is None else integers(predictions), None)

    def finetune(self, name, model, dataset, progress=None, **options):
        """progress: called with (job, done) on each of the library's reports."""
        hook = PROGRESS(lambda _user, what, done, _total, _value: progress(what.decode(), done) or 0) \
            if progress else PROGRESS()
        self.call('advrob_context_set_progress', self.ctx, hook, None)
        fit = self.made('advrob_finetune_create', self.ctx, name.encode(), self.options(options))
        try:
            self.call('advrob_finetune_run', fit, model, dataset, None, None)
        finally:
            self.lib.advrob_finetune_destroy(fit)
            self.call('advrob_context_set_progress', self.ctx, PROGRESS(), None)

    def parameters(self, model):
        """{name: array}"""
        values = {}
        self.lib.advrob_model_parameter_name_at.restype = c_char_p
        self.lib.advrob_tensor_dim.restype = c_int64
        self.lib.advrob_tensor_data.restype = POINTER(c_float)
        for i in range(self.lib.advrob_model_parameter_count(model)):
            name = self.lib.advrob_model_parameter_name_at(model, i)
            tensor = self.made('advrob_model_get_parameter', model, name)
            shape = [self.lib.advrob_tensor_dim(tensor, axis)
                     for axis in range(self.lib.advrob_tensor_rank(tensor))]
            data = self.lib.advrob_tensor_data(tensor)
            values[name.decode()] = numpy.ctypeslib.as_array(data, shape).copy()
            self.lib.advrob_tensor_destroy(tensor)
        return values


def floats(array):
    assert array.dtype == numpy.float32 and array.flags.c_contiguous
    return array.ctypes.data_as(POINTER(c_float))


def integers(array):
    assert array.dtype == numpy.int32 and array.flags.c_contiguous
    return array.ctypes.data_as(POINTER(c_int32))
