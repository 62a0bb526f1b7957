"""Times in pairs, and what may be said of them. Nothing here knows what is timed."""
import statistics

PEAKS_MAY_DIFFER = 0.05  # the FMA peaks before and after what is timed, of the larger one
FOREIGN_LOAD = 0.05      # what others may take of the CPUs that we use meanwhile


def shot(time, seconds, most=100000):
    """(seconds per repeat, repeats) of one shot of time(repeats) that lasts about `seconds`. The
    first, cold run does not count, and a shot of less than half the time is only a warm-up."""
    time(1)
    repeats = 1
    while True:
        spent = time(repeats)
        if spent >= 0.5 * seconds or repeats >= most:
            return spent / repeats, repeats
        growth = min(10, seconds / max(spent, 1e-9))
        repeats = min(most, max(repeats + 1, round(repeats * growth)))


def alternate(sides, pairs):
    """{name: times} of `pairs` rounds through sides, {name: function that gives a time}. The order
    turns round from one to the next, so that a slow drift of the machine favours nobody."""
    times = {name: [] for name in sides}
    for i in range(pairs):
        for name in list(sides) if i % 2 == 0 else reversed(sides):
            times[name].append(sides[name]())
    return times


def fastest(times, most):
    """The names of the `most` lowest times, the lowest first."""
    return sorted(times, key=times.get)[:most]


def ratios(ours, peer):
    """How many times as long as we the peer took, by pairs."""
    return [b / a for a, b in zip(ours, peer, strict=True)]


def best_peer(times, ours):
    """The peer whose median ratio is the lowest: one and the same for all pairs."""
    peers = [name for name in times if name != ours]
    return min(peers, key=lambda name: statistics.median(ratios(times[ours], times[name])))


def summary(values):
    """Median, quartiles and ends."""
    ordered = sorted(values)
    if len(ordered) > 1:
        low, _, high = statistics.quantiles(ordered, n=4, method='inclusive')
    else:
        low = high = ordered[0]
    return {'median': statistics.median(ordered), 'quartiles': [low, high],
            'min': ordered[0], 'max': ordered[-1]}


def same_peaks(before, after):
    """Whether two lists of peaks (by threads) agree."""
    return all(abs(a - b) <= PEAKS_MAY_DIFFER * max(a, b)
               for a, b in zip(before, after, strict=True))


def until_steady(measure, peak, foreign, attempts):
    """measure(), and again while the machine is disturbed; the result of the last attempt, and what
    is known of the machine meanwhile. peak() gives FMA peaks by threads; foreign() a moment and the
    seconds that others have worked till then, both for each CPU that we use."""
    for attempt in range(1, attempts + 1):
        before = peak()
        begin, others_begin = foreign()
        result = measure()
        end, others_end = foreign()
        after = peak()
        load = max(0.0, (others_end - others_begin) / (end - begin))
        steady = same_peaks(before, after) and load <= FOREIGN_LOAD
        if steady or attempt == attempts:
            return result, {'before': before, 'after': after, 'foreign': load, 'steady': steady,
                            'attempts': attempt}
    raise ValueError('attempts must be 1 or more')
