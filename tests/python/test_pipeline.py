#!/usr/bin/env python3
"""The whole way on real images: build, train, save, compress, lower, attack, evaluate, fine-tune; and
that Python gets what the library gives: against arithmetic in NumPy."""
import contextlib
import copy
import errno
import io
import pickle
import sys
import types
import unittest
import unittest.mock

from package import FASHION, SHARED, Folder, advrob, fashion, main, noise, np, trained


class Pipeline(Folder):
    """The calls that the package promises, on Fashion-MNIST."""

    @classmethod
    def setUpClass(cls):
        cls.model = trained()
        cls.x, cls.y = fashion('test', 200)

    def test_everything(self):
        x, y, path = self.x, self.y, str(self.folder / 'net.safetensors')
        self.model.save(path)
        m = advrob.Model.load(path)
        self.assertEqual(m.digest(), self.model.digest())
        self.assertIn('conv2d', m.summary())
        clean = (m.predict(x) == y).mean()
        self.assertGreater(clean, 0.6)
        loss, dx = m.loss_grad(x, y, loss='ce')
        self.check_cross_entropy(m(x), y, loss)
        self.assertEqual(dx.shape, x.shape)

        small = advrob.compress('prune_l1', m, sparsity=0.5)
        self.assertLess(small.macs, 0.5 * m.macs)
        q = advrob.compress('quant_ptq', m, calibration=x, weight_bits=8, activation_bits=8)
        e = advrob.Engine(q)
        e.save(self.folder / 'net.engine')
        self.assertTrue((advrob.Engine.load(self.folder / 'net.engine')(x) == e(x)).all())
        self.assertLess(abs((e.predict(x) == y).mean() - clean), 0.05)
        bytes_ = np.rint(x * 255).astype(np.uint8)
        self.assertTrue((e(bytes_) == e(x)).all())
        self.assertTrue((m(bytes_) == m(x)).all())

        adv = advrob.attack('pgd', e, x, y, epsilon=8/255, steps=20)
        self.assertLessEqual(np.abs(adv - x).max(), np.float32(8/255))
        self.assertLess((e.predict(adv) == y).mean(), clean - 0.1)

        r = advrob.evaluate(e, x, y, attacks=['autoattack_lite'], epsilon=8/255, queries=100)
        self.assertAlmostEqual(r.clean, (e.predict(x) == y).mean())
        self.assertLessEqual(r.robust, r.clean)
        self.assertEqual(r.robust, r.per_sample['robust'].mean())
        self.assertTrue((r.per_sample['clean_prediction'] == e.predict(x)).all())
        self.assertTrue((r.per_sample['label'] == y).all())
        r.save(self.folder / 'report.html')
        self.assertIn('<iframe', r._repr_html_())
        self.assertIn('right under every attack', (self.folder / 'report.html').read_text())

        told = []
        h = advrob.finetune('pgd_at', m, (x, y), epochs=2, lr=0.01, momentum=0.9, batch_size=64,
                            attack=dict(epsilon=0.05, steps=3), progress=lambda *now: told.append(now))
        self.assertEqual((len(h), h.ended, list(h['epoch'])), (2, 'finished', [1, 2]))
        self.assertEqual(told[-1][:3], ('train', 8, 8))
        self.assertNotEqual(m.digest(), self.model.digest())

    def check_cross_entropy(self, logits, y, loss):
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        wanted = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]
        self.assertLess(np.abs(loss - wanted).max(), 1e-5)

    def test_same_seed_same_bits(self):
        """Keywords reach the library: the same seed gives the same images, another gives others."""
        settings = dict(epsilon=0.05, steps=3)
        with advrob.Context(seed=4, threads=1):
            first = advrob.attack('pgd', self.model, self.x, self.y, seed=7, **settings)
        again = advrob.attack('pgd', self.model, self.x, self.y, seed=7, **settings)
        other = advrob.attack('pgd', self.model, self.x, self.y, seed=8, **settings)
        self.assertTrue((first == again).all())
        self.assertFalse((first == other).all())

    def test_targeted(self):
        aims = (self.y + 1) % 10
        done = advrob.Attack('pgd', epsilon=0.3, step=0.03, targeted=1)(self.model, self.x, self.y,
                                                                     targets=aims)
        self.assertTrue((done.fooled == (self.model.predict(done.images) == aims)).all())
        self.assertGreater(done.fooled.mean(), 0.5)
        same = advrob.attack('pgd', self.model, self.x, self.y, targets=aims, epsilon=0.3, step=0.03)
        self.assertTrue((same == done.images).all())

    def test_evaluation(self):
        result = advrob.evaluate(self.model, (self.x, self.y), attacks=['fgsm', ('pgd', {'steps': 5})],
                                 labels='one,five', epsilon=0.02, cascade=1)
        self.assertEqual(list(result.attacks), ['one', 'five'])
        self.assertEqual(result.robust, result.row['worst_accuracy'])
        fallen = result.per_sample[~result.per_sample['robust'] & (result.per_sample['attack'] != '')]
        self.assertTrue((fallen['prediction'] != fallen['label']).all())
        self.assertLessEqual(fallen['linf'].max(), 0.02 * (1 + 1e-6))
        with self.assertRaisesRegex(ValueError, 'epsilom'):
            advrob.evaluate(self.model, self.x, self.y, attacks=['pgd'], epsilom=0.1)

    def test_curve_and_check(self):
        points = advrob.curve(self.model, self.x, self.y, epsilons=[0.01, 0.05], attacks=['fgsm'])
        self.assertEqual([point['epsilon'] for point in points], [0.01, 0.05])
        self.assertGreaterEqual(points[0]['robust_accuracy'], points[1]['robust_accuracy'])
        found = advrob.check(self.model, self.x[:50], self.y[:50], epsilon=0.02, steps=5, queries=20)
        self.assertIn(found['verdict'], ('reliable', 'unreliable'))


class Published(unittest.TestCase):
    @unittest.skipUnless((SHARED / 'models').is_dir(), f'{SHARED} is missing')
    def test_logits(self):
        """PyTorch's weights by PyTorch's names: PyTorch's logits."""
        x, y = advrob.Dataset.open('mnist', SHARED / 'data' / 'mnist', split='test', limit=100).arrays()
        model = advrob.Model.build('conv_small', weights=SHARED / 'models' / 'mnist-wong.safetensors')
        wanted = np.load(SHARED / 'models' / 'mnist-wong.logits100.npy')
        self.assertLess(np.abs(model(x) - wanted).max(), 1e-5 * np.abs(wanted).max())
        deep = advrob.Model.build('resnet20', weights=SHARED / 'models' / 'cifar10-resnet20.safetensors',
                                  mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
        self.assertEqual((deep.shape, deep.classes), ((3, 32, 32), 10))


class Hooks(Folder):
    """Bars and messages."""

    def setUp(self):
        super().setUp()
        self.model = advrob.Model.build('tiny', seed=1)
        self.x, self.y = noise(64, self.model.shape), np.arange(64) % self.model.classes

    def run_with_bar(self):
        error = io.StringIO()
        with contextlib.redirect_stderr(error):
            advrob.finetune('standard', self.model, (self.x, self.y), epochs=2, batch_size=16, progress=True)
        return error.getvalue()

    def test_plain_bar(self):
        with unittest.mock.patch.dict(sys.modules, {'tqdm': None, 'tqdm.auto': None}):
            self.assertRegex(self.run_with_bar(), r'train \[#{30}\] 8/8 [\d.]+ *\n$')

    def test_tqdm(self):
        bar = unittest.mock.MagicMock(n=0)
        module = types.ModuleType('tqdm.auto')
        module.tqdm = unittest.mock.Mock(return_value=bar)
        with unittest.mock.patch.dict(sys.modules, {'tqdm': module, 'tqdm.auto': module}):
            self.assertEqual(self.run_with_bar(), '')
        module.tqdm.assert_called_once_with(total=8, desc='train', leave=True)
        bar.close.assert_called_once_with()

    def test_wrong_progress(self):
        with self.assertRaises(TypeError):
            advrob.attack('pgd', self.model, self.x, self.y, progress='yes')

    def test_log(self):
        """A model that cannot be written: a warning on the way, OSError with errno at the end."""
        path = self.folder / 'none' / 'last.safetensors'
        with self.assertLogs('advrob', 'WARNING') as log, self.assertRaises(OSError) as caught:
            advrob.finetune('standard', self.model, (self.x, self.y), epochs=1, last_path=str(path))
        self.assertIn(str(path), log.output[0])
        self.assertIsInstance(caught.exception, advrob.AdvrobOSError)
        with self.assertRaises(OSError) as caught:
            self.model.save(path)
        self.assertEqual((caught.exception.errno, caught.exception.filename), (errno.ENOENT, str(path)))


class Objects(Folder):
    def test_graph(self):
        """A net node by node, its output against NumPy."""
        g = advrob.Graph()
        x = g.input(2, 3, 3, mean=[0.5, 0.25], std=0.5)
        a = g.linear(g.flatten(x), outputs=4, name='first')
        b = g.relu(a)
        net = g.model(g.linear(g.add('add', a, b), outputs=3, name='last'), seed=1)
        self.assertEqual(net.nodes[0], 'input')
        weights = {name: net.parameters[name].astype(np.float64) for name in net.parameters}
        images = noise(5, net.shape)
        entered = (images - np.array([0.5, 0.25]).reshape(2, 1, 1)) / 0.5
        hidden = entered.reshape(5, -1) @ weights['first.weight'].T + weights['first.bias']
        hidden = hidden + np.maximum(hidden, 0)
        wanted = hidden @ weights['last.weight'].T + weights['last.bias']
        self.assertLess(np.abs(net(images) - wanted).max(), 1e-5)
        with self.assertRaises(AttributeError):
            g.conv3d
        with self.assertRaises(ValueError):
            g.conv2d(x, outputs=0, kernel=3)
        with self.assertRaises(TypeError):
            g.relu('input')

    def test_parameters(self):
        model = advrob.Model.build('tiny', seed=1)
        name = next(iter(model.parameters))
        weights = model.parameters[name]
        model.parameters[name] = 2 * weights
        self.assertTrue((model.parameters[name] == 2 * weights).all())
        self.assertEqual(len(model.parameters), len(list(model.parameters)))
        with self.assertRaises(KeyError):
            model.parameters['no such']
        with self.assertRaises(ValueError):
            model.parameters[name] = weights[:1]
        with self.assertRaises(ValueError):
            model.parameters[name] = np.full_like(weights, np.nan)
        model.initialise('pytorch', seed=3)
        same = advrob.Model.build('tiny', seed=3, init='pytorch')
        self.assertEqual(model.digest(), same.digest())
        self.assertGreater(model.latency(2, 3), 0)
        self.assertEqual(model.profile(repeats=1, batch_size=8, passes='forward')[-1]['layer'], 'total')

    def test_copies(self):
        model = advrob.Model.build('tiny_batch_norm', seed=1)
        data = advrob.Dataset(noise(8, model.shape), np.arange(8) % 3)
        for twin in (model.copy(), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            self.assertEqual(twin.digest(), model.digest())
        self.assertEqual(pickle.loads(pickle.dumps(data)).digest(), data.digest())
        tiny = advrob.Model.build('tiny', seed=1)
        x = noise(8, tiny.shape)
        engine = advrob.Engine(advrob.compress('quant_ptq', tiny, x))
        self.assertTrue((pickle.loads(pickle.dumps(engine))(x) == engine(x)).all())
        with advrob.Context(threads=1, seed=5) as context:
            self.assertEqual((context.threads, context.seed), (1, 5))
            self.assertEqual(pickle.loads(pickle.dumps(context)).seed, 5)
        self.assertGreater(context.memory_peak, 0)

    def test_dataset(self):
        x, y = fashion('test', 30)
        data = advrob.Dataset(np.rint(x * 255).astype(np.uint8), y.astype(np.uint8), 10)
        known = advrob.Dataset.open('fashion-mnist', FASHION, split='test', limit=30)
        self.assertEqual(data.digest(), known.digest())
        self.assertTrue((data.arrays()[0] == x).all() and (data[5:9].arrays()[1] == y[5:9]).all())
        part, rest = data.split(10, seed=1)
        self.assertEqual((len(part), len(rest), data.shape, data.classes), (10, 20, (1, 28, 28), 10))
        image, label = data[-1]
        self.assertTrue((image == x[-1]).all() and label == y[-1])
        self.assertEqual(len(list(iter(data))), 30)
        for wrong in (slice(4, 4), slice(0, 9, 2)):
            with self.assertRaises(ValueError):
                data[wrong]

    def test_report(self):
        """Rows and page: what is put comes back."""
        report = advrob.Report('A page', dataset='none', epsilon=0.1)
        report.add_columns('net')
        report.add_row(net='a "quoted", name', accuracy=0.5, images=100)
        report.add_row(net='b')
        report.add_heading('Plots')
        report.add_text('Two of them.')
        report.add_plot('Curve', 'x', 'y', y_low=0, y_high=1)
        report.add_series('s', [0, 1, 2], [0.1, np.nan, 0.3], style='both')
        report.add_series('bars', [0, 1], [0.1, 0.2], low=[0, 0.1], high=[0.2, 0.3])
        report.add_images('Images', noise(6, (1, 8, 8)).reshape(2, 3, 1, 8, 8), ['r0', 'r1'], list('abcdef'))
        report.add_table('Table', ['net', 'share'], [['a', '50 %'], ['b', 0.25]], shade=(0, 100))
        report.set_title('Another title')
        report.add_figure('50 %', 'of something')
        report.save(self.folder / 'page.html')
        report.save_plots(self.folder / 'plots.csv')
        page = (self.folder / 'page.html').read_text()
        for text in ('Another title', 'Two of them.', 'of something', '50 %', 'r1'):
            self.assertIn(text, page)
        self.assertIn('0.3', (self.folder / 'plots.csv').read_text())
        self.assertEqual(report.rows[0], {'net': 'a "quoted", name', 'accuracy': 0.5, 'images': 100})
        report.save(self.folder / 'rows.csv')
        again = advrob.Report()
        again.read_csv(self.folder / 'rows.csv')
        self.assertEqual((len(again), again.rows), (2, report.rows))
        self.assertIn('<iframe', report._repr_html_())
        with self.assertRaises(KeyError):
            report.get(0, 'none')

    def test_reprs(self):
        model = advrob.Model.build('tiny')
        self.assertIn('<td>conv2d</td>', model._repr_html_())
        x, y = noise(16, model.shape), np.arange(16) % model.classes
        quantized = advrob.compress('quant_ptq', model, x)
        history = advrob.finetune('standard', model, (x, y), epochs=1)
        self.assertIn('<th>loss</th>', history._repr_html_())
        for thing in (model, advrob.Dataset(x, y), advrob.Engine(quantized), history, advrob.Report(),
                      advrob.Attack('pgd'), advrob.Target.from_model(model), advrob.Context(),
                      advrob.evaluate(model, x, y), advrob.Target.from_callable(model)):
            self.assertTrue(repr(thing).startswith(type(thing).__name__.strip('_').replace('Late', 'Target')))

    def test_guarded_quantization(self):
        """Scores of one's own decide what stays float; what each layer lost."""
        model = advrob.Model.build('tiny', seed=1)
        x, seen = noise(64, model.shape), []

        def score(net):
            seen.append(net)
            return 1.0 if len(seen) == 1 else 0.0  # nothing is good enough: the float net stays

        settings = dict(weight_bits=2, max_drop=0.1)
        quantized = advrob.compress('quant_ptq', model, x, on_score=score, **settings)
        self.assertGreater(len(seen), 2)
        self.assertTrue((quantized(x) == model(x)).all())
        with self.assertRaises(ValueError):
            seen[0](x)
        with self.assertRaises(ZeroDivisionError):
            advrob.compress('quant_ptq', model, x, on_score=lambda net: 1 / 0, **settings)
        rows = advrob.quantization(model, advrob.compress('quant_ptq', model, x), x)
        layers = [row for row in rows if 'weight_sqnr' in row]
        self.assertEqual({row['weight_bits'] for row in layers}, {8})
        self.assertTrue(all(20 < row['weight_sqnr'] < 80 for row in layers))

    def test_energy(self):
        """Counters of a machine that is made of files."""
        zone = self.folder / 'intel-rapl:0'
        zone.mkdir()
        for name, text in (('name', 'package-0'), ('energy_uj', '1000000'), ('max_energy_range_uj', '9000000')):
            (zone / name).write_text(text + '\n')
        meter = advrob.Energy(self.folder)
        (zone / 'energy_uj').write_text('3500000\n')
        self.assertAlmostEqual(meter.joules(), 2.5)
        with self.assertRaises(advrob.AdvrobError) as caught:
            advrob.Energy(self.folder / 'none')
        self.assertEqual(caught.exception.status, 'E_UNSUPPORTED')

    def test_plans(self):
        model = advrob.Model.build('tiny', seed=1)
        text = advrob.plan('prune_l1', model, sparsity=0.5)
        by_plan = advrob.compress('prune_plan', model, plan=text)
        self.assertEqual(by_plan.digest(), advrob.compress('prune_l1', model, sparsity=0.5).digest())
        self.assertTrue(model.node_output(model.nodes[1], noise(2, model.shape)).shape[0] == 2)


if __name__ == '__main__':
    main()
