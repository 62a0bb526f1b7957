"""Contexts: threads, seed, CPU level and memory of everything that is made in them."""
import contextvars
import os
from types import TracebackType
from typing import Any, List, Optional, Tuple, Type

from . import _prototypes
from ._library import Handle, expect, library, made
from .interrupt import caught, state
from .options import Options


def _tell_log(_user: Any, level: int, message: bytes) -> None:
    import logging  # messages are rare, and its import takes a third of this package's
    levels = {_prototypes.LOG_WARNING: logging.WARNING, _prototypes.LOG_DEBUG: logging.DEBUG}
    caught(logging.getLogger('advrob').log, levels.get(level, logging.INFO), '%s',
           message.decode('utf-8', 'replace'))


def _tell_progress(_user: Any, what: bytes, done: int, total: int, value: float) -> int:
    if state.failure is not None:
        return 1
    if state.progress is None:
        return 0
    return caught(state.progress, what.decode(), done, total, value)


# Set in every context, once: which thread wants to hear of its progress is known in `state`.
_on_log = _prototypes.advrob_log_fn(_tell_log)
_on_progress = _prototypes.advrob_progress_fn(_tell_progress)


class Context(Handle):
    """Memory, threads, seed and CPU level of the models, datasets, targets and calls made in it.

    with advrob.Context(threads=2, seed=1, cpu="avx2"):
        model = advrob.Model.build("tiny")       # lives on after the block

    Inside the `with` block it is the current one of this thread (or task); elsewhere a default
    context of the process serves. Options: advrob.options("context"). Calls on different objects
    may run in several threads with one context. Raises ValueError, or AdvrobError where the machine
    lacks the CPU level."""

    _destroy = library.advrob_context_destroy

    def __init__(self, **options: Any) -> None:
        with Options(options) as chosen:
            super().__init__(made(library.advrob_context_create, chosen))
        library.advrob_context_set_log(self, _on_log, None)
        library.advrob_context_set_progress(self, _on_progress, None)
        self._options = options
        self._tokens: List[contextvars.Token[Optional[Context]]] = []

    def __enter__(self) -> 'Context':
        self._tokens.append(_current.set(self))
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        _current.reset(self._tokens.pop())

    def cancel(self) -> None:
        """Stops running and coming calls with Cancelled, from any thread, until `rearm`."""
        library.advrob_context_cancel(self)

    def rearm(self) -> None:
        """Makes a cancelled context usable again."""
        library.advrob_context_rearm(self)

    @property
    def threads(self) -> int:
        """Threads of work."""
        return int(library.advrob_context_threads(self))

    @property
    def seed(self) -> int:
        return int(library.advrob_context_seed(self))

    @property
    def cpu(self) -> str:
        """The level of instructions in use: "avx2" or "portable"."""
        return str(library.advrob_context_cpu(self).decode())

    @property
    def memory(self) -> int:
        """Bytes that the library holds now."""
        return int(library.advrob_context_memory(self))

    @property
    def memory_peak(self) -> int:
        """Bytes that it held at most."""
        return int(library.advrob_context_memory_peak(self))

    def __reduce__(self) -> Tuple[Any, ...]:
        return _context_with, (self._options,)

    def __repr__(self) -> str:
        return f'Context(threads={self.threads}, seed={self.seed}, cpu={self.cpu!r})'


def _context_with(options: Any) -> Context:
    return Context(**options)


_current: 'contextvars.ContextVar[Optional[Context]]' = contextvars.ContextVar('advrob', default=None)
_default: List[Context] = []


def _forget_default() -> None:
    """After fork: the parent's context is refused in a child, which makes its own."""
    _default.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_forget_default)


def current(context: Optional[Context] = None) -> Context:
    """`context`, or that of the enclosing `with`, or the default of this process."""
    if context is not None:
        expect(context, Context, 'context')
        return context
    context = _current.get()
    if context is None:
        if not _default:
            _default.append(Context())
        context = _default[0]
    return context
