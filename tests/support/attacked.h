/* What tests of any attack share: making one with what options it lists, a small net behind
 * callbacks with boxes and units by channel, runs whose every answer is checked. Include support.h,
 * attack.h and golden.h first. */
#ifndef TEST_ATTACKED_H
#define TEST_ATTACKED_H

/* ---- attacks by what their tables list ---- */

static inline bool lists(const ar_attack *kind, const char *option) {
    for (int32_t i = 0; i < kind->options->count; i++)
        if (strcmp(kind->options->options[i].name, option) == 0) return true;
    return false;
}

/* A list whose members' work cannot be lowered. */
static inline bool heavy(const ar_attack *kind) {
    return kind->members != NULL && !lists(kind, "steps");
}

/* Options "name=value name=value", of which the attack gets those that it has. */
static inline advrob_attack *make(advrob_context *ctx, const ar_attack *kind, const char *words) {
    char text[256], *rest = text;
    advrob_options *options = NULL;
    advrob_attack *attack = NULL;
    test_ok(ar_options_create(NULL, NULL, &options));
    snprintf(text, sizeof text, "steps=8 queries=60 targets=2 learning_rate=0.1 %s", words);
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(word, '=');
        *value = 0;
        if (lists(kind, word)) test_ok(ar_options_set_text(options, word, value + 1));
    }
    test_ok(ar_attack_create(ctx, kind->name, options, &attack));
    ar_options_destroy(options);
    return attack;
}

/* The norms that an attack has; 0 ends them. */
static const char *norm_at(const ar_attack *kind, int32_t i) {
    static const char *const names[] = {"linf", "l2"};
    if (lists(kind, "norm")) return i < 2 ? names[i] : NULL;
    return i == 0 ? names[kind->norm] : NULL;
}

/* ---- a net of one hidden layer behind callbacks ---- */

enum { HIDDEN = 8, MOST_PIXELS = 96, MOST_CHANNELS = 3, MOST_CLASSES = 10, LATTICE = 255 };

typedef struct net {
    ar_shape shape;
    int32_t classes;
    double low[MOST_CHANNELS], high[MOST_CHANNELS], unit[MOST_CHANNELS];
    double w[HIDDEN][MOST_PIXELS], v[MOST_CLASSES][HIDDEN];
    bool strict; /* every image must lie on the lattice and in the box */
    int64_t forwards, backwards, strangers;
} net;

static inline int32_t channel(const net *m, int32_t p) {
    return p / ar_shape_pixels(m->shape);
}

static inline double range(const net *m, int32_t p) {
    return m->high[channel(m, p)] - m->low[channel(m, p)];
}

static inline void hidden(const net *m, const float *x, double h[HIDDEN]) {
    for (int32_t j = 0; j < HIDDEN; j++) {
        h[j] = 0.1 * (j - 3);
        for (int32_t p = 0; p < ar_shape_count(m->shape); p++)
            h[j] += m->w[j][p] * (((double)x[p] - m->low[channel(m, p)]) / range(m, p) - 0.5);
    }
}

static inline double logit(const net *m, int32_t k, const double h[HIDDEN]) {
    double z = 0;
    for (int32_t j = 0; j < HIDDEN; j++)
        z += m->v[k][j] * fmax(h[j], 0.1 * h[j]);
    return z;
}

static inline float grid(const net *m, int32_t p, int32_t k) {
    return (float)(m->low[channel(m, p)] + (double)k / LATTICE * range(m, p));
}

static inline bool on_lattice(const net *m, int32_t p, float value) {
    double k = rint(((double)value - m->low[channel(m, p)]) / range(m, p) * LATTICE);
    return k >= 0 && k <= LATTICE && value == grid(m, p, (int32_t)k);
}

static inline int32_t forward(void *user, int64_t n, const float *x, float *logits) {
    net *m = user;
    int64_t size = ar_shape_count(m->shape);
    m->forwards += n;
    for (int64_t i = 0; i < n; i++) {
        double h[HIDDEN];
        hidden(m, x + i * size, h);
        for (int32_t k = 0; k < m->classes; k++)
            logits[i * m->classes + k] = (float)logit(m, k, h);
        for (int32_t p = 0; p < size && m->strict; p++)
            m->strangers += !on_lattice(m, p, x[i * size + p]);
    }
    return 0;
}

static inline int32_t backward(void *user, int64_t n, const float *x, const float *dlogits,
                               float *dx) {
    net *m = user;
    int64_t size = ar_shape_count(m->shape);
    m->backwards += n;
    for (int64_t i = 0; i < n; i++) {
        double h[HIDDEN], dh[HIDDEN];
        hidden(m, x + i * size, h);
        for (int32_t j = 0; j < HIDDEN; j++) {
            dh[j] = 0;
            for (int32_t k = 0; k < m->classes; k++)
                dh[j] += m->v[k][j] * (double)dlogits[i * m->classes + k];
            if (h[j] < 0) dh[j] *= 0.1;
        }
        for (int32_t p = 0; p < size; p++) {
            double sum = 0;
            for (int32_t j = 0; j < HIDDEN; j++)
                sum += m->w[j][p] * dh[j];
            dx[i * size + p] = (float)(sum / range(m, p));
        }
    }
    return 0;
}

typedef struct scene {
    advrob_context *ctx;
    advrob_target *target;
    net net;
    int64_t n, size;
    float *x;
    int32_t *y, *aims;
    /* What a run answers. */
    float *moved;
    int32_t *predictions;
    double *losses;
    ar_attack_record *records;
} scene;

static inline int32_t answer(const net *m, const float *x) {
    double h[HIDDEN];
    float z[MOST_CLASSES];
    hidden(m, x, h);
    for (int32_t k = 0; k < m->classes; k++)
        z[k] = (float)logit(m, k, h);
    return ar_argmax(m->classes, z);
}

/* A box and units by channel, or pixels from 0 to 1. */
static inline void open_scene(scene *s, ar_shape shape, int32_t classes, bool units, int64_t n) {
    static const double low[] = {-1.5, 0, -0.25}, high[] = {2, 255, 0.5}, unit[] = {3, 300, 0.75};
    ar_rng rng;
    *s =
        (scene){.net = {.shape = shape, .classes = classes}, .n = n, .size = ar_shape_count(shape)};
    net *m = &s->net;
    ar_rng_init(&rng, 9, AR_RNG_TEST, 8, 0, 0);
    for (int32_t j = 0; j < HIDDEN; j++)
        for (int32_t p = 0; p < s->size; p++)
            m->w[j][p] = 3 * ar_rng_normal(&rng) / sqrt((double)s->size);
    for (int32_t k = 0; k < classes; k++)
        for (int32_t j = 0; j < HIDDEN; j++)
            m->v[k][j] = ar_rng_normal(&rng);
    for (int32_t c = 0; c < shape.c; c++) {
        m->low[c] = units ? low[c] : 0;
        m->high[c] = units ? high[c] : 1;
        m->unit[c] = units ? unit[c] : 1;
    }
    s->ctx = test_context_at(NULL, 1, ar_kernels_get(ar_cpu_detect(), false));
    test_ok(
        ar_target_from_callbacks(s->ctx, shape, classes, 0, 1, forward, backward, m, &s->target));
    test_ok(ar_target_set_box(s->target, m->low, m->high, m->unit));
    size_t values = (size_t)(n * s->size);
    s->x = malloc(sizeof(float) * values);
    s->moved = malloc(sizeof(float) * values);
    s->y = malloc(sizeof(int32_t) * (size_t)n);
    s->aims = malloc(sizeof(int32_t) * (size_t)n);
    s->predictions = malloc(sizeof(int32_t) * (size_t)n);
    s->losses = malloc(sizeof(double) * (size_t)n);
    s->records = malloc(sizeof(ar_attack_record) * (size_t)n);
    for (int64_t i = 0; i < n * s->size; i++) { /* on the lattice; a fourth at the box's ends */
        int32_t draw = (int32_t)ar_rng_below(&rng, 340);
        s->x[i] = grid(m, (int32_t)(i % s->size), draw <= 255 ? draw : draw < 300 ? 0 : 255);
    }
    for (int64_t i = 0; i < n; i++) {
        s->y[i] = answer(m, s->x + i * s->size);
        s->aims[i] = (s->y[i] + 1 + (int32_t)i % (classes - 1)) % classes;
    }
}

static inline void close_scene(scene *s) {
    ar_target_release(s->target);
    ar_context_release(s->ctx);
    free(s->x);
    free(s->y);
    free(s->aims);
    free(s->moved);
    free(s->predictions);
    free(s->losses);
    free(s->records);
}

/* ---- one run, and what holds after each ---- */

static inline void check_answer(const scene *s, const advrob_attack *attack, bool targeted,
                                int64_t i) {
    const net *m = &s->net;
    const float *x = s->x + i * s->size, *moved = s->moved + i * s->size;
    const ar_attack_record *r = &s->records[i];
    const double epsilon = attack->common->epsilon;
    const char *name = attack->kind->name;
    double squares = 0, largest = 0;
    for (int32_t p = 0; p < s->size; p++) {
        const int32_t c = channel(m, p);
        double d = fabs((double)moved[p] - (double)x[p]);
        if (!(moved[p] >= fminf((float)m->low[c], x[p]) &&
              moved[p] <= fmaxf((float)m->high[c], x[p])))
            fail_msg("%s: %.9g is out of the box", name, (double)moved[p]);
        if (attack->norm == AR_NORM_LINF && !(d <= epsilon * m->unit[c]))
            fail_msg("%s: %.9g moved to %.9g with epsilon %.17g of %g", name, (double)x[p],
                     (double)moved[p], epsilon, m->unit[c]);
        squares += d / m->unit[c] * (d / m->unit[c]);
        largest = fmax(largest, d / m->unit[c]);
    }
    if (attack->norm == AR_NORM_L2 && !(sqrt(squares) <= epsilon * (1 + 1e-14)))
        fail_msg("%s: moved by %.17g with epsilon %.17g", name, sqrt(squares), epsilon);
    if (epsilon == 0) assert_memory_equal(x, moved, sizeof(float) * (size_t)s->size);
    if (s->predictions[i] != answer(m, moved) || r->prediction != s->predictions[i])
        fail_msg("%s: sample %d is answered %d, not %d", name, (int)i, answer(m, moved),
                 s->predictions[i]);
    bool fooled = targeted ? r->prediction == s->aims[i] : r->prediction != s->y[i];
    assert_int_equal(r->fooled, fooled);
    assert_true(isfinite(s->losses[i]) && memcmp(&s->losses[i], &r->loss, sizeof(double)) == 0);
    assert_true(fabs(r->linf - largest) <= 1e-9 * fmax(1, largest));
    assert_true(fabs(r->l2 - sqrt(squares)) <= 1e-9 * fmax(1, sqrt(squares)));
    assert_true(r->forwards >= 0 && r->backwards >= 0 && r->member >= 0 && r->run >= 0);
}

static inline int32_t run(scene *s, const ar_attack *kind, const char *words, bool targeted) {
    int32_t fooled = 0;
    advrob_attack *attack = make(s->ctx, kind, words);
    ar_attack_call call = {.n = s->n,
                           .x = s->x,
                           .y = s->y,
                           .targets = targeted ? s->aims : NULL,
                           .adversarial = s->moved,
                           .predictions = s->predictions,
                           .losses = s->losses,
                           .records = s->records};
    memset(s->moved, 0xff, sizeof(float) * (size_t)(s->n * s->size));
    int32_t status = ar_attack_run(attack, s->target, NULL, &call);
    if (status < 0) fail_msg("%s %s: %d, %s", kind->name, words, status, ar_message());
    for (int64_t i = 0; i < s->n; i++) {
        check_answer(s, attack, targeted, i);
        fooled += s->records[i].fooled;
    }
    ar_attack_release(attack);
    return fooled;
}

#endif
