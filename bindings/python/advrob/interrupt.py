"""Ctrl-C in long calls, and exceptions in callbacks: what must not get lost on the way through C.

A signal handler written in Python only runs between two bytecodes, so not while the main thread is
inside the library; and an exception that it raises while ctypes enters a callback is swallowed. So
during a long call on the main thread SIGINT's handler only takes a note, and the number that the
interpreter's C handler writes to its wakeup descriptor at once lets a small thread cancel the
context. The call then ends within a tile, and `guarded` raises what the handler would have raised.
"""
import os
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Callable, Optional, Type

from ._library import Handle, library
from .progress import Bar, Report

if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # what "signal" wraps: it makes enums of handlers, which takes long


class _State(threading.local):
    """What the calls of this thread share with their callbacks."""

    failure: Optional[BaseException] = None  # the first exception in a callback
    progress: Optional[Report] = None


state = _State()


def caught(function: Callable[..., Any], *arguments: Any) -> int:
    """Runs a callback's Python part: 0, or 1 with the exception kept for the end of the call."""
    try:
        function(*arguments)
        return 0
    except BaseException as error:  # KeyboardInterrupt and SystemExit too
        if state.failure is None:
            state.failure = error
        return 1


class guarded:
    """Around a long call, or one with callbacks, on `context`.

    with guarded(context, progress):
        library.advrob_attack_run(...)
    """

    def __init__(self, context: Handle, progress: Optional[Report] = None) -> None:
        self.context, self.progress = context, progress
        self.watch: Optional[_Watch] = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            if callable(signal.getsignal(signal.SIGINT)):
                self.watch = _Watch(self.context)
        self.before = state.failure, state.progress
        state.failure, state.progress = None, self.progress

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        failure = state.failure
        state.failure, state.progress = self.before
        if isinstance(self.progress, Bar):
            self.progress.close()
        if self.watch is not None:
            self.watch.end()
        if failure is not None:
            raise failure from None
        if self.watch is not None and self.watch.noted:
            frame, self.watch.frame = self.watch.frame, None  # no cycle
            self.watch.handler(signal.SIGINT, frame)
            raise KeyboardInterrupt from None


class _Watch:
    """SIGINT during one call on the main thread. A call within a callback has a watch of its own."""

    def __init__(self, context: Handle) -> None:
        self.context, self.noted, self.other = context, False, -1
        self.frame: Optional[FrameType] = None
        self.handler: Any = signal.getsignal(signal.SIGINT)
        self.listener = _Listener.of_process()
        self.outer, self.listener.watch = self.listener.watch, self
        signal.signal(signal.SIGINT, self.note)
        self.other = signal.set_wakeup_fd(self.listener.write, warn_on_full_buffer=False)
        if self.noted:  # before the descriptor was set
            library.advrob_context_cancel(self.context)

    def note(self, _number: int, frame: Optional[FrameType]) -> None:
        self.noted, self.frame = True, frame

    def heard(self, numbers: bytes) -> None:
        """On the listener's thread: cancels at SIGINT, hands other signals on to who listened before."""
        if signal.SIGINT in numbers:
            library.advrob_context_cancel(self.context)
        if self.other not in (-1, self.listener.write):
            try:
                os.write(self.other, numbers.replace(b'\0', b''))
            except OSError:
                pass  # full: who listens has enough to read

    def end(self) -> None:
        """Puts everything back, SIGINT's handler last: nothing interrupts the rest."""
        signal.set_wakeup_fd(self.other)
        signal.signal(signal.SIGINT, self.note)  # takes the note of a signal that just came
        if self.noted or self.other not in (-1, self.listener.write):
            self.listener.flush()
        self.listener.watch = self.outer
        if self.noted:
            library.advrob_context_rearm(self.context)
        signal.signal(signal.SIGINT, self.handler)


class _Listener:
    """The thread that reads the numbers of signals, and the pipe that they come through: one a
    process, from the first long call on. 0, which is no signal, marks a place in the pipe."""

    one: 'Optional[_Listener]' = None

    def __init__(self) -> None:
        self.watch: Optional[_Watch] = None
        self.flushed = threading.Event()
        self.read, self.write = os.pipe()
        os.set_blocking(self.write, False)
        threading.Thread(target=self.run, name='advrob-interrupt', daemon=True).start()

    @classmethod
    def of_process(cls) -> '_Listener':
        if cls.one is None:
            cls.one = cls()
        return cls.one

    @classmethod
    def forget(cls) -> None:
        """In a forked child, which has no such thread and must not write to its parent's."""
        if cls.one is not None and cls.one.watch is not None:
            signal.set_wakeup_fd(-1)
        cls.one = None

    def run(self) -> None:
        while True:
            numbers = os.read(self.read, 64)
            watch = self.watch
            if watch is not None:
                watch.heard(numbers)
            del watch  # and with it what the call held
            if 0 in numbers:
                self.flushed.set()

    def flush(self) -> None:
        """Returns when all that came so far has been heard."""
        self.flushed.clear()
        os.write(self.write, b'\0')
        self.flushed.wait()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_Listener.forget)
