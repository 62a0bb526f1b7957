"""libadvrob for Python: attack, compress, fine-tune and measure small neural nets. NumPy in, NumPy
out.

    import advrob
    model = advrob.Model.load("net.safetensors")
    small = advrob.compress("prune_l1", model, sparsity=0.5)
    advrob.finetune("pgd_at", small, (x, y), epochs=3, attack=dict(epsilon=0.05))
    print(advrob.evaluate(small, x_test, y_test, attacks=["pgd"], epsilon=0.05))
"""
from ._library import library_path
from ._prototypes import VERSION as __version__
from .arrays import as_images
from .attack import Attack, Attacked, attack
from .compress import compress, plan
from .context import Context
from .dataset import Dataset
from .energy import Energy
from .engine import Engine
from .errors import AdvrobError, AdvrobMemoryError, AdvrobOSError, AdvrobValueError, Cancelled
from .evaluate import Evaluation, check, curve, evaluate, quantization
from .finetune import History, finetune
from .graph import Graph, Node
from .model import Model
from .options import Option, component_help, components, options
from .report import Report
from .target import Target

__all__ = [
    'AdvrobError', 'AdvrobMemoryError', 'AdvrobOSError', 'AdvrobValueError', 'Attack', 'Attacked',
    'Cancelled', 'Context', 'Dataset', 'Energy', 'Engine', 'Evaluation', 'Graph', 'History', 'Model',
    'Node', 'Option', 'Report', 'Target', '__version__', 'as_images', 'attack', 'check', 'compress',
    'component_help', 'components', 'curve', 'evaluate', 'finetune', 'library_path', 'options', 'plan',
    'quantization',
]
