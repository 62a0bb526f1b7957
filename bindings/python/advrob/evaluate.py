"""Evaluation: accuracies clean and under attack, by epsilon, whether they can be believed; and what
quantization did."""
import os
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple, Union

import numpy as np

from ._library import scratch
from .arrays import AnyArray
from .dataset import Data
from .model import Model
from .options import component_of, options
from .progress import Progress
from .report import Report, prepared
from .target import Attackable

Component = Union[str, Tuple[str, Dict[str, Any]]]

SAMPLE = np.dtype([('label', np.int32), ('clean_prediction', np.int32), ('prediction', np.int32),
                   ('clean_loss', np.float64), ('loss', np.float64), ('linf', np.float64),
                   ('l2', np.float64), ('attack', 'U64'), ('robust', np.bool_)])


class Evaluation:
    """Accuracies of a target, clean and under attack.

    clean, robust     shares of images that are right, and that withstand every attack
    attacks           the share that withstands each attack, by label
    row               all figures, with 95 % intervals ("clean_low", "pgd_high"), passes and so on
    per_sample        [n] of label, clean_prediction, prediction, loss, linf, l2, attack (which it fell
                      to), robust
    report            the Report, whose page `save` writes
    """

    def __init__(self, report: Report, labels: List[str], per_sample: AnyArray) -> None:
        self.report, self.per_sample = report, per_sample
        self.row: Dict[str, Any] = report.rows[-1]
        self.clean = float(self.row['clean_accuracy'])
        self.attacks = {label: float(self.row[f'{label}_accuracy']) for label in labels}
        self.robust = float(self.row.get('worst_accuracy', min(self.attacks.values(),
                                                               default=self.clean)))

    def save(self, path: 'str | os.PathLike[str]') -> None:
        """Writes the report, by the ending: .html, .json or .csv."""
        self.report.save(path)

    def __repr__(self) -> str:
        return (f'Evaluation(clean={self.clean:.4g}, robust={self.robust:.4g}, '
                f'{len(self.per_sample)} images)')

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def evaluate(target: Attackable, x: Any, y: Any = None, *, attacks: Sequence[Component] = (),
             progress: Progress = None, title: Optional[str] = None, **chosen: Any) -> Evaluation:
    """Accuracies of a target on images x with labels y (or a Dataset), clean and under `attacks`.

    result = advrob.evaluate(engine, x, y, attacks=["autoattack_lite"], epsilon=8/255)
    result.clean, result.robust, result.save("report.html")

    An attack is a name or (name, options). Keywords that are options of the evaluation
    (advrob.options("evaluation")) go there, all others to each attack that has them. Only images that
    are right when clean are attacked."""
    own = {option.name for option in options('evaluation')}
    shared = {name: value for name, value in chosen.items() if name not in own}
    members = spread(attacks, shared)
    settings: Dict[str, Any] = {name: value for name, value in chosen.items() if name in own}
    goal, data = prepared(target, x if y is None else (x, y))
    report = Report(title or 'Evaluation', context=goal.context)
    report.add_row()
    with scratch() as folder:
        records = os.fspath(settings.setdefault('records', os.path.join(folder, 'records.csv')))
        report.evaluate(goal, data, progress=progress, attacks=members or None, **settings)
        samples = read_records(records, len(data))
    given = settings.get('labels')
    labels = given.split(',') if given else [name for name, _ in members]
    result = Evaluation(report, labels, samples)
    add_page(result)
    return result


def spread(attacks: Sequence[Component], shared: Dict[str, Any]) -> List[Tuple[str, Dict[str, Any]]]:
    """Each attack with those of the shared options that it has. Raises ValueError for an option that
    none has."""
    if isinstance(attacks, str):
        raise TypeError(f'attacks is {attacks!r}, expected a list: [{attacks!r}]')
    members: List[Tuple[str, Dict[str, Any]]] = []
    used: Set[str] = set()
    for name, values in map(component_of, attacks):
        known = {option.name for option in options('attack', name)}
        taken = {key: value for key, value in shared.items() if key in known}
        used.update(taken)
        members.append((name, {**taken, **values}))
    left = sorted(set(shared) - used)
    if left:
        raise ValueError(f'option "{left[0]}" is known neither to the evaluation nor to an attack of '
                         f'{[name for name, _ in members]}')
    return members


def read_records(path: str, n: int) -> AnyArray:
    """The evaluation's file of images as an array."""
    import csv
    samples = np.zeros(n, SAMPLE)
    with open(path, newline='', encoding='utf-8') as file:
        for sample, row in zip(samples, csv.DictReader(file)):
            for name in ('label', 'clean_prediction', 'prediction'):
                sample[name] = int(row[name] or row['clean_prediction'])
            for name in ('clean_loss', 'loss', 'linf', 'l2'):
                sample[name] = float(row[name] or 'nan')
            right = row['clean_prediction'] == row['label']
            fell = bool(row['step']) or not right
            sample['robust'], sample['attack'] = not fell, row['attack'] if right and fell else ''
    return samples


def add_page(result: Evaluation) -> None:
    """Large figures and a plot of the accuracies."""
    report, row = result.report, result.row
    report.add_figure(f'{100 * result.clean:.1f} %', 'of the images right')
    if not result.attacks:
        return
    report.add_figure(f'{100 * result.robust:.1f} %', 'right under every attack')
    names = ['clean', *result.attacks]
    values = [row[f'{name}_accuracy'] for name in names]
    low, high = ([row.get(f'{name}_{end}', np.nan) for name in names] for end in ('low', 'high'))
    report.add_plot('Accuracy', 'attack', 'accuracy', x_scale='category', y_low=0, y_high=1, percent_y=1,
                    note='bars: 95 % intervals')
    report.add_series('accuracy', range(len(names)), values, low, high, labels=names, style='points')


def curve(target: Attackable, x: Any, y: Any = None, *, progress: Progress = None,
          **chosen: Any) -> List[Dict[str, Any]]:
    """Accuracy by epsilon, a dictionary for each: advrob.curve(model, x, y, epsilons=[0.01, 0.02],
    attacks=["pgd"]). Options: advrob.options("curve")."""
    goal, data = prepared(target, x if y is None else (x, y))
    report = Report(context=goal.context)
    report.curve(goal, data, progress=progress, **chosen)
    return report.rows


def check(target: Attackable, x: Any, y: Any = None, *, progress: Progress = None,
          **chosen: Any) -> Dict[str, Any]:
    """Can an accuracy under attack be believed? "verdict" is "reliable" or "unreliable", "reasons"
    says why; the other figures: docs/evaluation.md. Options: advrob.options("check")."""
    goal, data = prepared(target, x if y is None else (x, y))
    report = Report(context=goal.context)
    report.add_row()
    report.check(goal, data, progress=progress, **chosen)
    return report.rows[0]


def quantization(model: Model, quantized: Model, data: Data, **chosen: Any) -> List[Dict[str, Any]]:
    """What quantization did to each layer of `model` on images `data`, a dictionary for each: signal to
    noise ratios, clipped shares, scales. Options: advrob.options("quantization")."""
    report = Report(context=model.context)
    report.quantization(model, quantized, data, **chosen)
    return report.rows
