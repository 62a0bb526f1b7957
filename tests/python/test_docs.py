#!/usr/bin/env python3
"""The Python snippets and commands of docs/python.md and README.md run; the examples run on few
images; the self-test and the command line do what they say."""
import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import unittest
from pathlib import Path

from package import FASHION, PACKAGE, ROOT, Folder, advrob, main, noise, np
from advrob import cli


def blocks(path, language):
    return re.findall(rf'^```{language}\n(.*?)^```', (ROOT / path).read_text(), re.M | re.S)


class Inside(Folder):
    """Tests that run in a folder of their own, where files may be left."""

    def setUp(self):
        super().setUp()
        before = os.getcwd()
        os.chdir(self.folder)
        self.addCleanup(os.chdir, before)

    def command(self, *arguments):
        """Status, stdout and stderr of python -m advrob, without a new process."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = cli.main([str(argument) for argument in arguments])
            except SystemExit as end:
                status = end.code
        return status, out.getvalue(), err.getvalue()


@unittest.skipUnless(FASHION.is_dir(), f'{FASHION} is missing (Debian: dataset-fashion-mnist)')
class Snippets(Inside):
    def run_blocks(self, path):
        found = blocks(path, 'python')
        self.assertTrue(found)
        space = {}
        with contextlib.redirect_stdout(io.StringIO()):
            for number, block in enumerate(found):
                exec(compile(block, f'{path}, snippet {number + 1}', 'exec'), space)
        return space

    def test_python_md(self):
        space = self.run_blocks('docs/python.md')
        self.assertGreater(space['result'].clean, 0.5)
        self.assertTrue(Path('report.html').exists() and Path('net.engine').exists())

    def test_readme(self):
        advrob.Model.build('conv_small', seed=1).save('net.safetensors')
        self.run_blocks('README.md')

    def test_commands(self):
        text = ''.join(blocks('docs/python.md', 'sh')).replace('\\\n', ' ')
        commands = [shlex.split(line, comments=True)[3:] for line in text.splitlines()
                    if line.startswith('python -m advrob')]
        self.assertGreater(len(commands), 6)
        for arguments in commands:
            if arguments[:1] == ['quantize']:
                arguments += ['--limit', '100']
            status, out, err = self.command(*arguments)
            self.assertEqual((status, err), (0, ''), arguments)
            self.assertTrue(out, arguments)

    def test_examples(self):
        few = ['--images', '200', '--test', '10']
        for name, needs in (('harden', None), ('compression_levels', None), ('attack_pytorch', 'torch')):
            if needs:
                try:
                    __import__(needs)
                except ImportError:
                    continue
            done = subprocess.run([sys.executable, PACKAGE / 'examples' / f'{name}.py', *few],
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn('%', done.stdout)


class Commands(Inside):
    def test_information(self):
        done = subprocess.run([sys.executable, '-m', 'advrob'], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        for word in ('advrob 0.', 'library', 'cpu', 'blas', 'threads'):
            self.assertIn(word, done.stdout)

    def test_selftest(self):
        status, out, _ = self.command('--selftest')
        self.assertEqual((status, out.count('ok ')), (0, 6), out)

    def test_refusals(self):
        """A message, status 2, no traceback."""
        model = advrob.Model.build('tiny')
        model.save('net.safetensors')
        np.savez('data.npz', x=noise(4, model.shape), y=np.arange(4))
        np.savez('wrong.npz', images=noise(4, model.shape))
        for arguments, word in ((['evaluate', 'none', 'data.npz'], 'none'),
                                (['evaluate', 'net.safetensors', 'none'], 'none'),
                                (['evaluate', 'net.safetensors', 'wrong.npz'], 'expected x'),
                                (['evaluate', 'data.npz', 'data.npz'], 'data.npz'),
                                (['evaluate', 'net.safetensors', 'data.npz', '--attack', 'pdg'], 'pgd'),
                                (['attack', 'net.safetensors', 'data.npz', 'o.npz', '--epsilon', 'x'], '"x"'),
                                (['attack', 'net.safetensors', 'data.npz', 'o.npz', '--option', 'x'], 'NAME'),
                                (['prune', 'zoo:tinny', 'o', '--sparsity', '0.5'], 'tiny'),
                                (['report'], 'required')):
            status, _, err = self.command(*arguments)
            self.assertEqual(status, 2, arguments)
            self.assertIn(word, err)

    def test_gate(self):
        """--min-robust decides by status, --json gives the row."""
        model = advrob.Model.build('tiny', seed=1)
        model.save('net.safetensors')
        x = noise(16, model.shape)
        np.savez('data.npz', x=x, y=model.predict(x))
        common = ['evaluate', 'net.safetensors', 'data.npz', '--json', '--attack', 'fgsm', '--epsilon']
        status, out, _ = self.command(*common, '0', '--min-robust', '1')
        self.assertEqual((status, json.loads(out)['fgsm_accuracy']), (0, 1))
        status, out, _ = self.command(*common, '200/255', '--min-robust', '1')
        self.assertEqual(status, 1)

    def test_help(self):
        for command in ([], ['evaluate'], ['attack'], ['prune'], ['quantize'], ['finetune'], ['report']):
            status, out, _ = self.command(*command, '--help')
            self.assertEqual(status, 0)
            self.assertIn('usage: advrob', out)


if __name__ == '__main__':
    main()
