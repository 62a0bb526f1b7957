/* Parallel jobs: a context's own threads, or the caller's loop, or just the calling thread.
 *
 * A job lives on its caller's stack. Workers enter it through the gate, a counter that the caller
 * closes when all pieces are handed out and that must fall to zero before the job ends; so a worker
 * that sleeps through a short job costs nothing. Pieces come from one rising counter: when piece m
 * runs, every piece below m was handed out before, and so the lowest error is always found. */
#include "base.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SPIN_SECONDS 20e-6
#define POLL_SECONDS 20e-3 /* well under the 50 ms that are promised */
#define GATE_OPEN 0x80000000u
#define NO_PIECE INT64_MAX

typedef struct job {
    advrob_context *ctx;
    int64_t count;
    ar_piece_fn piece;
    ar_poll_fn poll;
    void *arg;
    pthread_mutex_t *lock; /* of the failure; NULL when one thread runs the job */
    pthread_t caller;
    _Atomic int64_t next, done, lowest; /* lowest: the lowest failed piece */
    _Atomic bool stop;
    int32_t status, poll_status;
    char message[AR_MESSAGE_SIZE], poll_message[AR_MESSAGE_SIZE];
} job;

typedef struct pool_worker {
    struct ar_pool *pool;
    pthread_t thread;
    int32_t number;
    uint64_t seen; /* generation at its start */
} pool_worker;

struct ar_pool {
    ar_memory *memory;
    pthread_mutex_t mutex;
    pthread_cond_t wake, idle;
    _Atomic bool busy; /* one job at a time */
    _Atomic bool quit;
    _Atomic uint32_t gate; /* GATE_OPEN and the number of workers inside */
    _Atomic uint64_t generation;
    job *current;     /* stands while the gate is open or somebody is inside */
    int32_t sleepers; /* under the mutex */
    int32_t started;  /* workers; of whoever holds `busy` */
    bool stuck;       /* a thread did not start: no further try */
    pool_worker workers[];
};

/* Set while a thread that is not the job's caller runs pieces: hooks must not be called there. */
static _Thread_local bool on_worker;

/* Set within ar_serial. */
static _Thread_local bool alone;

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

static void record_failure(job *j, int64_t index, int32_t status) {
    if (j->lock) pthread_mutex_lock(j->lock);
    if (index < atomic_load_explicit(&j->lowest, memory_order_relaxed)) {
        atomic_store_explicit(&j->lowest, index, memory_order_relaxed);
        j->status = status;
        ar_copy_text(j->message, sizeof j->message, ar_message());
    }
    if (j->lock) pthread_mutex_unlock(j->lock);
    atomic_store_explicit(&j->stop, true, memory_order_relaxed);
}

/* The next piece, if there is one to start. */
static bool take_piece(job *j, int64_t *index) {
    if (atomic_load_explicit(&j->stop, memory_order_relaxed)) return false;
    /* A look first: callers that come again and again must not make the counter run over. */
    if (atomic_load_explicit(&j->next, memory_order_relaxed) >= j->count) return false;
    *index = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed);
    return *index < j->count;
}

/* A piece that was handed out still runs when a higher one has failed meanwhile: it may hold the
 * lower error. */
static void run_piece(job *j, int64_t index, int32_t worker) {
    if (index > atomic_load_explicit(&j->lowest, memory_order_relaxed)) return;
    int32_t status = ar_cancelled(j->ctx);
    if (status == ADVROB_OK) status = j->piece(j->arg, index, worker);
    if (status < 0) {
        record_failure(j, index, status);
    } else {
        atomic_fetch_add_explicit(&j->done, 1, memory_order_release);
    }
}

static void poll_job(job *j) {
    if (!j->poll || on_worker || j->poll_status < 0) return;
    int32_t status = j->poll(j->arg, atomic_load_explicit(&j->done, memory_order_acquire));
    if (status >= 0) return;
    j->poll_status = status;
    ar_copy_text(j->poll_message, sizeof j->poll_message, ar_message());
    atomic_store_explicit(&j->stop, true, memory_order_relaxed);
}

static void run_own_pieces(job *j) {
    int64_t index;
    while (take_piece(j, &index)) {
        run_piece(j, index, 0);
        poll_job(j);
    }
}

static int32_t finish_job(job *j) {
    if (atomic_load_explicit(&j->lowest, memory_order_relaxed) != NO_PIECE) {
        return ar_error_restore(j->status, j->message);
    }
    if (j->poll_status < 0) return ar_error_restore(j->poll_status, j->poll_message);
    return ADVROB_OK;
}

static bool enter_gate(struct ar_pool *pool) {
    uint32_t gate = atomic_load_explicit(&pool->gate, memory_order_relaxed);
    do {
        if (!(gate & GATE_OPEN)) return false;
    } while (!atomic_compare_exchange_weak_explicit(&pool->gate, &gate, gate + 1,
                                                    memory_order_acquire, memory_order_relaxed));
    return true;
}

static void leave_gate(struct ar_pool *pool) {
    if (atomic_fetch_sub_explicit(&pool->gate, 1, memory_order_acq_rel) != 1) return;
    pthread_mutex_lock(&pool->mutex); /* the caller may be about to sleep */
    pthread_cond_signal(&pool->idle);
    pthread_mutex_unlock(&pool->mutex);
}

/* Waits for a new generation; false when the pool ends. */
static bool wait_for_job(struct ar_pool *pool, uint64_t *seen) {
    double end = ar_clock() + SPIN_SECONDS;
    uint64_t now = atomic_load_explicit(&pool->generation, memory_order_acquire);
    while (now == *seen && ar_clock() < end) {
        for (int i = 0; i < 32; i++) {
            relax();
        }
        now = atomic_load_explicit(&pool->generation, memory_order_acquire);
    }
    if (now == *seen) {
        pthread_mutex_lock(&pool->mutex);
        pool->sleepers++;
        while ((now = atomic_load(&pool->generation)) == *seen) {
            pthread_cond_wait(&pool->wake, &pool->mutex);
        }
        pool->sleepers--;
        pthread_mutex_unlock(&pool->mutex);
    }
    *seen = now;
    return !atomic_load(&pool->quit);
}

static void *worker_main(void *arg) {
    pool_worker *worker = arg;
    struct ar_pool *pool = worker->pool;
    uint64_t seen = worker->seen;
    int64_t index;
    on_worker = true;
    ar_fp_enter();
    while (wait_for_job(pool, &seen)) {
        if (!enter_gate(pool)) continue;
        while (take_piece(pool->current, &index)) {
            run_piece(pool->current, index, worker->number);
        }
        leave_gate(pool);
    }
    return NULL;
}

/* Starts workers up to `wanted`. Signals of the program are not for them. */
static void start_workers(struct ar_pool *pool, int32_t wanted) {
    sigset_t all, old;
    if (pool->started >= wanted || pool->stuck) return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (pool->started < wanted && !pool->stuck) {
        pool_worker *worker = &pool->workers[pool->started];
        worker->pool = pool;
        worker->number = pool->started + 1;
        worker->seen = atomic_load(&pool->generation);
        if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0) {
            pool->stuck = true; /* fewer threads give the same results */
        } else {
            pool->started++;
        }
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void open_gate(struct ar_pool *pool, job *j, int32_t helpers) {
    pool->current = j;
    atomic_store_explicit(&pool->gate, GATE_OPEN, memory_order_release);
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add_explicit(&pool->generation, 1, memory_order_release);
    if (helpers >= pool->sleepers) {
        pthread_cond_broadcast(&pool->wake);
    } else {
        for (int32_t i = 0; i < helpers; i++) {
            pthread_cond_signal(&pool->wake);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
}

static void nap(struct ar_pool *pool) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(POLL_SECONDS * 1e9);
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&pool->mutex);
    if (atomic_load_explicit(&pool->gate, memory_order_acquire) != 0) {
        pthread_cond_timedwait(&pool->idle, &pool->mutex, &until);
    }
    pthread_mutex_unlock(&pool->mutex);
}

/* Lets nobody in any more and waits for those inside. */
static void close_gate(struct ar_pool *pool, job *j) {
    atomic_fetch_and_explicit(&pool->gate, ~GATE_OPEN, memory_order_acq_rel);
    double end = ar_clock() + SPIN_SECONDS;
    while (atomic_load_explicit(&pool->gate, memory_order_acquire) != 0 && ar_clock() < end) {
        relax();
    }
    while (atomic_load_explicit(&pool->gate, memory_order_acquire) != 0) {
        nap(pool);
        if (atomic_load_explicit(&pool->gate, memory_order_acquire) != 0) poll_job(j);
    }
}

/* One call of the caller's own loop. Its index is not used: pieces keep their rising order, which
 * the choice of the error needs. */
static void hook_body(void *arg, int64_t i, int32_t worker) {
    job *j = arg;
    int64_t index;
    (void)i;
    bool caller = pthread_equal(j->caller, pthread_self()), was = on_worker;
    if (!take_piece(j, &index)) return;
    if (!caller) on_worker = true;
    uint64_t state = ar_fp_enter();
    if (worker < 0 || worker >= j->ctx->threads) {
        record_failure(j, index,
                       ar_error(ADVROB_E_CALLBACK,
                                "the parallel hook gave worker number %d, expected 0 to %d", worker,
                                j->ctx->threads - 1));
    } else {
        run_piece(j, index, worker);
    }
    on_worker = was;
    if (caller) poll_job(j);
    ar_fp_leave(state);
}

static int32_t run_by_hook(job *j) {
    uint64_t state = ar_fp_outside();
    j->ctx->parallel(j->ctx->parallel_user, j->count, j->ctx->threads, hook_body, j);
    ar_fp_inside(state);
    int32_t status = finish_job(j);
    int64_t done = atomic_load_explicit(&j->done, memory_order_acquire);
    if (status == ADVROB_OK && done != j->count) {
        return ar_error(ADVROB_E_CALLBACK, "the parallel hook ran %lld of %lld pieces",
                        (long long)done, (long long)j->count);
    }
    return status;
}

int32_t ar_parallel(advrob_context *ctx, int64_t count, ar_piece_fn piece, ar_poll_fn poll,
                    void *arg) {
    struct ar_pool *pool = ctx->pool;
    int32_t status;
    job j;
    if (ctx->process != (int64_t)getpid() || count <= 0) return ar_context_check(ctx);
    j.ctx = ctx;
    j.count = count;
    j.piece = piece;
    j.poll = poll;
    j.arg = arg;
    j.lock = NULL;
    j.caller = pthread_self();
    atomic_init(&j.next, 0);
    atomic_init(&j.done, 0);
    atomic_init(&j.lowest, NO_PIECE);
    atomic_init(&j.stop, false);
    j.status = j.poll_status = ADVROB_OK;

    /* Nested in a piece, or beside another thread's job: on this thread. */
    if (!pool || count == 1 || alone ||
        atomic_exchange_explicit(&pool->busy, true, memory_order_acquire)) {
        run_own_pieces(&j);
        return finish_job(&j);
    }
    j.lock = &pool->mutex;
    if (ctx->parallel) {
        status = run_by_hook(&j);
    } else {
        int32_t helpers = (int32_t)(count < ctx->threads ? count : ctx->threads) - 1;
        start_workers(pool, helpers);
        open_gate(pool, &j, helpers);
        run_own_pieces(&j);
        close_gate(pool, &j);
        status = finish_job(&j);
    }
    atomic_store_explicit(&pool->busy, false, memory_order_release);
    return status;
}

int32_t ar_serial(ar_piece_fn piece, void *arg) {
    bool was = alone;
    alone = true;
    int32_t status = piece(arg, 0, 0);
    alone = was;
    return status;
}

int32_t ar_pool_create(ar_memory *memory, int32_t threads, struct ar_pool **out) {
    pthread_condattr_t monotonic;
    void *block;
    size_t size = sizeof(struct ar_pool) + (size_t)threads * sizeof(pool_worker);
    *out = NULL;
    int32_t status = ar_calloc(memory, 1, size, "the thread pool", &block);
    if (status < 0) return status;
    struct ar_pool *pool = block;
    pool->memory = memory;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
    *out = pool;
    return ADVROB_OK;
}

/* In a forked child the workers do not exist and a mutex may be held for ever: only memory is
 * given back. */
void ar_pool_destroy(struct ar_pool *pool, bool forked) {
    if (!pool) return;
    if (!forked) {
        pthread_mutex_lock(&pool->mutex);
        atomic_store(&pool->quit, true);
        atomic_fetch_add(&pool->generation, 1);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->mutex);
        for (int32_t i = 0; i < pool->started; i++) {
            pthread_join(pool->workers[i].thread, NULL);
        }
        pthread_cond_destroy(&pool->idle);
        pthread_cond_destroy(&pool->wake);
        pthread_mutex_destroy(&pool->mutex);
    }
    ar_free(pool->memory, pool);
}
