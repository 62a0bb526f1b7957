"""The worker of PyTorch, foolbox and torchattacks."""
import os

import numpy
import torch
from torch.nn.functional import cross_entropy

import nets
from memory import Growth
from workers import clock, serve


class Side:
    """One prepared task. Variants: any of the words "channels_last", "compile" (the loss and its
    backward), "compile_gradient" (the whole gradient as one graph), "fused" (batch norms folded),
    and "foolbox" or "torchattacks" (their loop instead of the one here)."""

    def open(self, threads, capped):
        torch.set_num_threads(threads)
        if capped:
            torch._inductor.config.cpp.simdlen = 256
        return {'version': torch.__version__, 'cpu': torch.backends.cpu.get_cpu_capability(),
                'threads': torch.get_num_threads()}

    def prepare(self, task, data, variant, **job):
        self.task, self.job, self.words = task, job, variant.split('+')
        images = numpy.load(data)
        self.images = self.laid_out(torch.from_numpy(images['x']))
        self.labels = torch.from_numpy(images['y']).long()
        self.x, self.y = self.images[:job['batch']], self.labels[:job['batch']]
        self.make_net()
        return {}

    def laid_out(self, x):
        return x.to(memory_format=torch.channels_last) if 'channels_last' in self.words else x

    def make_net(self):
        self.net = nets.load(self.job['weights'])
        if 'fused' in self.words:
            self.net.fuse()
        if 'channels_last' in self.words:
            self.net = self.net.to(memory_format=torch.channels_last)
        self.net.requires_grad_(False)
        self.forward = self.net
        if 'compile' in self.words:
            self.forward = torch.compile(self.net)
        if self.task == 'finetune':
            self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9)
        self.gradient = self.gradient_of_graph() if 'compile_gradient' in self.words \
            else self.gradient_by_tape

    def gradient_by_tape(self, x, y):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(cross_entropy(self.forward(x), y, reduction='sum'), x)[0]

    def gradient_of_graph(self):
        """Frozen weights become constants of the graph and can be packed once."""
        torch._inductor.config.freezing = True
        loss = lambda x, y: cross_entropy(self.net(x), y, reduction='sum')  # noqa: E731
        graph = torch.compile(torch.func.grad(loss))

        def gradient(x, y):
            with torch.no_grad():
                return graph(x, y)
        return gradient

    # The tasks

    def pgd(self, x, y, epsilon):
        low, high = (x - epsilon).clamp_(0, 1), (x + epsilon).clamp_(0, 1)
        at = x
        for _ in range(self.job['steps']):
            move = self.gradient(at, y).sign_().mul_(self.job['step'])
            at = torch.clamp(move.add_(at), low, high)
        return at

    def attack(self):
        job = self.job
        if 'foolbox' in self.words:
            import foolbox
            model = foolbox.PyTorchModel(self.forward, bounds=(0, 1), device='cpu')
            loop = foolbox.attacks.LinfPGD(abs_stepsize=job['step'], steps=job['steps'],
                                           random_start=False)
            return loop.run(model, self.x, self.y, epsilon=job['epsilon'])
        if 'torchattacks' in self.words:
            import torchattacks
            loop = torchattacks.PGD(self.net, job['epsilon'], job['step'], job['steps'], False)
            loop.model = self.forward
            return loop(self.x, self.y)
        return self.pgd(self.x, self.y, job['epsilon'])

    def step(self, x, y, epsilon):
        """One step of adversarial training: the attack sees the running statistics and needs no
        gradient of the weights."""
        attacked = self.pgd(x, y, epsilon)
        self.net.requires_grad_(True)
        if self.job.get('statistics', 'batch') == 'batch':
            self.net.train()
        self.optimizer.zero_grad(set_to_none=True)
        cross_entropy(self.forward(attacked), y).backward()
        self.optimizer.step()
        self.net.eval()
        self.net.requires_grad_(False)

    def infer(self):
        with torch.no_grad():
            return self.forward(self.x)

    # What the controller asks

    def check(self, out):
        # The batch that is timed: a compiled net that has seen another size is made for any size.
        found = {'logits': self.forward(self.x).detach()[:64],
                 'gradient': self.gradient(self.x, self.y)[:64]}
        if self.task == 'attack':
            found['adversarial'] = self.attack().detach()
        if self.task == 'finetune':
            self.step(self.x, self.y, 0.0)
            for name, value in self.net.state_dict().items():
                found[f'after.{name}'] = value.clone()
            self.make_net()
        numpy.savez(out, **{name: value.contiguous().numpy() for name, value in found.items()})
        return {}

    def time(self, repeats):
        begin = clock()
        for i in range(repeats):
            if self.task == 'finetune':
                first = i * len(self.y) % len(self.labels)
                self.step(self.images[first:first + len(self.y)],
                          self.labels[first:first + len(self.y)], self.job['epsilon'])
            elif self.task == 'infer':
                self.infer()
            else:
                self.attack()
        return clock() - begin

    def memory(self, steps):
        growth = Growth()
        for _ in range(steps):
            self.step(self.x, self.y, self.job['epsilon'])
        return growth.measure()

    def export(self, out):
        """The net as ONNX for the engines, with the weights as they are in the file."""
        torch.onnx.export(self.net, (self.x,), out, dynamo=False, input_names=['x'],
                          output_names=['logits'], do_constant_folding=True)
        return {}


if __name__ == '__main__':
    os.environ.setdefault('TORCHINDUCTOR_COMPILE_THREADS', '1')
    side = Side()
    serve({name: getattr(side, name) for name in
           ('open', 'prepare', 'check', 'time', 'memory', 'export')})
