/* The datasets that can be opened by name: the list datasets.inc as a table. */
#include "io.h"

#include <string.h>

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

static int32_t find_format(const char *name, const ar_dataset_format **out) {
    const char *names[sizeof(formats) / sizeof(formats[0])];
    for (int32_t i = 0; i < FORMATS; i++) {
        names[i] = formats[i]->name;
        if (strcmp(names[i], name) != 0) continue;
        *out = formats[i];
        return ADVROB_OK;
    }
    const char *near = ar_nearest(name, names, FORMATS);
    if (near)
        return ar_error(ADVROB_E_UNKNOWN, "dataset \"%s\" is unknown, did you mean \"%s\"?", name,
                        near);
    return ar_error(ADVROB_E_UNKNOWN,
                    "dataset \"%s\" is unknown, expected one of the listed, as "
                    "\"%s\"",
                    name, names[0]);
}

int32_t ar_dataset_open(advrob_context *ctx, const char *name, const char *dir,
                        const advrob_options *options, advrob_dataset **out) {
    int32_t status = ADVROB_OK;
    const ar_dataset_format *format = NULL;
    const ar_option_scope scope = {"", &ar_dataset_options};
    dataset_options values;
    char who[64];
    ar_arena arena;
    ar_arena_init(&arena, &ctx->memory);
    *out = NULL;
    AR_TRY(find_format(name, &format));
    ar_format(who, sizeof(who), "dataset %s", format->name);
    AR_TRY(ar_options_check(options, who, &scope, 1));
    AR_TRY(ar_options_read(options, who, "", &ar_dataset_options, &arena, &values));
    AR_TRY(format->open(ctx, dir, values.split, values.limit, out));
out:
    ar_arena_free(&arena);
    return status;
}
