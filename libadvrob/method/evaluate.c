/* Evaluation: right answers, clean and under attack, and how sure they are. */
#include <math.h>
#include <string.h>

#include "method.h"

typedef struct evaluation_room {
    float *x, *logits, *picked;
    int32_t *y, *picked_y, *predictions;
    int64_t *ids;
    bool *right, *robust; /* clean; under all attacks so far */
} evaluation_room;

static int32_t allocate(ar_arena *arena, size_t n, size_t size, size_t classes,
                        evaluation_room *room) {
    int32_t status = ADVROB_OK;
    void *block;
    AR_TRY(ar_arena_alloc(arena, n * size, sizeof(float), "evaluation", &block));
    room->x = block;
    AR_TRY(ar_arena_alloc(arena, n * size, sizeof(float), "evaluation", &block));
    room->picked = block;
    AR_TRY(ar_arena_alloc(arena, n * classes, sizeof(float), "evaluation", &block));
    room->logits = block;
    AR_TRY(ar_arena_alloc(arena, n, 3 * sizeof(int32_t), "evaluation", &block));
    room->y = block;
    room->picked_y = room->y + n;
    room->predictions = room->picked_y + n;
    AR_TRY(ar_arena_alloc(arena, n, sizeof(int64_t), "evaluation", &block));
    room->ids = block;
    AR_TRY(ar_arena_alloc(arena, n, 2 * sizeof(bool), "evaluation", &block));
    room->right = block;
    room->robust = room->right + n;
out:
    return status;
}

/* One attack on the images of a group that are right when clean. `classes`: right answers of each
 * class, or NULL. */
static int32_t attack_group(advrob_target *target, const advrob_attack *attack, int64_t first,
                            int64_t n, evaluation_room *room, int64_t *robust, int64_t *classes) {
    int32_t status = ADVROB_OK;
    int64_t size = ar_shape_count(target->shape), picked = 0, k = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!room->right[i]) continue;
        memcpy(room->picked + picked * size, room->x + i * size, sizeof(float) * (size_t)size);
        room->picked_y[picked] = room->y[i];
        room->ids[picked++] = first + i; /* the same draws whatever the target gets wrong */
    }
    if (picked == 0) return ADVROB_OK;
    ar_attack_call call = {.n = picked,
                           .x = room->picked,
                           .y = room->picked_y,
                           .ids = room->ids,
                           .predictions = room->predictions};
    AR_TRY(ar_attack_run(attack, target, NULL, &call));
    for (int64_t i = 0; i < n; i++) {
        if (!room->right[i]) continue;
        bool holds = room->predictions[k] == room->picked_y[k];
        *robust += holds;
        if (classes != NULL) classes[room->y[i]] += holds;
        room->robust[i] = room->robust[i] && holds;
        k++;
    }
out:
    return status;
}

static int32_t clean_group(advrob_target *target, int64_t n, evaluation_room *room, int64_t *right,
                           int64_t *per_class) {
    int32_t classes = target->classes;
    int32_t status = ar_target_forward(target, n, room->x, room->logits);
    if (status < 0) return status;
    for (int64_t i = 0; i < n; i++) {
        bool good = ar_argmax(classes, room->logits + i * classes) == room->y[i];
        room->right[i] = room->robust[i] = good;
        *right += good;
        if (per_class == NULL) continue;
        per_class[room->y[i]]++;
        per_class[classes + room->y[i]] += good;
    }
    return ADVROB_OK;
}

int32_t ar_evaluate_classes(advrob_target *target, const advrob_dataset *data,
                            const advrob_attack *const *attacks, int32_t count, int64_t group,
                            int64_t *per_class, ar_evaluation *out) {
    int32_t status = ADVROB_OK;
    evaluation_room room;
    ar_arena arena;
    ar_evaluation result = {.images = data->count, .attacks = count};
    ar_arena_init(&arena, &target->ctx->memory);
    if (group > data->count) group = data->count;
    AR_TRY(allocate(&arena, (size_t)group, (size_t)ar_shape_count(target->shape),
                    (size_t)target->classes, &room));
    for (int64_t first = 0; first < data->count; first += group) {
        int64_t n = data->count - first < group ? data->count - first : group;
        AR_TRY(ar_dataset_gather(data, first, NULL, n, room.x, room.y));
        AR_TRY(clean_group(target, n, &room, &result.clean, per_class));
        for (int32_t a = 0; a < count; a++) {
            int64_t *classes = per_class;
            if (classes != NULL) classes += (int64_t)(2 + a) * target->classes;
            AR_TRY(attack_group(target, attacks[a], first, n, &room, &result.robust[a], classes));
        }
        for (int64_t i = 0; i < n; i++)
            result.worst += room.robust[i];
        if (count > 0)
            AR_TRY(ar_progress(target->ctx, "evaluate", first + n, data->count,
                               (double)result.worst / (double)(first + n)));
    }
    *out = result;
out:
    ar_arena_free(&arena);
    return status;
}

int32_t ar_evaluate(advrob_target *target, const advrob_dataset *data,
                    const advrob_attack *const *attacks, int32_t count, int64_t group,
                    ar_evaluation *out) {
    return ar_evaluate_classes(target, data, attacks, count, group, NULL, out);
}

void ar_wilson(int64_t hits, int64_t n, double *low, double *high) {
    const double z = 1.959963984540054; /* the normal distribution's 97.5 % point */
    double p = (double)hits / (double)n, square = z * z / (double)n;
    double middle = p + square / 2, half = z * sqrt((p * (1 - p) + square / 4) / (double)n);
    *low = fmax((middle - half) / (1 + square), 0);
    *high = fmin((middle + half) / (1 + square), 1);
}

int32_t ar_latency(advrob_model *model, int64_t batch, int32_t repeats, double *milliseconds) {
    int32_t status = ADVROB_OK;
    size_t size = (size_t)ar_shape_count(model->nodes[0].shape);
    size_t classes = (size_t)ar_model_classes(model), pixels;
    ar_program *program = NULL;
    ar_arena arena;
    void *x, *logits;
    double best = INFINITY;
    ar_arena_init(&arena, &model->ctx->memory);
    if (!ar_mul((size_t)batch, size, &pixels))
        AR_FAIL(ADVROB_E_OVERFLOW, "latency: a batch of %lld images does not fit",
                (long long)batch);
    AR_TRY(ar_arena_alloc(&arena, pixels, sizeof(float), "images", &x));
    AR_TRY(ar_arena_alloc(&arena, (size_t)batch * classes, sizeof(float), "logits", &logits));
    ar_model_noise(model, batch, x);
    AR_TRY(ar_model_program(model, false, &program));
    for (int32_t i = -1; i < repeats; i++) { /* the first pass warms up */
        double start = ar_clock();
        AR_TRY(ar_program_forward(program, batch, x, logits));
        if (i >= 0) best = fmin(best, ar_clock() - start);
    }
    *milliseconds = best * 1e3;
out:
    ar_arena_free(&arena);
    return status;
}
