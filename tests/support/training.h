/* Training written out step by step, apart from libadvrob/method: what a fine-tuning run has to
 * agree with bit for bit. Include support.h, golden.h, options.h and images.h first. */
#ifndef TEST_TRAINING_H
#define TEST_TRAINING_H

#include "method/method.h"

typedef struct training {
    const char *method, *attack; /* attack: the options of pgd_at's attack */
    const advrob_dataset *data;
    int64_t batch, epochs;
    double lr, momentum, decay; /* a constant rate */
    int64_t seed;
    ar_augment augment;
} training;

/* Trains until `most` steps are done (or all epochs); *done: the steps that were made. Returns the
 * status of the last. `weights` [steps][slab] may be NULL: the weights after each step. */
static inline int32_t training_run(const training *t, advrob_model *model, int64_t most,
                                   int64_t *done, ar_real *weights) {
    const ar_method *method = NULL;
    advrob_options *options = test_options(t->attack == NULL ? "" : t->attack);
    advrob_attack *attack = NULL;
    ar_trainer *trainer = NULL;
    ar_objective_room room = {.size = ar_shape_count(model->nodes[0].shape),
                              .classes = ar_model_classes(model)};
    ar_optimizer_settings settings = {t->lr, t->momentum, t->decay};
    ar_step_result result;
    int64_t n = t->data->count, *order = malloc(sizeof(int64_t) * (size_t)n), made = 0;
    int64_t *ids = malloc(sizeof(int64_t) * (size_t)t->batch);
    float *x = malloc(sizeof(float) * (size_t)(t->batch * room.size));
    int32_t *y = malloc(sizeof(int32_t) * (size_t)t->batch), status = ADVROB_OK;
    size_t slab = (size_t)model->slab_count;
    test_ok(ar_method_find(t->method, &method));
    if (method->attack != NULL) {
        ar_options_set_i64(options, "seed", t->seed);
        test_ok(ar_attack_create(model->ctx, method->attack, options, &attack));
    }
    room.scratch = malloc(sizeof(double) * (size_t)room.classes);
    room.attack = attack;
    test_ok(ar_target_from_model(model, &room.target));
    if (attack != NULL)
        test_ok(ar_attack_rooms_create(attack, room.target, t->batch, &room.attack_rooms));
    test_ok(ar_trainer_create(model, ar_optimizer_find("sgd"), t->batch, 1, true, &trainer));
    ar_objective objective = {
        .self = &room, .branches = 1, .prepare = method->prepare, .loss = method->loss};
    for (int64_t epoch = 0; epoch < t->epochs; epoch++) {
        ar_shuffle(t->seed, AR_RNG_SHUFFLE, epoch, n, order);
        for (int64_t at = 0; at < n && made < most && status >= 0; at += t->batch) {
            int64_t count = n - at < t->batch ? n - at : t->batch;
            for (int64_t i = 0; i < count; i++) {
                ids[i] = epoch * n + order[at + i];
                test_ok(
                    ar_dataset_gather(t->data, order[at + i], NULL, 1, x + i * room.size, y + i));
            }
            const int32_t *form = t->data->images->shape;
            ar_augment_images(&t->augment, t->seed, ids, count, form, x);
            ar_batch images = {count, x, y, ids, epoch, at / t->batch};
            status = ar_trainer_step(trainer, &objective, &images, &settings, &result);
            if (status < 0) continue;
            if (weights != NULL)
                memcpy(weights + (size_t)made * slab, model->slab, sizeof(ar_real) * slab);
            made++;
        }
    }
    if (done != NULL) *done = made;
    ar_trainer_destroy(trainer);
    ar_attack_rooms_free(&room.attack_rooms);
    ar_target_release(room.target);
    ar_attack_release(attack);
    ar_options_destroy(options);
    free(room.scratch);
    free(order);
    free(ids);
    free(x);
    free(y);
    return status;
}

/* A fine-tuning run by its name and options. */
static inline int32_t finetune_run(advrob_model *model, const char *name, const char *text,
                                   const advrob_dataset *train, const advrob_dataset *valid,
                                   advrob_history **history) {
    advrob_options *options = test_options(text);
    advrob_finetune *fit = NULL;
    test_ok(advrob_finetune_create(model->ctx, name, options, &fit));
    ar_options_destroy(options);
    int32_t status = advrob_finetune_run(fit, model, train, valid, history);
    advrob_finetune_destroy(fit);
    return status;
}

#endif
