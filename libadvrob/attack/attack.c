/* Attacks: registry, creation, and attacks of several runs: restarts, targets, lists of attacks. */
#include "attack.h"

#include <string.h>

#define AR_ATTACK(name) &ar_attack_##name,
static const ar_attack *const attacks[] = {
#include "attacks.inc"
};
#undef AR_ATTACK

int32_t ar_attack_count(void) {
    return (int32_t)(sizeof attacks / sizeof attacks[0]);
}

const ar_attack *ar_attack_at(int32_t index) {
    return index >= 0 && index < ar_attack_count() ? attacks[index] : NULL;
}

static const char *name_at(int32_t index) {
    return attacks[index]->name;
}

int32_t ar_attack_find(const char *name, const ar_attack **out) {
    int32_t index;
    int32_t status = ar_find_name("attack", name, ar_attack_count(), name_at, &index);
    if (status >= 0) *out = attacks[index];
    return status;
}

int32_t ar_attack_create(advrob_context *ctx, const char *name, const advrob_options *options,
                         advrob_attack **out) {
    int32_t status = ADVROB_OK;
    advrob_attack *attack = NULL;
    const ar_attack *kind = NULL;
    void *block = NULL;
    char who[80];
    AR_TRY(ar_attack_find(name, &kind));
    ar_format(who, sizeof who, "attack %s", kind->name);
    ar_option_scope scope = {"", kind->options};
    AR_TRY(ar_options_check(options, who, &scope, 1));
    AR_TRY(ar_calloc(&ctx->memory, 1, sizeof *attack, "attack", &block));
    attack = block;
    attack->ctx = ctx;
    attack->references = 1;
    attack->kind = kind;
    ar_context_retain(ctx);
    ar_arena_init(&attack->arena, &ctx->memory);
    AR_TRY(ar_arena_alloc(&attack->arena, 1, kind->options->size, "attack", &attack->options));
    AR_TRY(ar_options_read(options, who, "", kind->options, &attack->arena, attack->options));
    const ar_attack_common *common = attack->options;
    attack->common = common;
    attack->loss = ar_loss_find(kind->loss != NULL ? kind->loss : common->loss);
    attack->norm = kind->norm;
    if (common->norm != NULL)
        attack->norm = strcmp(common->norm, "l2") == 0 ? AR_NORM_L2 : AR_NORM_LINF;
    attack->seed = common->seed < 0 ? ctx->seed : common->seed;
    *out = attack;
    attack = NULL;
out:
    ar_attack_release(attack);
    return status;
}

void ar_attack_release(advrob_attack *attack) {
    if (attack == NULL || --attack->references > 0) return;
    advrob_context *ctx = attack->ctx;
    ar_arena_free(&attack->arena);
    ar_free(&ctx->memory, attack);
    ar_context_release(ctx);
}

/* ---- Lists ---- */

static bool lists(const ar_attack *kind, const char *option) {
    for (int32_t i = 0; i < kind->options->count; i++)
        if (strcmp(kind->options->options[i].name, option) == 0) return true;
    return false;
}

/* What the list's attack was told and the member understands. */
static int32_t hand_down(const ar_attack_common *common, const ar_attack *kind,
                         advrob_options *options) {
    int32_t status = ADVROB_OK;
    AR_TRY(ar_options_set_f64(options, "epsilon", common->epsilon));
    if (lists(kind, "norm")) AR_TRY(ar_options_set_str(options, "norm", common->norm));
    if (lists(kind, "eot") && common->eot > 0)
        AR_TRY(ar_options_set_i64(options, "eot", common->eot));
    AR_TRY(ar_options_set_i64(options, "transfer", common->transfer));
    if (lists(kind, "seed")) {
        AR_TRY(ar_options_set_i64(options, "seed", common->seed));
        AR_TRY(ar_options_set_i64(options, "first_sample", common->first_sample));
    }
out:
    return status;
}

/* "name=value name=value" */
static int32_t set_all(advrob_options *options, const char *text) {
    char name[64], value[64];
    while (*text != 0) {
        size_t n = strcspn(text, "="), v = strcspn(text + n + 1, " ");
        ar_format(name, sizeof name, "%.*s", (int)n, text);
        ar_format(value, sizeof value, "%.*s", (int)v, text + n + 1);
        int32_t status = ar_options_set_text(options, name, value);
        if (status < 0) return status;
        text += n + 1 + v;
        text += strspn(text, " ");
    }
    return ADVROB_OK;
}

int32_t ar_attack_list_add(ar_attack_list *list, const char *name, const char *text) {
    int32_t status = ADVROB_OK;
    advrob_options *options = NULL;
    const ar_attack *kind = NULL;
    if (list->count == AR_MOST_MEMBERS)
        AR_FAIL(ADVROB_E_LIMIT, "a list of more than %d attacks", AR_MOST_MEMBERS);
    AR_TRY(ar_attack_find(name, &kind));
    AR_TRY(ar_options_part(NULL, "", &list->ctx->memory, &options));
    AR_TRY(hand_down(list->common, kind, options));
    AR_TRY(set_all(options, text));
    AR_TRY(ar_attack_create(list->ctx, name, options, &list->attacks[list->count]));
    list->count++;
out:
    ar_options_destroy(options);
    return status;
}

int32_t ar_attack_aims(const char *name, int64_t wanted, int32_t usual, int32_t classes,
                       int32_t *count) {
    if (wanted > classes - 1)
        return ar_error(ADVROB_E_RANGE,
                        "attack %s: %lld targets, expected at most %d, the classes of the target "
                        "but the label",
                        name, (long long)wanted, classes - 1);
    *count = wanted > 0 ? (int32_t)wanted : usual < classes - 1 ? usual : classes - 1;
    return ADVROB_OK;
}

static void drop_list(ar_attack_list *list) {
    for (int32_t i = 0; i < list->count; i++)
        ar_attack_release(list->attacks[i]);
    list->count = 0;
}

/* The attack's members, if it has any, and the number of its runs. */
static int32_t plan_runs(const advrob_attack *attack, int32_t classes, ar_attack_list *list,
                         int32_t *runs) {
    const ar_attack *kind = attack->kind;
    int32_t status = ADVROB_OK;
    *runs = 1;
    if (kind->members != NULL) {
        status = kind->members(attack->options, classes, list);
        *runs = list->count;
    } else if (kind->runs != NULL) {
        status = kind->runs(attack->options, classes, runs);
    }
    return status;
}

int32_t ar_attack_count_runs(const advrob_attack *attack, int32_t classes, int32_t *count) {
    ar_attack_list list = {.ctx = attack->ctx, .common = attack->common};
    int32_t status = plan_runs(attack, classes, &list, count);
    drop_list(&list);
    return status;
}

int32_t ar_attack_run_name(const advrob_attack *attack, int32_t classes, int32_t run,
                           const char **name) {
    ar_attack_list list = {.ctx = attack->ctx, .common = attack->common};
    int32_t runs, status = plan_runs(attack, classes, &list, &runs);
    *name = status >= 0 && run < list.count ? list.attacks[run]->kind->name : attack->kind->name;
    drop_list(&list);
    return status;
}

/* ---- Runs ---- */

/* What several runs leave for the next one, and each sample's worst so far. */
typedef struct runs_job {
    const advrob_attack *attack;
    advrob_target *target;
    const ar_attack_call *call;
    ar_attack_record *best;
    float *answers; /* [n, c, h, w] */
    bool exhaustive;
    /* The next run's: */
    int64_t left, *place;
    float *x, *adversarial;
    int32_t *y, *targets;
    int64_t *ids;
    ar_attack_record *records;
} runs_job;

static int32_t allocate(runs_job *job, ar_arena *arena) {
    int32_t status = ADVROB_OK;
    const ar_attack_call *call = job->call;
    size_t n = (size_t)call->n, size = (size_t)ar_shape_count(job->target->shape);
    const struct {
        void *field;
        size_t count, size;
    } blocks[] = {
        {&job->best, n, sizeof *job->best},
        {&job->records, n, sizeof *job->records},
        {&job->place, n, sizeof(int64_t)},
        {&job->ids, n, sizeof(int64_t)},
        {&job->y, n, sizeof(int32_t)},
        {&job->targets, n, sizeof(int32_t)},
        {&job->x, n, size * sizeof(float)},
        {&job->adversarial, n, size * sizeof(float)},
        {&job->answers, n, size * sizeof(float)},
    };
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        void *block = NULL;
        if (blocks[i].field == &job->answers && call->adversarial != NULL) continue;
        AR_TRY(ar_arena_alloc(arena, blocks[i].count, blocks[i].size, "attack's runs", &block));
        memcpy(blocks[i].field, &block, sizeof block);
    }
    if (call->adversarial != NULL) job->answers = call->adversarial;
out:
    return status;
}

/* The samples that go into the next run. */
static void gather(runs_job *job) {
    const ar_attack_call *call = job->call;
    int64_t size = ar_shape_count(job->target->shape);
    job->left = 0;
    for (int64_t i = 0; i < call->n; i++) {
        if (job->best[i].fooled && !job->exhaustive) continue;
        int64_t k = job->left++;
        job->place[k] = i;
        memcpy(job->x + k * size, call->x + i * size, sizeof(float) * (size_t)size);
        job->y[k] = call->y[i];
        job->targets[k] = call->targets != NULL ? call->targets[i] : -1;
        job->ids[k] = call->ids != NULL ? call->ids[i] : job->attack->common->first_sample + i;
    }
}

/* A fooled sample outranks any loss; of equals the first stays. */
static void merge(runs_job *job, int32_t number) {
    int64_t size = ar_shape_count(job->target->shape);
    for (int64_t k = 0; k < job->left; k++) {
        const int64_t i = job->place[k];
        const ar_attack_record *new = &job->records[k];
        ar_attack_record *best = &job->best[i];
        int64_t forwards = best->forwards + new->forwards;
        int64_t backwards = best->backwards + new->backwards;
        bool worse = new->fooled != best->fooled ? new->fooled : new->loss > best->loss;
        if (number == 0 || worse) {
            *best = *new;
            if (job->attack->kind->members != NULL) best->member = number;
            memcpy(job->answers + i * size, job->adversarial + k * size,
                   sizeof(float) * (size_t)size);
        }
        best->forwards = forwards;
        best->backwards = backwards;
    }
}

static void hand_out(const runs_job *job) {
    const ar_attack_call *call = job->call;
    for (int64_t i = 0; i < call->n; i++) {
        if (call->predictions != NULL) call->predictions[i] = job->best[i].prediction;
        if (call->losses != NULL) call->losses[i] = job->best[i].loss;
        if (call->records != NULL) call->records[i] = job->best[i];
    }
}

/* The answers that an attack found on the target's source are the target's to judge. */
static int32_t judge_answers(const advrob_attack *attack, advrob_target *target,
                             const ar_attack_call *call) {
    int32_t status = ADVROB_OK;
    size_t values = 0;
    void *logits = NULL;
    const ar_loss *loss = call->loss != NULL ? call->loss : attack->loss;
    ar_arena arena;
    ar_arena_init(&arena, &target->ctx->memory);
    if (!ar_mul((size_t)call->n, (size_t)target->classes, &values))
        AR_FAIL(ADVROB_E_OVERFLOW, "attack: the logits of %lld images do not fit",
                (long long)call->n);
    AR_TRY(ar_arena_alloc(&arena, values, sizeof(float), "attack's logits", &logits));
    AR_TRY(ar_target_forward(target, call->n, call->adversarial, logits));
    for (int64_t i = 0; i < call->n; i++) {
        const float *z = (const float *)logits + i * target->classes;
        const int32_t aim = call->targets != NULL ? call->targets[i] : -1;
        ar_attack_record *record = &call->records[i];
        record->prediction = ar_argmax(target->classes, z);
        record->fooled = aim >= 0 ? record->prediction == aim : record->prediction != call->y[i];
        record->loss = loss->sample(target->classes, z, call->y[i], aim, NULL);
    }
out:
    ar_arena_free(&arena);
    return status;
}

/* One run on the samples that still hold. */
static int32_t run_one(const advrob_attack *attack, advrob_target *target, ar_attack_rooms *rooms,
                       const ar_attack_call *call, int32_t run) {
    if (!attack->common->transfer) return ar_attack_tiles(attack, target, rooms, call, run);
    int32_t status = ar_attack_tiles(attack, target->source, NULL, call, run);
    return status < 0 ? status : judge_answers(attack, target, call);
}

static int32_t run_all(const advrob_attack *attack, advrob_target *target, ar_attack_rooms *rooms,
                       const ar_attack_call *call, const ar_attack_list *list, int32_t runs) {
    int32_t status = ADVROB_OK;
    runs_job job = {.attack = attack, .target = target, .call = call};
    ar_arena arena;
    ar_arena_init(&arena, &target->ctx->memory);
    if (attack->kind->exhaustive != NULL)
        job.exhaustive = attack->kind->exhaustive(attack->options);
    AR_TRY(allocate(&job, &arena));
    for (int32_t i = 0; i < runs; i++) {
        gather(&job);
        if (job.left == 0) break;
        ar_attack_call part = {.what = call->what,
                               .n = job.left,
                               .x = job.x,
                               .y = job.y,
                               .targets = call->targets != NULL ? job.targets : NULL,
                               .ids = job.ids,
                               .loss = call->loss != NULL ? call->loss : attack->loss,
                               .adversarial = job.adversarial,
                               .records = job.records};
        if (list->count > 0)
            AR_TRY(ar_attack_run(list->attacks[i], target, NULL, &part));
        else
            AR_TRY(run_one(attack, target, rooms, &part, i));
        merge(&job, i);
        if (call->after != NULL && !call->after(call->after_arg, i, job.left, job.ids, job.records))
            break;
    }
    hand_out(&job);
out:
    ar_arena_free(&arena);
    return status;
}

static int32_t check_gradients(const advrob_attack *attack, const advrob_target *target) {
    const char *name = attack->kind->name;
    const advrob_target *source = attack->common->transfer ? target->source : target;
    if (source == NULL)
        return ar_error(ADVROB_E_INVALID,
                        "attack %s is a transfer and the target has no source; call "
                        "advrob_target_set_source",
                        name);
    if (source->lattice != target->lattice)
        return ar_error(ADVROB_E_INVALID,
                        "attack %s: the source has a lattice of %d steps, the target one of %d",
                        name, source->lattice, target->lattice);
    if (attack->kind->needs_gradient && !source->has_backward)
        return ar_error(ADVROB_E_UNSUPPORTED, "attack %s needs gradients and the %s gives none",
                        name, source == target ? "target" : "source");
    return ADVROB_OK;
}

static int32_t check_targets(const advrob_attack *attack, const advrob_target *target,
                             const ar_attack_call *call) {
    const char *name = attack->kind->name;
    if (attack->common->targeted && call->targets == NULL)
        return ar_error(ADVROB_E_INVALID,
                        "attack %s is targeted and there are no targets; call "
                        "advrob_attack_run_targeted",
                        name);
    if (!attack->common->targeted && call->targets != NULL)
        return ar_error(ADVROB_E_INVALID, "attack %s is not targeted: set its option \"targeted\"",
                        name);
    for (int64_t i = 0; call->targets != NULL && i < call->n; i++)
        if (call->targets[i] < 0 || call->targets[i] >= target->classes ||
            call->targets[i] == call->y[i])
            return ar_error(ADVROB_E_RANGE,
                            "target %lld is %d, expected a class from 0 to %d other than the label",
                            (long long)i, call->targets[i], target->classes - 1);
    return ADVROB_OK;
}

int32_t ar_attack_run(const advrob_attack *attack, advrob_target *target, ar_attack_rooms *rooms,
                      const ar_attack_call *call) {
    int32_t status = ADVROB_OK, runs;
    ar_attack_list list = {.ctx = attack->ctx, .common = attack->common};
    AR_TRY(ar_target_check_labels(target, call->n, call->y));
    AR_TRY(ar_target_check_pixels(target, call->n, call->x));
    AR_TRY(check_targets(attack, target, call));
    AR_TRY(check_gradients(attack, target));
    AR_TRY(plan_runs(attack, target->classes, &list, &runs));
    if (runs > 1 || list.count > 0 || attack->common->transfer) {
        AR_TRY(run_all(attack, target, rooms, call, &list, runs));
    } else {
        AR_TRY(ar_attack_tiles(attack, target, rooms, call, 0));
        if (call->after != NULL)
            (void)call->after(call->after_arg, 0, call->n, call->ids, call->records);
    }
out:
    drop_list(&list);
    return status;
}
