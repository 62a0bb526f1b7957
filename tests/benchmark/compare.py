#!/usr/bin/env python3
"""The same work with libadvrob and with its peers, in turn, on one machine. README.md says how.

    tests/benchmark/compare.py --build build pgd20 --pairs 10
"""
import argparse
import contextlib
import os
import pathlib
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True
import machine  # noqa: E402
import race  # noqa: E402
import report  # noqa: E402
from workers import Worker, WorkerError  # noqa: E402
from workloads import (EIGHT, EXPECTED_AT, PRUNED, RESNET, RESNET_PRUNED, ROBUST,  # noqa: E402
                       WORKLOADS)

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
SCRIPTS = {'ours': 'ours_worker.py', 'torch': 'torch_worker.py', 'onnxruntime': 'engine_worker.py',
           'openvino': 'engine_worker.py'}
# Leaves about half of the test images right under "skipping"'s attack: what is gained hangs on that.
ROBUST_TRAINING = {'standard': 100, 'adversarial': 10, 'epsilon': 0.02}
DENSE = {PRUNED: EIGHT, RESNET_PRUNED: RESNET}  # what a pruned net is made from
CALIBRATION = 512


class Bench:
    """What all jobs share: settings, files made once, how a worker is started."""

    def __init__(self, args):
        self.args = args
        self.pairs, self.seconds, self.threads = args.pairs, args.seconds, args.threads
        self.folder = args.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.python = str(args.peers / 'bin' / 'python')
        self.library = args.build / 'libadvrob' / 'libadvrob.so'
        self.environment = machine.environment(args.threads, not args.uncapped, self.folder)
        self.environment['COMPARE_CLOCK'] = args.clock
        self.log = open(self.folder / 'workers.log', 'w', encoding='utf-8')
        self.versions = {}

    def worker(self, engine, changes):
        """changes: "threads", where it is not everybody's."""
        threads = changes.get('threads', self.threads)
        argument = [str(self.library)] if engine == 'ours' else [engine]
        env = {**self.environment, 'OMP_NUM_THREADS': str(threads)}
        worker = Worker([self.python, str(HERE / SCRIPTS[engine]), *argument], env, self.log)
        try:
            if engine == 'ours':
                context = {'threads': threads, 'cpu': 'auto' if self.args.uncapped else 'avx2',
                           **self.args.context}
                facts = worker.ask('open', context=context)
                self.versions['libadvrob'] = f'{facts["version"]}, {context}, cpu {facts["cpu"]}'
            else:
                facts = worker.ask('open', threads=threads, capped=not self.args.uncapped)
                self.versions[engine] = facts['version']
        except WorkerError:
            worker.close()
            raise
        return worker

    def prepare(self, worker, job, engine, variant, changes):
        told = {**job.told(), **changes, 'weights': str(self.model(job)),
                'data': str(self.data(job))}
        told.pop('threads', None)
        told['batch'] = self.images(job)
        if job.task == 'int8':
            told['calibration'] = str(self.calibration(job))
        if engine in ('onnxruntime', 'openvino'):
            facts = worker.ask('prepare', onnx=str(self.onnx(job, variant)), **told)
            if not self.args.uncapped and machine.beyond_avx2(facts['kernels']):
                raise race.Refused(f'{engine} takes {facts["kernels"]} in spite of the cap')
            return facts
        return worker.ask('prepare', **told, **({'variant': variant} if engine == 'torch' else {}))

    def images(self, job):
        return job.batch or self.args.images

    def peaks(self):
        return machine.peaks(str(self.args.build / 'tests' / 'fma_peak'))

    # Files; each is made when it is first asked for

    def made(self, name, do, **arguments):
        path = self.folder / name
        if not path.exists():
            race.say(f'  making {name}')
            part = path.with_name(f'part-{name}')
            with self.worker('ours', {}) as worker:
                worker.ask(do, out=str(part), **arguments)
            part.rename(path)
        return path

    def model(self, job):
        """A net that is to be rounded is drawn so that its logits tell images apart."""
        if job.net == ROBUST:
            if self.args.robust_model:
                return self.args.robust_model
            return self.made('robust.safetensors', 'make_robust', folder=str(self.args.dataset),
                             **ROBUST_TRAINING)
        init = 'he' if job.task == 'int8' else 'pytorch'
        return self.made(f'{self.stem(job)}.safetensors', 'make_model', init=init,
                         net=DENSE.get(job.net, job.net), sparsity=0.5 * (job.net in DENSE))

    def stem(self, job):
        return f'{job.net}-he' if job.task == 'int8' else job.net

    def data(self, job):
        if job.net in (RESNET, RESNET_PRUNED):
            return self.made('noise.npz', 'make_noise', count=256, shape=[3, 32, 32])
        count = max(256, self.images(job))
        return self.made(f'images-{count}.npz', 'make_images', folder=str(self.args.dataset),
                         count=count, split='test')

    def calibration(self, job):
        if job.net in (RESNET, RESNET_PRUNED):
            return self.made(f'noise-{CALIBRATION}.npz', 'make_noise', count=CALIBRATION,
                             shape=[3, 32, 32], seed=1)
        return self.made(f'train-{CALIBRATION}.npz', 'make_images', split='train',
                         folder=str(self.args.dataset), count=CALIBRATION)

    def onnx(self, job, signs):
        """Of one batch size, as an engine likes it best; signs: of a QDQ file's integers."""
        path = self.folder / f'{self.stem(job)}-{job.batch}.onnx'
        if not path.exists():
            with self.worker('torch', {}) as worker:
                self.prepare(worker, job, 'torch', 'eager', {})
                worker.ask('export', out=str(path))
        if not signs:
            return path
        codes = path.with_name(f'{path.stem}-{signs}.onnx')
        if not codes.exists():
            with self.worker('onnxruntime', {}) as worker:
                worker.ask('quantize', onnx=str(path), data=str(self.calibration(job)),
                           batch=job.batch, signs=signs, out=str(codes))
        return codes


def run_job(bench, name, job, result):
    for opponent, variants in job.opponents.items():
        if bench.args.variants:
            variants = [one for one in variants if one[1] in bench.args.variants]
            if not variants:
                continue
        race.say(f'{name}: {job.title}; {opponent}')
        run = race.run_memory if job.kind == 'memory' else race.run_opponent
        try:
            row = run(bench, job, opponent, variants)
        except (race.Refused, WorkerError) as error:
            race.say(f'  refused: {error}')
            result['refused'].append({'row': f'{job.title}; {opponent}', 'reason': str(error),
                                      'date': machine.date(), 'run': len(result['runs'])})
            continue
        row.update(workload=name, date=machine.date(), run=len(result['runs']),
                   peak_index=min(bench.threads, 2) - 1)
        if opponent == 'onnxruntime':  # the one that asks the CPU and nobody else
            row['uncapped'] = machine.uncapped(result['runs'][-1]['machine']['instructions'])
        if opponent == 'PyTorch' and job.expected and bench.threads == 2:
            row['expected'] = job.expected / EXPECTED_AT
        if name == 'scaling':
            row['scaling'] = row['ratio']['median'] / report.peak_ratio(row)
        result['rows'].append(row)
        race.say('  ' + report.row_text(row))


def pair_of(text):
    name, sign, value = text.partition('=')
    if not sign:
        raise argparse.ArgumentTypeError(f'got "{text}", wanted name=value')
    return name, value


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split('\n', maxsplit=1)[0])
    parser.add_argument('workloads', nargs='*', metavar='WORKLOAD',
                        help=f'{", ".join(WORKLOADS)}; default: all')
    parser.add_argument('--build', type=pathlib.Path, default=SOURCE / 'build',
                        help='the build folder; a release build')
    parser.add_argument('--peers', type=pathlib.Path,
                        default=os.environ.get('ADVROB_PEERS', SOURCE / 'build' / 'peers'),
                        help='what peers.sh made')
    parser.add_argument('--folder', type=pathlib.Path, help='models and caches; BUILD/compare')
    parser.add_argument('--out', type=pathlib.Path, help='OUT.md, OUT.json; FOLDER/result')
    parser.add_argument('--append', action='store_true',
                        help='add to the rows that are in OUT, instead of writing it anew')
    parser.add_argument('--pairs', type=int, default=10)
    parser.add_argument('--seconds', type=float, default=0.5, help='of one shot')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--clock', choices=('wall', 'cpu'), default='wall',
                        help='cpu: seconds that a side\'s process ran, on 1 thread; for a machine '
                        'that others use')
    parser.add_argument('--uncapped', action='store_true', help='any instructions, on both sides')
    parser.add_argument('--variants', type=lambda text: text.split(','),
                        help='only these of the variants, comma-separated')
    parser.add_argument('--context', type=pair_of, action='append', default=[],
                        help='an option of our context, name=value; may be repeated')
    parser.add_argument('--images', type=int, default=10000, help='of the workload "skipping"')
    parser.add_argument('--robust-model', type=pathlib.Path, help='the net of "skipping"')
    parser.add_argument('--dataset', type=pathlib.Path,
                        default='/usr/share/datasets/fashion-mnist')
    parser.add_argument('--self-test', action='store_true', help='test the parts that need no peers')
    args = parser.parse_args()
    for name in args.workloads:
        if name not in WORKLOADS:
            parser.error(f'unknown workload "{name}"; there are {", ".join(WORKLOADS)}')
    if args.pairs < 1 or args.threads < 1 or args.seconds <= 0 or args.images < 1:
        parser.error('--pairs, --threads, --seconds and --images must be above 0')
    if args.clock == 'cpu' and args.threads != 1:
        parser.error('--clock cpu is for --threads 1: threads that wait would count as working')
    args.context = dict(args.context)
    args.build = args.build.resolve()
    args.folder = (args.folder or args.build / 'compare').resolve()
    args.out = args.out or args.folder / 'result'
    return args


def self_test():
    tests = unittest.defaultTestLoader.loadTestsFromName('self_test')
    return 0 if unittest.TextTestRunner().run(tests).wasSuccessful() else 1


def main():
    args = arguments()
    if args.self_test:
        return self_test()
    if not (args.peers / 'bin' / 'python').exists():
        sys.exit(f'compare.py: there are no peers in {args.peers}; peers.sh installs them')
    subprocess.run(['meson', 'compile', '-C', str(args.build), 'advrob:shared_library', 'fma_peak'],
                   check=True, stdout=subprocess.DEVNULL)
    bench = Bench(args)
    with contextlib.suppress(KeyboardInterrupt):
        bench.worker('ours', {}).close()  # a context option that is wrong is told first
        found = machine.probe(bench.python, bench.environment)
        if not args.uncapped:
            machine.refuse_uncapped(found)
        result = report.earlier(args.out) if args.append else report.empty()
        refused = len(result['refused'])
        result['runs'].append({'date': machine.date(), 'machine': machine.facts(SOURCE),
                               'threads': args.threads, 'pairs': args.pairs,
                               'capped': not args.uncapped, 'clock': args.clock,
                               'versions': bench.versions})
        for name in args.workloads or WORKLOADS:
            for job in WORKLOADS[name]:
                run_job(bench, name, job, result)
                bench.versions["PyTorch's instructions"] = ', '.join(
                    f'{part} {said}' for part, said in found.items())
                report.write(result, args.out)
        print(report.markdown(result))
        return 1 if len(result['refused']) > refused else 0
    return 130


if __name__ == '__main__':
    try:
        sys.exit(main())
    except WorkerError as error:
        sys.exit(f'compare.py: {error}')
