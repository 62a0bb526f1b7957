"""What the tests of the Python package share: the package on its path, real images, a small trained
net. Each test file is run by itself: test_x.py path/to/libadvrob.so.0"""
import os
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / 'bindings' / 'python'
FASHION = Path('/usr/share/datasets/fashion-mnist')
SHARED = Path(os.environ.get('ADVROB_TEST_DATA', ROOT.parent / 'shared'))

if len(sys.argv) > 1 and '.so' in sys.argv[1]:
    os.environ['ADVROB_LIBRARY'] = os.path.abspath(sys.argv.pop(1))
sys.path.insert(0, str(PACKAGE))
os.environ['PYTHONPATH'] = str(PACKAGE)  # for processes that a test starts

try:
    import numpy as np
except ImportError:
    print('skipped: numpy is missing (Debian: python3-numpy)')
    sys.exit(77)

import advrob  # noqa: E402


def fashion(split, n):
    """The first n images of Fashion-MNIST: x [n, 1, 28, 28] float32 and y [n] int32."""
    if not FASHION.is_dir():
        raise unittest.SkipTest(f'{FASHION} is missing (Debian: dataset-fashion-mnist)')
    return advrob.Dataset.open('fashion-mnist', FASHION, split=split, limit=n).arrays()


def trained(n=3000):
    """conv_small after an epoch on n images of Fashion-MNIST: about 70 % right."""
    model = advrob.Model.build('conv_small', seed=0)
    advrob.finetune('standard', model, fashion('train', n), epochs=1, lr=0.05, momentum=0.9,
                    batch_size=64)
    return model


def noise(n, shape, seed=0):
    """Images of bytes as floats."""
    return (np.random.default_rng(seed).integers(0, 256, (n, *shape)) / 255).astype(np.float32)


class Folder(unittest.TestCase):
    """A test with a folder of its own."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)


def main():
    """As unittest.main; status 77 where every test was skipped."""
    program = unittest.main(module='__main__', exit=False, verbosity=1)
    result = program.result
    for test, why in result.skipped:
        print(f'skipped: {test}: {why}')
    if result.wasSuccessful() and result.testsRun == len(result.skipped):
        sys.exit(77)
    sys.exit(not result.wasSuccessful())
