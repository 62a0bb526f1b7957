/* Parallel jobs: every piece once, the lowest error, nesting, several callers, cancelling, polling,
 * hooks, threads that do not start, and fork. */
#include "support/support.h"

#include <dlfcn.h>
#include <errno.h>
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A watchdog: a job that hangs ends the program instead of the night. */
#define WATCHDOG_SECONDS 60

#if defined(__SANITIZE_THREAD__)
#define CHILD_THREADS 1 /* the sanitizer ends a forked child that starts threads */
#else
#define CHILD_THREADS 3
#endif

/* Thread starts that still succeed; negative: all. */
static _Atomic int threads_left = -1;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*main)(void *),
                   void *arg) {
    typedef int create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    create_fn *real;
    void *symbol = dlsym(RTLD_NEXT, "pthread_create");
    memcpy(&real, &symbol, sizeof real);
    if (atomic_load(&threads_left) == 0) return EAGAIN;
    if (atomic_load(&threads_left) > 0) atomic_fetch_sub(&threads_left, 1);
    return real(thread, attributes, main, arg);
}

#define MOST_PIECES 1000

typedef struct record {
    advrob_context *ctx;
    _Atomic int32_t runs[MOST_PIECES];
    _Atomic int32_t inside[256]; /* pieces that a worker number runs right now */
    _Atomic int32_t wrong, started;
    _Atomic int64_t highest;
    pthread_t caller;
    _Atomic int32_t elsewhere; /* pieces on another thread than the caller's */
    int64_t fail_from, fail_step;
    int32_t sleep_us;
    int32_t polls, poll_fails_at;
    int64_t poll_done;
    double poll_last, poll_gap;
} record;

static void record_init(record *r, advrob_context *ctx) {
    memset(r, 0, sizeof *r);
    r->ctx = ctx;
    r->caller = pthread_self();
    r->fail_from = -1;
    r->fail_step = 1;
}

static int32_t count_piece(void *arg, int64_t piece, int32_t worker) {
    record *r = arg;
    atomic_fetch_add(&r->started, 1);
    if (worker < 0 || worker >= ar_workers(r->ctx)) {
        atomic_fetch_add(&r->wrong, 1);
        return ADVROB_OK;
    }
    if (atomic_fetch_add(&r->inside[worker], 1) != 0) atomic_fetch_add(&r->wrong, 1);
    atomic_fetch_add(&r->runs[piece], 1);
    if (!pthread_equal(pthread_self(), r->caller)) {
        atomic_fetch_add(&r->elsewhere, 1);
        if (worker == 0) atomic_fetch_add(&r->wrong, 1);
    }
    if (r->sleep_us) usleep((useconds_t)r->sleep_us);
    atomic_fetch_sub(&r->inside[worker], 1);
    if (r->fail_from >= 0 && piece >= r->fail_from && (piece - r->fail_from) % r->fail_step == 0) {
        return ar_error(ADVROB_E_SHAPE, "piece %lld failed", (long long)piece);
    }
    return ADVROB_OK;
}

static int32_t count_poll(void *arg, int64_t done) {
    record *r = arg;
    double now = ar_clock();
    if (!pthread_equal(pthread_self(), r->caller)) atomic_fetch_add(&r->wrong, 1);
    if (done < r->poll_done) atomic_fetch_add(&r->wrong, 1);
    r->poll_done = done;
    if (now - r->poll_last > r->poll_gap) r->poll_gap = now - r->poll_last;
    r->poll_last = now;
    if (++r->polls == r->poll_fails_at) return ar_error(ADVROB_E_CANCELLED, "the poll said so");
    return ADVROB_OK;
}

static void check_all_once(const record *r, int64_t count) {
    for (int64_t i = 0; i < MOST_PIECES; i++) {
        assert_int_equal(r->runs[i], i < count ? 1 : 0);
    }
    assert_int_equal(r->wrong, 0);
}

static void test_every_piece_once(void **state) {
    static const int32_t threads[] = {1, 2, 3, 8};
    static const int64_t counts[] = {0, 1, 2, 7, 100, 1000};
    (void)state;
    test_guard guard = test_guard_begin();
    for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
        advrob_context *ctx = test_context(threads[t]);
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            record r;
            record_init(&r, ctx);
            ar_error(ADVROB_E_IO, "from before");
            assert_int_equal(ar_parallel(ctx, counts[c], count_piece, count_poll, &r), ADVROB_OK);
            assert_string_equal(ar_message(), "from before");
            check_all_once(&r, counts[c]);
        }
        ar_context_release(ctx);
        test_guard_check(&guard);
    }
}

static void test_many_short_jobs(void **state) {
    test_allocator allocator = {0};
    advrob_context *ctx = test_context_with(&allocator, 4);
    record r;
    (void)state;
    uint64_t calls = ctx->memory.calls;
    for (int i = 0; i < 3000; i++) {
        memset(&r, 0, 64 * sizeof r.runs[0]);
        record_init(&r, ctx);
        assert_int_equal(ar_parallel(ctx, 1 + i % 20, count_piece, NULL, &r), ADVROB_OK);
        assert_int_equal(r.started, 1 + i % 20);
        assert_int_equal(r.wrong, 0);
        if (i % 500 == 0) usleep(2000); /* the workers fall asleep */
    }
    assert_true(ctx->memory.calls == calls); /* a steady state does not allocate */
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

static void test_threads_start_late(void **state) {
    record r;
    (void)state;
    test_guard before = test_guard_begin();
    advrob_context *ctx = test_context(3);
    test_guard_check(&before); /* no thread, no descriptor by creating */
    record_init(&r, ctx);
    assert_int_equal(ar_parallel(ctx, 1, count_piece, NULL, &r), ADVROB_OK);
    test_guard_check(&before); /* nor by a single piece */
    record_init(&r, ctx);
    r.sleep_us = 2000;
    assert_int_equal(ar_parallel(ctx, 30, count_piece, NULL, &r), ADVROB_OK);
    check_all_once(&r, 30);
    assert_true(r.elsewhere > 0);
    test_guard now = test_guard_begin();
    assert_int_equal(now.threads, before.threads + 2);
    assert_int_equal(now.descriptors, before.descriptors);
    ar_context_release(ctx);
    test_guard_check(&before);

    ctx = test_context(1);
    record_init(&r, ctx);
    assert_int_equal(ar_parallel(ctx, 50, count_piece, count_poll, &r), ADVROB_OK);
    assert_int_equal(r.elsewhere, 0);
    assert_true(r.polls >= 50);
    test_guard_check(&before);
    ar_context_release(ctx);
}

static void test_lowest_error(void **state) {
    (void)state;
    for (int32_t threads = 1; threads <= 8; threads *= 2) {
        advrob_context *ctx = test_context(threads);
        for (int round = 0; round < 200; round++) {
            record r;
            record_init(&r, ctx);
            r.fail_from = round % 17;
            r.fail_step = 1 + round % 3;
            assert_int_equal(ar_parallel(ctx, 200, count_piece, NULL, &r), ADVROB_E_SHAPE);
            char expected[64];
            ar_format(expected, sizeof expected, "piece %d failed", round % 17);
            assert_string_equal(ar_message(), expected);
            for (int i = 0; i <= round % 17; i++) {
                assert_int_equal(r.runs[i], 1);
            }
            assert_int_equal(r.wrong, 0);
        }
        ar_context_release(ctx);
    }
}

/* Piece 1 fails at once, piece 0 later: the error is that of piece 0. */
static int32_t slow_first(void *arg, int64_t piece, int32_t worker) {
    record *r = arg;
    (void)worker;
    atomic_fetch_add(&r->started, 1);
    if (piece == 0) {
        while (atomic_load(&r->wrong) == 0) {
            usleep(100);
        }
        usleep(5000);
        return ar_error(ADVROB_E_RANGE, "the first");
    }
    int32_t status = ar_error(ADVROB_E_SHAPE, "piece %lld", (long long)piece);
    atomic_store(&r->wrong, 1);
    return status;
}

static void test_late_lower_error(void **state) {
    advrob_context *ctx = test_context(2);
    record r;
    (void)state;
    for (int i = 0; i < 5; i++) {
        record_init(&r, ctx);
        assert_int_equal(ar_parallel(ctx, 500, slow_first, NULL, &r), ADVROB_E_RANGE);
        assert_string_equal(ar_message(), "the first");
        assert_int_equal(r.started, 2); /* nothing was started after the failure */
    }
    ar_context_release(ctx);
}

typedef struct outer {
    advrob_context *ctx;
    record inner[16];
    int32_t fails_at;
} outer;

static int32_t nested_piece(void *arg, int64_t piece, int32_t worker) {
    outer *o = arg;
    record *r = &o->inner[piece];
    (void)worker;
    record_init(r, o->ctx);
    if (piece == o->fails_at) r->fail_from = 3;
    return ar_parallel(o->ctx, 40, count_piece, count_poll, r);
}

static void test_nested(void **state) {
    (void)state;
    for (int32_t threads = 1; threads <= 4; threads += 3) {
        advrob_context *ctx = test_context(threads);
        static outer o;
        memset(&o, 0, sizeof o);
        o.ctx = ctx;
        o.fails_at = -1;
        assert_int_equal(ar_parallel(ctx, 16, nested_piece, NULL, &o), ADVROB_OK);
        for (int i = 0; i < 16; i++) {
            check_all_once(&o.inner[i], 40);
            assert_int_equal(o.inner[i].elsewhere, 0); /* serial, on the piece's own thread */
        }
        o.fails_at = 5;
        assert_int_equal(ar_parallel(ctx, 16, nested_piece, NULL, &o), ADVROB_E_SHAPE);
        assert_string_equal(ar_message(), "piece 3 failed");
        ar_context_release(ctx);
    }
}

typedef struct caller {
    pthread_t thread;
    advrob_context *ctx;
    int32_t number, bad;
} caller;

static void *run_caller(void *arg) {
    caller *c = arg;
    for (int i = 0; i < 300; i++) {
        record r;
        char expected[64];
        record_init(&r, c->ctx);
        if (i % 3 == 0) r.fail_from = c->number;
        int32_t status = ar_parallel(c->ctx, 30, count_piece, count_poll, &r);
        if (status != (i % 3 == 0 ? ADVROB_E_SHAPE : ADVROB_OK)) c->bad++;
        if (i % 3 != 0 && r.started != 30) c->bad++;
        ar_format(expected, sizeof expected, "piece %d failed", c->number);
        if (i % 3 == 0 && strcmp(ar_message(), expected) != 0) c->bad++;
        if (r.wrong) c->bad++;
    }
    return NULL;
}

static int32_t start_inner_jobs(void *arg, int64_t piece, int32_t worker) {
    record *inner = arg;
    assert_true(piece == 0 && worker == 0);
    for (int32_t i = 0; i < 20; i++) {
        record_init(inner, inner->ctx);
        inner->sleep_us = 100;
        assert_int_equal(ar_parallel(inner->ctx, 40, count_piece, NULL, inner), ADVROB_OK);
        check_all_once(inner, 40);
        assert_int_equal(inner->elsewhere, 0);
    }
    return -7;
}

/* Jobs within ar_serial stay on the caller's thread; those behind it do not. */
static void test_serial(void **state) {
    test_allocator allocator = {0};
    record r;
    (void)state;
    advrob_context *ctx = test_context_with(&allocator, 4);
    record_init(&r, ctx);
    assert_int_equal(ar_serial(start_inner_jobs, &r), -7);
    record_init(&r, ctx);
    r.sleep_us = 1000;
    assert_int_equal(ar_parallel(ctx, 100, count_piece, NULL, &r), ADVROB_OK);
    check_all_once(&r, 100);
    assert_true(r.elsewhere > 0);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

static void test_concurrent_callers(void **state) {
    advrob_context *ctx = test_context(3);
    caller callers[4];
    (void)state;
    for (int i = 0; i < 4; i++) {
        callers[i] = (caller){.ctx = ctx, .number = i};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, run_caller, &callers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].bad, 0);
    }
    ar_context_release(ctx);
}

/* A tile that looks at the flag as it goes. */
static int32_t long_piece(void *arg, int64_t piece, int32_t worker) {
    record *r = arg;
    int32_t status = ADVROB_OK;
    (void)piece, (void)worker;
    atomic_fetch_add(&r->started, 1);
    for (int i = 0; i < 2000 && status == ADVROB_OK; i++) {
        usleep(1000);
        status = ar_cancelled(r->ctx);
    }
    return status;
}

static _Atomic double cancelled_at;

static void *cancel_soon(void *arg) {
    advrob_context *ctx = arg;
    usleep(50000);
    atomic_store(&cancelled_at, ar_clock());
    atomic_store(&ctx->cancelled, 1);
    return NULL;
}

static void test_cancel(void **state) {
    pthread_t thread;
    record r;
    (void)state;
    for (int32_t threads = 1; threads <= 4; threads += 3) {
        advrob_context *ctx = test_context(threads);
        record_init(&r, ctx);
        assert_int_equal(pthread_create(&thread, NULL, cancel_soon, ctx), 0);
        assert_int_equal(ar_parallel(ctx, 100, long_piece, NULL, &r), ADVROB_E_CANCELLED);
        double now = ar_clock();
        pthread_join(thread, NULL);
        assert_true(now - atomic_load(&cancelled_at) < 0.1);
        assert_true(r.started <= threads);
        assert_non_null(strstr(ar_message(), "cancelled"));
        record_init(&r, ctx);
        assert_int_equal(ar_parallel(ctx, 100, count_piece, NULL, &r), ADVROB_E_CANCELLED);
        assert_int_equal(r.started, 0);
        atomic_store(&ctx->cancelled, 0);
        assert_int_equal(ar_parallel(ctx, 100, count_piece, NULL, &r), ADVROB_OK);
        check_all_once(&r, 100);
        ar_context_release(ctx);
    }
}

/* The caller's pieces are short, the workers' are long: the caller has to wait. */
static int32_t long_elsewhere(void *arg, int64_t piece, int32_t worker) {
    record *r = arg;
    (void)piece;
    atomic_fetch_add(&r->started, 1);
    if (worker == 0) {
        while (atomic_load(&r->elsewhere) == 0) {
            usleep(100);
        }
        return ADVROB_OK;
    }
    atomic_fetch_add(&r->elsewhere, 1);
    usleep(300000);
    return ADVROB_OK;
}

static void test_poll(void **state) {
    advrob_context *ctx = test_context(2);
    record r;
    (void)state;
    record_init(&r, ctx);
    r.poll_last = ar_clock();
    assert_int_equal(ar_parallel(ctx, 2, long_elsewhere, count_poll, &r), ADVROB_OK);
    assert_true(r.polls >= 7);
    assert_true(r.poll_gap < 0.05 + 0.05); /* 50 ms, and what a loaded machine adds */
    assert_int_equal(r.wrong, 0);

    record_init(&r, ctx); /* its error is the job's, and stops it */
    r.sleep_us = 1000;
    r.poll_fails_at = 3;
    assert_int_equal(ar_parallel(ctx, 1000, count_piece, count_poll, &r), ADVROB_E_CANCELLED);
    assert_string_equal(ar_message(), "the poll said so");
    assert_int_equal(r.polls, 3);
    assert_true(r.started < 900);

    record_init(&r, ctx); /* but a piece's error goes first */
    r.fail_from = 0;
    r.poll_fails_at = 1;
    assert_int_equal(ar_parallel(ctx, 100, count_piece, count_poll, &r), ADVROB_E_SHAPE);
    assert_string_equal(ar_message(), "piece 0 failed");
    ar_context_release(ctx);
}

static int32_t worker_state(void *arg, int64_t piece, int32_t worker) {
    record *r = arg;
    sigset_t blocked;
    (void)piece;
    usleep(2000);
    if (worker == 0) return ADVROB_OK;
    atomic_fetch_add(&r->elsewhere, 1);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    if (!sigismember(&blocked, SIGINT) || !sigismember(&blocked, SIGALRM)) r->wrong++;
    if (fegetround() != FE_TONEAREST) r->wrong++;
#if defined(__x86_64__)
    if (__builtin_ia32_stmxcsr() & 0xe040) r->wrong++; /* rounding, flush, denormals */
#endif
    return ADVROB_OK;
}

static void test_worker_state(void **state) {
    advrob_context *ctx = test_context(4);
    record r;
    sigset_t mask;
    (void)state;
    record_init(&r, ctx);
    fesetround(FE_DOWNWARD); /* new threads inherit it */
#if defined(__x86_64__)
    unsigned csr = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(csr | 0x8040);
#endif
    int32_t status = ar_parallel(ctx, 40, worker_state, NULL, &r);
#if defined(__x86_64__)
    __builtin_ia32_ldmxcsr(csr);
#endif
    fesetround(FE_TONEAREST);
    assert_int_equal(status, ADVROB_OK);
    assert_true(r.elsewhere > 0);
    assert_int_equal(r.wrong, 0);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    assert_false(sigismember(&mask, SIGINT)); /* the caller's mask is its own again */
    ar_context_release(ctx);
}

static void test_no_threads(void **state) {
    (void)state;
    for (int left = 0; left <= 1; left++) {
        test_guard guard = test_guard_begin();
        advrob_context *ctx = test_context(4);
        record r;
        for (int i = 0; i < 3; i++) {
            record_init(&r, ctx);
            r.sleep_us = 500;
            atomic_store(&threads_left, i == 0 ? left : 0);
            int32_t status = ar_parallel(ctx, 50, count_piece, NULL, &r);
            atomic_store(&threads_left, -1);
            assert_int_equal(status, ADVROB_OK);
            check_all_once(&r, 50);
            assert_true(left == 0 ? r.elsewhere == 0 : r.elsewhere > 0);
        }
        ar_context_release(ctx);
        test_guard_check(&guard);
    }
}

/* A caller's loop: `mode` 0 as it should be, backwards; 1 leaves the last out; 2 gives a wrong
 * worker; 3 uses a thread of its own for the second half. */
typedef struct half {
    int64_t from, to;
    advrob_body_fn body;
    void *arg;
} half;

static void *run_half(void *arg) {
    half *h = arg;
    for (int64_t i = h->from; i < h->to; i++) {
        h->body(h->arg, i, 1);
    }
    return NULL;
}

static void loop_hook(void *user, int64_t count, int32_t threads, advrob_body_fn body, void *arg) {
    int mode = *(int *)user;
    pthread_t thread;
    half second = {count / 2, count, body, arg};
    bool started = mode == 3 && pthread_create(&thread, NULL, run_half, &second) == 0;
    for (int64_t i = (started ? count / 2 : count) - 1; i >= (mode == 1 ? 1 : 0); i--) {
        body(arg, i, mode == 2 && i == 0 ? threads : 0);
    }
    if (started) pthread_join(thread, NULL);
}

static void test_parallel_hook(void **state) {
    (void)state;
    test_guard guard = test_guard_begin();
    advrob_context *ctx = test_context(4);
    record r;
    int mode = 0;
    ctx->parallel = loop_hook;
    ctx->parallel_user = &mode;
    for (mode = 0; mode <= 3; mode += 3) {
        record_init(&r, ctx);
        r.sleep_us = mode ? 500 : 0;
        assert_int_equal(ar_parallel(ctx, 60, count_piece, count_poll, &r), ADVROB_OK);
        check_all_once(&r, 60);
        assert_true(r.polls > 0);
        assert_true(mode == 3 ? r.elsewhere > 0 : r.elsewhere == 0);
        test_guard_check(&guard); /* no threads of our own */
        record_init(&r, ctx);
        r.fail_from = 7;
        assert_int_equal(ar_parallel(ctx, 60, count_piece, NULL, &r), ADVROB_E_SHAPE);
        assert_string_equal(ar_message(), "piece 7 failed");
        ctx->cancelled = 1;
        assert_int_equal(ar_parallel(ctx, 60, count_piece, NULL, &r), ADVROB_E_CANCELLED);
        ctx->cancelled = 0;
    }
    mode = 1;
    record_init(&r, ctx);
    assert_int_equal(ar_parallel(ctx, 60, count_piece, NULL, &r), ADVROB_E_CALLBACK);
    assert_string_equal(ar_message(), "the parallel hook ran 59 of 60 pieces");
    mode = 2;
    record_init(&r, ctx);
    assert_int_equal(ar_parallel(ctx, 60, count_piece, NULL, &r), ADVROB_E_CALLBACK);
    assert_int_equal(r.wrong, 0); /* no piece saw the wrong number */
    mode = 0;
    static outer o; /* nested jobs do not go to the hook again */
    o.ctx = ctx;
    o.fails_at = -1;
    assert_int_equal(ar_parallel(ctx, 16, nested_piece, NULL, &o), ADVROB_OK);
    for (int i = 0; i < 16; i++) {
        check_all_once(&o.inner[i], 40);
    }
    ar_context_release(ctx);
}

/* What a forked child must find; 0 if all is right, else the number of the step. */
static int in_child(advrob_context *old) {
    static record r;
    advrob_context *fresh;
    alarm(20);
    record_init(&r, old);
    if (ar_context_check(old) != ADVROB_E_FORKED) return 1;
    if (ar_parallel(old, 100, count_piece, NULL, &r) != ADVROB_E_FORKED) return 2;
    if (r.started != 0) return 3;
    if (!strstr(ar_message(), "fork")) return 4;
    if (test_context_try(NULL, CHILD_THREADS, &fresh) != ADVROB_OK) return 5;
    record_init(&r, fresh);
    if (ar_parallel(fresh, 100, count_piece, NULL, &r) != ADVROB_OK) return 6;
    if (r.started != 100 || r.wrong) return 7;
    ar_context_release(fresh);
    ar_context_release(old);
    return 0;
}

static void check_child(advrob_context *ctx, const test_allocator *allocator) {
    int result = -1;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int step = in_child(ctx);
        if (step == 0 && allocator->blocks != 0) step = 8; /* all of its memory is given back */
        _exit(step);
    }
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result));
    assert_int_equal(WEXITSTATUS(result), 0);
}

static void *run_long_job(void *arg) {
    record *r = arg;
    r->caller = pthread_self();
    ar_parallel(r->ctx, 300, count_piece, NULL, r);
    return NULL;
}

static void test_fork(void **state) {
    test_allocator allocator = {0};
    record r;
    pthread_t thread;
    (void)state;
    advrob_context *ctx = test_context_with(&allocator, 3);
    record_init(&r, ctx);
    r.sleep_us = 500;
    check_child(ctx, &allocator); /* before there are workers */
    assert_int_equal(ar_parallel(ctx, 20, count_piece, NULL, &r), ADVROB_OK);
    check_child(ctx, &allocator); /* while they sleep */
    record_init(&r, ctx);
    r.sleep_us = 1000;
    assert_int_equal(pthread_create(&thread, NULL, run_long_job, &r), 0);
    for (int i = 0; i < 3; i++) {
        usleep(5000);
        check_child(ctx, &allocator); /* while they work */
    }
    pthread_join(thread, NULL);
    check_all_once(&r, 300);
    record_init(&r, ctx); /* the parent goes on as before */
    assert_int_equal(ar_parallel(ctx, 20, count_piece, NULL, &r), ADVROB_OK);
    check_all_once(&r, 20);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_piece_once),
        cmocka_unit_test(test_many_short_jobs),
        cmocka_unit_test(test_threads_start_late),
        cmocka_unit_test(test_lowest_error),
        cmocka_unit_test(test_late_lower_error),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_serial),
        cmocka_unit_test(test_concurrent_callers),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_poll),
        cmocka_unit_test(test_worker_state),
        cmocka_unit_test(test_no_threads),
        cmocka_unit_test(test_parallel_hook),
        cmocka_unit_test(test_fork),
    };
    alarm(WATCHDOG_SECONDS);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
