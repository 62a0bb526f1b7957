/* Fine-tune methods: their registry, the options that all of them have, and creation. */
#include <string.h>

#include "run.h"

static const ar_option entries[] = {
    AR_I64(ar_finetune_values, epochs, 3, 1, 100000, "passes over the training images"),
    AR_I64(ar_finetune_values, batch_size, 64, 1, 512, "images per step"),
    AR_F64(ar_finetune_values, lr, 0.01, 0, 1e6, "learning rate"),
    AR_F64(ar_finetune_values, momentum, 0.9, 0, 1, "momentum"),
    AR_F64(ar_finetune_values, weight_decay, 0, 0, 1e6, "weight decay"),
    AR_STR(ar_finetune_values, optimizer, "sgd", "sgd", "optimizer"),
    AR_STR(ar_finetune_values, schedule, "constant", "constant|step|cosine|ssfd",
           "course of the learning rate"),
    AR_F64_ARRAY(ar_finetune_values, milestones, 0, 1e6,
                 "epochs at which \"step\" multiplies by gamma"),
    AR_F64(ar_finetune_values, gamma, 0.1, 0, 1, "factor of \"step\""),
    AR_F64(ar_finetune_values, warmup, 0.25, 0.01, 0.99,
           "share of the run in which \"ssfd\" rises"),
    AR_I64(ar_finetune_values, seed, -1, -1, 9e15, "seed of order and attack; -1: the context's"),
    AR_STR(ar_finetune_values, statistics, "batch", "batch|frozen",
           "what batch norms normalise by in training: the batch, or their running statistics"),
    AR_STR(ar_finetune_values, attack_statistics, "frozen", "frozen|batch",
           "the same for the attack in training"),
    AR_STR(ar_finetune_values, keep, "best", "best|last",
           "with validation images: which epoch's weights the model ends with"),
    AR_STR(ar_finetune_values, select, "clean", "clean|robust|sum",
           "accuracy on the validation images by which the best epoch is found; robust: under PGD "
           "with the options \"valid.*\""),
    AR_STR(ar_finetune_values, best_path, "", NULL,
           "model file, written when an epoch is the best so far; \"\": none"),
    AR_STR(ar_finetune_values, last_path, "", NULL,
           "model file, written after each epoch; \"\": none"),
    AR_I64(ar_finetune_values, patience, 0, 0, 100000,
           "epochs without a better validation after which the run ends; 0: never"),
    AR_F64(ar_finetune_values, minutes, 0, 0, 1e9,
           "time after which the run ends, what was used before a resume included; 0: none"),
    AR_I64(ar_finetune_values, max_steps, 0, 0, 9e15, "steps after which the run ends; 0: all"),
    AR_STR(ar_finetune_values, checkpoint, "", NULL,
           "the run can go on from the files PATH.0 and PATH.1; \"\": none"),
    AR_F64(ar_finetune_values, checkpoint_minutes, 10, 0, 1e9,
           "time between two checkpoints; 0: only after each epoch and at the end"),
    AR_I64(ar_finetune_values, resume, 1, 0, 1, "go on from the checkpoint if there is one"),
    AR_STR(ar_finetune_values, alarm, "warn", "off|warn|stop|rollback",
           "at catastrophic overfitting, in training with an attack"),
    AR_I64(ar_finetune_values, alarm_images, 64, 1, 65536,
           "training images that the alarm looks at: the first ones"),
    AR_I64(ar_finetune_values, alarm_steps, 50, 1, 9e15,
           "steps between two checks of the alarm; each epoch ends with one too"),
};
const ar_option_table ar_finetune_options = AR_TABLE(ar_finetune_values, entries);

#define AR_METHOD(name) &ar_method_##name,
static const ar_method *const methods[] = {
#include "methods.inc"
};
#undef AR_METHOD

int32_t ar_method_count(void) {
    return (int32_t)(sizeof methods / sizeof methods[0]);
}

const ar_method *ar_method_at(int32_t index) {
    return index >= 0 && index < ar_method_count() ? methods[index] : NULL;
}

static const char *name_at(int32_t index) {
    return methods[index]->name;
}

int32_t ar_method_find(const char *name, const ar_method **out) {
    int32_t index;
    int32_t status = ar_find_name("fine-tune method", name, ar_method_count(), name_at, &index);
    if (status >= 0) *out = methods[index];
    return status;
}

int32_t ar_method_mean_ce(void *self, const ar_batch *batch, const float *const *logits,
                          double *losses, float *const *dlogits) {
    const ar_objective_room *room = self;
    ar_loss_batch(&ar_loss_ce, batch->n, room->classes, logits[0], batch->y, NULL, room->scratch,
                  losses, dlogits[0], false, 1.0 / (double)batch->n);
    return ADVROB_OK;
}

/* The attack that the options under `prefix` describe. */
static int32_t create_attack(const advrob_finetune *finetune, const char *name, const char *prefix,
                             const advrob_options *options, advrob_attack **out) {
    advrob_options *part = NULL;
    int32_t status = ADVROB_OK;
    AR_TRY(ar_options_part(options, prefix, &finetune->ctx->memory, &part));
    AR_TRY(ar_attack_create(finetune->ctx, name, part, out));
    /* The order of images and the attack's draws hang on one seed unless the attack has its own. */
    if ((*out)->common->seed < 0) (*out)->seed = finetune->seed;
out:
    ar_options_destroy(part);
    return status;
}

bool ar_attack_option(const advrob_attack *attack, const char *name, int32_t type, void *value) {
    const ar_option_table *table = attack->kind->options;
    for (int32_t i = 0; i < table->count; i++) {
        const ar_option *o = &table->options[i];
        if (o->type != type || strcmp(o->name, name) != 0) continue;
        memcpy(value, (const char *)attack->options + o->offset, sizeof(double));
        return true;
    }
    return false;
}

/* An attack that drops fooled images would leave the rest of a batch to statistics of its own. */
static int32_t check_early_stop(const advrob_finetune *finetune, const char *who) {
    int64_t early = 0;
    const advrob_attack *attack = finetune->attack;
    if (attack == NULL || strcmp(finetune->options.attack_statistics, "batch") != 0)
        return ADVROB_OK;
    (void)ar_attack_option(attack, "early_stop", ADVROB_TYPE_I64, &early);
    if (early == 0) return ADVROB_OK;
    return ar_error(ADVROB_E_INVALID,
                    "%s: attack_statistics \"batch\" needs whole batches: expected "
                    "\"attack.early_stop\" 0",
                    who);
}

/* Every name that is set must be known. */
static int32_t check_names(const ar_method *method, const char *who,
                           const advrob_options *options) {
    int32_t status = ADVROB_OK, count = 3;
    const ar_attack *valid = NULL, *attack = NULL;
    AR_TRY(ar_attack_find(AR_VALID_ATTACK, &valid));
    ar_option_scope scopes[4] = {
        {"", &ar_finetune_options}, {"augment.", &ar_augment_options}, {"valid.", valid->options}};
    if (method->attack != NULL) {
        AR_TRY(ar_attack_find(method->attack, &attack));
        scopes[count++] = (ar_option_scope){"attack.", attack->options};
    }
    AR_TRY(ar_options_check(options, who, scopes, count));
out:
    return status;
}

int32_t ar_finetune_create(advrob_context *ctx, const char *name, const advrob_options *options,
                           advrob_finetune **out) {
    int32_t status = ADVROB_OK;
    advrob_finetune *finetune = NULL;
    const ar_method *method = NULL;
    void *block = NULL;
    char who[80];
    AR_TRY(ar_method_find(name, &method));
    ar_format(who, sizeof who, "fine-tune method %s", method->name);
    AR_TRY(check_names(method, who, options));
    AR_TRY(ar_calloc(&ctx->memory, 1, sizeof *finetune, "fine-tune method", &block));
    finetune = block;
    finetune->ctx = ctx;
    finetune->references = 1;
    finetune->method = method;
    ar_context_retain(ctx);
    ar_arena_init(&finetune->arena, &ctx->memory);
    AR_TRY(ar_options_read(options, who, "", &ar_finetune_options, &finetune->arena,
                           &finetune->options));
    AR_TRY(ar_options_read(options, who, "augment.", &ar_augment_options, &finetune->arena,
                           &finetune->augment));
    finetune->seed = finetune->options.seed >= 0 ? finetune->options.seed : ctx->seed;
    AR_TRY(create_attack(finetune, AR_VALID_ATTACK, "valid.", options, &finetune->valid));
    if (method->attack != NULL)
        AR_TRY(create_attack(finetune, method->attack, "attack.", options, &finetune->attack));
    AR_TRY(check_early_stop(finetune, who));
    AR_TRY(ar_alarm_create(finetune));
    *out = finetune;
    finetune = NULL;
out:
    ar_finetune_release(finetune);
    return status;
}

void ar_finetune_release(advrob_finetune *finetune) {
    if (finetune == NULL || --finetune->references > 0) return;
    advrob_context *ctx = finetune->ctx;
    ar_attack_release(finetune->attack);
    ar_attack_release(finetune->valid);
    ar_attack_release(finetune->fgsm);
    ar_attack_release(finetune->pgd);
    ar_arena_free(&finetune->arena);
    ar_free(&ctx->memory, finetune);
    ar_context_release(ctx);
}
