"""Training and fine-tuning, clean or adversarial."""
import ctypes
from typing import Any, Dict, List, Optional

import numpy as np

from ._library import Handle, expect, library, made, text_bytes
from .arrays import DoubleArray
from .context import Context
from .dataset import Data, as_dataset
from .interrupt import guarded
from .model import Model
from .options import Options
from .progress import Progress, receiver


class History(Handle):
    """What a run did, a row for each epoch.

    history["loss"]          # [epochs]
    history.ended            # "finished", "budget", "patience" or "alarm"
    """

    COLUMNS = ('epoch', 'steps', 'lr', 'loss', 'accuracy', 'valid_accuracy', 'valid_robust_accuracy',
               'fgsm_accuracy', 'pgd_accuracy', 'seconds', 'cpu_seconds')
    _destroy = library.advrob_history_destroy

    def __len__(self) -> int:
        return int(library.advrob_history_rows(self))

    def __getitem__(self, column: str) -> DoubleArray:
        """A column, one value an epoch; NaN where it was not measured. Names: History.COLUMNS."""
        if column not in self.COLUMNS:
            raise KeyError(f'{column!r}, expected one of {", ".join(self.COLUMNS)}')
        return np.array([self._cell(row, column) for row in range(len(self))], np.float64)

    def _cell(self, row: int, column: str) -> float:
        value = ctypes.c_double()
        library.advrob_history_get(self, row, column.encode(), ctypes.byref(value))
        return value.value

    @property
    def rows(self) -> List[Dict[str, float]]:
        """A dictionary for each epoch."""
        return [{name: self._cell(row, name) for name in self.COLUMNS} for row in range(len(self))]

    def _text(self, name: str) -> str:
        text = ctypes.c_char_p()
        library.advrob_history_get_str(self, name.encode(), ctypes.byref(text))
        return (text.value or b'').decode()

    @property
    def ended(self) -> str:
        """Why the run ended: "finished", "budget", "patience" or "alarm"."""
        return self._text('ended')

    @property
    def alarm(self) -> str:
        """What the alarm for catastrophic overfitting said; empty: nothing."""
        return self._text('alarm')

    def __repr__(self) -> str:
        return f'History({len(self)} epochs, {self.ended})'

    def _repr_html_(self) -> str:
        from .notebook import table
        shown = [name for name in self.COLUMNS if not np.isnan(self[name]).all()]
        return table(repr(self), shown, [[f'{row[name]:.4g}' for name in shown] for row in self.rows])


class _Finetune(Handle):
    _destroy = library.advrob_finetune_destroy

    def __init__(self, method: str, context: Context, options: Any) -> None:
        with Options(options) as chosen:
            super().__init__(made(library.advrob_finetune_create, context,
                                  text_bytes(method, 'method'), chosen))


def finetune(method: str, model: Model, train: Data, valid: Optional[Data] = None, *,
             progress: Progress = None, **options: Any) -> History:
    """Trains `model` in place.

    history = advrob.finetune("pgd_at", model, (x, y), epochs=3, lr=0.01, momentum=0.9,
                              batch_size=64, attack=dict(epsilon=0.05, steps=20), progress=True)

    `method`: advrob.components("finetune"), "standard" or "pgd_at"; every option of
    advrob.options("finetune", method) is a keyword, those with a dot as a dictionary or by
    **{"attack.epsilon": 0.05}. `train`, `valid`: a pair (x, y) or a Dataset; with `valid` the model
    ends as its best epoch there. Ctrl-C leaves the model as the last whole step made it; with
    checkpoint="run" the same call goes on there. Raises ValueError, AdvrobError ("E_BUSY": a target
    on the model lives), OSError."""
    expect(model, Model, 'model')
    run = _Finetune(method, model.context, options)
    images = as_dataset(train, model.context, model.classes)
    checked = None if valid is None else as_dataset(valid, model.context, model.classes)
    with guarded(model.context, receiver(progress)):
        return History(made(library.advrob_finetune_run, run, model, images, checked))
