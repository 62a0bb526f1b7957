"""Engine files by docs/file-format.md and docs/engine.md alone: what a file says, and its logits for
an image of bytes, in plain Python. Shares nothing with the library."""
import struct
import zlib
from ctypes import c_float

GEMM, MAX_POOL, PAD, ADD, AVG_POOL, CONCAT = range(6)


def f32(value):
    return c_float(value).value


def code(v, zero, low, high):
    """The rule of requantisation; round() takes ties to even."""
    return min(max(round(v) + zero, low), high)


class Stream:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from('<' + form, self.data, self.at)
        self.at += struct.calcsize('<' + form)
        return values if len(values) != 1 else values[0]


class Layer:
    def __init__(self, s, values):
        self.name = s.take('64s').split(b'\0')[0].decode()
        self.kind, self.input, self.residual, self.output = s.take('4i')
        axes = s.take('8i')
        self.kernel, self.stride, self.padding, self.dilation = (axes[i::4] for i in range(4))
        self.before, self.after = s.take('2i')
        self.shape = s.take('3i')
        self.low, self.high, self.classes = s.take('3i')
        if self.kind == GEMM:
            outputs, taps = self.shape[0], self.kernel[0] * self.kernel[1]
            count = values[self.input].shape[0] * taps
            self.weights = [s.take(f'{count}b') for _ in range(outputs)]
            self.bias = [s.take(f'{outputs}i') if outputs > 1 else (s.take('i'),)
                         for _ in range(self.classes)]
            self.scale = s.take(f'{outputs}f') if outputs > 1 else (s.take('f'),)


class Value:
    def __init__(self, s):
        self.shape = s.take('3i')
        self.zero, self.high = s.take('2i')
        self.scale = s.take('f')


class Engine:
    def __init__(self, data):
        s = Stream(data)
        magic, version, crc, size = s.take('8sIIQ')
        assert (magic, version, size) == (b'ADVROBQ\0', 1, len(data))
        assert crc == zlib.crc32(data[s.at:])
        self.shape = s.take('3i')
        _, values, layers = s.take('3i')
        channels = self.shape[0]
        self.box = [struct.unpack_from(f'<{channels}d', data, s.at + 8 * channels * i) for i in range(2)]
        s.at += 24 * channels
        self.values = [Value(s) for _ in range(values)]
        self.layers = [Layer(s, self.values) for _ in range(layers)]
        assert s.at == len(data)

    def logits(self, pixels):
        """Of one image of bytes [channels, height, width]."""
        first, (channels, height, width) = self.values[0], self.shape
        table = [[code(f32(low + k / 255 * (high - low)) / first.scale, first.zero, 0, first.high)
                  for k in range(256)] for low, high in zip(*self.box)]
        maps = [[[[table[c][pixels[(c * height + y) * width + x]] for x in range(width)]
                  for y in range(height)] for c in range(channels)]]
        for layer in self.layers:
            maps.append(self.run(layer, maps))
        return [v for channel in maps[-1] for row in channel for v in row]

    def run(self, layer, maps):
        x, value = maps[layer.input], self.values[layer.input]
        other = maps[layer.residual] if layer.residual >= 0 else None
        out = self.values[layer.output] if layer.output >= 0 else None
        _, height, width = layer.shape
        if layer.kind == PAD:
            empty = [[out.zero] * width for _ in range(height)]
            return [empty] * layer.before + x + [empty] * layer.after
        if layer.kind == CONCAT:
            return [[[code(f32((q - v.zero) * f32(v.scale / out.scale)), out.zero, layer.low, layer.high)
                      for q in row] for row in channel]
                    for part, v in ((x, value), (other, self.values[layer.residual]))
                    for channel in part]
        return [[[self.pixel(layer, x, value, other, out, c, i, j) for j in range(width)]
                 for i in range(height)] for c in range(layer.shape[0])]

    def pixel(self, layer, x, value, other, out, c, i, j):
        if layer.kind == ADD:
            v = f32((x[c][i][j] - value.zero) * f32(value.scale / out.scale))
            return self.finish(layer, v, other[c][i][j], out)
        rows, columns = window(layer, value, 0, i), window(layer, value, 1, j)
        taps = [(ky * layer.kernel[1] + kx, y, z) for ky, y in rows for kx, z in columns]
        if layer.kind == MAX_POOL:
            return max(x[c][y][z] for _, y, z in taps)
        if layer.kind == AVG_POOL:
            total = sum(x[c][y][z] - value.zero for _, y, z in taps)
            scale = f32(value.scale / (layer.kernel[0] * layer.kernel[1]) / out.scale)
            return self.finish(layer, f32(f32(total) * scale), None, out)
        weights, per = layer.weights[c], layer.kernel[0] * layer.kernel[1]
        which = 0
        if layer.classes > 1:
            which = (border(layer, value, 0, i) * (border(layer, value, 1, layer.shape[2] - 1) + 1) +
                     border(layer, value, 1, j))
        total = layer.bias[which][c] + sum(weights[k * per + t] * channel[y][z]
                                           for k, channel in enumerate(x) for t, y, z in taps)
        v = f32(f32(total) * layer.scale[c])
        return v if out is None else self.finish(layer, v, other and other[c][i][j], out)

    def finish(self, layer, v, residual, out):
        if residual is not None:
            term = self.values[layer.residual]
            v = f32(v + f32((residual - term.zero) * f32(term.scale / out.scale)))
        return code(v, out.zero, layer.low, layer.high)


def window(layer, value, axis, at):
    """(tap, position) of a window's taps in the image."""
    places = [(k, at * layer.stride[axis] - layer.padding[axis] + k * layer.dilation[axis])
              for k in range(layer.kernel[axis])]
    return [(k, p) for k, p in places if 0 <= p < value.shape[1 + axis]]


def border(layer, value, axis, at):
    """The class of a position: a run of those whose windows have the same taps in the image."""
    taps = [[k for k, _ in window(layer, value, axis, i)] for i in range(at + 1)]
    return sum(taps[i] != taps[i - 1] for i in range(1, at + 1))
