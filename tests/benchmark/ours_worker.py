"""The worker of libadvrob: ours_worker.py path/to/libadvrob.so"""
import math
import sys
import time

import numpy

import agreement
from advrob import Library
from memory import Growth
from workers import clock, serve


class Side:
    """One prepared task."""

    def open(self, context):
        self.library = Library(sys.argv[1], context)
        return self.library.facts()

    def prepare(self, task, data, **job):
        images = numpy.load(data)
        self.task, self.job = task, job
        self.x, self.y = images['x'], images['y']
        self.model = self.library.load(job['weights'])
        if task == 'int8':
            calibration = numpy.load(job['calibration'])
            self.engine = self.library.engine(
                self.model, self.library.dataset(calibration['x'], calibration['y'], 10),
                activation_bits=job['activation_bits'])
        elif task == 'finetune':
            self.data = self.library.dataset(self.x, self.y, 10)
        elif task != 'infer':
            self.target = self.library.target(self.model)
        self.x, self.y = self.x[:job['batch']], self.y[:job['batch']]
        if task in ('attack', 'accuracy'):
            self.attack = self.library.attack('pgd', random_start=0, epsilon=job['epsilon'],
                                              step=job['step'], steps=job['steps'],
                                              early_stop=job.get('early_stop', 0))
        return {}

    def check(self, out):
        """Logits and gradient of the first 64 images, and what the task itself makes of them."""
        x, y = self.x[:64], self.y[:64]
        if self.task == 'int8':
            numpy.savez(out, logits=self.library.forward(self.model, x),
                        codes=self.library.run(self.engine, x))
            return {}
        target = self.library.target(self.model)
        losses, gradient = self.library.loss_gradient(target, x, y)
        found = {'logits': self.library.logits(target, x), 'gradient': gradient, 'losses': losses}
        self.library.lib.advrob_target_destroy(target)
        if self.task == 'attack':
            adversarial = numpy.empty_like(self.x)
            self.library.run_attack(self.attack, self.target, self.x, self.y, adversarial)
            found['attacked'] = numpy.array(self.mean_loss(adversarial))
        if self.task == 'finetune':
            found.update(self.update())
        numpy.savez(out, **found)

    def agree(self, ours, theirs):
        """{quantity: [distance, tolerance]} of two checks."""
        if self.task == 'int8':
            ours, theirs = numpy.load(ours), numpy.load(theirs)
            sides = {'ours': ours['codes'], 'peer': theirs['logits']}
            return {f'{what} of {side}': found for side, logits in sides.items()
                    for what, found in agreement.rounded(logits, ours['logits']).items()}
        before = self.library.parameters(self.library.load(self.job['weights']))
        return agreement.distances(numpy.load(ours), numpy.load(theirs), before, self.mean_loss)

    def mean_loss(self, x):
        return float(self.library.loss_gradient(self.target, x, self.y)[0].mean())

    def update(self):
        """Parameters after one step of which the attack's radius is 0, so that it is exact."""
        model = self.library.load(self.job['weights'])
        self.step(model, self.library.dataset(self.x, self.y, 10), 1, epsilon=0.0)
        return {f'after.{name}': value for name, value in self.library.parameters(model).items()}

    def step(self, model, data, steps, epsilon=None, progress=None):
        job = self.job
        epochs = math.ceil(steps * job['batch'] / self.library.lib.advrob_dataset_count(data))
        options = {'attack.epsilon': job['epsilon'] if epsilon is None else epsilon,
                   'attack.step': job['step'], 'attack.steps': job['steps'],
                   'attack.random_start': 0, 'batch_size': job['batch'], 'lr': 0.01,
                   'momentum': 0.9, 'epochs': epochs, 'max_steps': steps, 'alarm': 'off',
                   'statistics': job.get('statistics', 'batch')}
        self.library.finetune('pgd_at', model, data, progress, **options)

    def time(self, repeats):
        """Seconds of `repeats` runs of the task."""
        if self.task == 'finetune':
            return self.time_steps(repeats)
        begin = clock()
        for _ in range(repeats):
            self.once()
        return clock() - begin

    def once(self):
        if self.task == 'infer':
            self.library.forward(self.model, self.x)
        elif self.task == 'int8':
            self.library.run(self.engine, self.x)
        elif self.task == 'attack':
            self.library.run_attack(self.attack, self.target, self.x, self.y,
                                    numpy.empty_like(self.x))
        elif self.task == 'accuracy':
            self.predictions = numpy.empty_like(self.y)
            self.library.run_attack(self.attack, self.target, self.x, self.y, None,
                                    self.predictions)

    def time_steps(self, steps):
        """From the end of a run's first step to the end of its last: whole steps, no setting up."""
        ends = []
        self.step(self.model, self.data, steps + 1,
                  progress=lambda what, _: ends.append(time.perf_counter()) if what == 'train' else 0)
        if len(ends) != steps + 1:
            raise RuntimeError(f'{len(ends)} reports of {steps + 1} steps')
        return ends[-1] - ends[0]

    def accuracy(self):
        return float((self.predictions == self.y).mean())

    def memory(self, steps):
        growth = Growth()
        self.step(self.model, self.data, steps)
        return growth.measure()

    # What is made before anything is measured

    def make_images(self, folder, out, count, split):
        data = self.library.open_dataset('fashion-mnist', folder, split)
        x, y = self.library.read_dataset(data, 0, count)
        numpy.savez(out, x=x, y=y)

    def make_noise(self, out, count, shape, seed=0):
        draw = numpy.random.default_rng(seed)
        numpy.savez(out, x=draw.random((count, *shape), numpy.float32),
                    y=draw.integers(0, 10, count, numpy.int32))

    def make_model(self, net, out, init, sparsity):
        model = self.library.build(net, mean=0.5, std=0.5, init=init)
        self.library.save(self.library.prune(model, sparsity) if sparsity else model, out)

    def make_robust(self, folder, out, standard, adversarial, epsilon):
        """A net on the way to robustness: so many steps of standard training, then of adversarial
        fine-tuning with PGD-7. Adversarial from the start, a net this young learns nothing."""
        data = self.library.open_dataset('fashion-mnist', folder, 'train')
        model = self.library.build('eight_layer_conv', mean=0.5, std=0.5)
        common = {'lr': 0.02, 'momentum': 0.9, 'alarm': 'off'}
        self.library.finetune('standard', model, data, **common, max_steps=standard)
        attack = {'attack.epsilon': epsilon, 'attack.step': epsilon / 4, 'attack.steps': 7}
        self.library.finetune('pgd_at', model, data, **common, **attack, max_steps=adversarial)
        self.library.save(model, out)


side = Side()
serve({name: getattr(side, name) for name in
       ('open', 'prepare', 'check', 'agree', 'time', 'accuracy', 'memory', 'make_images', 'make_noise',
        'make_model', 'make_robust')})
