"""Tests of what decides about ratios, without peers: compare.py --self-test."""
import itertools
import os
import pathlib
import subprocess
import sys
import time
import unittest

import machine
import pairing
import report
from workers import Worker, WorkerError

HERE = pathlib.Path(__file__).resolve().parent
FAKE = '''
import os, sys
sys.path.insert(0, sys.argv[1])
from workers import serve

def fail():
    raise ValueError("no such thing")

def chatter():
    print("a library that prints")
    os.system("echo and one in C")
    return 7

serve({"double": lambda x: 2 * x, "fail": fail, "chatter": chatter, "end": lambda: os._exit(3)})
'''


class Pairing(unittest.TestCase):
    def test_pairs_alternate_and_swap(self):
        order = []

        def side(name, value):
            return lambda: order.append(name) or value
        times = pairing.alternate(side('ours', 1.0), side('peer', 2.0), 4)
        self.assertEqual(times, [(1.0, 2.0)] * 4)
        self.assertEqual(order, ['ours', 'peer', 'peer', 'ours'] * 2)

    def test_a_drift_favours_nobody(self):
        clock = itertools.count(1)
        times = pairing.alternate(lambda: next(clock), lambda: next(clock), 10)
        self.assertEqual(sum(a for a, _ in times), sum(b for _, b in times))

    def test_summary(self):
        self.assertEqual(pairing.summary([5, 1, 4, 2, 3]),
                         {'median': 3, 'quartiles': [2, 4], 'min': 1, 'max': 5})
        self.assertEqual(pairing.summary([2.5])['quartiles'], [2.5, 2.5])

    def test_the_fastest_is_found_by_its_median(self):
        """One lucky time does not win."""
        lucky, even = itertools.cycle([1, 9, 9]), itertools.cycle([4])
        best, medians = pairing.fastest({'lucky': lambda: next(lucky), 'even': lambda: next(even)}, 3)
        self.assertEqual((best, medians), ('even', {'lucky': 9, 'even': 4}))

    def test_calibration_leaves_the_cold_run_out(self):
        calls = []

        def time_of(repeats):
            calls.append(repeats)
            return 100.0 if len(calls) == 1 else 0.01 * repeats
        self.assertAlmostEqual(pairing.calibrate(time_of, 0.5), 50, delta=1)
        self.assertEqual(pairing.calibrate(lambda _: 3.0, 0.5), 1)

    def test_an_unsteady_machine_is_measured_again_and_marked(self):
        peaks = iter([[100, 200], [90, 200], [100, 200], [97, 195]])
        results = iter(['disturbed', 'good'])
        found, peak = pairing.until_steady(lambda: next(results), lambda: next(peaks), 3)
        self.assertEqual((found, peak['steady'], peak['attempts']), ('good', True, 2))
        peaks = itertools.cycle([[100, 200], [100, 180]])
        found, peak = pairing.until_steady(lambda: 'only', lambda: next(peaks), 2)
        self.assertEqual((found, peak['steady'], peak['attempts']), ('only', False, 2))


class Workers(unittest.TestCase):
    def setUp(self):
        self.worker = Worker([sys.executable, '-c', FAKE, str(HERE)], dict(os.environ),
                             subprocess.DEVNULL)
        self.addCleanup(self.worker.close)

    def state(self):
        """T: stopped."""
        text = pathlib.Path(f'/proc/{self.worker.process.pid}/stat').read_text(encoding='ascii')
        return text.rsplit(')', 1)[1].split()[0]

    def test_answers_and_is_stopped_in_between(self):
        for x in (3, 4):
            self.assertEqual(self.worker.ask('double', x=x), 2 * x)
            end = time.monotonic() + 10
            while self.state() != 'T' and time.monotonic() < end:
                time.sleep(0.01)
            self.assertEqual(self.state(), 'T')

    def test_what_libraries_print_is_no_answer(self):
        self.assertEqual(self.worker.ask('chatter'), 7)

    def test_a_failure_is_told_and_the_worker_lives(self):
        with self.assertRaisesRegex(WorkerError, 'no such thing'):
            self.worker.ask('fail')
        self.assertEqual(self.worker.ask('double', x=1), 2)

    def test_an_end_is_told(self):
        with self.assertRaisesRegex(WorkerError, 'ended with 3'):
            self.worker.ask('end')


class Caps(unittest.TestCase):
    def test_a_cap_without_effect_is_refused(self):
        machine.refuse_uncapped({'ATen': 'AVX2', 'oneDNN': 'Intel AVX2'})
        for said in ('AVX512', 'Intel AVX-512 with AMX', 'unknown'):
            with self.assertRaises(SystemExit):
                machine.refuse_uncapped({'ATen': 'AVX2', 'oneDNN': said})


class Report(unittest.TestCase):
    def row(self, steady):
        return {'title': 'work', 'opponent': 'PyTorch', 'variant': 'eager', 'unit': 'images/s',
                'ratio': pairing.summary([1.5, 2.0, 2.5]), 'ours': pairing.summary([200.0]),
                'peer': pairing.summary([100.0]), 'variants': {}, 'failed': {}, 'facts': {},
                'agreement': {'eager': {'logits': 1e-7}}, 'peak_index': 1,
                'peak': {'before': [50, 100], 'after': [50, 90], 'steady': steady}}

    def test_a_row(self):
        text = report.row_text(self.row(True))
        self.assertIn('| 2.00 (1.75 - 2.25; 1.50 - 2.50) | 200 images/s | 100 images/s | 2 |', text)
        self.assertNotIn('not steady', text)
        self.assertIn('not steady', report.row_text(self.row(False)))
