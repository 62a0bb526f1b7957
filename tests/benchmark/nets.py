"""The zoo's nets in torch.nn, written by themselves: a check on ours, not a translation of its graph.
Module names are those of the model files."""
import json

import safetensors
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class EightLayerConv(nn.Module):
    """widths: of the six convolutions; a pruned net is the same with others."""

    def __init__(self, widths):
        super().__init__()
        before = 1
        for i, width in enumerate(widths):
            setattr(self, f'conv{i + 1}', nn.Conv2d(before, width, 3, i % 2 + 1, 1))
            before = width
        self.fc1 = nn.Linear(16 * before, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = (x - 0.5) / 0.5
        for i in range(6):
            x = torch.relu(getattr(self, f'conv{i + 1}')(x))
        return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))


class Block(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False),
                                            nn.BatchNorm2d(width))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + shortcut)

    def fuse(self):
        self.conv1, self.bn1 = fuse_conv_bn_eval(self.conv1, self.bn1), nn.Identity()
        self.conv2, self.bn2 = fuse_conv_bn_eval(self.conv2, self.bn2), nn.Identity()
        if self.downsample is not None:
            self.downsample = fuse_conv_bn_eval(*self.downsample)


class ResNet18(nn.Module):
    """For 32 x 32 images: a 3 x 3 stem of stride 1, no max-pool. widths: of the four stages, the
    stem's is the first; a pruned net is the same with others."""

    def __init__(self, widths):
        super().__init__()
        before = widths[0]
        self.conv1 = nn.Conv2d(3, before, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        for i, width in enumerate(widths):
            stride = 1 if i == 0 else 2
            setattr(self, f'layer{i + 1}',
                    nn.Sequential(Block(before, width, stride), Block(width, width, 1)))
            before = width
        self.fc = nn.Linear(before, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1((x - 0.5) / 0.5)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))

    def fuse(self):
        """Folds the batch norms into the convolutions before them; for eval mode."""
        self.conv1, self.bn1 = fuse_conv_bn_eval(self.conv1, self.bn1), nn.Identity()
        for i in range(4):
            for block in getattr(self, f'layer{i + 1}'):
                block.fuse()


def load(path):
    """The net of a model file, in eval mode."""
    with safetensors.safe_open(path, 'pt') as file:
        graph = json.loads(file.metadata()['graph'])
        weights = {name: file.get_tensor(name) for name in file.keys()}
    if (graph['mean'], graph['std']) not in (([0.5], [0.5]), ([0.5] * 3, [0.5] * 3)):
        raise ValueError(f'{path}: the nets here normalise by 0.5 and 0.5')
    if 'conv6.weight' in weights:
        net = EightLayerConv([len(weights[f'conv{i + 1}.bias']) for i in range(6)])
    else:
        net = ResNet18([len(weights[f'layer{i + 1}.0.bn1.bias']) for i in range(4)])
    missing, surplus = net.load_state_dict(weights, strict=False)
    wrong = [name for name in missing if not name.endswith('num_batches_tracked')] + surplus
    if wrong:
        raise ValueError(f'{path}: {", ".join(wrong)} fit no module')
    return net.eval()
