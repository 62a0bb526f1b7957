/* What the AVX2 files share. */
#ifndef AR_KERNEL_AVX2_H
#define AR_KERNEL_AVX2_H

#include "kernel/levels.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

/* Unrolled whole, or else arrays of vectors live in memory instead of registers. Loops so marked
 * have at most 12 rounds. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 12")
#endif

/* The wgrad slot of layers that leave outer products too little to do: wgrad_f32_avx2.c asks. */
void ar_wgrad_lanes_f32_avx2(const ar_wgrad *call);

/* All bits of the lanes whose bit is set. */
INLINE __m256 ar_expand(uint32_t byte) {
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i set = _mm256_and_si256(_mm256_set1_epi32((int32_t)byte), bit);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, bit));
}

/* The transposed of 8 x 8 floats: rows[j][k] to columns[k][j]; in place is fine. */
INLINE void ar_transpose(const __m256 *rows, __m256 *columns) {
    __m256 a[8], b[8];
    UNROLL
    for (int32_t i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    UNROLL
    for (int32_t i = 0; i < 8; i += 4) {
        b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    UNROLL
    for (int32_t i = 0; i < 4; i++) {
        columns[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        columns[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

#endif
