"""Nets of one's own, node by node."""
import ctypes
from typing import Any, Callable, Dict, Optional

from ._library import Handle, library, made, text_bytes
from .context import Context, current
from .model import Model
from .options import Options, components


class Node:
    """A node of a graph: what the next one reads."""

    def __init__(self, graph: 'Graph', name: str) -> None:
        self.graph, self.name = graph, name

    def __repr__(self) -> str:
        return f'Node({self.name!r})'


class _Handle(Handle):
    _destroy = library.advrob_model_destroy


class Graph:
    """Builds a net.

    g = advrob.Graph()
    x = g.input(1, 28, 28, mean=0.5, std=0.25)
    x = g.relu(g.conv2d(x, outputs=8, kernel=3))
    net = g.model(g.linear(g.flatten(x), outputs=10), seed=0)

    Each operator, advrob.components("operator"), is a method: the nodes that it reads, then its
    options, advrob.options("operator", name), and `name`, which its parameters bear:
    "conv1.weight"."""

    def __init__(self, *, context: Optional[Context] = None) -> None:
        self.context = current(context)
        self._net: Optional[_Handle] = None
        self._last = ''
        self._count: Dict[str, int] = {}

    def input(self, channels: int, height: int, width: int, **options: Any) -> Node:
        """The first node: images. Options: mean and std, low and high (the box of valid pixels),
        epsilon_unit; one value or one a channel."""
        if self._net is not None:
            raise ValueError('the graph has its input already')
        with Options(options) as chosen:
            self._net = _Handle(made(library.advrob_model_begin, self.context, channels, height, width,
                                     chosen))
        self._last = 'input'
        return Node(self, 'input')

    def add(self, operator: str, *inputs: Node, name: Optional[str] = None, **options: Any) -> Node:
        """A node of `operator` that reads `inputs`. Raises ValueError where they do not fit; the graph
        then stays as it was."""
        if self._net is None:
            raise ValueError('the graph has no input yet: begin with Graph.input')
        for node in inputs:
            if not isinstance(node, Node) or node.graph is not self:
                raise TypeError(f'{operator} reads {node!r}, expected a node of this graph')
        number = self._count.get(operator, 0) + 1
        chosen_name = name if name is not None else f'{operator}{number}'
        names = (ctypes.c_char_p * max(len(inputs), 1))(*[node.name.encode() for node in inputs])
        with Options(options) as chosen:
            library.advrob_model_add(self._net, text_bytes(operator, 'operator'),
                                     text_bytes(chosen_name, 'name'), names, len(inputs), chosen)
        self._count[operator] = number
        self._last = chosen_name
        return Node(self, chosen_name)

    def __getattr__(self, operator: str) -> Callable[..., Node]:
        if operator.startswith('_') or operator not in components('operator'):
            raise AttributeError(f'there is no operator {operator!r}, expected one of '
                                 f'{", ".join(components("operator"))}')
        return lambda *inputs, **options: self.add(operator, *inputs, **options)

    def __dir__(self) -> 'list[str]':
        return [*super().__dir__(), *components('operator')]

    def model(self, result: Optional[Node] = None, *, init: Optional[str] = 'he',
              seed: int = -1) -> Model:
        """The net as it is now; `result`, if given, must be the node that was added last. Parameters
        are drawn by `init` ("he", "pytorch"; None: zeros). The graph may grow on."""
        if self._net is None:
            raise ValueError('the graph has no input yet: begin with Graph.input')
        if result is not None and result.name != self._last:
            raise ValueError(f'the result is {result.name!r}, expected the node that was added last, '
                             f'{self._last!r}')
        model = Model(made(library.advrob_model_clone, self._net), self.context)
        if init is not None:
            model.initialise(init, seed)
        return model
