/* The functions behind the tables of kernel.c, by level. Only files of this folder include it. */
#ifndef AR_KERNEL_LEVELS_H
#define AR_KERNEL_LEVELS_H

#include "kernel/kernel.h"

/* c/: portable C; in double in the build with AR_REAL_IS_DOUBLE. */
#define AR_GEMM_BLOCK_C 4
void ar_gemm_f32_c(const ar_gemm *call);
void ar_winograd_f32_c(const ar_winograd *call);
size_t ar_winograd_scratch_f32_c(const ar_winograd *call);
void ar_winograd_pack_f32_c(const ar_winograd_pack *call);
void ar_wgrad_f32_c(const ar_wgrad *call);
void ar_depthwise_f32_c(const ar_depthwise *call);
void ar_depthwise_wgrad_f32_c(const ar_wgrad *call);
void ar_max_pool_f32_c(const ar_pool_call *call);
void ar_max_pool_backward_f32_c(const ar_pool_call *call);
void ar_avg_pool_f32_c(const ar_pool_call *call);
void ar_avg_pool_backward_f32_c(const ar_pool_call *call);
void ar_relu_f32_c(int64_t n, const ar_real *x, ar_real *y, uint8_t *mask);
void ar_gate_f32_c(int64_t n, const ar_real *x, const uint8_t *mask, ar_real *y, bool accumulate);
void ar_add_f32_c(int64_t n, const ar_real *a, const ar_real *b, ar_real *y);
void ar_norm_f32_c(const ar_norm_call *call);
void ar_norm_backward_f32_c(const ar_norm_call *call);
void ar_channel_sums_f32_c(int32_t lanes, int32_t channels, int32_t pixels, const ar_real *a,
                           const ar_real *b, double *sums);
void ar_quantize_f32_c(const ar_quant_call *call);
void ar_step_f32_c(const ar_step_call *call);
void ar_plane_height_f32_c(const ar_plane *plane, const ar_plane_way *way, double *won,
                           double *rate);
void ar_plane_length_f32_c(const ar_plane *plane, const ar_plane_way *way, double *largest,
                           double *squares);
void ar_plane_step_f32_c(const ar_plane *plane, const ar_plane_way *a, const ar_plane_way *b,
                         double past, double share, float *x);
void ar_load_f32_c(int32_t lanes, int32_t count, int32_t channels, int32_t pixels, const float *x,
                   const ar_real *scale, const ar_real *shift, ar_real *tile);
void ar_store_f32_c(int32_t lanes, int32_t count, int32_t channels, int32_t pixels,
                    const ar_real *tile, const ar_real *scale, float *x);
void ar_sgd_f32_c(int64_t n, ar_real *w, ar_real *v, const ar_real *g, ar_real rate,
                  ar_real momentum, ar_real decay);
size_t ar_qgemm_size_c(int32_t outputs, int32_t rows, int32_t x_high);
void ar_qgemm_pack_c(int32_t outputs, int32_t rows, int32_t x_high, const int8_t *w, void *packed);
void ar_qgemm_c(const ar_qgemm *call);
void ar_qmax_pool_c(const ar_qpool *call);
void ar_qavg_pool_c(const ar_qmean *call);
void ar_qconcat_c(const ar_qjoin *call);
void ar_qadd_c(const ar_qadd *call);
void ar_qpad_c(const ar_qpad *call);
void ar_qrows_c(const ar_qrows *call);
void ar_qload_c(int32_t lanes, int32_t count, int32_t channels, int32_t pixels, const float *x,
                const double *scale, const double *zero, uint8_t *tile);
int64_t ar_fma_f32_c(int64_t rounds, ar_real *sum);

/* cblas.c */
#define AR_GEMM_BLOCK_CBLAS 32
void ar_gemm_f32_cblas(const ar_gemm *call);

/* x86: AVX2 and FMA */
#define AR_GEMM_BLOCK_AVX2 6
void ar_gemm_f32_avx2(const ar_gemm *call);
void ar_winograd_f32_avx2(const ar_winograd *call);
size_t ar_winograd_scratch_f32_avx2(const ar_winograd *call);
void ar_winograd_pack_f32_avx2(const ar_winograd_pack *call);
void ar_wgrad_f32_avx2(const ar_wgrad *call);
void ar_depthwise_f32_avx2(const ar_depthwise *call);
void ar_depthwise_wgrad_f32_avx2(const ar_wgrad *call);
void ar_max_pool_f32_avx2(const ar_pool_call *call);
void ar_max_pool_backward_f32_avx2(const ar_pool_call *call);
void ar_avg_pool_f32_avx2(const ar_pool_call *call);
void ar_avg_pool_backward_f32_avx2(const ar_pool_call *call);
void ar_relu_f32_avx2(int64_t n, const ar_real *x, ar_real *y, uint8_t *mask);
void ar_gate_f32_avx2(int64_t n, const ar_real *x, const uint8_t *mask, ar_real *y,
                      bool accumulate);
void ar_add_f32_avx2(int64_t n, const ar_real *a, const ar_real *b, ar_real *y);
void ar_norm_f32_avx2(const ar_norm_call *call);
void ar_norm_backward_f32_avx2(const ar_norm_call *call);
void ar_channel_sums_f32_avx2(int32_t lanes, int32_t channels, int32_t pixels, const ar_real *a,
                              const ar_real *b, double *sums);
void ar_quantize_f32_avx2(const ar_quant_call *call);
void ar_step_f32_avx2(const ar_step_call *call);
void ar_plane_height_f32_avx2(const ar_plane *plane, const ar_plane_way *way, double *won,
                              double *rate);
void ar_plane_length_f32_avx2(const ar_plane *plane, const ar_plane_way *way, double *largest,
                              double *squares);
void ar_plane_step_f32_avx2(const ar_plane *plane, const ar_plane_way *a, const ar_plane_way *b,
                            double past, double share, float *x);
void ar_load_f32_avx2(int32_t lanes, int32_t count, int32_t channels, int32_t pixels,
                      const float *x, const ar_real *scale, const ar_real *shift, ar_real *tile);
void ar_store_f32_avx2(int32_t lanes, int32_t count, int32_t channels, int32_t pixels,
                       const ar_real *tile, const ar_real *scale, float *x);
void ar_sgd_f32_avx2(int64_t n, ar_real *w, ar_real *v, const ar_real *g, ar_real rate,
                     ar_real momentum, ar_real decay);
size_t ar_qgemm_size_avx2(int32_t outputs, int32_t rows, int32_t x_high);
void ar_qgemm_pack_avx2(int32_t outputs, int32_t rows, int32_t x_high, const int8_t *w,
                        void *packed);
void ar_qgemm_avx2(const ar_qgemm *call);
void ar_qmax_pool_avx2(const ar_qpool *call);
void ar_qadd_avx2(const ar_qadd *call);
void ar_qpad_avx2(const ar_qpad *call);
void ar_qrows_avx2(const ar_qrows *call);
void ar_qload_avx2(int32_t lanes, int32_t count, int32_t channels, int32_t pixels, const float *x,
                   const double *scale, const double *zero, uint8_t *tile);
int64_t ar_fma_f32_avx2(int64_t rounds, ar_real *sum);

#endif
