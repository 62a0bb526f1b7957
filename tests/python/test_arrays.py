#!/usr/bin/env python3
"""Arrays at the border: no copies where none is needed, no crash for any array, exceptions that name
what is wrong; memory is given back."""
import gc
import unittest
import weakref

from package import advrob, main, noise, np
from advrob import arrays


class Exporter:
    """Something else than an array, with DLPack alone."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **settings):
        return self.array.__dlpack__(**settings)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class Arrays(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = advrob.Model.build('tiny', seed=1)
        cls.shape = cls.model.shape
        cls.x, cls.y = noise(12, cls.shape), np.arange(12, dtype=np.int32) % 3

    def calls(self, x, y=None):
        """Every way in for images."""
        y = self.y[:1].repeat(len(x)) if y is None and hasattr(x, '__len__') else y
        model = self.model
        engine = advrob.Engine(advrob.compress('quant_ptq', model, self.x))
        target = advrob.Target.from_callable(model, None, model.classes, shape=model.shape)
        return [lambda: model(x), lambda: engine(x), lambda: target(x), lambda: model.loss_grad(x, y),
                lambda: model.node_output('input', x), lambda: advrob.attack('fgsm', model, x, y),
                lambda: advrob.evaluate(model, x, y), lambda: advrob.Dataset(x, y),
                lambda: advrob.compress('quant_ptq', model, x),
                lambda: advrob.finetune('standard', model.copy(), (x, y), epochs=1)]

    def refused(self, x, words, y=None):
        for i, call in enumerate(self.calls(x, y)):
            with self.assertRaisesRegex((TypeError, ValueError), words, msg=f'call {i}'):
                call()

    def test_no_copy(self):
        for array in (self.x, np.zeros((2, *self.shape), np.uint8)):
            self.assertIs(arrays.images(array), array)
            self.assertTrue(np.shares_memory(arrays.images(Exporter(array)), array))
            self.assertIs(advrob.as_images(array), array)
        self.assertIs(arrays.pixels(self.x), self.x)

    def test_bytes_of_a_box(self):
        low, high = -0.5, 2.5
        model = advrob.Model.build('tiny', seed=1, low=low, high=high)
        x = np.random.default_rng(5).integers(0, 256, (4, *model.shape)).astype(np.uint8)
        floats = (low + x / 255 * (high - low)).astype(np.float32)
        self.assertTrue((model(x) == model(floats)).all())
        self.assertTrue((model.node_output('input', x) == model.node_output('input', floats)).all())
        target = advrob.Target.from_model(model)
        self.assertTrue((target(x) == target(floats)).all())
        self.assertFalse((self.model(x) == self.model(floats)).all())

    def test_dlpack(self):
        for i, (a, b) in enumerate(zip(self.calls(self.x, self.y), self.calls(Exporter(self.x), self.y))):
            ours, theirs = a(), b()
            if i in (0, 1, 2, 4, 5):
                self.assertTrue((ours == theirs).all())
        self.assertTrue((self.model(Exporter(self.x)) == self.model(self.x)).all())
        out = self.model(self.x)
        self.assertTrue(np.shares_memory(np.from_dlpack(Exporter(out)), out))
        weights = self.model.parameters['conv1.weight']
        self.assertTrue(np.shares_memory(np.from_dlpack(Exporter(weights)), weights))

    def test_wrong_dtypes(self):
        for dtype in ('f8', 'f2', '>f4', 'i4', 'i8', '?', 'c8', 'M8[s]', 'O', 'S4'):
            with np.errstate(all='ignore'):
                x = np.zeros((3, *self.shape), dtype)
            self.refused(x, 'dtype')
        for thing in (None, 5, 'text', {'a': 1}, object()):
            with self.assertRaisesRegex(TypeError, 'type|dtype'):
                self.model(thing)

    def test_wrong_shapes_and_orders(self):
        c, h, w = self.shape
        self.refused(self.x.reshape(-1, h, w), 'shape')
        self.refused(np.zeros((3, c, h, w + 1), np.float32)[:, :, :, :w], 'contiguous')
        self.refused(self.x[::2], 'contiguous')
        self.refused(self.x[:, :, ::-1], 'contiguous')
        self.refused(np.asfortranarray(noise(3, (1, 8, 8))), 'contiguous')
        for x in (self.x[::2], self.x[:, :, ::-1], self.x.astype('f8'), self.x.astype('>f4')):
            self.assertTrue((self.model(advrob.as_images(x)) == self.model(x.astype('f4', order='C'))).all())
        with self.assertRaises(TypeError):
            advrob.as_images(self.x.astype('i8'))
        odd = np.frombuffer(b'\0' + self.x.tobytes(), np.uint8)[1:].view(np.float32).reshape(self.x.shape)
        if not odd.flags.aligned:
            self.refused(odd, 'aligned')
            self.assertTrue((self.model(advrob.as_images(odd)) == self.model(self.x)).all())

    def test_empty(self):
        self.refused(np.zeros((0, *self.shape), np.float32), '0')
        self.refused([], 'dtype|shape')

    def test_not_finite(self):
        for bad in (np.nan, np.inf, -np.inf):
            x = self.x.copy()
            x[3, 0, 1, 1] = bad
            for i, call in enumerate(self.calls(x, self.y)):
                if i in (1, 3):
                    call()  # an engine clamps; losses and gradients are not numbers then
                else:
                    with self.assertRaises(ValueError, msg=f'call {i}'):
                        call()

    def test_read_only(self):
        x, y = self.x.copy(), self.y.copy()
        before = x.copy()
        x.flags.writeable = y.flags.writeable = False
        for call in self.calls(x, y):
            call()
        self.assertTrue((x == before).all())

    def test_labels(self):
        for dtype in ('i1', 'u1', 'i8', '>i4', 'u8'):
            found = advrob.attack('fgsm', self.model, self.x, self.y.astype(dtype))
            self.assertTrue((found == advrob.attack('fgsm', self.model, self.x, self.y)).all())
        advrob.attack('fgsm', self.model, self.x, list(map(int, self.y)))
        advrob.attack('fgsm', self.model, self.x, Exporter(self.y.astype('i8')))
        for wrong in (self.y[:5], self.y.astype('f4'), self.y + 100, self.y - 100, 3, None,
                      self.y.astype('i8') + 2**40, self.y.reshape(3, 4), np.full(12, 2**63, 'u8')):
            with self.assertRaises((ValueError, TypeError)):
                advrob.attack('fgsm', self.model, self.x, wrong)

    def test_owners(self):
        """What came from the library lives as long as what looks at it, and no longer."""
        model = advrob.Model.build('tiny', seed=1)
        weights = model.parameters['conv1.weight']
        wanted = weights.copy()
        gone = weakref.ref(model)
        del model
        gc.collect()
        self.assertIsNone(gone())
        self.assertTrue((weights[:, :, ::-1][:, :, ::-1] == wanted).all())

    def test_nothing_leaks(self):
        """The context's memory is what it was, after calls that succeed and calls that fail."""
        with advrob.Context(threads=1) as context:
            gc.collect()
            before = context.memory
            for _ in range(3):
                self.use_and_fail()
            gc.collect()
            self.assertEqual(context.memory, before)

    def use_and_fail(self):
        model = advrob.Model.build('tiny', seed=1)
        x = noise(8, model.shape)
        quantized = advrob.compress('quant_ptq', model, x)
        engine = advrob.Engine(quantized)
        advrob.evaluate(engine, x, np.zeros(8, int), attacks=['pgd'])
        model.profile(repeats=1)
        advrob.finetune('standard', model, (x, np.zeros(8, int)), epochs=1)
        target = advrob.Target.from_callable(lambda x: 1 / 0, None, 3, shape=model.shape)
        for call in (lambda: model(x * np.nan), lambda: target(x), lambda: advrob.Engine(model),
                     lambda: advrob.attack('pgd', model, x, np.full(8, 99)),
                     lambda: advrob.Model.build('tiny', classes=-1), lambda: advrob.Model.load('/dev/null')):
            try:
                call()
            except (ValueError, ZeroDivisionError, advrob.AdvrobError):
                pass
            else:
                self.fail('bad input was taken')

    def test_memory_limit(self):
        with advrob.Context(memory_limit=200_000):
            with self.assertRaises(MemoryError):
                advrob.Model.build('eight_layer_conv')


if __name__ == '__main__':
    main()
