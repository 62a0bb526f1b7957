"""Tests of what decides about ratios, without peers: compare.py --self-test."""
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

import machine
import agreement
import pairing
import race
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
    def test_rounds_alternate_and_turn_round(self):
        order = []

        def side(name, value):
            return lambda: order.append(name) or value
        times = pairing.alternate({'a': side('a', 1.0), 'b': side('b', 2.0), 'c': side('c', 3.0)}, 4)
        self.assertEqual(times, {'a': [1.0] * 4, 'b': [2.0] * 4, 'c': [3.0] * 4})
        self.assertEqual(''.join(order), 'abccba' * 2)

    def test_a_drift_favours_nobody(self):
        clock = itertools.count(1)
        times = pairing.alternate({name: lambda: next(clock) for name in 'abc'}, 10)
        self.assertEqual(len({sum(found) for found in times.values()}), 1)

    def test_summary(self):
        self.assertEqual(pairing.summary([5, 1, 4, 2, 3]),
                         {'median': 3, 'quartiles': [2, 4], 'min': 1, 'max': 5})
        self.assertEqual(pairing.summary([2.5])['quartiles'], [2.5, 2.5])

    def test_the_fastest_go_on(self):
        self.assertEqual(pairing.fastest({'a': 3.0, 'b': 1.0, 'c': 2.0}, 2), ['b', 'c'])
        self.assertEqual(pairing.fastest({'a': 3.0}, 2), ['a'])

    def test_one_peer_is_taken_for_all_pairs(self):
        """By its median ratio: neither the better one of each pair nor the one with a lucky time."""
        times = {'ours': [1.0, 1.0, 2.0], 'lucky': [1.0, 9.0, 18.0], 'even': [4.0, 4.0, 8.0]}
        best = pairing.best_peer(times, 'ours')
        self.assertEqual(best, 'even')
        self.assertEqual(pairing.ratios(times['ours'], times[best]), [4.0, 4.0, 4.0])

    def test_a_shot_leaves_the_cold_run_out(self):
        calls = []

        def time_of(repeats):
            calls.append(repeats)
            return 100.0 if len(calls) == 1 else 0.01 * repeats
        repeat, repeats = pairing.shot(time_of, 2.0)
        self.assertAlmostEqual(repeat, 0.01)
        self.assertTrue(100 <= repeats <= 400, repeats)
        self.assertEqual(pairing.shot(lambda _: 3.0, 2.0), (3.0, 1))
        self.assertEqual(pairing.shot(lambda _: 0.0, 2.0, most=50), (0.0, 50))


class Steadiness(unittest.TestCase):
    EVEN = ([100, 200], [100, 200])

    def measured(self, peaks, loads, attempts=2):
        """Of measurements 10 s long: result number, and what is known of the machine."""
        peaks, results = iter(peaks), itertools.count(1)
        moments = iter([end for i, load in enumerate(loads)
                        for end in ((20.0 * i, 7.0), (20.0 * i + 10, 7.0 + 10 * load))])
        return pairing.until_steady(lambda: next(results), lambda: next(peaks),
                                    lambda: next(moments), attempts)

    def test_a_steady_machine_is_measured_once(self):
        found, peak = self.measured([[100, 200], [97, 195]], [0.04])
        self.assertEqual((found, peak['steady'], peak['attempts']), (1, True, 1))
        self.assertAlmostEqual(peak['foreign'], 0.04)

    def test_other_peaks_are_measured_again_and_marked(self):
        fallen = ([100, 200], [90, 200])
        found, peak = self.measured([*fallen, *self.EVEN], [0, 0])
        self.assertEqual((found, peak['steady'], peak['attempts']), (2, True, 2))
        found, peak = self.measured([*fallen, *fallen], [0, 0])
        self.assertEqual((found, peak['steady'], peak['attempts']), (2, False, 2))

    def test_foreign_load_is_measured_again_and_marked(self):
        found, peak = self.measured(self.EVEN * 2, [0.5, 0.01])
        self.assertEqual((found, peak['steady'], peak['attempts']), (2, True, 2))
        found, peak = self.measured(self.EVEN * 2, [0.5, 0.06])
        self.assertEqual((found, peak['steady'], peak['attempts']), (2, False, 2))
        self.assertAlmostEqual(peak['foreign'], 0.06)

    def test_rounding_of_the_counters_is_no_load(self):
        self.assertEqual(self.measured(self.EVEN, [-0.01])[1]['foreign'], 0)

    def test_own_work_is_not_foreign(self):
        """A busy process counts, unless it is a worker; what others do meanwhile counts in both."""
        busy = subprocess.Popen([sys.executable, '-c', 'while True: pass'])
        self.addCleanup(busy.wait)
        self.addCleanup(busy.kill)
        counted, own = machine.foreign([], 1), machine.foreign([busy.pid], 1)
        time.sleep(1)
        all_work = machine.foreign([], 1)[1] - counted[1]
        others = machine.foreign([busy.pid], 1)[1] - own[1]
        self.assertGreater(all_work - others, 0.1)
        self.assertGreater(all_work, 0.1)


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

    def test_kernels_beyond_avx2_are_seen(self):
        self.assertFalse(machine.beyond_avx2('7 brgconv_avx2_f32, 1 gemm_mlas_f32'))
        for kernel in ('brgconv_avx512_core_f32', 'brgconv_avx512_core_amx_f32', 'jit_avx10_1'):
            self.assertTrue(machine.beyond_avx2(kernel))

    def test_an_engine_that_cannot_be_held_is_marked_where_it_matters(self):
        self.assertEqual(machine.uncapped('avx avx2 fma avx512f avx512bw'), 'AVX-512')
        self.assertEqual(machine.uncapped('avx avx2 fma'), '')


class Agreement(unittest.TestCase):
    def refused(self, images):
        """Which shares are too far off."""
        found = agreement.within(images)
        return [share for share, tolerance in agreement.GRADIENTS.items()
                if not found[share] <= tolerance]

    def test_kinks_pass(self):
        """What PyTorch's float32 shows against its float64: rounding, and two images at a kink."""
        self.assertEqual(self.refused([5e-7] * 62 + [5e-4, 4.8e-3]), [])

    def test_faults_of_few_or_many_images_do_not(self):
        self.assertEqual(self.refused([5e-7] * 63 + [1.0]), [100])
        self.assertEqual(self.refused([5e-7] * 63 + [float('inf')]), [100])
        self.assertEqual(self.refused([5e-7] * 51 + [1e-3] * 13), [80])
        self.assertEqual(self.refused([5e-5] * 64), [50])


class Verdicts(unittest.TestCase):
    def test_skipping_must_find_the_same(self):
        self.assertEqual(set(race.same_verdicts(0.5, 0.502).values()), {0.5, 0.502})
        for skipping, whole in ((0.5, 0.51), (0.51, 0.5)):
            with self.assertRaises(race.Refused):
                race.same_verdicts(skipping, whole)


class Report(unittest.TestCase):
    def row(self, **changes):
        return {'title': 'work', 'opponent': 'PyTorch', 'variant': 'eager', 'unit': 'images/s',
                'ratio': pairing.summary([1.5, 2.0, 2.5]), 'ours': pairing.summary([200.0]),
                'peer': pairing.summary([100.0]), 'variants': {}, 'failed': {}, 'facts': {},
                'agreement': {'eager': {'logits': 1e-7}}, 'peak_index': 1, 'date': '2000-01-01 00:00',
                'run': 1, 'screening': {'foreign': 0.0, 'steady': True},
                'peak': {'before': [50, 110], 'after': [50, 90], 'foreign': 0.02, 'steady': True,
                         'attempts': 1}, **changes}

    def run_of(self, date):
        return {'date': date, 'threads': 2, 'pairs': 3, 'capped': True, 'versions': {'torch': '2'},
                'machine': {'commit': 'abc', 'cpu': 'CPU', 'cores': 2, 'instructions': 'avx2'}}

    def test_a_row(self):
        text = report.row_text(self.row())
        self.assertIn('| 2.00 (1.75 - 2.25; 1.50 - 2.50) | 200 images/s | 100 images/s | 2 |', text)
        self.assertIn('| 1: 50, 50; 2: 110, 90 | 2000-01-01 00:00 (1) |', text)
        unsteady = self.row(peak={**self.row()['peak'], 'steady': False})
        self.assertIn('not steady', report.row_text(unsteady))

    def test_an_uncapped_engine_is_marked(self):
        row = self.row(opponent='onnxruntime', variant='onnxruntime', uncapped='AVX-512')
        self.assertIn('| onnxruntime (uncapped: AVX-512) |', report.row_text(row))

    def test_scaling_takes_both_peaks(self):
        self.assertAlmostEqual(report.peak_ratio(self.row()), (110 / 50 + 90 / 50) / 2)

    def test_a_slow_peer_is_marked(self):
        for expected, slow in ((1.0, False), (1.05, False), (1.25, True)):
            text = '\n'.join(report.details(self.row(expected=expected)))
            self.assertIn('1.000 images/s', text)
            self.assertEqual('**20% below**' in text, slow, text)

    def test_rows_of_several_runs_keep_their_dates(self):
        rows = [self.row(), self.row(date='2000-01-02 00:00', run=2)]
        text = report.markdown({'runs': [self.run_of('2000-01-01'), self.run_of('2000-01-02')],
                                'rows': rows, 'refused': []})
        for run in (1, 2):
            self.assertIn(f'- Run {run}: 2000-01-0{run} UTC', text)
            self.assertIn(f'| 2000-01-0{run} 00:00 ({run}) |', text)

    def test_append_keeps_what_was_there(self):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / 'result'
            self.assertEqual(report.earlier(out)['rows'], [])
            found = {'runs': [self.run_of('2000-01-01')], 'rows': [self.row()], 'refused': []}
            report.write(found, out)
            self.assertEqual(report.earlier(out), found)
