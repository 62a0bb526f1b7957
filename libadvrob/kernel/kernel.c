/* The tables: one per level, constant, so that choosing one needs no start-up and no lock. A level
 * that lacks a slot of its own names the one below. The inference-only library has the integer
 * slots alone. */
#include "kernel/levels.h"

static const ar_kernels reference = {
    .name = "portable",
#ifndef AR_ENGINE_ALONE
    .gemm_block = AR_GEMM_BLOCK_C,
    .gemm = ar_gemm_f32_c,
    .winograd = ar_winograd_f32_c,
    .winograd_scratch = ar_winograd_scratch_f32_c,
    .winograd_pack = ar_winograd_pack_f32_c,
    .wgrad = ar_wgrad_f32_c,
    .depthwise = ar_depthwise_f32_c,
    .depthwise_wgrad = ar_depthwise_wgrad_f32_c,
    .max_pool = ar_max_pool_f32_c,
    .max_pool_backward = ar_max_pool_backward_f32_c,
    .avg_pool = ar_avg_pool_f32_c,
    .avg_pool_backward = ar_avg_pool_backward_f32_c,
    .relu = ar_relu_f32_c,
    .gate = ar_gate_f32_c,
    .add = ar_add_f32_c,
    .norm = ar_norm_f32_c,
    .norm_backward = ar_norm_backward_f32_c,
    .channel_sums = ar_channel_sums_f32_c,
    .quantize = ar_quantize_f32_c,
    .step = ar_step_f32_c,
    .plane_height = ar_plane_height_f32_c,
    .plane_length = ar_plane_length_f32_c,
    .plane_step = ar_plane_step_f32_c,
    .load = ar_load_f32_c,
    .store = ar_store_f32_c,
    .sgd = ar_sgd_f32_c,
    .fma = ar_fma_f32_c,
#endif
    .qgemm_size = ar_qgemm_size_c,
    .qgemm_pack = ar_qgemm_pack_c,
    .qgemm = ar_qgemm_c,
    .qmax_pool = ar_qmax_pool_c,
    .qavg_pool = ar_qavg_pool_c,
    .qconcat = ar_qconcat_c,
    .qadd = ar_qadd_c,
    .qpad = ar_qpad_c,
    .qrows = ar_qrows_c,
    .qload = ar_qload_c,
};

#if defined(AR_HAVE_CBLAS) && !defined(AR_REAL_IS_DOUBLE)
/* The weight gradient stays with the reference: as BLAS calls it would be products of depth
 * `lanes`, and its bits would follow the cut by outputs. */
static const ar_kernels reference_cblas = {
    .name = "portable with BLAS",
    .gemm_block = AR_GEMM_BLOCK_CBLAS,
    .gemm = ar_gemm_f32_cblas,
    .winograd = ar_winograd_f32_c,
    .winograd_scratch = ar_winograd_scratch_f32_c,
    .winograd_pack = ar_winograd_pack_f32_c,
    .wgrad = ar_wgrad_f32_c,
    .depthwise = ar_depthwise_f32_c,
    .depthwise_wgrad = ar_depthwise_wgrad_f32_c,
    .max_pool = ar_max_pool_f32_c,
    .max_pool_backward = ar_max_pool_backward_f32_c,
    .avg_pool = ar_avg_pool_f32_c,
    .avg_pool_backward = ar_avg_pool_backward_f32_c,
    .relu = ar_relu_f32_c,
    .gate = ar_gate_f32_c,
    .add = ar_add_f32_c,
    .norm = ar_norm_f32_c,
    .norm_backward = ar_norm_backward_f32_c,
    .channel_sums = ar_channel_sums_f32_c,
    .quantize = ar_quantize_f32_c,
    .step = ar_step_f32_c,
    .plane_height = ar_plane_height_f32_c,
    .plane_length = ar_plane_length_f32_c,
    .plane_step = ar_plane_step_f32_c,
    .load = ar_load_f32_c,
    .store = ar_store_f32_c,
    .sgd = ar_sgd_f32_c,
    .qgemm_size = ar_qgemm_size_c,
    .qgemm_pack = ar_qgemm_pack_c,
    .qgemm = ar_qgemm_c,
    .qmax_pool = ar_qmax_pool_c,
    .qavg_pool = ar_qavg_pool_c,
    .qconcat = ar_qconcat_c,
    .qadd = ar_qadd_c,
    .qpad = ar_qpad_c,
    .qrows = ar_qrows_c,
    .qload = ar_qload_c,
    .fma = ar_fma_f32_c,
};
#endif

#if defined(AR_HAVE_AVX2) && !defined(AR_REAL_IS_DOUBLE)
static const ar_kernels avx2 = {
    .name = "avx2",
#ifndef AR_ENGINE_ALONE
    .gemm_block = AR_GEMM_BLOCK_AVX2,
    .gemm = ar_gemm_f32_avx2,
    .winograd_channels = 12, /* 1.4 times direct's speed, on 3 x 3 pixels and more */
    .winograd = ar_winograd_f32_avx2,
    .winograd_scratch = ar_winograd_scratch_f32_avx2,
    .winograd_pack = ar_winograd_pack_f32_avx2,
    .wgrad = ar_wgrad_f32_avx2,
    .depthwise = ar_depthwise_f32_avx2,
    .depthwise_wgrad = ar_depthwise_wgrad_f32_avx2,
    .max_pool = ar_max_pool_f32_avx2,
    .max_pool_backward = ar_max_pool_backward_f32_avx2,
    .avg_pool = ar_avg_pool_f32_avx2,
    .avg_pool_backward = ar_avg_pool_backward_f32_avx2,
    .relu = ar_relu_f32_avx2,
    .gate = ar_gate_f32_avx2,
    .add = ar_add_f32_avx2,
    .norm = ar_norm_f32_avx2,
    .norm_backward = ar_norm_backward_f32_avx2,
    .channel_sums = ar_channel_sums_f32_avx2,
    .quantize = ar_quantize_f32_avx2,
    .step = ar_step_f32_avx2,
    .plane_height = ar_plane_height_f32_avx2,
    .plane_length = ar_plane_length_f32_avx2,
    .plane_step = ar_plane_step_f32_avx2,
    .load = ar_load_f32_avx2,
    .store = ar_store_f32_avx2,
    .sgd = ar_sgd_f32_avx2,
    .fma = ar_fma_f32_avx2,
#endif
    .qgemm_size = ar_qgemm_size_avx2,
    .qgemm_pack = ar_qgemm_pack_avx2,
    .qgemm = ar_qgemm_avx2,
    .qmax_pool = ar_qmax_pool_avx2,
    .qavg_pool = ar_qavg_pool_c,
    .qconcat = ar_qconcat_c,
    .qadd = ar_qadd_avx2,
    .qpad = ar_qpad_avx2,
    .qrows = ar_qrows_avx2,
    .qload = ar_qload_avx2,
};
#endif

const ar_kernels *ar_kernels_get(int32_t level, bool blas) {
#if defined(AR_HAVE_AVX2) && !defined(AR_REAL_IS_DOUBLE)
    if (level >= AR_CPU_AVX2) return &avx2;
#endif
#if defined(AR_HAVE_CBLAS) && !defined(AR_REAL_IS_DOUBLE)
    if (blas) return &reference_cblas;
#endif
    (void)level;
    (void)blas;
    return &reference;
}

int32_t ar_block_count(int32_t n, int32_t block) {
    return n / block + (n % block != 0);
}

int32_t ar_block_first(int32_t n, int32_t block, int32_t b) {
    int32_t count = ar_block_count(n, block);
    if (count == 0) return 0;
    int32_t larger = n % count;
    return b * (n / count) + (b < larger ? b : larger);
}

int32_t ar_gemm_stride(const ar_gemm *call) {
    return call->stride > 0 ? call->stride : call->outputs;
}

ar_span ar_span_of(ar_span range, int32_t n) {
    return range.end > 0 ? range : (ar_span){0, n};
}

int32_t ar_winograd_out(const ar_winograd *call, int32_t axis) {
    return (axis == 0 ? call->h : call->w) + 2 * call->padding[axis] - 2;
}

int32_t ar_winograd_tiles(const ar_winograd *call) {
    int32_t rows = ar_block_count(ar_winograd_out(call, 0), call->m);
    int32_t columns = ar_block_count(ar_winograd_out(call, 1), call->m);
    return rows * columns;
}
