"""Whether two sides compute the same thing. Ratios of different work mean nothing."""
import math

TOLERANCE = 1e-4       # of logits: root of summed squares, relative
TOLERANCE_STEP = 1e-3  # of what one training step adds to the parameters
TOLERANCE_LOSS = 1e-2  # of the mean loss that an attack reaches: signs of tiny gradients differ
# Of nets of 8 bits against the float one: how much of what tells images apart they may lose (the
# logits less their means over images), and the share of images whose answer they may change. Wide:
# on ResNet-18 onnxruntime lost 15 %, ours with codes of 7 bits 17 %, OpenVINO held to AVX2 27 %.
TOLERANCE_ROUNDED, CHANGED = 0.5, 0.25
# Of the gradients, image by image: so near must be so many percent of the images. A value within
# rounding of a ReLU's kink may fall on either side, which moves that image's gradient by far more
# than rounding does, and the more often the more rounding there is. Measured with ResNet-18 on noise
# against PyTorch's float64, images of 64 above 1e-4 and the worst one: PyTorch's float32 2 and
# 4.8e-3, ours with winograd=2 2 and 6.1e-3, winograd=off 6 and 2.9e-3, winograd=auto 8 and 6.1e-3.
# So 80 %: an eighth of the images may have met a kink. 100 % is there for a fault confined to few.
GRADIENTS = {50: 1e-5, 80: 1e-4, 100: 2e-2}


def distance(found, wanted):
    """Relative; infinite if anything is not finite."""
    import numpy
    error = float(numpy.linalg.norm(numpy.subtract(found, wanted, dtype=numpy.float64)))
    size = float(numpy.linalg.norm(numpy.asarray(wanted, numpy.float64)))
    return error / size if numpy.isfinite(error) and size > 0 else float('inf')


def within(images):
    """{share of the images in percent: the distance within which they are}, from each one's."""
    images = sorted(images)
    return {share: images[math.ceil(share / 100 * (len(images) - 1))] for share in GRADIENTS}


def update(found, before):
    """What a step added, in one row, by the parameters' names."""
    import numpy
    return numpy.concatenate([(found[f'after.{name}'] - before[name]).ravel()
                              for name in sorted(before)])


def distances(ours, theirs, before, mean_loss):
    """{quantity: (distance, tolerance)} of two saved checks. before: parameters before the step;
    mean_loss: our loss of adversarial images."""
    found = {'logits': (distance(theirs['logits'], ours['logits']), TOLERANCE)}
    if 'gradient' in theirs:
        near = within(distance(a, b)
                      for a, b in zip(theirs['gradient'], ours['gradient'], strict=True))
        for share, tolerance in GRADIENTS.items():
            found[f'gradients of {share} %'] = near[share], tolerance
    if 'adversarial' in theirs:
        found['loss of the attacked images'] = \
            distance(mean_loss(theirs['adversarial']), ours['attacked']), TOLERANCE_LOSS
    if 'after.fc2.bias' in theirs or 'after.fc.bias' in theirs:
        found['training step'] = \
            distance(update(theirs, before), update(ours, before)), TOLERANCE_STEP
    return found


def rounded(logits, wanted):
    """{quantity: (distance, tolerance)} of a net of 8 bits and the float one."""
    own, others = (z - z.mean(axis=0) * (len(z) > 1) for z in (logits, wanted))
    changed = float((logits.argmax(axis=1) != wanted.argmax(axis=1)).mean())
    return {'logits': (distance(own, others), TOLERANCE_ROUNDED), 'top-1': (changed, CHANGED)}
