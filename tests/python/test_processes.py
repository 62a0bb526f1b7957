#!/usr/bin/env python3
"""Threads, fork, spawn and forkserver; objects freed in any order; the cost of a short call."""
import concurrent.futures
import copy
import ctypes
import gc
import itertools
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
import unittest

from package import advrob, main, noise, np
from advrob import _prototypes
from advrob._library import library_path

SEED = 3


def work(model=None):
    """What each worker does; the same everywhere."""
    model = model or advrob.Model.build('tiny_residual', seed=SEED)
    x, y = noise(40, model.shape), np.arange(40) % model.classes
    images = advrob.attack('pgd', model, x, y, epsilon=0.1, step=0.03, steps=5, seed=1)
    return images, model(images)


def in_parent_context(model):
    """A forked child with its parent's model: AdvrobError, never a hang."""
    try:
        work(model)
        return 'no error'
    except advrob.AdvrobError as error:
        return error.status


def pool_of(method, count=2):
    context = multiprocessing.get_context(method)
    return concurrent.futures.ProcessPoolExecutor(count, mp_context=context)


class Threads(unittest.TestCase):
    def run_all(self, function, arguments):
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            return list(pool.map(function, arguments, timeout=100))

    def test_shared_and_separate(self):
        model = advrob.Model.build('tiny_residual', seed=SEED)
        wanted = work(model)
        for found in self.run_all(work, [model] * 8 + [None] * 8):
            self.assertTrue(all((a == b).all() for a, b in zip(found, wanted)))

    def test_engine(self):
        model = advrob.Model.build('lenet5', seed=1)
        x = noise(64, model.shape)
        engine = advrob.Engine(advrob.compress('quant_ptq', model, x))
        wanted = engine(x)
        for found in self.run_all(engine, [x] * 12):
            self.assertTrue((found == wanted).all())

    def test_exceptions_stay_in_their_thread(self):
        model = advrob.Model.build('tiny', seed=1)
        x, y = noise(8, model.shape), np.arange(8) % model.classes

        def fail(i):
            def forward(z):
                raise KeyError(i)
            try:
                advrob.attack('square', advrob.Target.from_callable(forward, None, model.classes), x, y)
            except KeyError as error:
                return error.args[0]

        self.assertEqual(self.run_all(fail, range(24)), list(range(24)))

    def test_contexts(self):
        """`with` is the thread's own."""
        def seeds(i):
            with advrob.Context(seed=i, threads=1):
                time.sleep(0.01)
                return advrob.Model.build('tiny').context.seed

        self.assertEqual(self.run_all(seeds, range(12)), list(range(12)))


class Processes(unittest.TestCase):
    def check_pool(self, method):
        wanted = work()
        model = advrob.Model.build('tiny_residual', seed=SEED)
        with pool_of(method) as pool:
            for task in [pool.submit(work) for _ in range(3)] + [pool.submit(work, model)]:
                found = task.result(timeout=100)
                self.assertTrue(all((a == b).all() for a, b in zip(found, wanted)))

    def test_fork(self):
        self.check_pool('fork')

    def test_spawn(self):
        self.check_pool('spawn')

    def test_forkserver(self):
        self.check_pool('forkserver')

    def test_fork_keeps_nothing(self):
        """A child that uses its parent's objects is refused; freeing them there is fine."""
        model = advrob.Model.build('tiny_residual', seed=SEED)
        work(model)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            text = in_parent_context(model)
            del model
            gc.collect()
            work()
            os.write(write, text.encode())
            os._exit(0)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertEqual(os.read(read, 99), b'E_FORKED')
        os.close(read)
        os.close(write)
        work(model)

    def test_fork_beside_a_running_thread(self):
        model = advrob.Model.build('lenet5', seed=SEED)
        x, y = noise(600, model.shape), np.arange(600) % 10
        thread = threading.Thread(target=lambda: advrob.attack('pgd', model, x, y, steps=20))
        thread.start()
        time.sleep(0.02)
        self.test_fork()
        thread.join()


class Lifetimes(unittest.TestCase):
    def objects(self):
        """One of each, all of one context."""
        context = advrob.Context(threads=2)
        with context:
            model = advrob.Model.build('tiny', seed=1)
            x = noise(8, model.shape)
            data = advrob.Dataset(x, np.arange(8) % model.classes)
            part = data[2:6]
            quantized = advrob.compress('quant_ptq', model, data)
            engine = advrob.Engine(quantized)
            target = advrob.Target.from_engine(engine, quantized)
            attack = advrob.Attack('pgd', steps=2)
            result = advrob.evaluate(model, part, attacks=['fgsm'])
            history = advrob.finetune('standard', model.copy(), data, epochs=1)
            weights = model.parameters['conv1.weight']
            graph = advrob.Graph()
            graph.relu(graph.input(1, 4, 4))
        return dict(context=context, model=model, data=data, part=part, quantized=quantized,
                    engine=engine, target=target, attack=attack, result=result, history=history,
                    weights=weights, graph=graph)

    def test_any_order(self):
        """Freed in 60 random orders; what is left is used after each."""
        chance = np.random.default_rng(0)
        uses = {'model': lambda o: o(noise(2, o.shape)), 'engine': lambda o: o(noise(2, o.shape)),
                'target': lambda o: o.loss_grad(noise(2, o.shape), [0, 1]), 'part': lambda o: o.arrays(),
                'history': lambda o: o['loss'], 'result': lambda o: o.report.rows,
                'weights': lambda o: o.sum(), 'context': lambda o: o.memory, 'graph': lambda o: o.model(),
                'attack': repr, 'data': len, 'quantized': lambda o: o.summary()}
        for _ in range(60):
            alive = self.objects()
            for name in chance.permutation(sorted(alive)):
                del alive[name]
                gc.collect(0)
                for left in itertools.islice(alive, 3):
                    uses[left](alive[left])

    def test_copies_are_refused(self):
        """Two owners of one object would free it twice."""
        alive = self.objects()
        for name in ('target', 'attack', 'history'):
            for twice in (copy.copy, copy.deepcopy, pickle.dumps):
                with self.assertRaises(TypeError):
                    twice(alive[name])
        for name in ('model', 'data', 'engine', 'context'):
            for twice in (copy.copy, copy.deepcopy):
                self.assertIsNot(twice(alive[name])._as_parameter_, alive[name]._as_parameter_)

    def test_other_kinds(self):
        """An object of another kind is a TypeError, never an address."""
        alive = self.objects()
        model, engine, data = alive['model'], alive['engine'], alive['data']
        for wrong in (lambda: advrob.Target.from_model(engine), lambda: advrob.Target.from_engine(model),
                      lambda: advrob.Target.from_engine(engine, engine), lambda: advrob.Engine(engine),
                      lambda: advrob.compress('prune_l1', engine), lambda: advrob.finetune('standard', data, data),
                      lambda: advrob.Report().profile(engine), lambda: advrob.quantization(model, engine, data),
                      lambda: advrob.Model.build('tiny', context=model), lambda: alive['target'].set_source(data),
                      lambda: advrob.evaluate(data, data), lambda: advrob.evaluate(model, model),
                      lambda: advrob.Engine.load('/none', gradients=engine), lambda: model(model)):
            with self.assertRaises(TypeError):
                wrong()

    def test_at_exit(self):
        """The interpreter ends with everything alive, also with a thread inside the library."""
        code = ('import advrob, numpy as np, threading, time\n'
                'm = advrob.Model.build("lenet5"); c = advrob.Context(); t = advrob.Target.from_model(m)\n'
                'x = np.zeros((500, *m.shape), np.float32)\n'
                'run = lambda: advrob.attack("pgd", m, x, np.zeros(500, int), steps=200)\n'
                'threading.Thread(target=run, daemon=True).start()\n'
                'time.sleep(0.1)\n')
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ''))


class Costs(unittest.TestCase):
    def best(self, function, repeats=200, rounds=10):
        """Seconds of one call, best of `rounds` means."""
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            for _ in range(repeats):
                function()
            times.append((time.perf_counter() - began) / repeats)
        return min(times)

    def test_short_call(self):
        """A forward pass of one image of a tiny net against the same C call with everything ready."""
        model = advrob.Model.build('tiny', seed=1, context=advrob.Context(threads=1))
        x = noise(1, model.shape)
        logits = np.empty((1, model.classes), np.float32)
        bare = ctypes.CDLL(library_path).advrob_model_forward
        bare.argtypes = _prototypes.FUNCTIONS['advrob_model_forward'][1]
        arguments = (model._as_parameter_, ctypes.c_int64(1), ctypes.c_void_p(x.ctypes.data),
                     ctypes.c_void_p(logits.ctypes.data))
        ours, least = self.best(lambda: model(x)), self.best(lambda: bare(*arguments))
        print(f'a call costs {1e6 * (ours - least):.1f} us more ({1e6 * least:.1f} us bare)')
        self.assertTrue((model(x) == logits).all())
        self.assertLess(ours - least, 5 * 20e-6)

    def test_import(self):
        """import advrob beyond numpy; only a guard here."""
        code = ('import time, numpy; began = time.perf_counter(); import advrob; '
                'print(time.perf_counter() - began)')
        times = [float(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                                      check=True).stdout) for _ in range(3)]
        print(f'import advrob: {1e3 * min(times):.0f} ms beyond numpy')
        self.assertLess(min(times), 0.5)


if __name__ == '__main__':
    main()
