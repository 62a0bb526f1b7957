/* Masked gradients: an accuracy under attack is believed only if stronger attacks are stronger. The
 * signs are those of Athalye et al. 2018 (arXiv 1802.00420, section 3.1), Carlini et al. 2019
 * (arXiv 1902.06705, section 5) and of the checks in AutoAttack. Thresholds are fixed here. */
#include "masking.h"

#include <math.h>
#include <string.h>

#include "method.h"

/* A difference of two accuracies of the same images counts when it is more than a point, which is
 * as fine as such accuracies are compared, and more than 3 standard errors of the paired
 * difference, which chance alone gives once in 700 comparisons. */
static const double point = 0.01, errors = 3;
/* Images without gradient stand where attacks by gradient leave them: from this share on they move
 * an accuracy by what counts as a difference. */
static const double zero_share = 0.01;
/* Passes of the same images, and the difference of their logits, relative to the largest, that is
 * none: sums in another order differ by 1e-6, AutoAttack's check takes the same bound. */
enum { PASSES = 5 };
static const double same_logits = 1e-4;
/* Ten probabilities in float add up to 1 within 1e-6; AutoAttack's check takes the same bound. */
static const double sum_of_softmax = 1e-5;
/* PGD's step: so that its steps lead 2.5 radii far (as Madry et al. 2018 had it). */
static const double reach = 2.5;

typedef struct masking_job {
    const ar_masking_call *call;
    ar_masking *m;
    advrob_attack *attacks[AR_TRIALS];
    bool *right[AR_TRIALS]; /* [images]: right in the trial, whatever when clean */
    int64_t first, n;       /* the group */
    float *x, *adversarial, *picked, *logits, *again, *dx;
    int32_t *y, *picked_y, *predictions;
    int64_t *ids;
    double *scratch;
    double largest, differs; /* logits so far */
    bool unlike_softmax;
    ar_arena arena;
} masking_job;

/* ---- What is compared ---- */

static bool counts(double difference, double deviation) {
    return difference > point && difference > errors * deviation;
}

/* Whether images right under `a` are more than those right under `b`, of those right when clean. */
static bool is_weaker(const masking_job *job, const bool *a, const bool *b) {
    const bool *clean = job->right[AR_TRIAL_CLEAN];
    double n = (double)job->m->images, more = 0, fewer = 0;
    for (int64_t i = 0; i < job->m->images; i++) {
        more += clean[i] && a[i] && !b[i];
        fewer += clean[i] && b[i] && !a[i];
    }
    double difference = (more - fewer) / n;
    return counts(difference, sqrt((more + fewer) / n - difference * difference) / sqrt(n));
}

static void judge(masking_job *job) {
    ar_masking *m = job->m;
    const double n = (double)m->images;
    bool *const *right = job->right, *flag = m->flag;
    for (int64_t i = 0; i < m->images; i++) {
        bool clean = right[AR_TRIAL_CLEAN][i];
        for (int32_t t = 0; t < AR_TRIALS; t++)
            m->right[t] += m->ran[t] && clean && right[t][i];
        m->raw += right[AR_TRIAL_PGD][i];
    }
    if (m->ran[AR_TRIAL_PGD]) {
        flag[AR_MASKING_FGSM] = is_weaker(job, right[AR_TRIAL_PGD], right[AR_TRIAL_FGSM]);
        double above = (double)(m->raw - m->right[AR_TRIAL_CLEAN]) / n, changed = 0;
        for (int64_t i = 0; i < m->images; i++)
            changed += right[AR_TRIAL_PGD][i] != right[AR_TRIAL_CLEAN][i];
        flag[AR_MASKING_ABOVE_CLEAN] = counts(above, sqrt(changed / n - above * above) / sqrt(n));
        double large = (double)m->right[AR_TRIAL_LARGE] / n;
        flag[AR_MASKING_LARGE] = counts(large - m->chance, sqrt(large * (1 - large) / n));
        flag[AR_MASKING_ZERO] = (double)m->zero > zero_share * n;
        /* The white box is both attacks. */
        for (int64_t i = 0; i < m->images; i++) {
            right[AR_TRIAL_FGSM][i] = right[AR_TRIAL_FGSM][i] && right[AR_TRIAL_PGD][i];
            m->white += right[AR_TRIAL_CLEAN][i] && right[AR_TRIAL_FGSM][i];
        }
        if (m->ran[AR_TRIAL_SQUARE])
            flag[AR_MASKING_SQUARE] = is_weaker(job, right[AR_TRIAL_FGSM], right[AR_TRIAL_SQUARE]);
        if (m->ran[AR_TRIAL_TRANSFER])
            flag[AR_MASKING_TRANSFER] =
                is_weaker(job, right[AR_TRIAL_FGSM], right[AR_TRIAL_TRANSFER]);
    }
    flag[AR_MASKING_RANDOM] = m->noise > same_logits || m->unsteady > 0;
    flag[AR_MASKING_SOFTMAX] = m->softmax;
    flag[AR_MASKING_BLIND] = !m->ran[AR_TRIAL_PGD];
}

/* ---- One group ---- */

static void look_at_logits(masking_job *job, const float *z) {
    int32_t classes = job->call->target->classes;
    double sum = 0;
    bool inside = true;
    for (int32_t c = 0; c < classes; c++) {
        job->largest = fmax(job->largest, fabs((double)z[c]));
        inside = inside && (double)z[c] > -sum_of_softmax && (double)z[c] < 1 + sum_of_softmax;
        sum += (double)z[c];
    }
    if (!inside || !(fabs(sum - 1) < sum_of_softmax)) job->unlike_softmax = true;
}

static int32_t ask_again(masking_job *job) {
    int32_t status = ADVROB_OK;
    advrob_target *target = job->call->target;
    const int32_t classes = target->classes;
    memset(job->picked_y, 0, sizeof(int32_t) * (size_t)job->n); /* unsteady */
    for (int32_t pass = 0; pass < PASSES; pass++) {
        float *logits = pass == 0 ? job->logits : job->again;
        AR_TRY(ar_target_forward(target, job->n, job->x, logits));
        for (int64_t i = 0; i < job->n; i++) {
            const float *z = logits + i * classes, *before = job->logits + i * classes;
            look_at_logits(job, z);
            for (int32_t c = 0; c < classes; c++)
                job->differs = fmax(job->differs, fabs((double)z[c] - (double)before[c]));
            if (ar_argmax(classes, z) != ar_argmax(classes, before)) job->picked_y[i] = 1;
        }
    }
    for (int64_t i = 0; i < job->n; i++) {
        job->m->unsteady += job->picked_y[i];
        job->right[AR_TRIAL_CLEAN][job->first + i] =
            ar_argmax(classes, job->logits + i * classes) == job->y[i];
    }
out:
    return status;
}

/* Gradients as attacks take them: scaled, so that a small one is none that is 0. */
static int32_t count_zeros(masking_job *job) {
    int32_t status = ADVROB_OK;
    advrob_target *target = job->call->target;
    const int64_t size = ar_shape_count(target->shape), classes = target->classes;
    const int32_t tile = ar_target_tile(target, job->n);
    void *session = NULL;
    AR_TRY(target->open(target, &session));
    for (int64_t at = 0; at < job->n; at += tile) {
        int32_t n = (int32_t)(job->n - at < tile ? job->n - at : tile);
        AR_TRY(ar_cancelled(target->ctx));
        AR_TRY(target->forward(target, session, n, job->x + at * size, job->logits));
        ar_loss_batch(ar_loss_find("ce"), n, (int32_t)classes, job->logits, job->y + at, NULL,
                      job->scratch, NULL, job->again, true, 1);
        AR_TRY(target->backward(target, session, n, job->x + at * size, job->again, job->dx));
        for (int32_t i = 0; i < n; i++) {
            int64_t k = 0;
            while (k < size && job->dx[i * size + k] == 0)
                k++;
            job->m->zero += k == size;
        }
    }
out:
    if (session != NULL) target->close(target, session);
    return status;
}

/* An attack on the group's images, or on those of them that are right when clean. */
static int32_t attempt(masking_job *job, int32_t trial, bool all) {
    int32_t status = ADVROB_OK;
    advrob_target *target = job->call->target;
    const int64_t size = ar_shape_count(target->shape);
    const bool *clean = job->right[AR_TRIAL_CLEAN] + job->first;
    bool *right = job->right[trial] + job->first;
    int64_t picked = 0;
    job->m->ran[trial] = true;
    for (int64_t i = 0; i < job->n; i++) {
        if (!all && !clean[i]) continue;
        memcpy(job->picked + picked * size, job->x + i * size, sizeof(float) * (size_t)size);
        job->picked_y[picked] = job->y[i];
        job->ids[picked++] = job->first + i;
    }
    if (picked == 0) return ADVROB_OK;
    ar_attack_call call = {.n = picked,
                           .x = job->picked,
                           .y = job->picked_y,
                           .ids = job->ids,
                           .adversarial = job->adversarial,
                           .predictions = job->predictions};
    AR_TRY(ar_attack_run(job->attacks[trial], target, NULL, &call));
    for (int64_t k = 0; k < picked; k++)
        right[job->ids[k] - job->first] = job->predictions[k] == job->picked_y[k];
out:
    return status;
}

static int32_t check_group(masking_job *job) {
    int32_t status = ADVROB_OK;
    advrob_target *target = job->call->target;
    AR_TRY(ask_again(job));
    job->m->ran[AR_TRIAL_CLEAN] = true;
    if (target->has_backward) {
        AR_TRY(count_zeros(job));
        AR_TRY(attempt(job, AR_TRIAL_FGSM, false));
        AR_TRY(attempt(job, AR_TRIAL_PGD, true));
        AR_TRY(attempt(job, AR_TRIAL_LARGE, false));
    }
    if (job->attacks[AR_TRIAL_SQUARE] != NULL) AR_TRY(attempt(job, AR_TRIAL_SQUARE, false));
    if (target->source != NULL) AR_TRY(attempt(job, AR_TRIAL_TRANSFER, false));
out:
    return status;
}

/* ---- Preparation ---- */

static int32_t create(masking_job *job, int32_t trial, const char *name, const char *norm,
                      double epsilon) {
    int32_t status = ADVROB_OK;
    const ar_masking_call *call = job->call;
    advrob_options *o = NULL;
    AR_TRY(ar_options_part(NULL, "", &call->target->ctx->memory, &o));
    AR_TRY(ar_options_set_f64(o, "epsilon", epsilon));
    AR_TRY(ar_options_set_str(o, "norm", norm));
    if (trial != AR_TRIAL_FGSM) AR_TRY(ar_options_set_i64(o, "seed", call->seed));
    if (trial == AR_TRIAL_TRANSFER) AR_TRY(ar_options_set_i64(o, "transfer", 1));
    if (trial == AR_TRIAL_SQUARE) AR_TRY(ar_options_set_i64(o, "queries", call->queries));
    if (trial == AR_TRIAL_LARGE) AR_TRY(ar_options_set_i64(o, "early_stop", 1));
    if (strcmp(name, "pgd") == 0) {
        double step = reach * epsilon / (double)call->steps;
        AR_TRY(ar_options_set_i64(o, "steps", call->steps));
        AR_TRY(ar_options_set_f64(o, "step", fmin(step, 1e6)));
    }
    AR_TRY(ar_attack_create(call->target->ctx, name, o, &job->attacks[trial]));
out:
    ar_options_destroy(o);
    return status;
}

static int32_t create_attacks(masking_job *job) {
    int32_t status = ADVROB_OK;
    const ar_masking_call *call = job->call;
    const advrob_target *target = call->target;
    /* Within half of every channel's range all images can become the same one. */
    for (int32_t c = 0; c < target->shape.c; c++)
        job->m->large_epsilon =
            fmax(job->m->large_epsilon, (target->high[c] - target->low[c]) / target->unit[c] / 2);
    AR_TRY(create(job, AR_TRIAL_FGSM, "fgsm", call->norm, call->epsilon));
    AR_TRY(create(job, AR_TRIAL_PGD, "pgd", call->norm, call->epsilon));
    AR_TRY(create(job, AR_TRIAL_TRANSFER, "pgd", call->norm, call->epsilon));
    AR_TRY(create(job, AR_TRIAL_LARGE, "pgd", "linf", fmin(job->m->large_epsilon, 1e6)));
    if (call->queries > 0)
        AR_TRY(create(job, AR_TRIAL_SQUARE, "square", call->norm, call->epsilon));
out:
    return status;
}

static int32_t take(masking_job *job, size_t count, size_t size, void *field) {
    void *block = NULL;
    int32_t status = ar_arena_alloc(&job->arena, count, size, "check", &block);
    memcpy(field, &block, sizeof block);
    return status;
}

static int32_t make_room(masking_job *job) {
    int32_t status = ADVROB_OK;
    const advrob_target *target = job->call->target;
    size_t classes = (size_t)target->classes, n = (size_t)job->call->group, values;
    if ((int64_t)n > job->m->images) n = (size_t)job->m->images;
    if (!ar_mul(n, (size_t)ar_shape_count(target->shape), &values))
        return ar_error(ADVROB_E_OVERFLOW, "check: a group of %zu images does not fit", n);
    for (int32_t t = 0; t < AR_TRIALS; t++)
        AR_TRY(take(job, (size_t)job->m->images, sizeof(bool), &job->right[t]));
    AR_TRY(take(job, values, sizeof(float), &job->x));
    AR_TRY(take(job, values, sizeof(float), &job->adversarial));
    AR_TRY(take(job, values, sizeof(float), &job->picked));
    AR_TRY(take(job, values, sizeof(float), &job->dx));
    AR_TRY(take(job, n * classes, sizeof(float), &job->logits));
    AR_TRY(take(job, n * classes, sizeof(float), &job->again));
    AR_TRY(take(job, classes, sizeof(double), &job->scratch));
    AR_TRY(take(job, n, sizeof(int32_t), &job->y));
    AR_TRY(take(job, n, sizeof(int32_t), &job->picked_y));
    AR_TRY(take(job, n, sizeof(int32_t), &job->predictions));
    AR_TRY(take(job, n, sizeof(int64_t), &job->ids));
out:
    return status;
}

/* What answering without looking reaches: the share of the most frequent class, 1 of the classes
 * at least. */
static int32_t find_chance(masking_job *job) {
    int32_t status = ADVROB_OK, y = 0;
    int64_t *images = NULL, most = 0;
    size_t classes = (size_t)job->call->target->classes;
    AR_TRY(take(job, classes, sizeof(int64_t), &images));
    for (int64_t i = 0; i < job->m->images; i++) {
        AR_TRY(ar_dataset_gather(job->call->data, i, NULL, 1, NULL, &y));
        if (++images[y] > most) most = images[y];
    }
    job->m->chance = fmax((double)most / (double)job->m->images, 1 / (double)classes);
out:
    return status;
}

int32_t ar_masking_check(const ar_masking_call *call, ar_masking *out) {
    int32_t status = ADVROB_OK;
    masking_job job = {.call = call, .m = out};
    ar_masking *m = out;
    *m = (ar_masking){.images = call->data->count};
    if (call->images > 0 && call->images < m->images) m->images = call->images;
    ar_arena_init(&job.arena, &call->target->ctx->memory);
    AR_TRY(create_attacks(&job));
    AR_TRY(make_room(&job));
    AR_TRY(find_chance(&job));
    for (job.first = 0; job.first < m->images; job.first += job.n) {
        job.n = m->images - job.first < call->group ? m->images - job.first : call->group;
        AR_TRY(ar_dataset_gather(call->data, job.first, NULL, job.n, job.x, job.y));
        AR_TRY(check_group(&job));
        AR_TRY(ar_progress(call->target->ctx, "check", job.first + job.n, m->images, NAN));
    }
    m->noise = job.largest > 0 ? job.differs / job.largest : 0;
    m->softmax = !job.unlike_softmax;
    judge(&job);
out:
    for (int32_t t = 0; t < AR_TRIALS; t++)
        ar_attack_release(job.attacks[t]);
    ar_arena_free(&job.arena);
    return status;
}

/* ---- In words ---- */

static const char *const names[AR_MASKINGS] = {
    "square_stronger", "transfer_stronger", "fgsm_stronger",
    "above_clean",     "large_epsilon",     "zero_gradients",
    "random",          "softmax",           "no_gradient"};

const char *ar_masking_name(int32_t flag) {
    return names[flag];
}

static double percent(const ar_masking *m, int64_t count) {
    return 100 * (double)count / (double)m->images;
}

void ar_masking_reason(const ar_masking *m, int32_t flag, char *text, size_t size) {
    const double white = percent(m, m->white);
    switch (flag) {
    case AR_MASKING_SQUARE:
        ar_format(text, size, "Square leaves %.1f %%, FGSM and PGD %.1f %%",
                  percent(m, m->right[AR_TRIAL_SQUARE]), white);
        break;
    case AR_MASKING_TRANSFER:
        ar_format(text, size, "images of another net leave %.1f %%, FGSM and PGD %.1f %%",
                  percent(m, m->right[AR_TRIAL_TRANSFER]), white);
        break;
    case AR_MASKING_FGSM:
        ar_format(text, size, "FGSM leaves %.1f %%, PGD %.1f %%",
                  percent(m, m->right[AR_TRIAL_FGSM]), percent(m, m->right[AR_TRIAL_PGD]));
        break;
    case AR_MASKING_ABOVE_CLEAN:
        ar_format(text, size, "%.1f %% are right under PGD, %.1f %% when clean", percent(m, m->raw),
                  percent(m, m->right[AR_TRIAL_CLEAN]));
        break;
    case AR_MASKING_LARGE:
        ar_format(text, size, "PGD at epsilon %g leaves %.1f %%, chance is %.1f %%",
                  m->large_epsilon, percent(m, m->right[AR_TRIAL_LARGE]), 100 * m->chance);
        break;
    case AR_MASKING_ZERO:
        ar_format(text, size, "the gradient is 0 at %.1f %% of the images", percent(m, m->zero));
        break;
    case AR_MASKING_RANDOM:
        ar_format(text, size, "answers differ between passes, predictions of %.1f %% of the images",
                  percent(m, m->unsteady));
        break;
    case AR_MASKING_SOFTMAX:
        ar_format(text, size, "the output is a softmax, not logits");
        break;
    default:
        ar_format(text, size, "the target gives no gradients");
    }
}
