/* The integer slots in plain C: what every level's bits are held to. */
#include "kernel/levels.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 4 }; /* outputs of a block, channels of a quad */

static int32_t up4(int32_t n) {
    return (n + 3) / 4 * 4;
}

/* [block][row][output][4] */
size_t ar_qgemm_size_c(int32_t outputs, int32_t rows, int32_t x_high) {
    (void)x_high;
    return (size_t)up4(outputs) * (size_t)rows * 4;
}

void ar_qgemm_pack_c(int32_t outputs, int32_t rows, int32_t x_high, const int8_t *w, void *packed) {
    int8_t *out = packed;
    (void)x_high;
    for (int32_t b = 0; b < outputs; b += BLOCK)
        for (int32_t r = 0; r < rows; r++)
            for (int32_t o = b; o < b + BLOCK; o++, out += 4) {
                if (o < outputs)
                    memcpy(out, w + ((int64_t)o * rows + r) * 4, 4);
                else
                    memset(out, 0, 4);
            }
}

static int32_t code(const ar_qgemm *call, int32_t o, int64_t at, int32_t a) {
    float v = (float)a * call->scale[o];
    if (call->residual != NULL) {
        float other = (float)(call->residual[at] - call->residual_zero) * call->residual_scale;
        v = v + other;
    }
    /* A float beyond the codes is clamped before it becomes an int. */
    float q = rintf(v) + (float)call->zero;
    if (!(q > (float)call->low)) return call->low;
    return q < (float)call->high ? (int32_t)q : call->high;
}

/* A block of outputs from o of pixel p. */
static void block(const ar_qgemm *call, int32_t p, int32_t o) {
    const int32_t lanes = call->lanes, padded = up4(call->outputs);
    const int8_t *w = (const int8_t *)call->w + (int64_t)o * call->rows * 4;
    const int32_t class = call->bias_class == NULL ? 0 : call->bias_class[p];
    int32_t sums[BLOCK][AR_MAX_LANES];
    for (int32_t j = 0; j < BLOCK; j++)
        for (int32_t l = 0; l < lanes; l++)
            sums[j][l] = call->bias[(int64_t) class * padded + o + j];
    for (int32_t s = call->first[p]; s < call->first[p + 1]; s++)
        for (int32_t k = 0; k < call->segments[s].k; k++) {
            const uint8_t *x = call->x + (int64_t)(call->segments[s].x + k) * lanes * 4;
            const int8_t *row = w + (int64_t)(call->segments[s].w + k) * BLOCK * 4;
            for (int32_t j = 0; j < BLOCK; j++)
                for (int32_t l = 0; l < lanes; l++)
                    for (int32_t c = 0; c < 4; c++)
                        sums[j][l] += x[l * 4 + c] * row[j * 4 + c];
        }
    if (call->sums != NULL) {
        for (int32_t j = 0; j < BLOCK; j++)
            memcpy(call->sums + ((int64_t)p * padded + o + j) * lanes, sums[j],
                   sizeof(int32_t) * (size_t)lanes);
        return;
    }
    const int64_t at = ((int64_t)p * padded + o) * lanes;
    for (int32_t l = 0; l < lanes; l++)
        for (int32_t j = 0; j < BLOCK; j++) {
            const int64_t i = at + l * 4 + j;
            call->y[i] = o + j < call->outputs ? (uint8_t)code(call, o + j, i, sums[j][l]) : 0;
        }
}

void ar_qgemm_c(const ar_qgemm *call) {
    const ar_span blocks = ar_span_of(call->blocks, up4(call->outputs) / BLOCK);
    for (int32_t p = 0; p < call->pixels; p++)
        for (int32_t b = blocks.begin; b < blocks.end; b++)
            block(call, p, b * BLOCK);
}

void ar_qmax_pool_c(const ar_qpool *call) {
    const int64_t size = (int64_t)call->quads * call->lanes * 4;
    for (int32_t p = 0; p < call->pixels_out; p++) {
        uint8_t *y = call->y + p * size;
        memcpy(y, call->x + call->index[call->first[p]] * size, (size_t)size);
        for (int32_t k = call->first[p] + 1; k < call->first[p + 1]; k++) {
            const uint8_t *x = call->x + call->index[k] * size;
            for (int64_t i = 0; i < size; i++)
                y[i] = x[i] > y[i] ? x[i] : y[i];
        }
    }
}

/* Bytes [i, i + n) of output pixel p, n at most a quad of all lanes. */
static void mean_run(const ar_qmean *call, int32_t p, int64_t size, int64_t i, int32_t n) {
    const ar_qpool *pool = &call->pool;
    const int32_t begin = pool->first[p], end = pool->first[p + 1];
    const float low = (float)call->low, high = (float)call->high;
    int32_t sums[4 * AR_MAX_LANES];
    for (int32_t j = 0; j < n; j++)
        sums[j] = -call->x_zero * (end - begin);
    for (int32_t k = begin; k < end; k++) {
        const uint8_t *x = pool->x + pool->index[k] * size + i;
        for (int32_t j = 0; j < n; j++)
            sums[j] += x[j];
    }
    uint8_t *y = pool->y + p * size + i;
    for (int32_t j = 0; j < n; j++) {
        float q = rintf((float)sums[j] * call->scale) + (float)call->zero;
        q = q > low ? q : low;
        y[j] = (uint8_t)(q < high ? q : high);
    }
}

/* Of a quad [lanes][4], the channels from `inside` on. */
static void clear_rest(uint8_t *quad, int32_t lanes, int32_t inside) {
    for (int32_t l = 0; l < lanes; l++)
        for (int32_t c = inside; c < 4; c++)
            quad[l * 4 + c] = 0;
}

void ar_qavg_pool_c(const ar_qmean *call) {
    const int32_t lanes = call->pool.lanes, quads = call->pool.quads;
    const int64_t size = (int64_t)quads * lanes * 4;
    for (int32_t p = 0; p < call->pool.pixels_out; p++) {
        for (int32_t q = 0; q < quads; q++)
            mean_run(call, p, size, (int64_t)q * lanes * 4, lanes * 4);
        clear_rest(call->pool.y + (p + 1) * size - lanes * 4, lanes,
                   call->channels - 4 * (quads - 1));
    }
}

void ar_qconcat_c(const ar_qjoin *call) {
    const int32_t lanes = call->lanes, channels = call->channels[0] + call->channels[1];
    const int64_t to = (int64_t)up4(channels) * lanes;
    for (int32_t p = 0; p < call->pixels; p++) {
        uint8_t *y = call->y + p * to;
        clear_rest(y + to - lanes * 4, lanes, channels - (up4(channels) - 4));
        for (int32_t k = 0, c = 0; k < 2; k++) {
            const uint8_t *x = call->x[k] + p * (int64_t)up4(call->channels[k]) * lanes;
            const uint8_t *table = call->table[k];
            for (int32_t i = 0; i < call->channels[k]; i++, c++)
                for (int32_t l = 0; l < lanes; l++)
                    y[(c / 4 * lanes + l) * 4 + c % 4] = table[x[(i / 4 * lanes + l) * 4 + i % 4]];
        }
    }
}

void ar_qadd_c(const ar_qadd *call) {
    const float low = (float)call->low, high = (float)call->high;
    for (int64_t i = 0; i < call->n; i++) {
        float v = (float)(call->a[i] - call->a_zero) * call->a_scale;
        v = v + (float)(call->b[i] - call->b_zero) * call->b_scale;
        float q = rintf(v) + (float)call->zero;
        q = q > low ? q : low;
        call->y[i] = (uint8_t)(q < high ? q : high);
    }
}

void ar_qpad_c(const ar_qpad *call) {
    const int32_t from = up4(call->channels), to = up4(call->channels_out), lanes = call->lanes;
    for (int32_t p = 0; p < call->pixels; p++)
        for (int32_t c = 0; c < to; c++) {
            const int32_t k = c - call->before;
            const bool kept = k >= 0 && k < call->channels;
            const int32_t other = c < call->channels_out ? call->fill : 0;
            const uint8_t *x = call->x + (int64_t)p * from * lanes;
            uint8_t *y = call->y + ((int64_t)p * to + c / 4 * 4) * lanes + c % 4;
            for (int32_t l = 0; l < lanes; l++)
                y[l * 4] = kept ? x[(k / 4 * lanes + l) * 4 + k % 4] : (uint8_t)other;
        }
}

void ar_qrows_c(const ar_qrows *call) {
    const int32_t c = call->channels, lanes = call->lanes;
    const int64_t from = (int64_t)up4(c) * lanes, to = (int64_t)call->quads * 4 * lanes;
    memset(call->y, 0, (size_t)(to * call->places * call->h));
    for (int32_t place = 0; place < call->places; place++)
        for (int32_t row = 0; row < call->h; row++)
            for (int32_t i = 0; i < call->taps * c; i++) {
                const int32_t column = place * call->stride - call->padding + i / c, k = i % c;
                uint8_t *y = call->y + ((int64_t)place * call->h + row) * to + i / 4 * 4 * lanes;
                if (column < 0 || column >= call->w) continue;
                const uint8_t *x = call->x + ((int64_t)row * call->w + column) * from;
                for (int32_t l = 0; l < lanes; l++)
                    y[l * 4 + i % 4] = x[(k / 4 * lanes + l) * 4 + k % 4];
            }
}

void ar_qload_c(int32_t lanes, int32_t count, int32_t channels, int32_t pixels, const float *x,
                const double *scale, const double *zero, uint8_t *tile) {
    const int32_t quads = up4(channels) / 4;
    memset(tile, 0, (size_t)pixels * (size_t)quads * (size_t)lanes * 4);
    for (int32_t l = 0; l < count; l++)
        for (int32_t c = 0; c < channels; c++)
            for (int32_t p = 0; p < pixels; p++) {
                double q =
                    rint((double)x[((int64_t)l * channels + c) * pixels + p] / scale[c]) + zero[c];
                tile[(((int64_t)p * quads + c / 4) * lanes + l) * 4 + c % 4] =
                    (uint8_t)(q > 0 ? q < 255 ? q : 255 : 0);
            }
}
