"""The result as Markdown; the JSON beside it has every time."""


def figure(value):
    return f'{value:,.0f}' if value >= 1000 else f'{value:.3g}'


def spread(summary, digits=2):
    return (f'{summary["median"]:.{digits}f} ({summary["quartiles"][0]:.{digits}f} - '
            f'{summary["quartiles"][1]:.{digits}f}; {summary["min"]:.{digits}f} - '
            f'{summary["max"]:.{digits}f})')


def peak_text(peak):
    text = ' / '.join(f'{before:.0f}, {after:.0f}'
                      for before, after in zip(peak['before'], peak['after']))
    return text if peak['steady'] else f'{text} **not steady**'


def row_text(row):
    peak = row.get('peak')
    against = f'{row["opponent"]}: {row["variant"]}' if row['variant'] else row['opponent']
    per_peak = ''
    if peak is not None:
        per_peak = figure(row['ours']['median'] / peak['before'][row['peak_index']])
    cells = [row['title'], against, spread(row['ratio']),
             f'{figure(row["ours"]["median"])} {row["unit"]}',
             f'{figure(row["peer"]["median"])} {row["unit"]}', per_peak,
             peak_text(peak) if peak else '']
    return '| ' + ' | '.join(cells) + ' |'


def details(row):
    """What else is worth knowing of a row, a line each."""
    lines = []
    if row['variants']:
        lines.append('variants, ' + row['unit'] + ': ' + ', '.join(
            f'{name} {figure(rate)}' for name, rate in row['variants'].items()))
    if row['failed']:
        lines.append('did not run: ' + '; '.join(f'{k}: {v}' for k, v in row['failed'].items()))
    for name, found in row['agreement'].items():
        lines.append(f'{name} agrees: ' + ', '.join(f'{k} {v:.0e}' for k, v in found.items()))
    for name, value in row['facts'].items():
        lines.append(f'{name}: {value}')
    for name in ('accuracy', 'scaling'):
        if name in row:
            lines.append(f'{name}: {row[name]:.3f}')
    for name, found in row.get('growth', {}).items():
        lines.append(f'{name}: growth ' + ', '.join(
            f'{one["growth"] / 2**20:.0f} MiB ({one["files"] / 2**20:.0f} of program files)'
            for one in found))
    return lines


def markdown(result):
    facts = result['machine']
    text = ['# libadvrob and its peers', '',
            f'{facts["date"]}, commit {facts["commit"]}, {result["threads"]} threads, '
            f'{result["pairs"]} pairs.', '',
            f'- CPU: {facts["cpu"]}, {facts["cores"]} cores; {facts["instructions"]}']
    text += [f'- {name}: {value}' for name, value in result['versions'].items()]
    text += ['', 'Ratio: how many times as fast as the peer libadvrob is (memory: how many times as '
             'much the peer takes); the median of the pairs (quartiles; ends). Peak: FMA in GFLOP/s '
             'before, after, on 1 / 2 threads.', '',
             '| work | against | ratio | ours | peer | ours per GFLOP/s of peak | peak |',
             '|---|---|---|---|---|---|---|']
    text += [row_text(row) for row in result['rows']]
    text += ['', '## Details', '']
    for row in result['rows']:
        text.append(f'- {row["title"]}; {row["opponent"]}')
        text += [f'  - {line}' for line in details(row)]
    for title, reason in result['refused']:
        text.append(f'- {title}: **refused**, {reason}')
    return '\n'.join(text) + '\n'
