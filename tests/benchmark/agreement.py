"""Whether two sides compute the same thing. Ratios of different work mean nothing."""
import numpy

TOLERANCE = 1e-4       # of logits and of gradients: root of summed squares, relative
SHARE = 90             # percent of the images whose gradients must be that near
TOLERANCE_STEP = 1e-3  # of what one training step adds to the parameters
TOLERANCE_LOSS = 1e-2  # of the mean loss that an attack reaches: signs of tiny gradients differ


def distance(found, wanted):
    """Relative; infinite if anything is not finite."""
    error = float(numpy.linalg.norm(numpy.subtract(found, wanted, dtype=numpy.float64)))
    size = float(numpy.linalg.norm(numpy.asarray(wanted, numpy.float64)))
    return error / size if numpy.isfinite(error) and size > 0 else float('inf')


def gradient_distance(found, wanted):
    """Within this are 90 % of the images. A value within rounding of a ReLU's kink may fall on either
    side, and then moves one image's gradient by far more than rounding does: in ResNet-18 PyTorch's
    float32 and float64 differ by 5e-3 in one image of 30, by 5e-7 in the median one."""
    return float(numpy.percentile([distance(a, b) for a, b in zip(found, wanted)], SHARE))


def update(found, before):
    """What a step added, in one row, by the parameters' names."""
    return numpy.concatenate([(found[f'after.{name}'] - before[name]).ravel()
                              for name in sorted(before)])


def distances(ours, theirs, before, mean_loss):
    """{quantity: (distance, tolerance)} of two saved checks. before: parameters before the step;
    mean_loss: our loss of adversarial images."""
    found = {'logits': (distance(theirs['logits'], ours['logits']), TOLERANCE)}
    if 'gradient' in theirs:
        found['gradient'] = \
            gradient_distance(theirs['gradient'], ours['gradient']), TOLERANCE
    if 'adversarial' in theirs:
        found['loss of the attacked images'] = \
            distance(mean_loss(theirs['adversarial']), ours['attacked']), TOLERANCE_LOSS
    if 'after.fc2.bias' in theirs or 'after.fc.bias' in theirs:
        found['training step'] = \
            distance(update(theirs, before), update(ours, before)), TOLERANCE_STEP
    return found
