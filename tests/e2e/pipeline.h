/* What the end-to-end tests share: synthetic images, the whole pipeline on them, an allocator that
 * knows its owner. Public headers only. Include this header first. */
#ifndef TEST_PIPELINE_H
#define TEST_PIPELINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <advrob/advrob.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { P_SIDE = 8, P_PIXELS = P_SIDE * P_SIDE, P_CLASSES = 10, P_IMAGES = 360, P_TEST = 96 };
enum { P_ATTACKED = 70 };

#define OK(call) \
    do { \
        int32_t ok_ = (call); \
        if (ok_ != ADVROB_OK) fail_msg("%s: %d, %s", #call, ok_, advrob_last_message()); \
    } while (0)

/* Images of ten patterns with noise: a tiny net learns them, and an attack undoes it. */
typedef struct images {
    float x[P_IMAGES * P_PIXELS];
    int32_t y[P_IMAGES];
} images;

static inline uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static inline const images *make_images(void) {
    static images made;
    static bool done;
    float patterns[P_CLASSES][P_PIXELS];
    uint32_t state = 7;
    if (done) return &made;
    for (int32_t i = 0; i < P_CLASSES * P_PIXELS; i++)
        patterns[i / P_PIXELS][i % P_PIXELS] = (float)(next_random(&state) % 1000) / 1000.0f;
    for (int32_t i = 0; i < P_IMAGES; i++) {
        made.y[i] = (int32_t)(next_random(&state) % P_CLASSES);
        for (int32_t p = 0; p < P_PIXELS; p++) {
            float noise = (float)(next_random(&state) % 1000) / 1000.0f;
            made.x[i * P_PIXELS + p] = 0.4f * patterns[made.y[i]][p] + 0.6f * noise;
        }
    }
    done = true;
    return &made;
}

/* Everything that the pipeline yields. Two of them are equal byte by byte or not at all. */
typedef struct result {
    char trained[17], pruned[17], robust[17], quantized[17], loaded[17];
    float adversarial[P_ATTACKED * P_PIXELS];
    int32_t predictions[P_ATTACKED];
    double losses[P_ATTACKED], clean, fgsm, pgd, worst, last_loss;
} result;

/* What options, and so contexts, allocate by; NULL: the library's default. */
static advrob_alloc_fn options_alloc;
static void *options_user;

static inline advrob_options *new_options(void) {
    advrob_options *options = NULL;
    OK(options_alloc == NULL ? advrob_options_create(&options)
                             : advrob_options_create_with(options_alloc, options_user, &options));
    return options;
}

static inline void digest_of(const advrob_model *model, char digest[17]) {
    OK(advrob_model_digest(model, digest, 17));
}

static inline advrob_context *new_context(int32_t threads, const char *cpu) {
    advrob_context *ctx = NULL;
    advrob_options *options = new_options();
    OK(advrob_options_set_i64(options, "threads", threads));
    OK(advrob_options_set_i64(options, "seed", 3));
    OK(advrob_options_set_str(options, "cpu", cpu));
    OK(advrob_context_create(options, &ctx));
    advrob_options_destroy(options);
    return ctx;
}

static inline advrob_dataset *new_dataset(advrob_context *ctx) {
    const images *all = make_images();
    advrob_dataset *data = NULL;
    OK(advrob_dataset_from_memory(ctx, ADVROB_F32, all->x, all->y, P_IMAGES, 1, P_SIDE, P_SIDE,
                                  P_CLASSES, &data));
    return data;
}

/* Trains `model` in place by the method; the loss of the last epoch. */
static inline double train(advrob_context *ctx, const char *method, int64_t epochs,
                           advrob_model *model, const advrob_dataset *data,
                           const advrob_dataset *valid) {
    double loss = 0;
    advrob_finetune *finetune = NULL;
    advrob_history *history = NULL;
    advrob_options *options = new_options();
    OK(advrob_options_set_i64(options, "epochs", epochs));
    OK(advrob_options_set_i64(options, "batch_size", 32));
    OK(advrob_options_set_f64(options, "lr", 0.05));
    if (strcmp(method, "pgd_at") == 0) OK(advrob_options_set_i64(options, "attack.steps", 3));
    OK(advrob_finetune_create(ctx, method, options, &finetune));
    advrob_options_destroy(options);
    OK(advrob_finetune_run(finetune, model, data, valid, &history));
    OK(advrob_history_get(history, advrob_history_rows(history) - 1, "loss", &loss));
    advrob_history_destroy(history);
    advrob_finetune_destroy(finetune);
    return loss;
}

static inline advrob_model *smaller(advrob_context *ctx, const char *name,
                                    const advrob_model *model, const advrob_dataset *data) {
    advrob_compressor *compressor = NULL;
    advrob_model *small = NULL;
    OK(advrob_compressor_create(ctx, name, NULL, &compressor));
    OK(advrob_compressor_run(compressor, model, data, &small));
    advrob_compressor_destroy(compressor);
    return small;
}

static inline void attack_model(advrob_context *ctx, advrob_model *model, result *r) {
    advrob_attack *attack = NULL;
    advrob_target *target = NULL;
    advrob_options *options = new_options();
    OK(advrob_options_set_i64(options, "steps", 5));
    OK(advrob_options_set_i64(options, "restarts", 2));
    OK(advrob_options_set_i64(options, "early_stop", 1));
    OK(advrob_attack_create(ctx, "pgd", options, &attack));
    OK(advrob_target_from_model(model, &target));
    OK(advrob_attack_run(attack, target, P_ATTACKED, make_images()->x, make_images()->y,
                         r->adversarial, r->predictions, r->losses));
    advrob_target_destroy(target);
    advrob_attack_destroy(attack);
    advrob_options_destroy(options);
}

static inline void evaluate_model(advrob_context *ctx, advrob_model *model,
                                  const advrob_dataset *test, result *r) {
    advrob_report *report = NULL;
    advrob_target *target = NULL;
    advrob_options *options = new_options();
    OK(advrob_options_append(options, "attacks", "fgsm", NULL));
    OK(advrob_options_append(options, "attacks", "pgd", NULL));
    OK(advrob_report_create(ctx, &report));
    OK(advrob_report_add_row(report));
    OK(advrob_target_from_model(model, &target));
    OK(advrob_report_evaluate(report, target, test, options));
    OK(advrob_report_get_f64(report, 0, "clean_accuracy", &r->clean));
    OK(advrob_report_get_f64(report, 0, "fgsm_accuracy", &r->fgsm));
    OK(advrob_report_get_f64(report, 0, "pgd_accuracy", &r->pgd));
    OK(advrob_report_get_f64(report, 0, "worst_accuracy", &r->worst));
    advrob_target_destroy(target);
    advrob_report_destroy(report);
    advrob_options_destroy(options);
}

/* Train, prune, fine-tune robustly, quantize, attack, evaluate, save and load. */
static inline void run_pipeline(advrob_context *ctx, const char *path, result *r) {
    advrob_dataset *all = new_dataset(ctx), *test = NULL, *fit = NULL;
    advrob_model *base = NULL, *loaded = NULL;
    memset(r, 0, sizeof *r);
    OK(advrob_dataset_split(all, P_TEST, 1, &test, &fit));
    OK(advrob_model_build(ctx, "tiny", NULL, &base));
    train(ctx, "standard", 4, base, fit, NULL);
    digest_of(base, r->trained);
    advrob_model *pruned = smaller(ctx, "prune_l1", base, NULL);
    digest_of(pruned, r->pruned);
    r->last_loss = train(ctx, "pgd_at", 2, pruned, fit, test);
    digest_of(pruned, r->robust);
    advrob_model *quantized = smaller(ctx, "quant_ptq", pruned, fit);
    digest_of(quantized, r->quantized);
    attack_model(ctx, quantized, r);
    evaluate_model(ctx, quantized, test, r);
    OK(advrob_model_save(quantized, path));
    OK(advrob_model_load(ctx, path, NULL, &loaded));
    digest_of(loaded, r->loaded);
    assert_string_equal(r->loaded, r->quantized);
    advrob_model *models[] = {base, pruned, quantized, loaded};
    for (size_t i = 0; i < 4; i++)
        advrob_model_destroy(models[i]);
    advrob_dataset_destroy(all);
    advrob_dataset_destroy(test);
    advrob_dataset_destroy(fit);
}

/* An allocator whose blocks bear its address: one that another allocator frees is seen. */
typedef struct owner {
    _Atomic int64_t blocks, foreign, calls;
} owner;

static inline void *owner_alloc(void *user, void *ptr, size_t old_size, size_t size) {
    enum { FRONT = 32 };
    owner *self = user;
    char *raw = ptr == NULL ? NULL : (char *)ptr - FRONT;
    (void)old_size;
    if (raw != NULL && memcmp(raw, &self, sizeof self) != 0) atomic_fetch_add(&self->foreign, 1);
    if (size == 0) {
        if (raw != NULL) atomic_fetch_sub(&self->blocks, 1);
        free(raw);
        return NULL;
    }
    char *made = realloc(raw, size + FRONT);
    if (made == NULL) return NULL;
    memcpy(made, &self, sizeof self);
    if (raw == NULL) atomic_fetch_add(&self->blocks, 1);
    atomic_fetch_add(&self->calls, 1);
    return made + FRONT;
}

static inline advrob_context *owned_context(owner *self, int32_t threads, int64_t limit) {
    advrob_context *ctx = NULL;
    advrob_options *options = NULL;
    OK(advrob_options_create_with(owner_alloc, self, &options));
    OK(advrob_options_set_i64(options, "threads", threads));
    OK(advrob_options_set_i64(options, "seed", 3));
    OK(advrob_options_set_i64(options, "memory_limit", limit));
    OK(advrob_context_create(options, &ctx));
    advrob_options_destroy(options);
    return ctx;
}

/* The group's fixture: a folder, and what an undisturbed run of one thread gives. */
static char folder[] = "/tmp/advrob-e2e-XXXXXX";
static char path[64];
static result wanted;

static int set_up(void **state) {
    (void)state;
    if (mkdtemp(folder) == NULL) return -1;
    snprintf(path, sizeof path, "%s/net.safetensors", folder);
    advrob_context *ctx = new_context(1, "auto");
    run_pipeline(ctx, path, &wanted);
    advrob_context_destroy(ctx);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    remove(path);
    return rmdir(folder);
}

#endif
