"""The result as Markdown; the JSON beside it has every time."""
import json


def figure(value):
    return f'{value:,.0f}' if value >= 1000 else f'{value:.3g}'


def spread(summary, digits=2):
    return (f'{summary["median"]:.{digits}f} ({summary["quartiles"][0]:.{digits}f} - '
            f'{summary["quartiles"][1]:.{digits}f}; {summary["min"]:.{digits}f} - '
            f'{summary["max"]:.{digits}f})')


BELOW = 0.9  # of an expected figure: what is less is marked


def middle(peak, index):
    """The peak on index + 1 threads, of before and after."""
    return (peak['before'][index] + peak['after'][index]) / 2


def peak_ratio(row):
    """How many times one thread's peak all threads have, by the mean of before and after."""
    peak, index = row['peak'], row['peak_index']
    return sum(found[index] / found[0] for found in (peak['before'], peak['after'])) / 2


def peak_text(peak):
    text = '; '.join(f'{threads}: {before:.0f}, {after:.0f}' for threads, (before, after)
                     in enumerate(zip(peak['before'], peak['after']), 1))
    return text if peak['steady'] else f'{text} **not steady**'


def row_text(row):
    peak = row.get('peak')
    against = row['opponent']
    if row['variant'] not in ('', 'ours', against.lower()):
        against += f': {row["variant"]}'
    if row.get('uncapped'):
        against += f' (uncapped: {row["uncapped"]})'
    per_peak = ''
    if peak is not None:
        per_peak = figure(row['ours']['median'] / middle(peak, row['peak_index']))
    cells = [row['title'], against, spread(row['ratio']),
             f'{figure(row["ours"]["median"])} {row["unit"]}',
             f'{figure(row["peer"]["median"])} {row["unit"]}', per_peak,
             peak_text(peak) if peak else '', f'{row["date"]} ({row["run"]})']
    return '| ' + ' | '.join(cells) + ' |'


def against_expected(row):
    """PyTorch's figure for each GFLOP/s, next to that of another machine."""
    found = row['peer']['median'] / middle(row['peak'], 1)
    text = (f'PyTorch for each GFLOP/s of the peak on 2 threads: {found:.3f} {row["unit"]}, '
            f'{row["expected"]:.3f} expected')
    if found < BELOW * row['expected']:
        text += f': **{1 - found / row["expected"]:.0%} below**'
    return text


def rates(row, name):
    return f'{name}, {row["unit"]}: ' + ', '.join(
        f'{label} {figure(rate)}' for label, rate in row[name].items())


def machine_text(row):
    peak, screening = row['peak'], row['screening']
    text = f'others took {peak["foreign"]:.1%} of the CPUs during the pairs'
    if row['variants']:
        text += (f', {screening["foreign"]:.1%} while variants were screened'
                 f'{"" if screening["steady"] else " (**not steady**)"}')
    return f'{text}; attempts: {peak["attempts"]}'


def details(row):
    """What else is worth knowing of a row, a line each."""
    lines = [rates(row, name) for name in ('variants', 'finalists') if row.get(name)]
    if 'expected' in row:
        lines.append(against_expected(row))
    if 'peak' in row:
        lines.append(machine_text(row))
    if row['failed']:
        lines.append('did not run: ' + '; '.join(f'{k}: {v}' for k, v in row['failed'].items()))
    for name, found in row['agreement'].items():
        lines.append(f'{name} agrees: ' + ', '.join(f'{k} {v:.0e}' for k, v in found.items()))
    for name, value in row['facts'].items():
        lines.append(f'{name}: {value}')
    if 'accuracy' in row:
        lines.append('robust accuracy ' + ', '.join(f'{k}: {v:.4f}'
                                                    for k, v in row['accuracy'].items()))
    if 'scaling' in row:
        lines.append(f'scaling: {row["scaling"]:.3f}')
    for name, found in row.get('growth', {}).items():
        lines.append(f'{name}: growth ' + ', '.join(
            f'{one["growth"] / 2**20:.0f} MiB ({one["files"] / 2**20:.0f} of program files)'
            for one in found))
    return lines


def run_text(number, run):
    facts = run['machine']
    versions = ''.join(f'; {name} {value}' for name, value in run['versions'].items())
    return (f'- Run {number}: {run["date"]} UTC, commit {facts["commit"]}, {run["threads"]} threads, '
            f'{run["pairs"]} pairs, {"held to AVX2" if run["capped"] else "uncapped"}'
            f'{", CPU seconds" if run.get("clock") == "cpu" else ""}; '
            f'{facts["cpu"]}, {facts["cores"]} cores, {facts["instructions"]}{versions}')


def markdown(result):
    text = ['# libadvrob and its peers', '']
    text += [run_text(number, run) for number, run in enumerate(result['runs'], 1)]
    text += ['', 'Ratio: how many times as fast as the peer libadvrob is (memory: how many times as '
             'much the peer takes); the median of the pairs (quartiles; ends). Peak: FMA in GFLOP/s '
             'by threads, before and after. Date: UTC (run).', '',
             '| work | against | ratio | ours | peer | ours per GFLOP/s of peak | peak | date |',
             '|---|---|---|---|---|---|---|---|']
    text += [row_text(row) for row in result['rows']]
    text += ['', '## Details', '']
    for row in result['rows']:
        text.append(f'- {row["title"]}; {row["opponent"]}; {row["date"]}')
        text += [f'  - {line}' for line in details(row)]
    for one in result['refused']:
        text.append(f'- {one["row"]}; {one["date"]}: **refused**, {one["reason"]}')
    return '\n'.join(text) + '\n'


def empty():
    """A result: what each run had in common, and the rows of all runs."""
    return {'runs': [], 'rows': [], 'refused': []}


def earlier(out):
    """What write() left there."""
    path = out.with_suffix('.json')
    return json.loads(path.read_text(encoding='utf-8')) if path.exists() else empty()


def write(result, out):
    """After each workload, so that a run that is cut short has what it measured."""
    out.with_suffix('.json').write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    out.with_suffix('.md').write_text(markdown(result), encoding='utf-8')
