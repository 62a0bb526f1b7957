/* Weights by name from a safetensors file into a model that stands; and the check of a shape that
 * the model file's reader needs too. */
#include "model_file.h"

#include <string.h>

#include "io.h"

#define QUOTE 96
/* Some training programs wrap their net: all its tensors then bear this. */
static const char *const prefixes[] = {"net.", "module.", "model."};

/* "[16, 1, 4, 4]" */
static void print_shape(char *text, size_t size, int32_t rank, const int64_t *shape) {
    size_t at = ar_format(text, size, "[");
    for (int32_t i = 0; i < rank && at < size; i++)
        at += ar_format(text + at, size - at, "%s%lld", i > 0 ? ", " : "", (long long)shape[i]);
    if (at < size) ar_format(text + at, size - at, "]");
}

int32_t ar_stored_check(const ar_stored *tensor, const char *file, int32_t code, int32_t rank,
                        const int64_t *shape) {
    char quoted[QUOTE], got[QUOTE * 2], wanted[QUOTE];
    bool equal = tensor->rank == rank;
    for (int32_t i = 0; equal && i < rank; i++)
        equal = tensor->shape[i] == shape[i];
    if (equal) return ADVROB_OK;
    ar_json_quote(quoted, sizeof quoted, tensor->name);
    print_shape(got, sizeof got, tensor->rank, tensor->shape);
    print_shape(wanted, sizeof wanted, rank, shape);
    return ar_error(code, "%.200s: tensor %s: shape %s, expected %s", file, quoted, got, wanted);
}

typedef struct loader {
    advrob_model *model;
    const char *path, *prefix;
    ar_safetensors file;
    ar_real *slab; /* the new parameters until all are good */
    double *mean, *std;
    size_t mean_count, std_count; /* 0: not in the file */
    ar_arena arena;
} loader;

static bool is_normalisation(const char *name) {
    return strcmp(name, "mean") == 0 || strcmp(name, "std") == 0;
}

/* Whether all names begin with the prefix, and parameters do not stand there without it. */
static bool has_prefix(const loader *l, const char *prefix) {
    bool found = false;
    if (l->model->parameter_count == 0 ||
        ar_safetensors_find(&l->file, l->model->parameters[0].name) != NULL)
        return false;
    for (int32_t i = 0; i < l->file.count; i++) {
        const char *name = l->file.tensors[i].name;
        bool starts = strncmp(name, prefix, strlen(prefix)) == 0;
        if (!starts && !is_normalisation(name)) return false;
        found = found || starts;
    }
    return found;
}

static int32_t missing(loader *l, const char *name) {
    int32_t status = ADVROB_OK;
    void *block;
    char quoted[QUOTE];
    AR_TRY(ar_arena_alloc(&l->arena, (size_t)l->file.count, sizeof(char *), "names", &block));
    const char **names = block;
    for (int32_t i = 0; i < l->file.count; i++)
        names[i] = l->file.tensors[i].name;
    const char *near = ar_nearest(name, names, l->file.count);
    if (near == NULL) AR_FAIL(ADVROB_E_FORMAT, "%.200s: no tensor \"%s\"", l->path, name);
    ar_json_quote(quoted, sizeof quoted, near);
    AR_FAIL(ADVROB_E_FORMAT, "%.200s: no tensor \"%s\"; the nearest is %s", l->path, name, quoted);
out:
    return status;
}

static int32_t stage_parameters(loader *l) {
    int32_t status = ADVROB_OK;
    void *block;
    char name[AR_TENSOR_NAME_SIZE];
    for (int32_t i = 0; i < l->model->parameter_count; i++) { /* before the slab is allocated */
        const ar_parameter *p = &l->model->parameters[i];
        ar_format(name, sizeof name, "%s%s", l->prefix, p->name);
        const ar_stored *tensor = ar_safetensors_find(&l->file, name);
        if (tensor == NULL) AR_TRY(missing(l, name));
        AR_TRY(ar_stored_check(tensor, l->path, ADVROB_E_SHAPE, p->rank, p->shape));
    }
    AR_TRY(ar_arena_alloc(&l->arena, (size_t)l->model->slab_count, sizeof(ar_real), "weights",
                          &block));
    l->slab = block;
    for (int32_t i = 0; i < l->model->parameter_count; i++) {
        const ar_parameter *p = &l->model->parameters[i];
        ar_format(name, sizeof name, "%s%s", l->prefix, p->name);
        AR_TRY(ar_stored_copy(ar_safetensors_find(&l->file, name), l->path, l->slab + p->offset));
        for (int64_t k = 0; k < p->count; k++) {
            status = ar_parameter_check(p, k, (double)l->slab[p->offset + k]);
            if (status < 0) AR_FAIL(status, "%.200s: %s", l->path, ar_message());
        }
    }
out:
    return status;
}

/* "mean" or "std": one value a channel in any shape, as [c] and [1, c, 1, 1] are both in use. */
static int32_t stage_normalisation(loader *l, const char *name, double **values, size_t *count) {
    int32_t status = ADVROB_OK;
    void *block;
    int64_t channels = l->model->nodes[0].shape.c;
    const ar_stored *tensor = ar_safetensors_find(&l->file, name);
    if (tensor == NULL || ar_model_find_parameter(l->model, name) >= 0) return ADVROB_OK;
    if (tensor->count != channels)
        AR_FAIL(ADVROB_E_SHAPE,
                "%.200s: tensor \"%s\": %lld values, expected one for each of %lld "
                "channels",
                l->path, name, (long long)tensor->count, (long long)channels);
    AR_TRY(ar_arena_alloc(&l->arena, (size_t)channels, sizeof(ar_real), name, &block));
    ar_real *read = block;
    AR_TRY(ar_stored_copy(tensor, l->path, read));
    AR_TRY(ar_arena_alloc(&l->arena, (size_t)channels, sizeof(double), name, &block));
    *values = block;
    *count = (size_t)channels;
    for (int64_t c = 0; c < channels; c++)
        (*values)[c] = (double)read[c];
out:
    return status;
}

int32_t ar_model_weights_load(struct advrob_model *model, const char *path) {
    int32_t status = ADVROB_OK;
    loader l = {.model = model, .path = path, .prefix = ""};
    ar_arena_init(&l.arena, &model->ctx->memory);
    ar_arena_init(&l.file.arena, &model->ctx->memory);
    AR_TRY(ar_model_check_unfrozen(model));
    AR_TRY(ar_safetensors_read(model->ctx, path, &l.file));
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (has_prefix(&l, prefixes[i])) l.prefix = prefixes[i];
    AR_TRY(stage_parameters(&l));
    AR_TRY(stage_normalisation(&l, "mean", &l.mean, &l.mean_count));
    AR_TRY(stage_normalisation(&l, "std", &l.std, &l.std_count));
    status = ar_model_set_normalisation(model, l.mean, l.mean_count, l.std, l.std_count);
    if (status < 0) AR_FAIL(status, "%.200s: %s", path, ar_message());
    if (model->slab_count > 0)
        memcpy(model->slab, l.slab, sizeof(ar_real) * (size_t)model->slab_count);
    ar_model_changed(model);
out:
    ar_safetensors_free(model->ctx, &l.file);
    ar_arena_free(&l.arena);
    return status;
}
