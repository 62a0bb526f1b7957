/* The whole pipeline through the shared library: the same bits for any number of threads and for
 * the caller's own loop, handles freed in any order, memory limits, allocators that do not mix, and
 * hooks that are called on the calling thread alone. */
#include "pipeline.h"

#include <math.h>
#include <pthread.h>

#include "tolerance.h"

/* ---- Bits ---- */

static void test_plausible(void **state) {
    (void)state;
    print_message("clean %.3f, fgsm %.3f, pgd %.3f, worst %.3f\n", wanted.clean, wanted.fgsm,
                  wanted.pgd, wanted.worst);
    assert_true(wanted.clean > 0.6);
    assert_true(wanted.worst <= wanted.pgd && wanted.worst <= wanted.fgsm);
    assert_true(wanted.pgd <= wanted.clean && isfinite(wanted.last_loss));
    assert_string_not_equal(wanted.pruned, wanted.robust);
    for (int64_t i = 0; i < P_ATTACKED * P_PIXELS; i++)
        assert_true(fabsf(wanted.adversarial[i] - make_images()->x[i]) <= 8.0f / 255.0f + 1e-7f);
}

static void test_threads(void **state) {
    (void)state;
    static const int32_t threads[] = {1, 2, 3, 7};
    static result got;
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) {
        advrob_context *ctx = new_context(threads[i], "auto");
        assert_int_equal(advrob_context_threads(ctx), threads[i]);
        run_pipeline(ctx, path, &got);
        advrob_context_destroy(ctx);
        assert_memory_equal(&got, &wanted, sizeof got);
    }
}

typedef struct loop {
    advrob_body_fn body;
    void *arg;
    int64_t count;
    _Atomic int64_t next;
    _Atomic int32_t worker;
} loop;

static void *loop_thread(void *arg) {
    loop *l = arg;
    int32_t worker = atomic_fetch_add(&l->worker, 1);
    for (int64_t i; (i = atomic_fetch_add(&l->next, 1)) < l->count;)
        l->body(l->arg, i, worker);
    return NULL;
}

/* The caller's loop: threads of his own, the calling one among them. */
static void own_parallel(void *user, int64_t count, int32_t threads, advrob_body_fn body,
                         void *arg) {
    loop l = {.body = body, .arg = arg, .count = count};
    pthread_t others[8];
    int32_t started = 0;
    ++*(int64_t *)user;
    while (started < threads - 1 && started < 8 && started < count - 1)
        if (pthread_create(&others[started], NULL, loop_thread, &l) == 0) started++;
    loop_thread(&l);
    for (int32_t i = 0; i < started; i++)
        pthread_join(others[i], NULL);
}

static void test_own_loop(void **state) {
    (void)state;
    static result got;
    int64_t calls = 0;
    advrob_context *ctx = new_context(3, "auto");
    OK(advrob_context_set_parallel(ctx, own_parallel, &calls));
    run_pipeline(ctx, path, &got);
    advrob_context_destroy(ctx);
    assert_memory_equal(&got, &wanted, sizeof got);
    assert_true(calls > 20);
}

/* The portable level: the same net gives nearly the same logits and gradients, and learns as well.
 */
static void test_portable(void **state) {
    (void)state;
    enum { N = 50 };
    static float logits[2][N * P_CLASSES], dx[2][N * P_PIXELS];
    static result got;
    const char *levels[2] = {"auto", "portable"};
    for (int32_t i = 0; i < 2; i++) {
        advrob_context *ctx = new_context(2, levels[i]);
        advrob_model *model = NULL;
        advrob_target *target = NULL;
        OK(advrob_model_build(ctx, "tiny", NULL, &model));
        OK(advrob_target_from_model(model, &target));
        OK(advrob_target_forward(target, N, make_images()->x, logits[i]));
        OK(advrob_target_loss_gradient(target, "ce", N, make_images()->x, make_images()->y, NULL,
                                       dx[i]));
        advrob_target_destroy(target);
        advrob_model_destroy(model);
        if (i == 1) run_pipeline(ctx, path, &got);
        advrob_context_destroy(ctx);
    }
    double most[2] = {0, 0}, off[2] = {0, 0};
    for (int32_t i = 0; i < N * P_CLASSES; i++) {
        most[0] = fmax(most[0], fabs((double)logits[0][i]));
        off[0] = fmax(off[0], fabs((double)logits[0][i] - (double)logits[1][i]));
    }
    for (int32_t i = 0; i < N * P_PIXELS; i++) {
        most[1] = fmax(most[1], fabs((double)dx[0][i]));
        off[1] = fmax(off[1], fabs((double)dx[0][i] - (double)dx[1][i]));
    }
    assert_true(off[0] <= TOLERANCE_LOGITS * most[0]);
    assert_true(off[1] <= TOLERANCE_NET_GRADIENT * most[1]);
    assert_true(fabs(got.clean - wanted.clean) <= 0.1 && fabs(got.pgd - wanted.pgd) <= 0.1);
}

/* ---- Life of handles ---- */

typedef struct handle {
    void *object;
    void (*destroy)(void *object);
} handle;

static void free_context(void *object) {
    advrob_context_destroy(object);
}
static void free_dataset(void *object) {
    advrob_dataset_destroy(object);
}
static void free_model(void *object) {
    advrob_model_destroy(object);
}
static void free_target(void *object) {
    advrob_target_destroy(object);
}
static void free_attack(void *object) {
    advrob_attack_destroy(object);
}
static void free_compressor(void *object) {
    advrob_compressor_destroy(object);
}
static void free_finetune(void *object) {
    advrob_finetune_destroy(object);
}
static void free_history(void *object) {
    advrob_history_destroy(object);
}
static void free_report(void *object) {
    advrob_report_destroy(object);
}
static void free_tensor(void *object) {
    advrob_tensor_destroy(object);
}

enum { HANDLES = 13 };

/* One handle of every kind, all of them used, the context first. */
static void make_handles(owner *self, handle made[HANDLES]) {
    advrob_context *ctx = owned_context(self, 2, 0);
    advrob_dataset *data = new_dataset(ctx), *slice = NULL;
    advrob_model *model = NULL, *small = NULL, *copy = NULL;
    advrob_target *target = NULL;
    advrob_attack *attack = NULL;
    advrob_compressor *prune = NULL;
    advrob_finetune *finetune = NULL;
    advrob_history *history = NULL;
    advrob_report *report = NULL;
    advrob_tensor *tensor = NULL;
    static float out[P_ATTACKED * P_PIXELS];
    OK(advrob_dataset_slice(data, 0, 40, &slice));
    OK(advrob_model_build(ctx, "tiny", NULL, &model));
    OK(advrob_compressor_create(ctx, "prune_l1", NULL, &prune));
    OK(advrob_compressor_run(prune, model, NULL, &small));
    OK(advrob_model_clone(small, &copy));
    OK(advrob_finetune_create(ctx, "pgd_at", NULL, &finetune));
    OK(advrob_finetune_run(finetune, small, slice, NULL, &history));
    OK(advrob_target_from_model(small, &target));
    OK(advrob_attack_create(ctx, "pgd", NULL, &attack));
    OK(advrob_attack_run(attack, target, P_ATTACKED, make_images()->x, make_images()->y, out, NULL,
                         NULL));
    OK(advrob_report_create(ctx, &report));
    OK(advrob_report_add_row(report));
    OK(advrob_report_evaluate(report, target, slice, NULL));
    OK(advrob_model_get_parameter(copy, "fc.bias", &tensor));
    const handle all[HANDLES] = {
        {ctx, free_context},       {data, free_dataset},    {slice, free_dataset},
        {model, free_model},       {small, free_model},     {copy, free_model},
        {target, free_target},     {attack, free_attack},   {prune, free_compressor},
        {finetune, free_finetune}, {history, free_history}, {report, free_report},
        {tensor, free_tensor}};
    memcpy(made, all, sizeof all);
}

static void test_any_order(void **state) {
    (void)state;
    uint32_t random = 5;
    for (int32_t round = 0; round < 40; round++) {
        owner self = {0};
        handle made[HANDLES];
        make_handles(&self, made);
        for (int32_t i = HANDLES - 1; i > 0 && round > 1; i--) { /* 0: context first; 1: last */
            int32_t k = (int32_t)(next_random(&random) % (uint32_t)(i + 1));
            handle swap = made[i];
            made[i] = made[k];
            made[k] = swap;
        }
        for (int32_t i = 0; i < HANDLES; i++) {
            const handle *h = &made[round == 1 ? HANDLES - 1 - i : i];
            assert_true(self.blocks > 0);
            h->destroy(h->object);
        }
        assert_true(self.blocks == 0 && self.foreign == 0 && self.calls > 50);
    }
}

/* ---- Memory ---- */

/* Every step of a small run; the first failure ends it. */
static int32_t run_within(advrob_context *ctx, char digest[17]) {
    advrob_dataset *data = NULL;
    advrob_model *model = NULL;
    advrob_finetune *finetune = NULL;
    const images *all = make_images();
    advrob_options *options = new_options();
    OK(advrob_options_set_i64(options, "epochs", 1));
    int32_t status = advrob_dataset_from_memory(ctx, ADVROB_F32, all->x, all->y, 100, 1, P_SIDE,
                                                P_SIDE, P_CLASSES, &data);
    if (status == 0) status = advrob_model_build(ctx, "tiny", NULL, &model);
    if (status == 0) status = advrob_finetune_create(ctx, "pgd_at", options, &finetune);
    if (status == 0) status = advrob_finetune_run(finetune, model, data, NULL, NULL);
    if (status == 0) digest_of(model, digest);
    advrob_finetune_destroy(finetune);
    advrob_dataset_destroy(data);
    advrob_model_destroy(model);
    advrob_options_destroy(options);
    return status;
}

/* Too little memory is E_NOMEM; the context stays usable, and its limit holds. */
static void test_limit(void **state) {
    (void)state;
    char digest[17], unlimited[17];
    owner self = {0};
    advrob_context *ctx = owned_context(&self, 1, 0);
    assert_int_equal(run_within(ctx, unlimited), ADVROB_OK);
    uint64_t peak = advrob_context_memory_peak(ctx), base = advrob_context_memory(ctx);
    advrob_context_destroy(ctx);
    assert_true(peak > 100000 && base < 5000);
    for (int32_t i = 1; i <= 20; i++) {
        int64_t limit = (int64_t)(base + (peak - base) * (uint64_t)i / 20);
        ctx = owned_context(&self, 1, limit);
        for (int32_t again = 0; again < 2; again++) {
            int32_t status = run_within(ctx, digest);
            assert_int_equal(status, i < 20 ? ADVROB_E_NOMEM : ADVROB_OK);
            if (i < 20) assert_non_null(strstr(advrob_last_message(), "memory limit"));
            assert_true(advrob_context_memory_peak(ctx) <= (uint64_t)limit);
            assert_true(advrob_context_memory(ctx) == base);
            if (i == 20) assert_string_equal(digest, unlimited);
        }
        advrob_model *model = NULL;
        if (i > 10) OK(advrob_model_build(ctx, "tiny", NULL, &model));
        advrob_model_destroy(model);
        advrob_context_destroy(ctx);
    }
    assert_true(self.blocks == 0 && self.foreign == 0);
}

typedef struct side {
    owner self;
    int32_t threads;
    result got;
    char path[96];
} side;

static void *run_side(void *arg) {
    side *s = arg;
    advrob_context *ctx = owned_context(&s->self, s->threads, 0);
    run_pipeline(ctx, s->path, &s->got);
    advrob_context_destroy(ctx);
    return NULL;
}

/* Two contexts at the same time, each with its own memory. */
static void test_two_allocators(void **state) {
    (void)state;
    static side sides[2];
    pthread_t threads[2];
    for (int32_t i = 0; i < 2; i++) {
        sides[i].threads = i + 1;
        snprintf(sides[i].path, sizeof sides[i].path, "%s.%d", path, i);
        assert_int_equal(pthread_create(&threads[i], NULL, run_side, &sides[i]), 0);
    }
    for (int32_t i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_true(sides[i].self.calls > 100);
        assert_true(sides[i].self.blocks == 0 && sides[i].self.foreign == 0);
        assert_memory_equal(&sides[i].got, &wanted, sizeof wanted);
        remove(sides[i].path);
    }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__GLIBC__)

/* The C library's own allocator, counted on a thread while `counting` is set there. */
#define VISIBLE __attribute__((visibility("default")))
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *ptr, size_t size);

static _Thread_local bool counting;
static int64_t counted;

VISIBLE void *malloc(size_t size) {
    counted += counting;
    return __libc_malloc(size);
}

VISIBLE void *calloc(size_t count, size_t size) {
    counted += counting;
    return __libc_calloc(count, size);
}

VISIBLE void *realloc(void *ptr, size_t size) {
    counted += counting;
    return __libc_realloc(ptr, size);
}

static void *uncounted_alloc(void *user, void *ptr, size_t old_size, size_t size) {
    bool was = counting;
    counting = false;
    void *made = owner_alloc(user, ptr, old_size, size);
    counting = was;
    return made;
}

/* All memory comes from the caller's allocator: none from malloc behind its back. */
static void test_no_malloc(void **state) {
    (void)state;
    static result got;
    static owner self;
    advrob_finetune *finetune = NULL;
    options_alloc = uncounted_alloc;
    options_user = &self;
    advrob_options *probe = NULL;
    counting = true;
    OK(advrob_options_create(&probe)); /* this one mallocs: the count can count */
    advrob_context *ctx = new_context(1, "auto");
    run_pipeline(ctx, path, &got);
    OK(advrob_finetune_create(ctx, "pgd_at", NULL, &finetune));
    advrob_finetune_destroy(finetune);
    advrob_context_destroy(ctx);
    counting = false;
    advrob_options_destroy(probe);
    options_alloc = NULL;
    assert_int_equal(counted, 1);
    assert_true(self.blocks == 0 && self.calls > 100);
    assert_memory_equal(&got, &wanted, sizeof got);
}

#else

static void test_no_malloc(void **state) {
    (void)state;
    skip(); /* a sanitizer has the allocator */
}

#endif

/* ---- Hooks ---- */

typedef struct watch {
    pthread_t thread;
    int64_t calls, elsewhere;
} watch;

static int32_t progress(void *user, const char *what, int64_t done, int64_t total, double value) {
    watch *w = user;
    (void)value;
    w->calls++;
    w->elsewhere += !pthread_equal(w->thread, pthread_self());
    assert_true(strlen(what) > 0 && done >= 0 && done <= total);
    return 0;
}

static int32_t watched_forward(void *user, int64_t n, const float *x, float *logits) {
    watch *w = user;
    w->calls++;
    w->elsewhere += !pthread_equal(w->thread, pthread_self());
    for (int64_t i = 0; i < n; i++) {
        logits[2 * i] = x[i * P_PIXELS];
        logits[2 * i + 1] = x[i * P_PIXELS + 1];
    }
    return 0;
}

static int32_t watched_backward(void *user, int64_t n, const float *x, const float *dlogits,
                                float *dx) {
    watch *w = user;
    (void)x;
    w->calls++;
    w->elsewhere += !pthread_equal(w->thread, pthread_self());
    memset(dx, 0, sizeof(float) * (size_t)(n * P_PIXELS));
    for (int64_t i = 0; i < n; i++)
        memcpy(dx + i * P_PIXELS, dlogits + 2 * i, 2 * sizeof(float));
    return 0;
}

/* Progress and targets are called on the calling thread only, whoever runs the pieces. */
static void test_calling_thread(void **state) {
    (void)state;
    static result got;
    static int32_t zeros[P_IMAGES];
    for (int32_t own = 0; own < 2; own++) {
        int64_t calls = 0;
        watch hook = {pthread_self(), 0, 0}, target_calls = {pthread_self(), 0, 0};
        advrob_context *ctx = new_context(3, "auto");
        advrob_target *target = NULL;
        advrob_attack *attack = NULL;
        OK(advrob_context_set_progress(ctx, progress, &hook));
        if (own) OK(advrob_context_set_parallel(ctx, own_parallel, &calls));
        run_pipeline(ctx, path, &got);
        assert_memory_equal(&got, &wanted, sizeof got);
        assert_true(hook.calls > 20 && hook.elsewhere == 0);
        OK(advrob_target_from_callbacks(ctx, 1, P_SIDE, P_SIDE, 2, 0, 1, watched_forward,
                                        watched_backward, &target_calls, &target));
        OK(advrob_attack_create(ctx, "pgd", NULL, &attack));
        OK(advrob_attack_run(attack, target, P_IMAGES, make_images()->x, zeros, NULL, NULL, NULL));
        assert_true(target_calls.calls > 20 && target_calls.elsewhere == 0);
        advrob_attack_destroy(attack);
        advrob_target_destroy(target);
        advrob_context_destroy(ctx);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plausible),      cmocka_unit_test(test_threads),
        cmocka_unit_test(test_own_loop),       cmocka_unit_test(test_portable),
        cmocka_unit_test(test_any_order),      cmocka_unit_test(test_limit),
        cmocka_unit_test(test_two_allocators), cmocka_unit_test(test_no_malloc),
        cmocka_unit_test(test_calling_thread),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
