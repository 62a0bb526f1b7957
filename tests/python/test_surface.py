#!/usr/bin/env python3
"""The package against the headers and the library: prototypes are fresh, every public function has
its Python face or a reason, every option of every component can be reached."""
import ast
import re
import subprocess
import sys
import unittest

from package import PACKAGE, ROOT, advrob, main, noise, np
from advrob import _prototypes
from advrob._library import library
from advrob.options import KINDS

# Public functions that Python does not call, and why.
WITHOUT_FACE = {
    'advrob_options_create_with': 'an allocator is called from any thread, at any time: not in Python',
    'advrob_context_set_parallel': 'a loop of the caller\'s threads would wait for the interpreter\'s lock',
    'advrob_options_set_str': 'advrob_options_set_text sets texts as well as numbers written as texts',
    'advrob_version': 'the package compares advrob_version_text',
    'advrob_status_name': 'the table of the headers is in _prototypes.STATUS',
    'advrob_status_text': 'exceptions bear the library\'s message, which says more',
}


def calls():
    """Names of library functions in the package's own code."""
    found = set()
    for path in (PACKAGE / 'advrob').glob('*.py'):
        if path.name != '_prototypes.py':
            found |= {node.attr for node in ast.walk(ast.parse(path.read_text()))
                      if isinstance(node, ast.Attribute) and node.attr.startswith('advrob_')}
    return {name for name in found if not name.endswith('_fn')}


class Surface(unittest.TestCase):
    def test_prototypes_are_fresh(self):
        done = subprocess.run([sys.executable, PACKAGE / 'generate.py', '--check'], capture_output=True,
                              text=True)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_prototypes_are_the_exports(self):
        exports = (ROOT / 'tests' / 'abi' / 'exports.txt').read_text().split()
        self.assertEqual(sorted(_prototypes.FUNCTIONS), sorted(exports))

    def test_statuses(self):
        for code, (name, text) in _prototypes.STATUS.items():
            shown = 'ADVROB_OK' if code == 0 else name
            self.assertIn(library.advrob_status_name(code).decode(), (shown, name))
            self.assertEqual(library.advrob_status_text(code).decode(), text)

    def test_every_function_has_a_face(self):
        called = calls()
        public = set(_prototypes.FUNCTIONS)
        self.assertEqual(called - public, set())
        self.assertEqual(public - called - set(WITHOUT_FACE), set(), 'neither a face nor a reason')
        self.assertEqual(set(WITHOUT_FACE) & (called - {'advrob_version'}), set(), 'a face after all')

    def test_names_are_documented(self):
        for name in advrob.__all__:
            if not name.startswith('__') and name != 'library_path':
                self.assertTrue(getattr(advrob, name).__doc__, name)
        text = (ROOT / 'docs' / 'python.md').read_text()
        missing = [name for name in advrob.__all__ if not name.startswith('__')
                   and not re.search(rf'\b{name}\b', text)]
        self.assertEqual(missing, [], 'not in docs/python.md')

    def test_versions(self):
        number = library.advrob_version()
        self.assertEqual(advrob.__version__, f'{number // 10000}.{number // 100 % 100}.{number % 100}')
        project = (PACKAGE / 'pyproject.toml').read_text()
        self.assertIn(f'version = "{advrob.__version__}"', project)


class Listing(unittest.TestCase):
    def makers(self):
        """Kind to a function that uses a component with options alone, as Python users do."""
        model = advrob.Model.build('tiny', seed=1)
        x, y = noise(4, model.shape), np.arange(4) % model.classes
        quantized = advrob.compress('quant_ptq', model, x)
        graph = advrob.Graph()
        pixels = graph.input(4, 8, 8)

        def add(name, **o):
            readers = {'add': 2, 'concat': 2}
            flat = [graph.flatten(pixels)] if name == 'linear' else [pixels] * readers.get(name, 1)
            needed = {'conv2d': dict(outputs=4, kernel=1), 'linear': dict(outputs=4),
                      'max_pool': dict(kernel=2), 'avg_pool': dict(kernel=2)}.get(name, {})
            graph.add(name, *flat, **{**needed, **o})

        def report(name, **o):
            page = advrob.Report()
            page.add_plot('title', 'x', 'y', **(o if name == 'plot' else {}))
            page.add_series('name', [1, 2], [1, 2], **(o if name == 'series' else {}))

        return {
            'model': lambda name, **o: advrob.Model.build(name, **o),
            'dataset': lambda name, **o: advrob.Dataset.open(name, '/no/such/folder', **o),
            'attack': lambda name, **o: advrob.Attack(name, **o),
            'compressor': lambda name, **o: advrob.plan(name, model, **o),
            'finetune': lambda name, **o: advrob.finetune(name, model, ([], []), **o),
            'operator': add,
            'context': lambda _name, **o: advrob.Context(**o),
            'evaluation': lambda _name, **o: advrob.evaluate(model, x, y, **o),
            'curve': lambda _name, **o: advrob.curve(model, x, y, **{'epsilons': [0.01], **o}),
            'check': lambda _name, **o: advrob.check(model, x, y, **{'steps': 2, 'queries': 2, **o}),
            'profile': lambda _name, **o: model.profile(**{'repeats': 1, 'batch_size': 1, **o}),
            'quantization': lambda _name, **o: advrob.quantization(model, quantized, x, **o),
            'report': report,
        }

    def test_every_kind(self):
        self.assertEqual(advrob.components(), list(KINDS))
        for kind in KINDS:
            self.assertTrue(advrob.components(kind), kind)
            for name in advrob.components(kind):
                self.assertTrue(advrob.component_help(kind, name), name)
        self.assertEqual(advrob.options('context'), advrob.options('context', 'context'))
        for wrong in (lambda: advrob.components('attak'), lambda: advrob.options('attack', 'pdg'),
                      lambda: advrob.options('attack')):
            with self.assertRaises(ValueError):
                wrong()

    def test_every_option_is_known(self):
        """Each option by its name, with its default: if anything is refused, then not the name. An
        option that does not exist is refused by its name, or by having none to be mistaken for."""
        count, makers = 0, self.makers()
        for kind in KINDS:
            for name in advrob.components(kind):
                listed = advrob.options(kind, name)
                count += len(listed)
                if not listed or kind == 'model' and name != 'tiny':  # nets share their options
                    continue
                for option in listed:
                    value = option.default or {'numbers': [1], 'list': ['fgsm']}.get(option.type)
                    self.assertNotIn(self.status(makers[kind], name, option.name, value),
                                     ('E_UNKNOWN', 'neither'), f'{kind} {name} {option.name}')
                self.assertIn(self.status(makers[kind], name, 'no_such', 1), ('E_UNKNOWN', 'neither'), kind)
        self.assertGreater(count, 300)

    def status(self, make, name, option, value):
        """What became of it: a status, "neither" for what evaluate says itself, None if it was fine."""
        try:
            make(name, **{option: value})
        except advrob.AdvrobError as error:
            return error.status if f'"{option}"' in str(error) else None
        except (TypeError, ValueError) as error:
            return 'neither' if 'neither' in str(error) else None
        return None

    def test_dotted_names(self):
        """A dictionary opens into dotted names, None is left out, misspelt names are refused."""
        known = {option.name for option in advrob.options('finetune', 'pgd_at')}
        self.assertLess({'attack.epsilon', 'augment.crop', 'valid.steps', 'lr'}, known)
        model = advrob.Model.build('tiny', seed=1)
        for settings, word in ((dict(attack=dict(epsilom=1)), 'attack.epsilon'),
                               ({'attack.epsilon': -1}, 'epsilon'),
                               (dict(lr='fast'), 'fast'), (dict(lr=object()), 'lr'),
                               (dict(epochs=2.5), 'epochs'), (dict(epochs=2**70), 'epochs'),
                               (dict(milestones=['a']), 'milestones')):
            with self.assertRaisesRegex((ValueError, TypeError, advrob.AdvrobError), word):
                advrob.finetune('pgd_at', model, ([], []), **settings)
        advrob.Attack('pgd', epsilon='8/255', steps=None)


if __name__ == '__main__':
    main()
