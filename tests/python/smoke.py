#!/usr/bin/env python3
"""The library from another language, without anything but ctypes: smoke.py path/to/libadvrob.so"""
import ctypes
import sys
from array import array
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int32, c_int64, c_void_p

lib = ctypes.CDLL(sys.argv[1])
for name in ('advrob_last_message', 'advrob_version_text', 'advrob_status_name'):
    getattr(lib, name).restype = c_char_p
FORWARD = ctypes.CFUNCTYPE(c_int32, c_void_p, c_int64, POINTER(c_float), POINTER(c_float))
BACKWARD = ctypes.CFUNCTYPE(c_int32, c_void_p, c_int64, POINTER(c_float), POINTER(c_float),
                            POINTER(c_float))


def expect(truth, text):
    if not truth:
        sys.exit(f'smoke.py: {text}')


def call(name, *arguments):
    status = getattr(lib, name)(*arguments)
    expect(status == 0, f'{name}: {status}: {lib.advrob_last_message().decode()}')


def made(name, *arguments):
    """A call whose last parameter receives a new handle."""
    handle = c_void_p()
    call(name, *arguments, byref(handle))
    expect(handle.value, f'{name} gave no handle')
    return handle


def options(**values):
    handle = made('advrob_options_create')
    for name, value in values.items():
        if isinstance(value, float):
            call('advrob_options_set_f64', handle, name.encode(), c_double(value))
        else:
            call('advrob_options_set_i64', handle, name.encode(), c_int64(value))
    return handle


def pointer(values, kind=c_float):
    return (kind * len(values)).from_buffer(values)


def attack(ctx, name, target, x, y, **settings):
    """Images [n, ...] and predictions [n]."""
    chosen = options(**settings)
    handle = made('advrob_attack_create', ctx, name, chosen)
    adversarial, predictions = array('f', x), array('i', y)
    call('advrob_attack_run', handle, target, c_int64(len(y)), pointer(x), pointer(y, c_int32),
         pointer(adversarial), pointer(predictions, c_int32), None)
    lib.advrob_attack_destroy(handle)
    lib.advrob_options_destroy(chosen)
    return adversarial, predictions


def check_ball(x, adversarial, epsilon):
    radius = c_float(epsilon).value
    for a, b in zip(x, adversarial):
        expect(c_float(abs(b - a)).value <= radius, f'{b} is further than {radius} from {a}')
        expect(0 <= b <= 1, f'{b} is no pixel')
    expect(adversarial != x, 'the attack changed nothing')


def check_model(ctx):
    """PGD on the net "tiny": in the ball, and the predictions are those of the images."""
    model = made('advrob_model_build', ctx, b'tiny', None)
    shape = (c_int32 * 3)()
    call('advrob_model_input_shape', model, shape)
    n, classes = 5, lib.advrob_model_classes(model)
    x = array('f', [(i * 37 % 101) / 100 for i in range(n * shape[0] * shape[1] * shape[2])])
    target = made('advrob_target_from_model', model)
    y = array('i', [i % classes for i in range(n)])
    adversarial, predictions = attack(ctx, b'pgd', target, x, y, epsilon=0.1, step=0.02, steps=10)
    check_ball(x, adversarial, 0.1)
    logits = array('f', [0] * (n * classes))
    call('advrob_model_forward', model, c_int64(n), pointer(adversarial), pointer(logits))
    for i in range(n):
        row = logits[i * classes:(i + 1) * classes]
        expect(row.index(max(row)) == predictions[i], f'prediction {i} is not that of the image')
    lib.advrob_target_destroy(target)
    lib.advrob_model_destroy(model)


def check_callbacks(ctx):
    """FGSM on a linear model of two classes in Python: x - epsilon * sign(w) for class 1."""
    w = [0.5, -2.0, 0.25, -0.125]
    calls = []

    def forward(_user, n, x, logits):
        calls.append('forward')
        for i in range(n):
            logits[2 * i], logits[2 * i + 1] = 0.0, sum(w[j] * x[4 * i + j] for j in range(4))
        return 0

    def backward(_user, n, _x, dlogits, dx):
        calls.append('backward')
        for k in range(4 * n):
            dx[k] = dlogits[2 * (k // 4) + 1] * w[k % 4]
        return 0

    kept = FORWARD(forward), BACKWARD(backward)
    target = made('advrob_target_from_callbacks', ctx, 1, 2, 2, 2, c_double(0), c_double(1), *kept, None)
    x, y = array('f', [0.5, 0.25, 0.75, 0.5, 0.05, 1.0, 0.5, 0.5]), array('i', [1, 0])
    adversarial, predictions = attack(ctx, b'fgsm', target, x, y, epsilon=0.125)
    for k, (before, after) in enumerate(zip(x, adversarial)):
        sign = (1 if w[k % 4] > 0 else -1) * (-1 if y[k // 4] == 1 else 1)
        wanted = min(1.0, max(0.0, before + sign * 0.125))
        expect(abs(after - wanted) < 1e-6, f'FGSM moved {before} to {after}, not to {wanted}')
    for i in range(2):
        z = sum(w[j] * adversarial[4 * i + j] for j in range(4))
        expect(predictions[i] == int(z > 0), f'prediction {i} is {predictions[i]}, the logit {z}')
    expect({'forward', 'backward'} == set(calls), f'only {set(calls)} was called')
    lib.advrob_target_destroy(target)


def check_message(ctx):
    """A misspelt option is named, with the nearest one."""
    wrong, handle = options(epsilonn=0.1), c_void_p()
    status = lib.advrob_attack_create(ctx, b'pgd', wrong, byref(handle))
    message = lib.advrob_last_message().decode()
    expect(lib.advrob_status_name(status) == b'E_UNKNOWN', f'a misspelt option gave {status}')
    expect('"epsilonn"' in message and '"epsilon"' in message, f'unhelpful message: {message}')
    lib.advrob_options_destroy(wrong)


def main():
    number = lib.advrob_version()
    text = '.'.join(str(part) for part in (number // 10000, number // 100 % 100, number % 100))
    expect(lib.advrob_version_text().decode() == text, f'versions {number} and {text} differ')
    ctx = made('advrob_context_create', None)
    for check in (check_model, check_callbacks, check_message):
        check(ctx)
    lib.advrob_context_destroy(ctx)
    print(f'libadvrob {text} answers')


main()
