/* The context: memory, threads, seed, hooks, files and kernel table; and its parallel jobs. */
#ifndef AR_CONTEXT_H
#define AR_CONTEXT_H

#include "memory.h"

struct ar_kernels;  /* kernel/kernel.h */
struct ar_integers; /* model/program.h */
struct ar_file_ops; /* file.h */
struct ar_pool;     /* pool.c */

/* Most threads of a context, so that what is kept per worker may stand on the stack. */
#define AR_MAX_THREADS 256

/* CPU levels in rising order. */
enum { AR_CPU_PORTABLE, AR_CPU_AVX2, AR_CPU_COUNT };

struct advrob_context {
    ar_memory memory;
    _Atomic int32_t references;
    _Atomic int32_t cancelled;
    int64_t process; /* pid of the creator: a forked child is refused */
    int64_t seed;
    int32_t threads;
    int32_t cpu;                        /* AR_CPU_* */
    int32_t winograd;                   /* the largest Winograd tile of convolutions: 0, 2 or 4 */
    const struct ar_kernels *kernels;   /* set by the api layer after creation, as are: */
    const struct ar_integers *integers; /* what exact simulation runs by; NULL: there is none */
    const struct ar_file_ops *files;    /* tests put a faulty twin here */
    void *files_user;
    advrob_log_fn log;
    void *log_user;
    advrob_progress_fn progress;
    void *progress_user;
    advrob_parallel_fn parallel;
    void *parallel_user;
    struct ar_pool *pool; /* its threads start with the first job; NULL with one thread */
};

/* Option table of a context (option.h), for the api layer's listing. */
extern const struct ar_option_table ar_context_options;

int32_t ar_context_create(const advrob_options *options, advrob_context **out);
void ar_context_retain(advrob_context *ctx);
void ar_context_release(advrob_context *ctx); /* frees with the last reference; NULL is fine */

/* E_FORKED in a child process, otherwise OK. Cancelling is ar_cancelled's matter: what is finished
 * can still be read and saved after a cancel. */
int32_t ar_context_check(advrob_context *ctx);
/* OK, or E_CANCELLED with its message. Cheap: called at every step of every tile. */
int32_t ar_cancelled(advrob_context *ctx);

void ar_log(advrob_context *ctx, int32_t level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Calls the progress hook; E_CANCELLED if it returns non-zero. Only on the caller's thread. */
int32_t ar_progress(advrob_context *ctx, const char *what, int64_t done, int64_t total,
                    double value);

/* A piece of a parallel job. `worker` is in [0, ar_workers(ctx)): an index for workspaces. */
typedef int32_t (*ar_piece_fn)(void *arg, int64_t piece, int32_t worker);

/* Called on the caller's thread at least every 50 ms while a job runs; may be NULL. */
typedef int32_t (*ar_poll_fn)(void *arg, int64_t done);

int32_t ar_workers(const advrob_context *ctx);

/* Runs piece(arg, i, worker) for every i in [0, count); the caller's thread takes part. Pieces are
 * handed out in rising order. After a failure no further piece starts; the error of the lowest
 * failed piece becomes the caller's. Results must not depend on which worker runs what. If the
 * context is already running a job, the pieces run on the calling thread as worker 0. */
int32_t ar_parallel(advrob_context *ctx, int64_t count, ar_piece_fn piece, ar_poll_fn poll,
                    void *arg);

/* Runs piece(arg, 0, 0); the jobs that it starts run on this thread alone. */
int32_t ar_serial(ar_piece_fn piece, void *arg);

/* Floating-point state: round to nearest, no flush to zero. enter returns what leave puts back. */
uint64_t ar_fp_enter(void);
void ar_fp_leave(uint64_t state);
/* Around a call of the caller's hook: the state that the thread's last enter found, then the
 * library's again. outside returns what inside takes; the hook may call the library. */
uint64_t ar_fp_outside(void);
void ar_fp_inside(uint64_t state);

/* The highest level that this machine has, and a level's name ("portable", "avx2"). */
int32_t ar_cpu_detect(void);
const char *ar_cpu_name(int32_t level);
int32_t ar_cpu_cores(void);

/* Seconds of a monotonic clock; and of work by all cores, for all threads of the process. */
double ar_clock(void);
double ar_cpu_clock(void);

/* pool.c, for context.c only. create starts no thread: the first job does. */
int32_t ar_pool_create(ar_memory *memory, int32_t threads, struct ar_pool **out);
void ar_pool_destroy(struct ar_pool *pool, bool forked);

#endif
