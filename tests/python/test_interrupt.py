#!/usr/bin/env python3
"""Ctrl-C in long calls, exceptions in callbacks, cancelling from another thread."""
import os
import random
import signal
import subprocess
import sys
import threading
import time
import unittest

from package import advrob, main, noise, np

INTERRUPTS = int(os.environ.get('ADVROB_INTERRUPTS', '12'))
LATE = 0.25  # seconds from the signal to the exception


class Sender:
    """Sends SIGINT to this process after a delay and notes when."""

    def __init__(self, delay):
        self.timer = threading.Timer(delay, self.send)
        self.sent = None

    def send(self):
        self.sent = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)

    def __enter__(self):
        self.timer.start()
        return self

    def __exit__(self, *_):
        self.timer.cancel()
        self.timer.join()


class Interrupts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = advrob.Model.build('lenet5', seed=1)
        cls.x, cls.y = noise(4000, cls.model.shape), np.arange(4000, dtype=np.int32) % 10
        cls.before = cls.model(cls.x[:8])

    def long_calls(self):
        """Each would run for many seconds."""
        data = advrob.Dataset(self.x, self.y)
        other = self.model.copy()
        net = advrob.Model.build('resnet20', seed=1)
        many = noise(4000, net.shape)
        return {
            'attack': lambda: advrob.attack('pgd', self.model, self.x, self.y, steps=5000),
            'evaluate': lambda: advrob.evaluate(self.model, data, attacks=['autoattack'], epsilon=0.01),
            'finetune': lambda: advrob.finetune('pgd_at', other, data, epochs=100),
            'forward': lambda: net(many),
            'loss_grad': lambda: net.loss_grad(many, self.y),
            'compress': lambda: advrob.compress('prune_taylor', net, (many, self.y), images=4000),
            'check': lambda: advrob.check(self.model, data, epsilon=0.01, steps=1000),
        }

    def interrupt(self, name, call, delay):
        with Sender(delay) as sender:
            try:
                call()
            except KeyboardInterrupt:
                late = time.monotonic() - sender.sent
            else:
                self.fail(f'{name}: the call ended before the signal came')
        return late

    def test_random_times(self):
        """KeyboardInterrupt within 250 ms, and everything works on."""
        calls, chance = self.long_calls(), random.Random(7)
        handler = signal.getsignal(signal.SIGINT)
        late = []
        for i in range(INTERRUPTS):
            name = list(calls)[i % len(calls)]
            late.append((self.interrupt(name, calls[name], chance.uniform(0.01, 0.2)), name))
            self.assertIs(signal.getsignal(signal.SIGINT), handler)
        print('latest of', INTERRUPTS, 'interrupts: %.0f ms after the signal (%s)'
              % (1000 * max(late)[0], max(late)[1]))
        self.assertLess(max(late)[0], LATE * float(os.environ.get('ADVROB_PATIENCE', '2')), late)
        self.assertTrue((self.model(self.x[:8]) == self.before).all())

    def test_nothing_is_held(self):
        """After an interrupt the model is free again, and memory is what it was."""
        context = advrob.Context(threads=2)
        model = advrob.Model.build('lenet5', seed=1, context=context)
        data = advrob.Dataset(self.x, self.y, context=context)
        for _ in range(2):
            self.interrupt('evaluate', lambda: advrob.evaluate(model, data, attacks=['autoattack']), 0.1)
            model.initialise('he', 1)  # is refused while a target on the model lives
        pixels = self.x.nbytes
        before = context.memory
        data = None
        self.assertLess(context.memory, before - pixels + 1)

    def test_finetune_keeps_the_last_step(self):
        """An interrupted run with a checkpoint goes on to the bits of one that was not."""
        import tempfile
        x, y = self.x[:640], self.y[:640]
        settings = dict(epochs=2, lr=0.01, batch_size=32, attack=dict(epsilon=0.02, steps=3))
        whole, stopped = self.model.copy(), self.model.copy()
        advrob.finetune('pgd_at', whole, (x, y), **settings)
        with tempfile.TemporaryDirectory() as folder:
            settings['checkpoint'] = os.path.join(folder, 'run')
            began = []

            def kill_once(_what, done, _total, _value):
                if done >= 10 and not began:
                    began.append(done)
                    os.kill(os.getpid(), signal.SIGINT)

            with self.assertRaises(KeyboardInterrupt):
                advrob.finetune('pgd_at', stopped, (x, y), progress=kill_once, **settings)
            self.assertNotEqual(stopped.digest(), self.model.digest())
            again = self.model.copy()
            advrob.finetune('pgd_at', again, (x, y), **settings)
        self.assertEqual(again.digest(), whole.digest())

    def test_own_handler(self):
        """A handler of the program is called once, after the call, which is given up."""
        seen = []
        before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
        try:
            self.interrupt('attack', self.long_calls()['attack'], 0.05)
        finally:
            signal.signal(signal.SIGINT, before)
        self.assertEqual(seen, [signal.SIGINT])

    def test_ignored(self):
        """A program that ignores SIGINT is not interrupted."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with Sender(0.01):
                advrob.attack('pgd', self.model, self.x[:512], self.y[:512], steps=20)
        finally:
            signal.signal(signal.SIGINT, before)

    def test_wakeup_descriptor(self):
        """Who listened for signals before (asyncio) still hears of others, and is put back."""
        read, write = os.pipe()
        os.set_blocking(write, False)
        before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
        signal.set_wakeup_fd(write)
        timer = threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        try:
            timer.start()
            advrob.attack('pgd', self.model, self.x[:1024], self.y[:1024], steps=40)
            timer.join()
            self.assertEqual(os.read(read, 8), bytes([signal.SIGUSR1]))
        finally:
            self.assertEqual(signal.set_wakeup_fd(-1), write)
            signal.signal(signal.SIGUSR1, before)
            os.close(read)
            os.close(write)

    def test_stderr_stays_empty(self):
        """No "Exception ignored": what a callback raises is not swallowed by ctypes."""
        code = ('import advrob, numpy as np, os, signal, threading\n'
                'm = advrob.Model.build("lenet5")\n'
                'x = np.zeros((2000, *m.shape), np.float32)\n'
                'threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n'
                'try:\n'
                '    advrob.attack("pgd", m, x, np.zeros(2000, int), steps=5000, progress=lambda *a: None)\n'
                'except KeyboardInterrupt:\n'
                '    print("interrupted")\n')
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
        self.assertEqual((done.stdout, done.stderr, done.returncode), ('interrupted\n', '', 0))

    def test_cancel(self):
        """Context.cancel from another thread is Cancelled until rearm."""
        with advrob.Context(threads=1) as context:
            model = advrob.Model.build('lenet5')
        timer = threading.Timer(0.05, context.cancel)
        timer.start()
        with self.assertRaises(advrob.Cancelled):
            advrob.attack('pgd', model, self.x, self.y, steps=5000)
        timer.join()
        with self.assertRaises(advrob.Cancelled):
            advrob.attack('fgsm', model, self.x[:1], self.y[:1])
        context.rearm()
        advrob.attack('fgsm', model, self.x[:1], self.y[:1])


class Callbacks(unittest.TestCase):
    def setUp(self):
        self.w = np.random.default_rng(0).standard_normal((3, 12)).astype(np.float32)
        self.x, self.y = noise(20, (3, 2, 2)), np.arange(20) % 3

    def forward(self, x):
        return x.reshape(-1, 12) @ self.w.T

    def backward(self, x, d):
        return (d @ self.w).reshape(x.shape)

    def check_raises(self, error, forward, backward):
        target = advrob.Target.from_callable(forward, backward, 3)
        with self.assertRaises(error) as caught:
            advrob.attack('pgd', target, self.x, self.y, steps=3)
        return caught.exception

    def test_exceptions_come_out(self):
        class Own(Exception):
            pass

        def fails(*_):
            raise Own('from the callback')

        for error in (Own, KeyboardInterrupt, SystemExit):
            def raises(*_, error=error):
                raise error('text')
            self.check_raises(error, raises, self.backward)
            self.check_raises(error, self.forward, raises)
        self.assertIn('from the callback', str(self.check_raises(Own, fails, self.backward)))

    def test_wrong_answers(self):
        for wrong in (lambda x: x, lambda x: None, lambda x: 'logits', lambda x: self.forward(x)[:1],
                      lambda x: self.forward(x).astype(complex)):
            error = self.check_raises((ValueError, TypeError), wrong, self.backward)
            self.assertIn('forward', str(error))
        error = self.check_raises(advrob.AdvrobError, self.forward, None)
        self.assertEqual(error.status, 'E_UNSUPPORTED')

    def test_progress_raises(self):
        def fails(_what, done, total, _value):
            self.assertLessEqual(done, total)
            raise LookupError('enough')

        model = advrob.Model.build('lenet5')
        x, y = noise(256, model.shape), np.arange(256) % 10
        with self.assertRaises(LookupError):
            advrob.attack('pgd', model, x, y, progress=fails)
        with self.assertRaises(LookupError):
            advrob.finetune('standard', model, (x, y), progress=fails)
        with self.assertRaises(LookupError):
            advrob.evaluate(model, x, y, attacks=['fgsm'], progress=fails)

    def test_calls_inside_callbacks(self):
        """A callback may use the library, and fail in it."""
        def nested(x):
            advrob.attack('fgsm', advrob.Model.build('tiny'), np.full((1, 1, 8, 8), 9, np.float32), [0])

        error = self.check_raises(ValueError, nested, self.backward)
        self.assertIsInstance(error, advrob.AdvrobValueError)

        def helped(x):
            net = advrob.Model.build('tiny')
            advrob.attack('fgsm', net, noise(2, net.shape), [0, 1])
            return self.forward(x)

        target = advrob.Target.from_callable(helped, self.backward, 3)
        plain = advrob.Target.from_callable(self.forward, self.backward, 3)
        a, b = (advrob.attack('pgd', t, self.x, self.y, steps=3) for t in (target, plain))
        self.assertTrue((a == b).all())

    def test_steps_of_a_pruning(self):
        """on_step may fine-tune in place; its model is gone afterwards."""
        model = advrob.Model.build('lenet5', seed=1)
        x, y = noise(64, model.shape), np.arange(64) % 10
        kept = []

        def step(number, steps, net):
            kept.append(net)
            advrob.finetune('standard', net, (x, y), epochs=1, lr=0.001)

        small = advrob.compress('prune_l1', model, sparsity=0.5, steps=3, on_step=step)
        self.assertTrue(kept)
        with self.assertRaises(ValueError):
            kept[0](x)
        self.assertLess(small.macs, model.macs)

        def fails(number, steps, net):
            raise LookupError('stop')

        with self.assertRaises(LookupError):
            advrob.compress('prune_l1', model, sparsity=0.5, steps=3, on_step=fails)


if __name__ == '__main__':
    main()
