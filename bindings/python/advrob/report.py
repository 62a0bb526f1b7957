"""Reports: rows of figures, and a page for people."""
import ctypes
import os
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from ._library import Handle, expect, library, made, path_bytes, scratch, text_bytes
from .arrays import address, as_images, doubles
from .context import Context, current
from .dataset import Data, Dataset, as_dataset
from .interrupt import guarded
from .model import Model
from .options import Options
from .progress import Progress, receiver
from .target import Attackable, Target, as_target


class Report(Handle):
    """Rows of named figures, and a page of plots, images and tables.

    report = advrob.Report(title="Pruned nets")
    report.add_row(model="pruned", accuracy=0.83)
    report.add_plot("Accuracy", "sparsity", "accuracy")
    report.add_series("pruned", [0, 0.5], [0.91, 0.88])
    report.save("report.html")        # .html: the page; .json, .csv: the rows
    """

    _destroy = library.advrob_report_destroy

    def __init__(self, title: Optional[str] = None, *, context: Optional[Context] = None,
                 **settings: Any) -> None:
        """`settings` of the whole run are shown at the end of the page."""
        self.context = current(context)
        super().__init__(made(library.advrob_report_create, self.context))
        self._columns: List[str] = []
        if title is not None:
            library.advrob_report_set_title(self, text_bytes(title, 'title'))
        self.set(**settings)

    # ---- Rows ----

    def set(self, **settings: Any) -> None:
        """Settings of the whole run: numbers or texts."""
        for name, value in settings.items():
            if isinstance(value, str):
                library.advrob_report_set_str(self, name.encode(), text_bytes(value, name))
            else:
                library.advrob_report_set_f64(self, name.encode(), float(value))

    def add_columns(self, *names: str) -> None:
        """Columns stand in the order in which they were added or first put."""
        for name in names:
            library.advrob_report_add_column(self, text_bytes(name, 'column'))

    def add_row(self, **cells: Any) -> None:
        """A new row with these cells."""
        library.advrob_report_add_row(self)
        self.put(**cells)

    def put(self, **cells: Any) -> None:
        """Cells of the last row: whole numbers, numbers or texts."""
        for name, value in cells.items():
            key = text_bytes(name, 'column')
            if isinstance(value, str):
                library.advrob_report_put_str(self, key, text_bytes(value, name))
            elif isinstance(value, (int, np.integer)):
                library.advrob_report_put_i64(self, key, int(value))
            else:
                library.advrob_report_put_f64(self, key, float(value))

    def __len__(self) -> int:
        """Number of rows."""
        return int(library.advrob_report_rows(self))

    def get(self, row: int, column: str) -> Union[float, str]:
        """A cell. Raises KeyError where there is none."""
        key, number, text = text_bytes(column, 'column'), ctypes.c_double(), ctypes.c_char_p()
        try:
            library.advrob_report_get_f64(self, row, key, ctypes.byref(number))
            return number.value
        except ValueError as error:
            if getattr(error, 'status', '') == 'E_UNKNOWN':
                raise KeyError(str(error)) from None
        library.advrob_report_get_str(self, row, key, ctypes.byref(text))
        return (text.value or b'').decode()

    @property
    def rows(self) -> List[Dict[str, Any]]:
        """A dictionary for each row; empty cells are left out."""
        with scratch() as folder:
            path = os.path.join(folder, 'rows.csv')
            self.save(path)
            import csv
            with open(path, newline='', encoding='utf-8') as file:
                columns = next(csv.reader(file), [])
        found = []
        for row in range(len(self)):
            cells = {}
            for column in columns:
                try:
                    cells[column] = self.get(row, column)
                except KeyError:
                    pass
            found.append(cells)
        return found

    def read_csv(self, path: 'str | os.PathLike[str]') -> None:
        """Appends the rows of a CSV file that `save` wrote."""
        library.advrob_report_read_csv(self, path_bytes(path))

    def save(self, path: 'str | os.PathLike[str]') -> None:
        """Writes the report, by the ending: .html, .json or .csv. Raises OSError, AdvrobError."""
        library.advrob_report_write(self, path_bytes(path))

    def save_plots(self, path: 'str | os.PathLike[str]') -> None:
        """Every point of every plot as CSV."""
        library.advrob_report_write_plots(self, path_bytes(path))

    # ---- What puts figures into it ----

    def evaluate(self, target: Attackable, test: Data, *, progress: Progress = None,
                 **chosen: Any) -> None:
        """Puts the accuracies into the last row; options: advrob.options("evaluation")."""
        self._measure(library.advrob_report_evaluate, target, test, progress, chosen)

    def curve(self, target: Attackable, test: Data, *, progress: Progress = None,
              **chosen: Any) -> None:
        """Adds a row for each epsilon; options: advrob.options("curve")."""
        self._measure(library.advrob_report_curve, target, test, progress, chosen)

    def check(self, target: Attackable, test: Data, *, progress: Progress = None,
              **chosen: Any) -> None:
        """Puts into the last row whether an accuracy under attack can be believed: "verdict" and
        "reasons"; options: advrob.options("check")."""
        self._measure(library.advrob_report_check, target, test, progress, chosen)

    def _measure(self, function: Any, target: Attackable, test: Data, progress: Progress,
                 chosen: Dict[str, Any]) -> None:
        goal, data = prepared(target, test)
        with Options(chosen) as settings, guarded(goal.context, receiver(progress)):
            function(self, goal, data, settings)

    def profile(self, model: Model, **chosen: Any) -> None:
        """Adds a row for each layer and pass; options: advrob.options("profile")."""
        expect(model, Model, 'model')
        with Options(chosen) as settings, guarded(model.context):
            library.advrob_report_profile(self, model, settings)

    def quantization(self, model: Model, quantized: Model, data: Data, **chosen: Any) -> None:
        """Adds a row for each layer: what quantization did to it; options:
        advrob.options("quantization")."""
        expect(model, Model, 'model')
        expect(quantized, Model, 'quantized')
        images = as_dataset(data, model.context, model.classes)
        with Options(chosen) as settings, guarded(model.context):
            library.advrob_report_quantization(self, model, quantized, images, settings)

    # ---- The page ----

    def set_title(self, title: str) -> None:
        library.advrob_report_set_title(self, text_bytes(title, 'title'))

    def add_figure(self, value: str, label: str) -> None:
        """A large figure on top ("68.3 %") with what it means."""
        library.advrob_report_add_figure(self, text_bytes(value, 'value'), text_bytes(label, 'label'))

    def add_heading(self, text: str) -> None:
        library.advrob_report_add_heading(self, text_bytes(text, 'text'))

    def add_text(self, text: str) -> None:
        """A paragraph."""
        library.advrob_report_add_text(self, text_bytes(text, 'text'))

    def add_plot(self, title: str, x_name: str, y_name: str, **chosen: Any) -> None:
        """A plot without series; options: advrob.options("report", "plot")."""
        with Options(chosen) as settings:
            library.advrob_report_add_plot(self, text_bytes(title, 'title'),
                                           text_bytes(x_name, 'x_name'),
                                           text_bytes(y_name, 'y_name'), settings)

    def add_series(self, name: str, x: Any, y: Any, low: Any = None, high: Any = None,
                   **chosen: Any) -> None:
        """A series of the last plot; low and high are the ends of error bars, NaN is a gap. Options:
        advrob.options("report", "series")."""
        x = doubles(x, 'x')
        y, low, high = (None if values is None else doubles(values, what, len(x))
                        for values, what in ((y, 'y'), (low, 'low'), (high, 'high')))
        if isinstance(chosen.get('labels'), (list, tuple)):
            chosen['labels'] = '\n'.join(chosen['labels'])
        pointers = [None if values is None else address(values) for values in (x, y, low, high)]
        with Options(chosen) as settings:
            library.advrob_report_add_series(self, text_bytes(name, 'name'), len(x), *pointers,
                                             settings)

    def add_images(self, title: str, x: Any, row_names: Optional[Sequence[str]] = None,
                   captions: Optional[Sequence[str]] = None) -> None:
        """A grid of small images: x [rows, columns, channels, height, width] in [0, 1] or bytes.
        captions: one an image, row by row."""
        x = as_images(x)
        x = np.ascontiguousarray(x / np.float32(255) if x.dtype == np.uint8 else x, np.float32)
        if x.ndim != 5:
            raise ValueError(f'x has shape {list(x.shape)}, expected [rows, columns, channels, height, '
                             f'width]')
        shape = (ctypes.c_int32 * 3)(*x.shape[2:])
        names, texts = (None if lines is None else text_bytes('\n'.join(lines), what)
                        for lines, what in ((row_names, 'row_names'), (captions, 'captions')))
        library.advrob_report_add_images(self, text_bytes(title, 'title'), x.shape[0], x.shape[1],
                                         shape, address(x), names, texts)

    def add_table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]],
                  shade: Optional[Tuple[float, float]] = None) -> None:
        """A table. `shade`: a heat map, from no colour at its first number to the strongest at its
        second."""
        library.advrob_report_add_table(self, text_bytes(title, 'title'),
                                        text_bytes('\n'.join(columns), 'columns'))
        for row in rows:
            cells = '\n'.join(str(cell) for cell in row)
            library.advrob_report_add_table_row(self, text_bytes(cells, 'cells'))
        if shade is not None:
            library.advrob_report_shade_table(self, float(shade[0]), float(shade[1]))

    def __repr__(self) -> str:
        return f'Report({len(self)} rows)'

    def _repr_html_(self) -> str:
        from .notebook import frame
        with scratch() as folder:
            path = os.path.join(folder, 'report.html')
            self.save(path)
            with open(path, encoding='utf-8') as file:
                return frame(file.read())


def prepared(target: Attackable, test: Data) -> Tuple[Target, Dataset]:
    """A target and a dataset for it."""
    goal = as_target(target)
    data = as_dataset(test, goal.context, goal.classes)
    goal.bind(data.shape)
    return goal, data
