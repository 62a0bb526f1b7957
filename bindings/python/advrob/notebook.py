"""How objects look in a notebook."""
import html
import re
from typing import Sequence


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = ''.join(f'<th>{html.escape(name)}</th>' for name in columns)
    body = ''.join('<tr>' + ''.join(f'<td>{html.escape(cell)}</td>' for cell in row) + '</tr>'
                   for row in rows)
    return f'<p>{html.escape(title)}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


NODE = re.compile(r'(\S+) +(\S+) +(.*?) +(\d+ x \d+ x \d+) +(\d+) +(\d+) *(.*)')


def table_of_nodes(title: str, text: str) -> str:
    """A model's summary as a table; as it is, should its form have changed."""
    head, *lines = [line for line in text.splitlines() if line]
    found = [NODE.fullmatch(line) for line in lines[:-1]]
    rows = [match.groups()[:len(head.split())] for match in found if match]
    if len(rows) < len(found):
        return f'<p>{html.escape(title)}</p><pre>{html.escape(text)}</pre>'
    return table(title, head.split(), rows)


def frame(page: str) -> str:
    """A whole page inside the notebook's."""
    return (f'<iframe srcdoc="{html.escape(page)}" style="width: 100%; height: 36em; border: 0">'
            f'</iframe>')
