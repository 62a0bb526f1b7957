"""Times in pairs, and what may be said of them. Nothing here knows what is timed."""
import statistics

STEADY = 0.05  # by how much the FMA peak may differ before and after a workload


def calibrate(time, seconds, most=100000):
    """How many repeats of time(repeats) last about `seconds`; the first, cold one does not count."""
    time(1)
    repeats = 1
    while True:
        spent = time(repeats)
        if spent >= 0.5 * seconds or repeats >= most:
            return max(1, min(most, round(repeats * seconds / max(spent, 1e-9))))
        repeats = min(most, repeats * 4)


def alternate(ours, peer, pairs):
    """[(our time, the peer's)]; who goes first changes from pair to pair, so that a slow drift of
    the machine favours nobody."""
    times = []
    for i in range(pairs):
        if i % 2 == 0:
            a = ours()
            b = peer()
        else:
            b = peer()
            a = ours()
        times.append((a, b))
    return times


def fastest(candidates, rounds):
    """candidates: {name: function that gives a time}. The name with the lowest median over
    `rounds` alternating rounds, and all medians."""
    times = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, time in candidates.items():
            times[name].append(time())
    medians = {name: statistics.median(values) for name, values in times.items()}
    return min(medians, key=medians.get), medians


def summary(values):
    """Median, quartiles and ends."""
    ordered = sorted(values)
    if len(ordered) > 1:
        low, _, high = statistics.quantiles(ordered, n=4, method='inclusive')
    else:
        low = high = ordered[0]
    return {'median': statistics.median(ordered), 'quartiles': [low, high],
            'min': ordered[0], 'max': ordered[-1]}


def is_steady(before, after):
    """Whether two lists of peaks (by threads) agree."""
    return all(abs(a - b) <= STEADY * max(a, b) for a, b in zip(before, after))


def until_steady(measure, peak, attempts):
    """measure() between two peaks, again when they differ; the result of the last attempt, with
    its peaks and whether the machine was steady."""
    for attempt in range(1, attempts + 1):
        before = peak()
        result = measure()
        after = peak()
        steady = is_steady(before, after)
        if steady or attempt == attempts:
            return result, {'before': before, 'after': after, 'steady': steady,
                            'attempts': attempt}
    raise ValueError('attempts must be 1 or more')
