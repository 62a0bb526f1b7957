"""Progress of long calls: a bar by tqdm where it is installed, a plain one otherwise, or the caller's
own function."""
import math
import sys
import time
from typing import Any, Callable, Optional, Union

Report = Callable[[str, int, int, float], Any]
Progress = Union[bool, Report, None]


def receiver(progress: Progress) -> Optional[Report]:
    """progress as a function (what, done, total, value); None for none. `value` is the job's figure
    so far, NaN while there is none. True is a bar on stderr."""
    if progress is None or progress is False:
        return None
    if progress is not True:
        if not callable(progress):
            raise TypeError(f'progress is {progress!r}, expected True, False or a function')
        return progress
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return PlainBar()
    return TqdmBar(tqdm)


def figure(value: float) -> str:
    return '' if math.isnan(value) else f'{value:.4g}'


class Bar:
    """What `progress=True` stands for. `guarded` closes it when the call ends."""

    def __call__(self, what: str, done: int, total: int, value: float) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class TqdmBar(Bar):
    """Bars by tqdm, one for each job."""

    def __init__(self, tqdm: Any) -> None:
        self.tqdm, self.bar, self.what = tqdm, None, ''

    def __call__(self, what: str, done: int, total: int, value: float) -> None:
        if self.bar is None or what != self.what:
            self.close()
            self.bar, self.what = self.tqdm(total=total, desc=what, leave=True), what
        bar: Any = self.bar
        bar.total = total
        bar.update(done - bar.n)
        if figure(value):
            bar.set_postfix_str(figure(value), refresh=False)
        if done >= total:
            self.close()

    def close(self) -> None:
        bar: Any = self.bar
        if bar is not None:
            bar.close()
        self.bar = None


class PlainBar(Bar):
    """A line on stderr, at most ten times a second; where that is no terminal, once a job."""

    WIDTH = 30

    def __init__(self) -> None:
        self.last, self.open, self.terminal = 0.0, False, sys.stderr.isatty()

    def __call__(self, what: str, done: int, total: int, value: float) -> None:
        now = time.monotonic()
        if done < total and (not self.terminal or now - self.last < 0.1):
            return
        self.last, self.open = now, done < total
        filled = self.WIDTH * done // max(total, 1)
        bar = '#' * filled + '.' * (self.WIDTH - filled)
        sys.stderr.write(f'\r{what} [{bar}] {done}/{total} {figure(value):8}' + '\n' * (done >= total))
        sys.stderr.flush()

    def close(self) -> None:
        if self.open:
            self.open = False
            sys.stderr.write('\n')
