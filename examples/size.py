#!/usr/bin/env python3
"""Prints the bytes of programs and libraries without their symbols: size.py OUT FILE..."""
import subprocess
import sys
import tempfile
from pathlib import Path

lines, total = [], 0
with tempfile.TemporaryDirectory() as folder:
    for name in sys.argv[2:]:
        stripped = Path(folder, 'stripped')
        subprocess.run(['strip', '-o', stripped, name], check=True)
        size = stripped.stat().st_size
        total += size
        lines.append(f'{size:8} {Path(name).name}')
lines.append(f'{total:8} bytes together, stripped')
print('\n'.join(lines))
Path(sys.argv[1]).write_text('\n'.join(lines) + '\n')
