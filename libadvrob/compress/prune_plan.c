/* Pruning by a plan: a text that another compressor's plan printed, as it is or edited. */
#include <string.h>

#include "prune.h"

typedef struct plan_options {
    const char *plan;
} plan_options;

static const ar_option entries[] = {
    AR_STR(plan_options, plan, "", NULL, "lines like \"conv1: 2 of 8 go: 3 5\""),
};
static const ar_option_table table = AR_TABLE(plan_options, entries);

/* The plan read and carried out, or, `out` NULL, printed. */
static int32_t follow(const ar_compression *job, advrob_model **out, ar_buffer *text) {
    int32_t status = ADVROB_OK;
    const plan_options *o = job->options;
    ar_channels channels;
    ar_arena arena;
    void *block;
    ar_arena_init(&arena, &job->ctx->memory);
    AR_TRY(ar_channels_find(job->model, true, &arena, &channels));
    AR_TRY(ar_arena_alloc(&arena, (size_t)channels.classes, sizeof(bool), "pruning", &block));
    bool *gone = block;
    AR_TRY(ar_plan_parse(&channels, o->plan, gone));
    if (out != NULL)
        AR_TRY(ar_channels_remove(&channels, gone, out));
    else
        AR_TRY(ar_plan_print(&channels, gone, text));
out:
    ar_arena_free(&arena);
    return status;
}

static int32_t run(const ar_compression *job, advrob_model **out) {
    return follow(job, out, NULL);
}

static int32_t write_plan(const ar_compression *job, ar_buffer *text) {
    return follow(job, NULL, text);
}

const ar_compressor ar_compressor_prune_plan = {
    .name = "prune_plan",
    .help = "removes the channels that a plan lists",
    .options = &table,
    .run = run,
    .plan = write_plan,
};
