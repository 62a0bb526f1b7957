"""The worker of the inference engines: engine_worker.py onnxruntime|openvino"""
import collections
import sys

import numpy

from workers import clock, serve


class Onnxruntime:
    def __init__(self, threads):
        import onnxruntime
        self.version = onnxruntime.__version__
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.module = onnxruntime

    def load(self, path):
        session = self.module.InferenceSession(path, self.options, ['CPUExecutionProvider'])
        self.run = lambda x: session.run(None, {'x': x})[0]
        return {'kernels': "MLAS, which chooses by the CPU and cannot be capped"}


class Openvino:
    def __init__(self, threads):
        import openvino
        self.version = openvino.__version__
        self.threads = threads
        self.core = openvino.Core()

    def load(self, path):
        model = self.core.compile_model(path, 'CPU', {
            'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': self.threads,
            'PERFORMANCE_HINT': 'LATENCY'})
        request = model.create_infer_request()
        self.run = lambda x: request.infer([x], share_inputs=True)[0]
        kernels = collections.Counter()
        for node in model.get_runtime_model().get_ordered_ops():
            info = node.get_rt_info()
            if _text(info['layerType']) in ('Convolution', 'FullyConnected', 'MatMul'):
                kernels[_text(info['primitiveType'])] += 1
        return {'kernels': ', '.join(f'{count} {name}' for name, count in kernels.items())}


def _text(value):
    return str(value.value if hasattr(value, 'value') else value)


class Side:
    def open(self, threads, **_):
        self.engine = {'onnxruntime': Onnxruntime, 'openvino': Openvino}[sys.argv[1]](threads)
        return {'version': self.engine.version, 'threads': threads}

    def prepare(self, data, onnx, batch, **_):
        self.x = numpy.ascontiguousarray(numpy.load(data)['x'][:batch])
        return self.engine.load(onnx)

    def quantize(self, onnx, data, batch, signs, out):
        """A QDQ file of a float one: by channel, activations calibrated (min-max) on data."""
        from onnxruntime.quantization import (CalibrationDataReader, QuantFormat, QuantType,
                                              quantize_static)
        x = numpy.load(data)['x']
        batches = [{'x': x[at:at + batch]} for at in range(0, len(x) - batch + 1, batch)]

        class Reader(CalibrationDataReader):
            def get_next(self):
                return batches.pop() if batches else None

        kinds = {'u8': QuantType.QUInt8, 's8': QuantType.QInt8}
        quantize_static(onnx, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=kinds[signs[:2]], weight_type=kinds[signs[2:]])
        return {}

    def check(self, out):
        numpy.savez(out, logits=self.engine.run(self.x)[:64])
        return {}

    def time(self, repeats):
        begin = clock()
        for _ in range(repeats):
            self.engine.run(self.x)
        return clock() - begin


side = Side()
serve({name: getattr(side, name) for name in ('open', 'prepare', 'quantize', 'check', 'time')})
