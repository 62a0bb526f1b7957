"""One job: both sides are started, shown to compute the same, and timed in pairs."""
import contextlib
import sys

import pairing
from workers import WorkerError

SCREENING_ROUNDS = 3
ATTEMPTS = 2


class Refused(Exception):
    """The sides do not compute the same thing."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def check(bench, ours, peer, label):
    """{quantity: distance}; Refused if one is too large."""
    mine, theirs = bench.folder / 'check-ours.npz', bench.folder / 'check-peer.npz'
    ours.ask('check', out=str(mine))
    peer.ask('check', out=str(theirs))
    found = ours.ask('agree', ours=str(mine), theirs=str(theirs))
    for quantity, (distance, tolerance) in found.items():
        if not distance <= tolerance:
            raise Refused(f'{label}: {quantity} differ by {distance:.1e} of their size, '
                          f'{tolerance:.0e} is allowed')
    return {quantity: distance for quantity, (distance, _) in found.items()}


def timer(worker, seconds):
    """A function that gives seconds per repeat, of shots of about `seconds`."""
    repeats = pairing.calibrate(lambda n: worker.ask('time', repeats=n), seconds)
    return lambda: worker.ask('time', repeats=repeats) / repeats


class Peers:
    """The workers of one opponent's variants, ready to be timed."""

    def __init__(self, bench, job, data, ours, stack):
        self.times, self.facts, self.agreed, self.failed = {}, {}, {}, {}
        for engine, variant in data:
            label = variant if engine == 'torch' else engine
            worker = stack.enter_context(bench.worker(engine, job.theirs))
            try:
                self.facts[label] = bench.prepare(worker, job, engine, variant, job.theirs)
                if engine != 'ours':
                    self.agreed[label] = check(bench, ours, worker, label)
                self.times[label] = timer(worker, bench.seconds)
            except WorkerError as error:  # a variant that its own engine cannot do
                say(f'  {label}: {error}')
                self.failed[label] = str(error)
        if not self.times:
            raise Refused(f'no variant works: {self.failed}')


def run_opponent(bench, job, opponent, variants):
    """A row of the report: ours against the best of the opponent's variants."""
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(bench.worker('ours', job.ours))
        bench.prepare(ours, job, 'ours', '', job.ours)
        peers = Peers(bench, job, variants, ours, stack)
        time_ours = timer(ours, bench.seconds)

        def measure():
            best, medians = next(iter(peers.times)), {}
            if len(peers.times) > 1:
                best, medians = pairing.fastest(peers.times, SCREENING_ROUNDS)
            return best, medians, pairing.alternate(time_ours, peers.times[best], bench.pairs)

        (best, medians, times), peak = pairing.until_steady(measure, bench.peaks, ATTEMPTS)
        images = bench.images(job)
        row = {'title': job.title, 'opponent': opponent, 'variant': best, 'peak': peak,
               'unit': 'images/s', 'ratio': pairing.summary([b / a for a, b in times]),
               'ours': pairing.summary([images / a for a, _ in times]),
               'peer': pairing.summary([images / b for _, b in times]),
               'variants': {name: images / median for name, median in medians.items()},
               'failed': peers.failed, 'agreement': peers.agreed, 'facts': peers.facts[best],
               'seconds': times}
        if job.task == 'accuracy':
            row['accuracy'] = ours.ask('accuracy')
        return row


def run_memory(bench, job, opponent, variants):
    """The same of memory: each measurement in a process of its own, no pairs to speak of."""
    def growth(engine, variant):
        with bench.worker(engine, {}) as worker:
            bench.prepare(worker, job, engine, variant, {})
            return worker.ask('memory', steps=2)

    with bench.worker('ours', {}) as ours, bench.worker(*variants[0][:1], {}) as peer:
        bench.prepare(ours, job, 'ours', '', {})
        bench.prepare(peer, job, *variants[0], {})
        agreed = {variants[0][1]: check(bench, ours, peer, variants[0][1])}
    rounds = min(bench.pairs, 3)
    ours = [growth('ours', '') for _ in range(rounds)]
    theirs = {variant: [growth(engine, variant) for _ in range(rounds)]
              for engine, variant in variants}
    mega = {name: [one['growth'] / 2**20 for one in found] for name, found in theirs.items()}
    best = min(mega, key=lambda name: min(mega[name]))
    mine = [one['growth'] / 2**20 for one in ours]
    return {'title': job.title, 'opponent': opponent, 'variant': best, 'unit': 'MiB',
            'ratio': pairing.summary([b / a for a, b in zip(mine, mega[best])]),
            'ours': pairing.summary(mine), 'peer': pairing.summary(mega[best]),
            'variants': {name: min(found) for name, found in mega.items()}, 'failed': {},
            'agreement': agreed, 'facts': {}, 'growth': {'ours': ours, **theirs}}
