/* The datasets that can be opened by name: the list datasets.inc as a table. */
#include "io.h"

#define AR_DATASET(id) extern const ar_dataset_format ar_dataset_format_##id;
#include "datasets.inc"
#undef AR_DATASET

#define AR_DATASET(id) &ar_dataset_format_##id,
static const ar_dataset_format *const formats[] = {
#include "datasets.inc"
};
#undef AR_DATASET

#define FORMATS ((int32_t)(sizeof(formats) / sizeof(formats[0])))

typedef struct dataset_options {
    const char *split;
    int64_t limit;
} dataset_options;

static const ar_option entries[] = {
    AR_STR(dataset_options, split, "train", "train|test", "which part of the dataset"),
    AR_I64(dataset_options, limit, 0, 0, INT32_MAX, "the first n images; 0 = all"),
};

const ar_option_table ar_dataset_options = AR_TABLE(dataset_options, entries);

int32_t ar_dataset_format_count(void) {
    return FORMATS;
}

const ar_dataset_format *ar_dataset_format_at(int32_t index) {
    return index >= 0 && index < FORMATS ? formats[index] : NULL;
}

static const char *name_at(int32_t index) {
    return formats[index]->name;
}

int32_t ar_dataset_open(advrob_context *ctx, const char *name, const char *dir,
                        const advrob_options *options, advrob_dataset **out) {
    int32_t status = ADVROB_OK;
    int32_t index;
    const ar_option_scope scope = {"", &ar_dataset_options};
    dataset_options values;
    char who[64];
    ar_arena arena;
    ar_arena_init(&arena, &ctx->memory);
    *out = NULL;
    AR_TRY(ar_find_name("dataset", name, FORMATS, name_at, &index));
    ar_format(who, sizeof(who), "dataset %s", formats[index]->name);
    AR_TRY(ar_options_check(options, who, &scope, 1));
    AR_TRY(ar_options_read(options, who, "", &ar_dataset_options, &arena, &values));
    AR_TRY(formats[index]->open(ctx, dir, values.split, values.limit, out));
out:
    ar_arena_free(&arena);
    return status;
}
