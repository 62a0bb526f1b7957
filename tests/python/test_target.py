#!/usr/bin/env python3
"""Targets on functions: attacks through Python find what the library's own find on the same weights.
With PyTorch installed the functions are a PyTorch net; otherwise the same net in NumPy."""
import unittest

from package import advrob, fashion, main, noise, np

try:
    import torch
except ImportError:
    torch = None


class Perceptron:
    """The zoo's "mlp" in NumPy: linear layers with ReLUs between them."""

    def __init__(self, model):
        names = [name[:-len('.weight')] for name in model.parameters if name.endswith('.weight')]
        self.layers = [(model.parameters[f'{name}.weight'], model.parameters[f'{name}.bias'])
                       for name in names]

    def run(self, x):
        values = [x.reshape(len(x), -1)]
        for i, (weight, bias) in enumerate(self.layers):
            z = values[-1] @ weight.T + bias
            values.append(z if i == len(self.layers) - 1 else np.maximum(z, 0))
        return values

    def forward(self, x):
        return self.run(x)[-1]

    def backward(self, x, dlogits):
        values, d = self.run(x), dlogits
        for i in range(len(self.layers) - 1, -1, -1):
            d = d @ self.layers[i][0]
            if i > 0:
                d = d * (values[i] > 0)
        return d.reshape(x.shape)


class Torch:
    """The zoo's "conv_small" in PyTorch."""

    def __init__(self, model):
        t = torch.nn
        self.net = t.Sequential(t.Conv2d(1, 16, 4, 2, 1), t.ReLU(), t.Conv2d(16, 32, 4, 2, 1), t.ReLU(),
                                t.Flatten(), t.Linear(1568, 100), t.ReLU(), t.Linear(100, 10))
        self.net.load_state_dict({name: torch.from_numpy(model.parameters[name].copy())
                                  for name in model.parameters})

    def forward(self, x):
        with torch.no_grad():
            return self.net(torch.from_numpy(x))

    def backward(self, x, dlogits):
        pixels = torch.from_numpy(x).requires_grad_()
        return torch.autograd.grad(self.net(pixels), pixels, torch.from_numpy(dlogits))[0]


class Twins(unittest.TestCase):
    def compare(self, name, twin, pixels):
        """Same fooled samples; the share `pixels` of pixels equal."""
        train, (x, y) = fashion('train', 2000), fashion('test', 200)
        model = advrob.Model.build(name, seed=0, **({'classes': 10} if name == 'mlp' else {}))
        advrob.finetune('standard', model, train, epochs=1, lr=0.05, momentum=0.9, batch_size=64)
        functions = twin(model)
        target = advrob.Target.from_callable(functions.forward, functions.backward, 10)
        for attack, options in (('fgsm', {}), ('pgd', dict(steps=20, step=0.005))):
            run = advrob.Attack(attack, epsilon=0.03, **options)
            ours, theirs = run(model, x, y), run(target, x, y)
            equal = (np.abs(ours.images - theirs.images) < 1e-6).mean()
            bits = (ours.images == theirs.images).mean()
            print(f'{twin.__name__}, {attack}: {ours.fooled.sum()} and {theirs.fooled.sum()} of {len(y)} '
                  f'fooled, {100 * equal:.3f} % of pixels equal to 1e-6, {100 * bits:.3f} % to the bit')
            self.assertTrue((ours.fooled == theirs.fooled).all())
            self.assertGreater(ours.fooled.mean(), (model.predict(x) != y).mean())
            self.assertGreaterEqual(equal, pixels)
        loss, dx = target.loss_grad(x, y, 'margin')
        wanted, gradient = model.loss_grad(x, y, 'margin')
        self.assertLess(np.abs(loss - wanted).max(), 1e-4)
        self.assertLess(np.abs(dx - gradient).max(), 1e-3 * np.abs(gradient).max())

    def test_numpy(self):
        self.compare('mlp', Perceptron, 0.99)

    @unittest.skipIf(torch is None, 'PyTorch is not installed')
    def test_torch(self):
        torch.manual_seed(0)
        self.compare('conv_small', Torch, 0.99)


class Settings(unittest.TestCase):
    def setUp(self):
        self.w = np.random.default_rng(0).standard_normal((3, 12)).astype(np.float32)
        self.x, self.y = noise(6, (3, 2, 2)), np.arange(6) % 3

    def target(self, **settings):
        return advrob.Target.from_callable(lambda x: x.reshape(-1, 12) @ self.w.T,
                                           lambda x, d: (d @ self.w).reshape(x.shape), 3, **settings)

    def test_shape(self):
        late, early = self.target(), self.target(shape=(3, 2, 2))
        self.assertIn('functions', repr(late))
        with self.assertRaises(ValueError):
            late.shape
        self.assertTrue((late(self.x) == early(self.x)).all())
        self.assertEqual(late.shape, early.shape)
        with self.assertRaises(ValueError):
            late(self.x.reshape(6, 12, 1, 1))
        with self.assertRaises(TypeError):
            advrob.Target.from_callable('forward')
        data = advrob.Dataset(self.x, self.y, 3)
        self.assertEqual(advrob.evaluate(self.target(), data, attacks=['fgsm']).row,
                         advrob.evaluate(early, self.x, self.y, attacks=['fgsm']).row)

    def test_arguments_may_be_kept(self):
        """What a function was given stays what it was."""
        kept = []

        def forward(x):
            kept.append((x, x.copy()))
            return x.reshape(-1, 12) @ self.w.T

        target = advrob.Target.from_callable(forward, lambda x, d: (d @ self.w).reshape(x.shape), 3)
        advrob.attack('pgd', target, self.x, self.y, steps=12)
        self.assertGreater(len(kept), 10)
        self.assertTrue(all((x == twin).all() for x, twin in kept))

    def test_box_and_lattice(self):
        """Normalised images: box and radius by channel; bytes: only k / 255."""
        mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.25, 0.5])
        target = self.target(shape=(3, 2, 2))
        target.set_box((0 - mean) / std, (1 - mean) / std, 1 / std)
        entered = ((self.x - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)).astype(np.float32)
        moved = advrob.attack('fgsm', target, entered, self.y, epsilon=0.1)
        pixels = moved * std.reshape(3, 1, 1) + mean.reshape(3, 1, 1)
        self.assertLess(np.abs(pixels - self.x).max(), 0.1 + 1e-6)
        self.assertTrue(pixels.min() > -1e-6 and pixels.max() < 1 + 1e-6)
        lattice = self.target(shape=(3, 2, 2))
        lattice.set_lattice(255)
        codes = 255 * advrob.attack('pgd', lattice, self.x, self.y, epsilon=0.1)
        self.assertLess(np.abs(codes - np.rint(codes)).max(), 1e-4)
        with self.assertRaises(ValueError):
            target.set_box([1, 2], 3, 4)
        with self.assertRaises(ValueError):
            lattice.set_lattice(-1)

    def test_source(self):
        """Attacks by transfer need no gradients of the target."""
        blind = advrob.Target.from_callable(lambda x: x.reshape(-1, 12) @ self.w.T, None, 3,
                                            shape=(3, 2, 2))
        with self.assertRaises(advrob.AdvrobError):
            advrob.attack('pgd', blind, self.x, self.y)
        blind.set_source(self.target(shape=(3, 2, 2)))
        found = advrob.attack('fgsm', blind, self.x, self.y, transfer=1, epsilon=0.1)
        wanted = advrob.attack('fgsm', self.target(), self.x, self.y, epsilon=0.1)
        self.assertTrue((found == wanted).all())
        blind.set_source(None)

    def test_frozen(self):
        """A model under a target cannot be changed; it thaws with the target."""
        model = advrob.Model.build('tiny', seed=1)
        target = advrob.Target.from_model(model)
        with self.assertRaises(advrob.AdvrobError) as caught:
            model.initialise('he', 1)
        self.assertEqual(caught.exception.status, 'E_BUSY')
        del target
        model.initialise('he', 1)

    def test_wrong_target(self):
        with self.assertRaisesRegex(TypeError, 'from_callable'):
            advrob.attack('pgd', lambda x: x, self.x, self.y)


if __name__ == '__main__':
    main()
