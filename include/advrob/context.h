/* The context: memory, threads, seed and hooks that everything else uses. There is no global
 * state: two contexts do not know of each other.
 *
 *     advrob_context *ctx;
 *     if (advrob_context_create(NULL, &ctx) != ADVROB_OK) { ... advrob_last_message() ... }
 *     ...
 *     advrob_context_destroy(ctx);      // handles made from it may be destroyed before or after
 *
 * Options: "threads" (0 = one per core), "seed", "cpu" ("auto", "portable", "avx2"),
 * "winograd" ("auto", "2", "off": 3x3 convolutions of stride 1 by F(4x4, 3x3) where it is faster,
 * by F(2x2, 3x3), or directly; the first two round a little more), "memory_limit" (bytes, 0 =
 * none).
 *
 * Threads: calls on different handles may run at the same time, also with one context; one of
 * them uses the context's workers, the others run on their own thread. After fork() the child
 * gets E_FORKED from an old context and may create a new one. */
#ifndef ADVROB_CONTEXT_H
#define ADVROB_CONTEXT_H

#include <advrob/options.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct advrob_context advrob_context;

/* Log levels. */
enum { ADVROB_LOG_WARNING = 1, ADVROB_LOG_INFO = 2, ADVROB_LOG_DEBUG = 3 };

/* Hooks; called only on the thread that made the library call. `message` is one line. */
typedef void (*advrob_log_fn)(void *user, int32_t level, const char *message);

/* `what` names the job ("train", "attack"); `done` of `total` pieces; `value` is the job's figure
 * so far (mean loss, accuracy; NaN while there is none). Return non-zero to cancel. */
typedef int32_t (*advrob_progress_fn)(void *user, const char *what, int64_t done, int64_t total,
                                      double value);

/* The caller's own parallel loop: must call body(arg, i, worker) once for each i in [0, count),
 * with 0 <= worker < threads and no worker number in use twice at one time. */
typedef void (*advrob_body_fn)(void *arg, int64_t i, int32_t worker);
typedef void (*advrob_parallel_fn)(void *user, int64_t count, int32_t threads, advrob_body_fn body,
                                   void *arg);

/* Errors: E_UNKNOWN, E_RANGE (options), E_UNSUPPORTED (a cpu level that this machine lacks),
 * E_NOMEM. `options` may be NULL and is not kept. */
ADVROB_API int32_t advrob_context_create(const advrob_options *options, advrob_context **out);

/* Gives up the caller's reference; what still lives from it keeps it alive. NULL is fine. */
ADVROB_API void advrob_context_destroy(advrob_context *ctx);

/* Set a hook (NULL removes it). Not while another thread uses the context. */
ADVROB_API int32_t advrob_context_set_log(advrob_context *ctx, advrob_log_fn fn, void *user);
ADVROB_API int32_t advrob_context_set_progress(advrob_context *ctx, advrob_progress_fn fn,
                                               void *user);
ADVROB_API int32_t advrob_context_set_parallel(advrob_context *ctx, advrob_parallel_fn fn,
                                               void *user);

/* Ask all running and coming calls on the context to stop with E_CANCELLED: one atomic store,
 * callable from any thread and from a signal handler. advrob_context_rearm clears it. */
ADVROB_API void advrob_context_cancel(advrob_context *ctx);
ADVROB_API void advrob_context_rearm(advrob_context *ctx);

/* What the context settled on. The text is static. */
ADVROB_API int32_t advrob_context_threads(const advrob_context *ctx);
ADVROB_API int64_t advrob_context_seed(const advrob_context *ctx);
ADVROB_API const char *advrob_context_cpu(const advrob_context *ctx);

/* Bytes allocated through the context: now, and at most so far. */
ADVROB_API uint64_t advrob_context_memory(const advrob_context *ctx);
ADVROB_API uint64_t advrob_context_memory_peak(const advrob_context *ctx);

#ifdef __cplusplus
}
#endif

#endif
