/* Few images: threads share the steps of one tile. The same bits as on one thread, by the pool and
 * by the caller's own loop; a cancel ends it between two steps; nothing is allocated in the steady
 * state. */
#include "support/support.h"

#include "model/program.h"
#include "support/golden.h"
#include "support/tangle.h"

enum { MOST = 9, MOST_OUTPUTS = 16 };

/* The caller's loop: last index first, all on one thread. Cancels before job `cancel_at`. */
typedef struct loop {
    advrob_context *ctx;
    int32_t jobs, pieces, cancel_at;
} loop;

static void run_loop(void *user, int64_t count, int32_t threads, advrob_body_fn body, void *arg) {
    loop *l = user;
    if (++l->jobs == l->cancel_at) advrob_context_cancel(l->ctx);
    for (int64_t i = count - 1; i >= 0; i--, l->pieces++)
        body(arg, i, (int32_t)(i % threads));
}

/* Logits of the first n of `x`. */
static void forward(advrob_model *model, int64_t n, const float *x, float *out) {
    ar_program *program;
    test_ok(ar_model_program(model, false, &program));
    memset(out, 0, sizeof(float) * MOST * MOST_OUTPUTS);
    test_ok(ar_program_forward(program, n, x, out));
}

/* Compares with one thread's answers; true if threads shared steps at n = 1. */
static bool check_net(const char *net, const ar_kernels *kernels, const int64_t *sizes,
                      int32_t size_count) {
    static float expected[MOST][MOST * MOST_OUTPUTS], got[MOST * MOST_OUTPUTS];
    bool shared = false;
    for (int32_t threads = 1; threads <= 3; threads++) {
        advrob_context *ctx = test_context_at(NULL, threads, kernels);
        advrob_model *model = test_net(ctx, net);
        float *x = test_images(MOST, ar_shape_count(model->nodes[0].shape), 4);
        assert_true(ar_model_classes(model) <= MOST_OUTPUTS);
        for (int32_t i = 0; i < size_count; i++) {
            loop l = {.ctx = ctx};
            forward(model, sizes[i], x, threads == 1 ? expected[i] : got);
            assert_true(expected[i][0] != expected[i][1]);
            if (threads == 1) continue;
            if (memcmp(expected[i], got, sizeof got) != 0)
                fail_msg("%s, %s: %d images differ on %d threads", net, kernels->name,
                         (int)sizes[i], threads);
            ctx->parallel = run_loop;
            ctx->parallel_user = &l;
            forward(model, sizes[i], x, got);
            ctx->parallel = NULL;
            if (memcmp(expected[i], got, sizeof got) != 0)
                fail_msg("%s, %s: %d images differ by the caller's loop of %d threads", net,
                         kernels->name, (int)sizes[i], threads);
            if (sizes[i] == 1 && l.jobs > 1) shared = true;
            if (l.jobs > 0) assert_true(l.pieces >= 2 * l.jobs);
        }
        free(x);
        ar_model_release(model);
        ar_context_release(ctx);
    }
    return shared;
}

static void test_same_bits(void **state) {
    (void)state;
    static const int64_t sizes[MOST] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, ends[] = {1, 9};
    const ar_kernels *tables[AR_CPU_COUNT + 1];
    int32_t count = test_kernels(tables), small = 0;
    for (int32_t i = 0; i < count; i++) /* bands of layers with their poolings; groups */
        assert_true(check_net("pooled", tables[i], sizes, MOST) &&
                    check_net("grouped", tables[i], sizes, MOST));
    for (int32_t z = 0; z < ar_zoo_count(); z++)
        for (int32_t i = 0; i < count; i++) {
            const char *net = ar_zoo_at(z)->name;
            bool wide = strncmp(net, "resnet", 6) == 0;
            if (wide && tables[i] != ar_kernels_get(ar_cpu_detect(), false)) continue;
            bool shared = check_net(net, tables[i], wide ? ends : sizes, wide ? 2 : MOST);
            if (strcmp(net, "resnet18_cifar10") == 0 || strcmp(net, "eight_layer_conv") == 0)
                assert_true(shared);
            small += !shared;
        }
    assert_true(small > 0); /* nets that are not worth it */
}

static void test_cancel(void **state) {
    (void)state;
    for (int32_t at = 1; at <= 3; at++) {
        static test_allocator allocator;
        advrob_context *ctx =
            test_context_at(&allocator, 2, ar_kernels_get(ar_cpu_detect(), false));
        advrob_model *model = test_net(ctx, "eight_layer_conv");
        float *x = test_images(1, 28 * 28, 4), before[MOST * MOST_OUTPUTS],
              after[MOST * MOST_OUTPUTS];
        loop l = {.ctx = ctx, .cancel_at = at};
        ar_program *program;
        forward(model, 1, x, before);
        test_ok(ar_model_program(model, false, &program));
        ctx->parallel = run_loop;
        ctx->parallel_user = &l;
        assert_int_equal(ar_program_forward(program, 1, x, after), ADVROB_E_CANCELLED);
        assert_int_equal(l.jobs, at);
        advrob_context_rearm(ctx);
        ctx->parallel = NULL;
        forward(model, 1, x, after);
        assert_memory_equal(before, after, sizeof before);
        free(x);
        ar_model_release(model);
        ar_context_release(ctx);
        test_allocator_check(&allocator);
    }
}

static void test_steady_state(void **state) {
    (void)state;
    static test_allocator allocator;
    for (int32_t threads = 1; threads <= 3; threads++) {
        advrob_context *ctx =
            test_context_at(&allocator, threads, ar_kernels_get(ar_cpu_detect(), false));
        advrob_model *model = test_net(ctx, "eight_layer_conv");
        float *x = test_images(MOST, 28 * 28, 1), out[MOST * MOST_OUTPUTS];
        forward(model, 1, x, out);
        forward(model, MOST, x, out);
        uint64_t calls = ctx->memory.calls, used = ctx->memory.used;
        for (int32_t run = 0; run < 20; run++)
            forward(model, run % 2 == 0 ? 1 : MOST, x, out);
        assert_true(calls > 0 && ctx->memory.calls == calls && ctx->memory.used == used);
        free(x);
        ar_model_release(model);
        ar_context_release(ctx);
        test_allocator_check(&allocator);
    }
}

/* Without room for every thread's workspace: an error, and nothing is lost. */
static void test_no_room(void **state) {
    (void)state;
    static test_allocator allocator;
    advrob_context *ctx = test_context_at(&allocator, 3, ar_kernels_get(ar_cpu_detect(), false));
    advrob_model *model = test_net(ctx, "eight_layer_conv");
    float *x = test_images(1, 28 * 28, 1), out[MOST * MOST_OUTPUTS];
    ar_program *program;
    test_ok(ar_model_program(model, false, &program));
    ctx->memory.limit =
        ctx->memory.used + 5 * (uint64_t)ar_workspace_size(program, AR_RUN_FORWARD, 8) / 2;
    assert_int_equal(ar_program_forward(program, 1, x, out), ADVROB_E_NOMEM);
    ctx->memory.limit = 0;
    forward(model, 1, x, out);
    free(x);
    ar_model_release(model);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_steady_state),
        cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
