/* Blocks, counters, limits, checked arithmetic and arenas; contexts and their memory. */
#include "support/support.h"

#include <fenv.h>
#include <math.h>
#include <string.h>

#define BIG (SIZE_MAX / 2)

static void test_alignment(void **state) {
    test_allocator allocator = {0};
    ar_memory memory;
    void *blocks[200];
    (void)state;
    ar_memory_init(&memory, test_alloc, &allocator);
    for (size_t i = 0; i < 200; i++) {
        assert_int_equal(ar_alloc(&memory, i, "a block", &blocks[i]), ADVROB_OK);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % AR_ALIGN, 0);
        memset(blocks[i], (int)i, i); /* a sanitizer sees a block that is too small */
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t k = 0; k < i; k++) {
            assert_int_equal(((unsigned char *)blocks[i])[k], i);
        }
        ar_free(&memory, blocks[i]);
    }
    ar_free(&memory, NULL);
    assert_true(memory.used == 0);
    assert_true(memory.calls == 200);
    assert_true(memory.peak > 200 * 100);
    test_allocator_check(&allocator);
}

static void test_calloc_and_regrow(void **state) {
    test_allocator allocator = {0};
    ar_memory memory;
    void *block = NULL;
    (void)state;
    ar_memory_init(&memory, test_alloc, &allocator);
    assert_int_equal(ar_regrow(&memory, &block, 3, 5, "a block"), ADVROB_OK);
    memcpy(block, "hello, world!!", 15);
    assert_int_equal(ar_regrow(&memory, &block, 1000, 5, "a block"), ADVROB_OK);
    assert_string_equal(block, "hello, world!!");
    assert_int_equal((uintptr_t)block % AR_ALIGN, 0);
    memset((char *)block + 15, 7, 5000 - 15);
    void *before = block;
    assert_int_equal(ar_regrow(&memory, &block, BIG, 3, "a block"), ADVROB_E_OVERFLOW);
    assert_ptr_equal(block, before);
    test_allocator_arm(&allocator, 1, 0);
    assert_int_equal(ar_regrow(&memory, &block, 2000, 5, "a block"), ADVROB_E_NOMEM);
    assert_ptr_equal(block, before);
    assert_string_equal(block, "hello, world!!");
    ar_free(&memory, block);

    assert_int_equal(ar_calloc(&memory, 100, 7, "zeros", &block), ADVROB_OK);
    for (int i = 0; i < 700; i++) {
        assert_int_equal(((char *)block)[i], 0);
    }
    ar_free(&memory, block);
    assert_int_equal(ar_calloc(&memory, BIG, 3, "zeros", &block), ADVROB_E_OVERFLOW);
    assert_null(block);
    assert_int_equal(ar_alloc(&memory, SIZE_MAX, "all of it", &block), ADVROB_E_OVERFLOW);
    assert_null(block);
    assert_true(memory.used == 0);
    test_allocator_check(&allocator);
}

static void test_limit(void **state) {
    test_allocator allocator = {0};
    ar_memory memory;
    void *a, *b;
    (void)state;
    ar_memory_init(&memory, test_alloc, &allocator);
    memory.limit = 4096;
    assert_int_equal(ar_alloc(&memory, 3000, "the first", &a), ADVROB_OK);
    assert_int_equal(ar_alloc(&memory, 3000, "the second", &b), ADVROB_E_NOMEM);
    assert_null(b);
    assert_non_null(strstr(ar_message(), "the second"));
    assert_non_null(strstr(ar_message(), "limit of 4096"));
    assert_int_equal(allocator.calls, 1); /* the hook was not asked */
    assert_true(memory.peak <= 4096);
    ar_free(&memory, a);
    assert_int_equal(ar_alloc(&memory, 3000, "the second", &b), ADVROB_OK);
    ar_free(&memory, b);
    test_allocator_arm(&allocator, 1, 0);
    assert_int_equal(ar_alloc(&memory, 8, "the third", &b), ADVROB_E_NOMEM);
    assert_non_null(strstr(ar_message(), "the third"));
    assert_null(strstr(ar_message(), "limit"));
    assert_true(memory.used == 0);
    test_allocator_check(&allocator);
}

static void test_default_hook(void **state) {
    ar_memory memory;
    void *block;
    (void)state;
    ar_memory_init(&memory, NULL, &memory);
    assert_int_equal(ar_alloc(&memory, 0, "nothing", &block), ADVROB_OK);
    assert_non_null(block);
    ar_free(&memory, block);
    assert_true(memory.used == 0);
}

static void test_arithmetic(void **state) {
    size_t size = 5;
    int64_t product = 5;
    (void)state;
    assert_true(ar_mul(0, SIZE_MAX, &size) && size == 0);
    assert_true(ar_mul(SIZE_MAX, 1, &size) && size == SIZE_MAX);
    assert_false(ar_mul(BIG, 3, &size));
    assert_true(ar_add(SIZE_MAX, 0, &size) && size == SIZE_MAX);
    assert_false(ar_add(SIZE_MAX, 1, &size));
    assert_true(ar_align_up(0, &size) && size == 0);
    assert_true(ar_align_up(1, &size) && size == 64);
    assert_true(ar_align_up(64, &size) && size == 64);
    assert_false(ar_align_up(SIZE_MAX - 62, &size));
    assert_true(ar_align_up(SIZE_MAX - 63, &size) && size == SIZE_MAX - 63);
    assert_true(ar_product(NULL, 0, &product) && product == 1);
    assert_true(ar_product((int64_t[]){2, 3, 4}, 3, &product) && product == 24);
    assert_true(ar_product((int64_t[]){INT64_MAX, INT64_MAX, 0}, 3, &product) && product == 0);
    assert_false(ar_product((int64_t[]){0, -1}, 2, &product));
    assert_true(ar_product((int64_t[]){1ll << 31, 1ll << 31}, 2, &product));
    assert_true(product == 1ll << 62);
    assert_false(ar_product((int64_t[]){1ll << 31, 1ll << 31, 2}, 3, &product));
    assert_false(ar_product((int64_t[]){(1ll << 62) + 1}, 1, &product));
}

static void test_arena(void **state) {
    test_allocator allocator = {0};
    ar_memory memory;
    ar_arena arena;
    void *blocks[300];
    const char *text;
    (void)state;
    ar_memory_init(&memory, test_alloc, &allocator);
    ar_arena_init(&arena, &memory);
    for (size_t i = 0; i < 300; i++) {
        assert_int_equal(ar_arena_alloc(&arena, i, 13, "a piece", &blocks[i]), ADVROB_OK);
        assert_int_equal((uintptr_t)blocks[i] % AR_ALIGN, 0);
        for (size_t k = 0; k < i * 13; k++) {
            assert_int_equal(((unsigned char *)blocks[i])[k], 0);
        }
        memset(blocks[i], (int)i, i * 13);
        assert_int_equal(ar_arena_copy(&arena, "a text", &text), ADVROB_OK);
        assert_string_equal(text, "a text");
    }
    for (size_t i = 0; i < 300; i++) {
        for (size_t k = 0; k < i * 13; k++) {
            assert_int_equal(((unsigned char *)blocks[i])[k], i & 255);
        }
    }
    assert_true(allocator.calls < 40); /* few chunks for many pieces */
    assert_int_equal(ar_arena_alloc(&arena, 1, 1000000, "a large piece", &blocks[0]), ADVROB_OK);
    assert_int_equal(ar_arena_alloc(&arena, BIG, 3, "too much", &blocks[0]), ADVROB_E_OVERFLOW);
    test_allocator_arm(&allocator, 1, 1);
    assert_int_equal(ar_arena_alloc(&arena, 1, 1000000, "no more", &blocks[0]), ADVROB_E_NOMEM);
    assert_null(blocks[0]);
    ar_arena_free(&arena);
    ar_arena_free(&arena);
    assert_true(memory.used == 0);
    test_allocator_check(&allocator);
}

static void test_context_memory(void **state) {
    test_allocator allocator = {0};
    void *block;
    (void)state;
    test_guard guard = test_guard_begin();
    advrob_context *ctx = test_context_with(&allocator, 3);
    assert_int_equal(ctx->threads, 3);
    assert_int_equal(ar_workers(ctx), 3);
    assert_true(ctx->seed == 1);
    assert_int_equal(ctx->cpu, ar_cpu_detect());
    assert_null(ctx->kernels);
    assert_true(ctx->memory.used > sizeof *ctx); /* its own block is counted */
    uint64_t used = ctx->memory.used;
    assert_int_equal(ar_alloc(&ctx->memory, 10, "a block", &block), ADVROB_OK);
    assert_true(ctx->memory.used > used);
    ar_free(&ctx->memory, block);
    assert_true(ctx->memory.used == used);
    ar_context_retain(ctx);
    ar_context_release(ctx);
    assert_int_equal(ar_context_check(ctx), ADVROB_OK);
    assert_true(allocator.blocks > 0);
    ar_context_release(ctx);
    ar_context_release(NULL);
    test_allocator_check(&allocator);
    test_guard_check(&guard);
}

static void test_context_without_memory(void **state) {
    test_allocator allocator = {0};
    advrob_context *ctx;
    int64_t n = 1;
    (void)state;
    for (;; n++) {
        test_allocator_arm(&allocator, n, n % 2 == 0);
        int32_t status = test_context_try(&allocator, 4, &ctx);
        if (allocator.failed == 0) break;
        assert_int_equal(status, ADVROB_E_NOMEM);
        assert_null(ctx);
        assert_non_null(strstr(ar_message(), "out of memory"));
        test_allocator_check(&allocator);
    }
    assert_true(n > 4 && n < 40);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

static int32_t create_with(const char *name, const char *value, advrob_context **ctx) {
    advrob_options *options;
    assert_int_equal(ar_options_create(NULL, NULL, &options), ADVROB_OK);
    assert_int_equal(ar_options_set_text(options, name, value), ADVROB_OK);
    int32_t status = ar_context_create(options, ctx);
    ar_options_destroy(options);
    return status;
}

static void test_context_options(void **state) {
    advrob_context *ctx;
    (void)state;
    assert_int_equal(ar_context_create(NULL, &ctx), ADVROB_OK);
    assert_int_equal(ctx->threads, ar_cpu_cores() < 256 ? ar_cpu_cores() : 256);
    ar_context_release(ctx);
    assert_int_equal(create_with("cpu", "portable", &ctx), ADVROB_OK);
    assert_int_equal(ctx->cpu, AR_CPU_PORTABLE);
    ar_context_release(ctx);
    assert_int_equal(create_with("seed", "-9223372036854775808", &ctx), ADVROB_OK);
    assert_true(ctx->seed == INT64_MIN);
    ar_context_release(ctx);
    assert_int_equal(create_with("memory_limit", "1000000", &ctx), ADVROB_OK);
    void *block;
    assert_int_equal(ar_alloc(&ctx->memory, 1000000, "too much", &block), ADVROB_E_NOMEM);
    ar_context_release(ctx);
    assert_int_equal(create_with("memory_limit", "100", &ctx), ADVROB_E_NOMEM);
    assert_non_null(strstr(ar_message(), "limit of 100"));
    assert_null(ctx);
    assert_int_equal(create_with("threads", "257", &ctx), ADVROB_E_RANGE);
    assert_string_equal(ar_message(),
                        "context: option \"threads\" is \"257\", expected an integer in [0, 256]");
    assert_int_equal(create_with("thread", "1", &ctx), ADVROB_E_UNKNOWN);
    assert_string_equal(ar_message(),
                        "context: unknown option \"thread\"; did you mean \"threads\"?");
    assert_int_equal(create_with("cpu", "sse9", &ctx), ADVROB_E_RANGE);
    int32_t status = create_with("cpu", "avx2", &ctx);
    if (ar_cpu_detect() == AR_CPU_AVX2) {
        assert_int_equal(status, ADVROB_OK);
        ar_context_release(ctx);
    } else {
        assert_int_equal(status, ADVROB_E_UNSUPPORTED);
    }
}

static int32_t refuse_progress(void *user, const char *what, int64_t done, int64_t total,
                               double value) {
    (void)value;
    assert_string_equal(what, "train");
    assert_int_equal(done, 1);
    assert_int_equal(total, 2);
    return *(int32_t *)user;
}

static void keep_log(void *user, int32_t level, const char *message) {
    ar_format(user, 64, "%d %s", level, message);
}

static void test_hooks(void **state) {
    advrob_context *ctx = test_context(1);
    int32_t answer = 0;
    char text[64] = "";
    (void)state;
    assert_int_equal(ar_progress(ctx, "train", 1, 2, NAN), ADVROB_OK); /* no hook */
    ar_log(ctx, ADVROB_LOG_INFO, "nobody hears");
    ctx->progress = refuse_progress;
    ctx->progress_user = &answer;
    ctx->log = keep_log;
    ctx->log_user = text;
    assert_int_equal(ar_progress(ctx, "train", 1, 2, NAN), ADVROB_OK);
    answer = 1;
    assert_int_equal(ar_progress(ctx, "train", 1, 2, NAN), ADVROB_E_CANCELLED);
    ar_log(ctx, ADVROB_LOG_WARNING, "loss\nis %g", 0.5);
    assert_string_equal(text, "1 loss is 0.5");
    assert_int_equal(ar_cancelled(ctx), ADVROB_OK);
    ctx->cancelled = 1;
    assert_int_equal(ar_cancelled(ctx), ADVROB_E_CANCELLED);
    assert_int_equal(ar_context_check(ctx), ADVROB_OK); /* what is finished can be saved */
    ctx->cancelled = 0;
    assert_int_equal(ar_context_check(ctx), ADVROB_OK);
    assert_int_equal(ar_context_check(NULL), ADVROB_E_INVALID);
    ar_context_release(ctx);
}

static void test_machine(void **state) {
    (void)state;
    assert_true(ar_cpu_cores() >= 1);
    assert_in_range(ar_cpu_detect(), AR_CPU_PORTABLE, AR_CPU_COUNT - 1);
    assert_string_equal(ar_cpu_name(AR_CPU_PORTABLE), "portable");
    assert_string_equal(ar_cpu_name(AR_CPU_AVX2), "avx2");
    assert_string_equal(ar_cpu_name(-1), "unknown");
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    assert_int_equal(ar_cpu_detect(), avx2 ? AR_CPU_AVX2 : AR_CPU_PORTABLE);
#endif
    double before = ar_clock();
    assert_true(ar_clock() >= before);
}

static void test_fp_state(void **state) {
    volatile double one = 1, tiny = 0x1p-60;
    (void)state;
    fesetround(FE_UPWARD);
    uint64_t old = ar_fp_enter();
    double inside = one + tiny;
    int rounding = fegetround();
    ar_fp_leave(old);
    double outside = one + tiny;
    int after = fegetround();
    fesetround(FE_TONEAREST);
    assert_true(inside == 1);
    assert_int_equal(rounding, FE_TONEAREST);
    assert_true(outside > 1);
    assert_int_equal(after, FE_UPWARD);
#if defined(__x86_64__)
    volatile float small = 0x1p-126f, half = 0.5f;
    unsigned csr = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(csr | 0x8040); /* flush to zero, denormals are zero */
    float flushed = small * half;
    old = ar_fp_enter();
    float kept = small * half;
    ar_fp_leave(old);
    unsigned again = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(csr);
    assert_true(flushed == 0);
    assert_true(kept == 0x1p-127f);
    assert_int_equal(again & 0x8040, 0x8040);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alignment),       cmocka_unit_test(test_calloc_and_regrow),
        cmocka_unit_test(test_limit),           cmocka_unit_test(test_default_hook),
        cmocka_unit_test(test_arithmetic),      cmocka_unit_test(test_arena),
        cmocka_unit_test(test_context_memory),  cmocka_unit_test(test_context_without_memory),
        cmocka_unit_test(test_context_options), cmocka_unit_test(test_hooks),
        cmocka_unit_test(test_machine),         cmocka_unit_test(test_fp_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
