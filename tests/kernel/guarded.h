/* For the kernel tests: the levels of this CPU, random numbers, and buffers that end at a page that
 * may not be touched. */
#ifndef TESTS_KERNEL_GUARDED_H
#define TESTS_KERNEL_GUARDED_H

#include "kernel/kernel.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- levels ---- */

typedef struct level {
    const ar_kernels *table;
    bool blas;
} level;

static level levels[AR_CPU_COUNT + 1];
static int32_t level_count;
static int64_t checks; /* results compared: a run without any fails */

static inline void levels_find(void) {
    const ar_kernels *portable = ar_kernels_get(AR_CPU_PORTABLE, false);
    const ar_kernels *blas = ar_kernels_get(AR_CPU_PORTABLE, true);
    const ar_kernels *avx2 = ar_kernels_get(AR_CPU_AVX2, false);
    levels[level_count++] = (level){portable, false};
    if (blas != portable)
        levels[level_count++] = (level){blas, true};
    else
        fprintf(stderr, "not tested: portable with BLAS (not built)\n");
    if (avx2 == portable) {
        fprintf(stderr, "not tested: avx2 (not built)\n");
        return;
    }
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        levels[level_count++] = (level){avx2, false};
    else
        fprintf(stderr, "not tested: avx2 (this CPU lacks it)\n");
#endif
}

/* ---- random numbers ---- */

static uint64_t state = 88172645463325252u;

static inline uint32_t bits32(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

static inline int32_t between(int32_t low, int32_t high) {
    return low + (int32_t)(bits32() % (uint32_t)(high - low + 1));
}

static inline float number(void) {
    return (float)(bits32() >> 8) / 8388608.0f - 1.0f;
}

static inline int32_t channels(void) {
    return between(0, 19) == 0 ? 32 : between(1, 19);
}

/* ---- guarded buffers ---- */

typedef struct guarded {
    void *map;
    size_t size;
    unsigned char *start; /* of the slack before the data */
    unsigned char *data, *end;
} guarded;

static guarded buffers[64];
static int32_t buffer_count;

/* `size` bytes that end at the guard, or as near to it as the alignment allows. */
static inline void *take(size_t size, size_t align) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t room = (size + align + page - 1) / page * page;
    guarded *g = &buffers[buffer_count++];
    assert_true(buffer_count <= 64);
    g->size = room + page;
    g->map = mmap(NULL, g->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g->map != MAP_FAILED);
    g->start = g->map;
    assert_int_equal(mprotect(g->start + room, page, PROT_NONE), 0);
    g->data = g->start + (room - size) / align * align;
    g->end = g->data + size;
    memset(g->start, 0xa5, room);
    return g->data;
}

/* Frees all; what lies around the data must be as it was. */
static inline void drop(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int32_t i = 0; i < buffer_count; i++) {
        guarded *g = &buffers[i];
        for (unsigned char *p = g->start; p < g->start + g->size - page; p++)
            if ((p < g->data || p >= g->end) && *p != 0xa5) fail_msg("write outside of a buffer");
        munmap(g->map, g->size);
    }
    buffer_count = 0;
}

static inline float *floats(size_t n, size_t align) {
    float *x = take(n * sizeof *x, align);
    for (size_t i = 0; i < n; i++)
        x[i] = number();
    return x;
}

/* Classes below `count`, most often as long as a vector's. */
static inline int32_t *classes(size_t n, int32_t count) {
    int32_t *x = take(n * sizeof *x, 4);
    for (size_t i = 0; i < n; i++)
        x[i] = i > 0 && between(0, 3) > 0 ? x[i - 1] : between(0, count - 1);
    return x;
}

static inline uint8_t *bytes(size_t n) {
    uint8_t *x = take(n, 1);
    for (size_t i = 0; i < n; i++)
        x[i] = (uint8_t)bits32();
    return x;
}

static inline bool bit(const uint8_t *mask, int64_t i) {
    return (mask[i / 8] >> (i % 8) & 1) != 0;
}

/* A few values that are easy to get wrong among random ones. */
static inline float *odd_floats(size_t n, size_t align, bool nan) {
    static const float odd[] = {0.0f,  -0.0f,  0.5f,   1.5f,        2.5f,     -0.5f,     -1.5f,
                                1e30f, -1e30f, 1e-40f, 16777216.0f, INFINITY, -INFINITY, NAN};
    int32_t last = (int32_t)(sizeof odd / sizeof odd[0]) - (nan ? 1 : 4);
    float *x = floats(n, align);
    for (size_t i = 0; i < n; i++)
        x[i] = between(0, 2) == 0 ? odd[between(0, last)] : x[i] * 4;
    return x;
}

static inline void *copy(const void *from, size_t size, size_t align) {
    void *to = take(size, align);
    memcpy(to, from, size);
    return to;
}

static inline void same(const void *got, const void *want, size_t size, const char *what,
                        const char *name) {
    if (memcmp(got, want, size) != 0) fail_msg("%s, level %s", what, name);
    checks++;
}

/* At the end of each program. */
static inline void test_counted(void **unused) {
    (void)unused;
    assert_true(level_count > 0);
    assert_true(checks > 1000);
}

#endif
