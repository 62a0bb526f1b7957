/* Evaluation: each image's answers, clean and under attack, and how sure their counts are. */
#include "evaluate.h"

#include <math.h>
#include <string.h>

#include "method.h"

/* A group of images on its way through the attacks. */
typedef struct evaluation_job {
    const ar_evaluate_call *call;
    ar_evaluation *e;
    const ar_loss *loss; /* of the records */
    int64_t first, n;    /* the group */
    int32_t attack;      /* that runs */
    bool cut;            /* it was ended by the budget */
    int64_t spent;       /* passes so far */
    double start;
    float *x, *logits, *picked;
    int32_t *y, *picked_y;
    int64_t *ids;
    ar_attack_record *records;
    ar_arena arena;
} evaluation_job;

static int32_t take(ar_arena *arena, size_t count, size_t size, void *field) {
    void *block = NULL;
    int32_t status = ar_arena_alloc(arena, count, size, "evaluation", &block);
    memcpy(field, &block, sizeof block);
    return status;
}

static int32_t make_room(evaluation_job *job) {
    int32_t status = ADVROB_OK;
    const advrob_target *target = job->call->target;
    size_t size = (size_t)ar_shape_count(target->shape), n = (size_t)job->call->group;
    size_t values;
    if ((int64_t)n > job->e->images) n = (size_t)job->e->images;
    if (!ar_mul(n, size, &values))
        return ar_error(ADVROB_E_OVERFLOW, "evaluation: a group of %zu images does not fit", n);
    AR_TRY(take(&job->arena, values, sizeof(float), &job->x));
    AR_TRY(take(&job->arena, values, sizeof(float), &job->picked));
    AR_TRY(take(&job->arena, n * (size_t)target->classes, sizeof(float), &job->logits));
    AR_TRY(take(&job->arena, n, sizeof(int32_t), &job->y));
    AR_TRY(take(&job->arena, n, sizeof(int32_t), &job->picked_y));
    AR_TRY(take(&job->arena, n, sizeof(int64_t), &job->ids));
    AR_TRY(take(&job->arena, n, sizeof(ar_attack_record), &job->records));
out:
    return status;
}

/* ---- Budget ---- */

static bool may_go_on(const evaluation_job *job) {
    const ar_evaluate_call *call = job->call;
    if (call->budget_minutes > 0 && ar_clock() - job->start >= 60 * call->budget_minutes)
        return false;
    /* What earlier groups left is there for this one. */
    return call->budget_passes == 0 ||
           (double)job->spent < call->budget_passes * (double)(job->first + job->n);
}

/* After a run of the attack: its passes, and which images fell. */
static bool count_run(void *arg, int32_t run, int64_t n, const int64_t *ids,
                      const ar_attack_record *records) {
    evaluation_job *job = arg;
    ar_evaluation *e = job->e;
    int32_t first = e->first_step[job->attack], last = e->first_step[job->attack + 1] - 1;
    int32_t step = first + run < last ? first + run : last;
    for (int64_t k = 0; k < n; k++) {
        ar_sample *sample = &e->samples[ids[k]];
        ar_passes *passes = &e->passes[ids[k] * e->steps + step];
        passes->forwards += records[k].forwards;
        passes->backwards += records[k].backwards;
        job->spent += records[k].forwards + records[k].backwards;
        if (records[k].prediction != sample->label && sample->step < 0) sample->step = step;
    }
    if (run + 1 == e->runs[job->attack] || may_go_on(job)) return true;
    job->cut = true;
    return false;
}

/* ---- Groups ---- */

static void keep(ar_sample *sample, int32_t attack, const ar_attack_record *new) {
    ar_attack_record *best = &sample->answer;
    int64_t forwards = best->forwards + new->forwards;
    int64_t backwards = best->backwards + new->backwards;
    bool fell = best->prediction != sample->label, falls = new->prediction != sample->label;
    if (sample->attack < 0 || (!fell && (falls || new->loss > best->loss))) {
        *best = *new;
        sample->attack = attack;
    }
    best->forwards = forwards;
    best->backwards = backwards;
}

/* The images that attack a is to try; how many. */
static int64_t pick(evaluation_job *job) {
    int64_t size = ar_shape_count(job->call->target->shape), picked = 0;
    for (int64_t i = 0; i < job->n; i++) {
        const ar_sample *sample = &job->e->samples[job->first + i];
        if (sample->clean_prediction != sample->label) continue;
        if (job->call->cascade && sample->step >= 0) continue;
        memcpy(job->picked + picked * size, job->x + i * size, sizeof(float) * (size_t)size);
        job->picked_y[picked] = sample->label;
        job->ids[picked++] = job->first + i; /* the same draws whatever the target gets wrong */
    }
    return picked;
}

static int32_t attack_group(evaluation_job *job, int32_t a) {
    int32_t status = ADVROB_OK;
    ar_evaluation *e = job->e;
    int64_t picked = pick(job);
    job->attack = a;
    job->cut = !may_go_on(job);
    if (!job->cut && picked > 0) {
        ar_attack_call call = {.n = picked,
                               .x = job->picked,
                               .y = job->picked_y,
                               .ids = job->ids,
                               .loss = job->loss,
                               .records = job->records,
                               .after = count_run,
                               .after_arg = job};
        AR_TRY(ar_attack_run(job->call->attacks[a], job->call->target, NULL, &call));
        for (int64_t k = 0; k < picked; k++) {
            e->predictions[job->ids[k] * e->attacks + a] = job->records[k].prediction;
            keep(&e->samples[job->ids[k]], a, &job->records[k]);
        }
    }
    for (int64_t k = 0; k < picked && job->cut; k++) {
        int32_t *prediction = &e->predictions[job->ids[k] * e->attacks + a];
        if (*prediction == AR_UNTOUCHED || *prediction == job->picked_y[k])
            *prediction = AR_UNFINISHED;
    }
out:
    return status;
}

static int32_t clean_group(evaluation_job *job) {
    advrob_target *target = job->call->target;
    ar_evaluation *e = job->e;
    int32_t classes = target->classes;
    int32_t status = ar_target_forward(target, job->n, job->x, job->logits);
    if (status < 0) return status;
    for (int64_t i = 0; i < job->n; i++) {
        const float *z = job->logits + i * classes;
        ar_sample *sample = &e->samples[job->first + i];
        int32_t prediction = ar_argmax(classes, z);
        double loss = job->loss->sample(classes, z, job->y[i], -1, NULL);
        *sample = (ar_sample){.label = job->y[i],
                              .clean_prediction = prediction,
                              .attack = -1,
                              .step = -1,
                              .clean_loss = loss,
                              .answer = {.prediction = prediction, .loss = loss}};
        for (int32_t a = 0; a < e->attacks; a++)
            e->predictions[(job->first + i) * e->attacks + a] = AR_UNTOUCHED;
        memset(e->passes + (job->first + i) * e->steps, 0, sizeof(ar_passes) * (size_t)e->steps);
    }
    return ADVROB_OK;
}

int32_t ar_evaluation_create(const ar_evaluate_call *call, ar_evaluation *e) {
    int32_t status = ADVROB_OK;
    size_t n = (size_t)call->data->count, cells;
    *e = (ar_evaluation){
        .images = call->data->count, .attacks = call->count, .classes = call->target->classes};
    ar_arena_init(&e->arena, &call->target->ctx->memory);
    AR_TRY(take(&e->arena, (size_t)call->count + 1, sizeof(int32_t), &e->first_step));
    AR_TRY(take(&e->arena, (size_t)call->count, sizeof(int32_t), &e->runs));
    for (int32_t a = 0; a < call->count; a++) {
        if (call->attacks[a]->common->targeted)
            AR_FAIL(ADVROB_E_INVALID,
                    "evaluation: attack %d, %s, is targeted; it is the label that counts here",
                    a + 1, call->attacks[a]->kind->name);
        AR_TRY(ar_attack_count_runs(call->attacks[a], e->classes, &e->runs[a]));
        e->first_step[a + 1] = e->first_step[a] + (e->runs[a] <= AR_MOST_STEPS ? e->runs[a] : 1);
    }
    e->steps = e->first_step[call->count];
    if (!ar_mul(n, (size_t)e->steps + 1, &cells))
        AR_FAIL(ADVROB_E_OVERFLOW, "evaluation: records of %zu images do not fit", n);
    AR_TRY(take(&e->arena, n, sizeof(ar_sample), &e->samples));
    AR_TRY(take(&e->arena, n * (size_t)call->count, sizeof(int32_t), &e->predictions));
    AR_TRY(take(&e->arena, n * (size_t)e->steps, sizeof(ar_passes), &e->passes));
out:
    if (status < 0) ar_evaluation_free(e);
    return status;
}

void ar_evaluation_free(ar_evaluation *e) {
    if (e->arena.memory != NULL) ar_arena_free(&e->arena);
    *e = (ar_evaluation){.images = 0};
}

int32_t ar_evaluation_run(const ar_evaluate_call *call, ar_evaluation *e) {
    int32_t status = ADVROB_OK;
    int64_t withstand = 0;
    evaluation_job job = {.call = call, .e = e, .loss = ar_loss_find("ce"), .start = ar_clock()};
    ar_arena_init(&job.arena, &call->target->ctx->memory);
    AR_TRY(make_room(&job));
    for (int64_t i = 0; i < e->done; i++) {
        job.spent += e->samples[i].answer.forwards + e->samples[i].answer.backwards;
        withstand += ar_evaluation_withstands(e, i);
    }
    for (job.first = e->done; job.first < e->images; job.first = e->done) {
        job.n = e->images - job.first < call->group ? e->images - job.first : call->group;
        AR_TRY(ar_dataset_gather(call->data, job.first, NULL, job.n, job.x, job.y));
        AR_TRY(clean_group(&job));
        for (int32_t a = 0; a < call->count; a++)
            AR_TRY(attack_group(&job, a));
        e->done += job.n;
        for (int64_t i = job.first; i < e->done; i++)
            withstand += ar_evaluation_withstands(e, i);
        if (call->after_group != NULL) AR_TRY(call->after_group(call->arg, e));
        if (call->count > 0)
            AR_TRY(ar_progress(call->target->ctx, "evaluate", e->done, e->images,
                               (double)withstand / (double)e->done));
    }
out:
    ar_arena_free(&job.arena);
    return status;
}

/* ---- Counts ---- */

bool ar_evaluation_clean(const ar_evaluation *e, int64_t i) {
    return e->samples[i].clean_prediction == e->samples[i].label;
}

bool ar_evaluation_holds(const ar_evaluation *e, int64_t i, int32_t a) {
    int32_t prediction = e->predictions[i * e->attacks + a];
    return prediction == e->samples[i].label || prediction == AR_UNFINISHED;
}

bool ar_evaluation_withstands(const ar_evaluation *e, int64_t i) {
    return ar_evaluation_clean(e, i) && e->samples[i].step < 0;
}

bool ar_evaluation_unfinished(const ar_evaluation *e, int64_t i) {
    for (int32_t a = 0; a < e->attacks && e->samples[i].step < 0; a++)
        if (e->predictions[i * e->attacks + a] == AR_UNFINISHED) return true;
    return false;
}

int32_t ar_evaluate(advrob_target *target, const advrob_dataset *data, const advrob_attack *attack,
                    int64_t group, int64_t *clean, int64_t *robust) {
    int32_t status = ADVROB_OK;
    ar_evaluation e = {.images = 0};
    ar_evaluate_call call = {.target = target,
                             .data = data,
                             .attacks = &attack,
                             .count = attack != NULL,
                             .group = group};
    *clean = *robust = 0;
    AR_TRY(ar_evaluation_create(&call, &e));
    AR_TRY(ar_evaluation_run(&call, &e));
    for (int64_t i = 0; i < e.images; i++) {
        *clean += ar_evaluation_clean(&e, i);
        *robust += ar_evaluation_withstands(&e, i);
    }
out:
    ar_evaluation_free(&e);
    return status;
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
