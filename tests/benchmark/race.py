"""One job: both sides are started, shown to compute the same, and timed in pairs."""
import contextlib
import statistics
import sys

import machine
import pairing
from workers import WorkerError

SCREENING = 2.0  # seconds of the one shot that each variant gets before the pairs
FINALISTS = 2    # so many variants go into the pairs
ATTEMPTS = 2
OURS = 'libadvrob'
# Skipping stops at the first step that fools an image, which without it may be right again at the end.
VERDICTS_MAY_DIFFER = 0.005


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


def rate_of(worker, seconds):
    """Seconds per repeat, of one shot."""
    return pairing.shot(lambda n: worker.ask('time', repeats=n), seconds)[0]


def timer(worker, repeat, seconds):
    """A function that gives seconds per repeat, of shots of about `seconds`."""
    repeats = max(1, round(seconds / repeat))
    return lambda: worker.ask('time', repeats=repeats) / repeats


class Peers:
    """The workers of one opponent's variants, ready to be timed."""

    def __init__(self, bench, job, variants, ours, stack):
        self.workers, self.facts, self.agreed, self.failed = {}, {}, {}, {}
        for engine, variant in variants:
            label = variant or engine
            worker = stack.enter_context(bench.worker(engine, job.theirs))
            try:
                self.facts[label] = bench.prepare(worker, job, engine, variant, job.theirs)
                if engine != 'ours':
                    self.agreed[label] = check(bench, ours, worker, label)
                self.workers[label] = worker
            except WorkerError as error:  # a variant that its own engine cannot do
                say(f'  {label}: {error}')
                self.failed[label] = str(error)
                worker.close()
        if not self.workers:
            raise Refused(f'no variant works: {self.failed}')

    def screen(self):
        """{variant: seconds per repeat} by a shot each."""
        return {label: rate_of(worker, SCREENING) for label, worker in self.workers.items()}


def run_opponent(bench, job, opponent, variants):
    """A row of the report: ours against the best of the opponent's variants."""
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(bench.worker('ours', job.ours))
        bench.prepare(ours, job, 'ours', '', job.ours)
        peers = Peers(bench, job, variants, ours, stack)
        workers = [ours, *peers.workers.values()]

        def foreign():
            return machine.foreign([worker.process.pid for worker in workers], bench.threads)

        choice = len(peers.workers) > 1
        screened, screening = pairing.until_steady(peers.screen, bench.peaks, foreign,
                                                   ATTEMPTS if choice else 1)
        first, *second = pairing.fastest(screened, FINALISTS)
        sides = {label: timer(peers.workers[label], screened[label], bench.seconds)
                 for label in (first, *second)}
        # We come first of two and between two: next to each of them.
        mine = timer(ours, rate_of(ours, bench.seconds), bench.seconds)
        sides = {**{label: sides[label] for label in second}, OURS: mine, first: sides[first]}

        times, peak = pairing.until_steady(lambda: pairing.alternate(sides, bench.pairs),
                                           bench.peaks, foreign, ATTEMPTS)
        if choice:  # what was screened while others worked may be the wrong two
            peak['steady'] = peak['steady'] and screening['steady']
        best = pairing.best_peer(times, OURS)
        images = bench.images(job)
        row = {'title': job.title, 'opponent': opponent, 'variant': best, 'peak': peak,
               'unit': 'images/s',
               'ratio': pairing.summary(pairing.ratios(times[OURS], times[best])),
               'ours': pairing.summary([images / a for a in times[OURS]]),
               'peer': pairing.summary([images / b for b in times[best]]),
               'variants': {name: images / repeat for name, repeat in screened.items()}
               if choice else {}, 'screening': screening,
               'finalists': {name: images / statistics.median(times[name])
                             for name in times if choice and name != OURS},
               'failed': peers.failed, 'agreement': peers.agreed, 'facts': peers.facts[best],
               'seconds': times}
        if job.task == 'accuracy':
            row['accuracy'] = same_verdicts(ours.ask('accuracy'),
                                            peers.workers[best].ask('accuracy'))
        return row


def same_verdicts(skipping, whole):
    """Both shares of right answers; Refused unless skipping found the same."""
    if not 0 <= whole - skipping <= VERDICTS_MAY_DIFFER:
        raise Refused(f'robust accuracy {skipping:.4f} with early_stop=1, {whole:.4f} with 0')
    return {'with early_stop=1': skipping, 'with 0': whole}


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
