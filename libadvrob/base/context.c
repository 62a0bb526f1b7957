/* The context: its options, its life, its hooks and its cancel flag.
 *
 * The context's own block comes from its own allocator too: a context leaves nothing behind, and
 * a program that counts its memory sees all of it. */
#include "base.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

typedef struct context_options {
    int64_t threads, seed, memory_limit;
    const char *cpu, *winograd;
} context_options;

static const ar_option entries[] = {
    AR_I64(context_options, threads, 0, 0, AR_MAX_THREADS, "threads of work; 0 for one per core"),
    AR_I64(context_options, seed, 0, -0x1p63, 0x1p63, "start of all random numbers"),
    AR_STR(context_options, cpu, "auto", "auto|portable|avx2", "instructions that are used"),
    AR_STR(context_options, winograd, "auto", "auto|2|off",
           "3x3 convolutions by Winograd: the largest tile that pays (4), 2, or never"),
    AR_I64(context_options, memory_limit, 0, 0, 0x1p62, "bytes at most; 0 for no limit"),
};

const ar_option_table ar_context_options = AR_TABLE(context_options, entries);

static int32_t choose_cpu(const char *name, int32_t *level) {
    int32_t best = ar_cpu_detect();
    *level = best;
    for (int32_t i = 0; i < AR_CPU_COUNT; i++) {
        if (strcmp(name, ar_cpu_name(i)) == 0) *level = i;
    }
    if (*level <= best) return ADVROB_OK;
    return ar_error(ADVROB_E_UNSUPPORTED,
                    "context: option \"cpu\" is \"%s\", this machine has \"%s\" at most", name,
                    ar_cpu_name(best));
}

static void fill(advrob_context *ctx, const ar_memory *boot, const context_options *values) {
    memset(ctx, 0, sizeof *ctx);
    ar_memory_init(&ctx->memory, boot->hook, boot->user);
    atomic_init(&ctx->references, 1);
    atomic_init(&ctx->cancelled, 0);
    ctx->process = getpid();
    ctx->seed = values->seed;
    ctx->threads = (int32_t)values->threads;
    if (ctx->threads == 0) ctx->threads = ar_cpu_cores();
    if (ctx->threads > AR_MAX_THREADS) ctx->threads = AR_MAX_THREADS;
    ctx->winograd = strcmp(values->winograd, "off") == 0 ? 0 : values->winograd[0] == '2' ? 2 : 4;
    ctx->files = &ar_file_ops_posix;
}

int32_t ar_context_create(const advrob_options *options, advrob_context **out) {
    int32_t status = ADVROB_OK;
    const ar_option_scope scope = {"", &ar_context_options};
    ar_memory boot; /* until the context's own stands */
    ar_arena arena;
    context_options values;
    advrob_alloc_fn hook;
    void *user, *block = NULL;
    advrob_context *ctx;
    int32_t cpu;

    *out = NULL;
    ar_options_allocator(options, &hook, &user);
    ar_memory_init(&boot, hook, user);
    ar_arena_init(&arena, &boot);
    AR_TRY(ar_options_check(options, "context", &scope, 1));
    AR_TRY(ar_options_read(options, "context", "", &ar_context_options, &arena, &values));
    AR_TRY(choose_cpu(values.cpu, &cpu));
    boot.limit = (uint64_t)values.memory_limit;
    AR_TRY(ar_alloc(&boot, sizeof *ctx, "the context", &block));
    ctx = block;
    fill(ctx, &boot, &values);
    ctx->cpu = cpu;
    ar_arena_free(&arena);
    ctx->memory.limit = boot.limit;
    atomic_store(&ctx->memory.used, atomic_load(&boot.used));
    atomic_store(&ctx->memory.peak, atomic_load(&boot.peak));
    atomic_store(&ctx->memory.calls, atomic_load(&boot.calls));
    if (ctx->threads > 1) {
        status = ar_pool_create(&ctx->memory, ctx->threads, &ctx->pool);
        if (status < 0) {
            ar_context_release(ctx);
            return status;
        }
    }
    *out = ctx;
    return ADVROB_OK;
out:
    ar_arena_free(&arena);
    return status;
}

void ar_context_retain(advrob_context *ctx) {
    atomic_fetch_add_explicit(&ctx->references, 1, memory_order_relaxed);
}

void ar_context_release(advrob_context *ctx) {
    if (!ctx) return;
    if (atomic_fetch_sub_explicit(&ctx->references, 1, memory_order_acq_rel) != 1) return;
    ar_pool_destroy(ctx->pool, ctx->process != (int64_t)getpid());
    ar_memory last; /* the context's own stands in the block that is freed */
    ar_memory_init(&last, ctx->memory.hook, ctx->memory.user);
    ar_free(&last, ctx);
}

int32_t ar_context_check(advrob_context *ctx) {
    if (!ctx) return ar_error(ADVROB_E_INVALID, "the context is NULL");
    int64_t process = getpid();
    if (ctx->process != process) {
        return ar_error(ADVROB_E_FORKED,
                        "the context belongs to process %lld, this is its child %lld: create a new "
                        "one after fork",
                        (long long)ctx->process, (long long)process);
    }
    return ADVROB_OK;
}

int32_t ar_cancelled(advrob_context *ctx) {
    if (!atomic_load_explicit(&ctx->cancelled, memory_order_relaxed)) return ADVROB_OK;
    return ar_error(ADVROB_E_CANCELLED, "cancelled; advrob_context_rearm makes the context usable");
}

void ar_log(advrob_context *ctx, int32_t level, const char *format, ...) {
    char message[AR_MESSAGE_SIZE];
    va_list args;
    if (!ctx->log) return;
    va_start(args, format);
    ar_vformat(message, sizeof message, format, args);
    va_end(args);
    for (char *c = message; *c; c++) {
        if (*c == '\n' || *c == '\r') *c = ' ';
    }
    uint64_t state = ar_fp_outside();
    ctx->log(ctx->log_user, level, message);
    ar_fp_inside(state);
}

int32_t ar_progress(advrob_context *ctx, const char *what, int64_t done, int64_t total,
                    double value) {
    if (!ctx->progress) return ADVROB_OK;
    uint64_t state = ar_fp_outside();
    int32_t answer = ctx->progress(ctx->progress_user, what, done, total, value);
    ar_fp_inside(state);
    if (answer == 0) return ADVROB_OK;
    return ar_error(ADVROB_E_CANCELLED, "%s: cancelled by the progress hook at %lld of %lld", what,
                    (long long)done, (long long)total);
}

int32_t ar_workers(const advrob_context *ctx) {
    return ctx->threads;
}
