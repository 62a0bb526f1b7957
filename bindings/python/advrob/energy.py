"""Energy: what the processor's packages took, from Linux's powercap counters."""
import ctypes
import os
from typing import Optional

from ._library import Handle, library, made, path_bytes
from .context import Context, current


class Energy(Handle):
    """A meter of the whole machine: measure on an idle one.

    meter = advrob.Energy()
    ...
    print(meter.joules(), 'J')

    Raises AdvrobError ("E_UNSUPPORTED") where there is no counter that may be read; most systems let
    only root."""

    _destroy = library.advrob_energy_close

    def __init__(self, root: 'str | os.PathLike[str] | None' = None, *,
                 context: Optional[Context] = None) -> None:
        folder = None if root is None else path_bytes(root)
        super().__init__(made(library.advrob_energy_open, current(context), folder))

    def joules(self) -> float:
        """Joules since the meter was made. Read at least once in ten minutes, for counters wrap."""
        value = ctypes.c_double()
        library.advrob_energy_read(self, ctypes.byref(value))
        return value.value
