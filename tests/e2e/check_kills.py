#!/usr/bin/env python3
"""Kills a fine-tuning run with SIGKILL at random times until it has ended in spite of it; its model
and history must be those of a run that nobody disturbed, byte for byte.

    check_kills.py SHORT_RUN KILLS [SEED]
"""
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATIENCE = 60  # seconds for one run


class Run:
    """One place for checkpoints and results."""

    def __init__(self, program, folder, checkpoint):
        self.checkpoint, self.files = checkpoint, [folder / 'model', folder / 'history']
        self.command = [program, str(folder / 'run') if checkpoint else '', *map(str, self.files)]
        self.folder = folder

    def start(self):
        return subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True)

    def finish(self):
        process = self.start()
        _, errors = process.communicate(timeout=PATIENCE)
        check(process.returncode, errors)
        return self.result()

    def result(self):
        return [path.read_bytes() for path in self.files]

    def begin_anew(self):
        for path in self.folder.iterdir():
            path.unlink()

    def steps_saved(self):
        return any((self.folder / f'run.{i}').exists() for i in range(2))


def check(code, errors):
    # A killed run leaves nothing that the next one has to warn about.
    if code != 0 or errors:
        sys.exit(f'short_run ended with {code}: {errors.strip()}')


def main():
    program, kills = sys.argv[1], int(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    rng = random.Random(seed)
    done = resumed = ended = 0
    with tempfile.TemporaryDirectory() as top:
        (Path(top) / 'calm').mkdir()
        (Path(top) / 'killed').mkdir()
        wanted = Run(program, Path(top) / 'calm', False).finish()
        run = Run(program, Path(top) / 'killed', True)
        start = time.monotonic()
        if run.finish() != wanted:
            sys.exit('checkpoints change the result')
        span = (time.monotonic() - start) / 3
        run.begin_anew()
        while done < kills:
            resumed += run.steps_saved()
            process = run.start()
            try:
                _, errors = process.communicate(timeout=rng.uniform(0, span))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                done += 1
                continue
            check(process.returncode, errors)
            if run.result() != wanted:
                sys.exit(f'after {done} kills (seed {seed}): not the bytes of a calm run')
            ended += 1
            run.begin_anew()
        resumed += run.steps_saved()
        if run.finish() != wanted:
            sys.exit(f'after {done} kills (seed {seed}): not the bytes of a calm run')
    print(f'{done} kills (seed {seed}), {resumed} starts from a checkpoint, {ended + 1} runs ended, '
          f'all with the bytes of a calm run')
    if resumed < kills // 2:
        sys.exit('too few starts from a checkpoint: the test shows nothing')


if __name__ == '__main__':
    main()
