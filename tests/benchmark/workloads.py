"""What is compared: a workload is a list of jobs, a job one piece of work and its opponents."""
import dataclasses

PLAIN = ('eager', 'channels_last', 'compile', 'compile+channels_last', 'compile_gradient')
TRAINED = ('eager', 'channels_last', 'compile', 'compile+channels_last')


def torch(variants):
    return [('torch', variant) for variant in variants]


PYTORCH = {'PyTorch': torch(PLAIN)}
LOOPS = {**PYTORCH,
         'foolbox': torch(('foolbox', 'foolbox+compile')),
         'torchattacks': torch(('torchattacks', 'torchattacks+compile'))}
TRAINING = {'PyTorch': torch(TRAINED)}
FUSED = {'PyTorch': torch(PLAIN + tuple(f'fused+{words}' for words in PLAIN[1:]))}
ENGINES = {'onnxruntime': [('onnxruntime', '')], 'OpenVINO': [('openvino', '')]}
# Signs of activations and weights in a QDQ file: engines differ in which they like.
SIGNS = ('u8s8', 's8s8')
INTEGERS = {'onnxruntime': [('onnxruntime', signs) for signs in SIGNS],
            'OpenVINO': [('openvino', signs) for signs in SIGNS]}
# What PyTorch reached with 2 threads on another machine, whose FMA peak was 2 x 102 GFLOP/s: a row
# that is far below it says that the peer was held back, not that we are fast.
EXPECTED_AT = 2 * 102


@dataclasses.dataclass(frozen=True)
class Job:
    """kind "race": times; "memory": growth of the peak. expected: PyTorch's images/s at EXPECTED_AT,
    0 if unknown. task, batch ... go to the workers. ours and
    theirs: what only one side is told, when both are ours."""
    title: str
    net: str
    task: str
    opponents: dict
    batch: int = 64
    steps: int = 0
    epsilon: float = 0.05
    step: float = 0.005
    statistics: str = 'batch'
    kind: str = 'race'
    expected: float = 0
    ours: dict = dataclasses.field(default_factory=dict)
    theirs: dict = dataclasses.field(default_factory=dict)

    def told(self):
        """What every worker is told."""
        names = ('task', 'batch', 'steps', 'epsilon', 'step', 'statistics')
        return {name: getattr(self, name) for name in names}


EIGHT, PRUNED, RESNET, ROBUST = ('eight_layer_conv', 'eight_layer_conv_pruned', 'resnet18_cifar10',
                                 'robust')
RESNET_PRUNED = 'resnet18_cifar10_pruned'
CIFAR_EPSILON = 4 / 255


def inference(net, name):
    return [Job(f'{name}, inference, batch {batch}', net, 'infer', ENGINES, batch=batch)
            for batch in (64, 1)]


def integers(net, name, batch=64, bits=7):
    """Inference in 8 bits; bits: of our activations."""
    return Job(f'{name}, int8, activation_bits={bits}, batch {batch}', net, 'int8', INTEGERS,
               batch=batch, ours={'activation_bits': bits})


def resnet_steps(**changes):
    return Job(**{'title': 'ResNet-18, fine-tuning step with PGD-10, batch 64', 'net': RESNET,
                  'task': 'finetune', 'opponents': TRAINING, 'steps': 10,
                  'epsilon': CIFAR_EPSILON, **changes})


WORKLOADS = {
    'pgd20': [Job('EightLayerConv, PGD-20, batch 64', EIGHT, 'attack', LOOPS, steps=20,
                  expected=108),
              Job('EightLayerConv, PGD-20, batch 256', EIGHT, 'attack', PYTORCH, 256, 20,
                  expected=108)],
    'pgd20_pruned': [Job('EightLayerConv pruned 0.5, PGD-20, batch 64', PRUNED, 'attack', PYTORCH,
                         steps=20, expected=300)],
    'finetune': [Job('EightLayerConv, fine-tuning step with PGD-20, batch 64', EIGHT, 'finetune',
                     TRAINING, steps=20)],
    'finetune_pruned': [Job('EightLayerConv pruned 0.5, fine-tuning step with PGD-20, batch 64',
                            PRUNED, 'finetune', TRAINING, steps=20)],
    'resnet_pgd10': [Job('ResNet-18, PGD-10, batch 64', RESNET, 'attack', FUSED, steps=10,
                         epsilon=CIFAR_EPSILON, expected=7.5)],
    'resnet_finetune': [resnet_steps()],
    'inference': inference(EIGHT, 'EightLayerConv'),
    'resnet_inference': inference(RESNET, 'ResNet-18'),
    'int8': [integers(EIGHT, 'EightLayerConv'), integers(PRUNED, 'EightLayerConv pruned 0.5'),
             integers(EIGHT, 'EightLayerConv', bits=8)],
    'resnet_int8': [integers(RESNET, 'ResNet-18'),
                    integers(RESNET_PRUNED, 'ResNet-18 pruned 0.5'),
                    integers(RESNET, 'ResNet-18', bits=8)],
    'int8_single': [integers(net, name, 1) for net, name in (
        (EIGHT, 'EightLayerConv'), (PRUNED, 'EightLayerConv pruned 0.5'), (RESNET, 'ResNet-18'),
        (RESNET_PRUNED, 'ResNet-18 pruned 0.5'))],
    # Memory does not hang on the number of the attack's steps.
    'memory': [resnet_steps(title='ResNet-18, fine-tuning step, frozen statistics: growth of memory',
                            kind='memory', statistics='frozen', steps=2,
                            opponents={'PyTorch': torch(('eager', 'channels_last'))})],
    'skipping': [Job('robust accuracy under PGD-20: early_stop=1 against 0', ROBUST, 'accuracy',
                     {'without skipping': [('ours', '')]}, batch=0, steps=20,
                     ours={'early_stop': 1}, theirs={'early_stop': 0})],
    'scaling': [Job('EightLayerConv, PGD-20, batch 64: all threads against 1', EIGHT, 'attack',
                    {'1 thread': [('ours', '')]}, steps=20, theirs={'threads': 1})],
}
