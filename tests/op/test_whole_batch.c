/* Gradients through whole batches, batch norms and dropout included, against differences in double:
 * with the batch's and with running statistics, in one tile and in several. */
#include "support/support.h"

#include "model/program.h"
#include "support/golden.h"
#include "support/tangle.h"
#include "tolerance.h"

_Static_assert(sizeof(ar_real) == sizeof(double), "this test is built in double");

#define STEP 0x1p-15

typedef struct whole {
    advrob_model *model;
    ar_program *program;
    ar_tiles *tiles;
    int32_t groups;
    int64_t n, image, classes;
    float *x[2], *dout[2], *out[2], *dx[2];
    ar_draws draws;
    int64_t *ids;
    double worst;
    int32_t entries, kinks;
} whole;

/* Sum of dout * logits, from the tiles' own buffers. */
static double objective(whole *w) {
    double sum = 0;
    int32_t lanes = ar_tile_lanes(w->n);
    ar_program_update(w->program);
    test_ok(ar_tiles_forward(w->tiles, w->n, (const float *const *)w->x, &w->draws, w->out));
    for (int32_t group = 0; group < w->groups; group++)
        for (int64_t i = 0; i < w->n; i++) {
            ar_workspace *tile = ar_tiles_workspace(w->tiles, group, (int32_t)(i / lanes));
            const ar_real *out = ar_workspace_value(tile, w->program->output);
            for (int64_t k = 0; k < w->classes; k++)
                sum += (double)w->dout[group][i * w->classes + k] * out[k * lanes + i % lanes];
        }
    return sum;
}

/* Two differences of the fourth order, with steps of 1 and 2: where they differ lies a kink. */
static void check(whole *w, const char *what, int64_t i, const double f[8], double gradient,
                  double largest) {
    double fine = (8 * (f[4] - f[3]) - (f[5] - f[2])) / (12 * STEP);
    double coarse = (8 * (f[5] - f[2]) - (f[6] - f[1])) / (24 * STEP);
    double off = fabs(fine - gradient) / largest;
    if (fabs(fine - coarse) > 1e-8 * largest) {
        w->kinks++;
        return;
    }
    w->entries++;
    if (off > TOLERANCE_FINITE_DIFFERENCE)
        fail_msg("%s[%d] is %.12g, differences give %.12g", what, (int)i, gradient, fine);
    w->worst = fmax(w->worst, off);
}

static const double offsets[8] = {0, -4, -2, -1, 1, 2, 4, 0};

static double largest_of(const ar_real *values, int64_t n) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(values[i]));
    return largest;
}

static void check_parameters(whole *w, const ar_real *gradient) {
    advrob_model *model = w->model;
    double largest = largest_of(gradient, model->slab_count);
    for (int32_t p = 0; p < model->parameter_count; p++) {
        const ar_parameter *parameter = &model->parameters[p];
        for (int64_t i = parameter->offset; i < parameter->offset + parameter->count; i++) {
            double kept = model->slab[i], f[8];
            if (w->n > 8 && i % 7 != 0) continue; /* for time's sake */
            if (parameter->role >= AR_RUNNING_MEAN) {
                assert_true(gradient[i] == 0);
                continue;
            }
            for (int32_t k = 1; k < 7; k++) {
                model->slab[i] = kept + offsets[k] * STEP;
                ar_model_changed(model);
                f[k] = objective(w);
            }
            model->slab[i] = kept;
            ar_model_changed(model);
            check(w, parameter->name, i - parameter->offset, f, gradient[i], largest);
        }
    }
}

/* Pixels are floats, and so steps must be exact in them; dx leaves as float. */
static void check_pixels(whole *w) {
    for (int32_t group = 0; group < w->groups; group++) {
        double largest = 0;
        for (int64_t i = 0; i < w->n * w->image; i++)
            largest = fmax(largest, fabs((double)w->dx[group][i]));
        for (int64_t i = group; i < w->n * w->image; i += 1 + w->n * w->image / 120) {
            float kept = w->x[group][i];
            double f[8];
            for (int32_t k = 1; k < 7; k++) {
                w->x[group][i] = kept + (float)(offsets[k] * STEP);
                f[k] = objective(w);
            }
            w->x[group][i] = kept;
            check(w, "dx", i, f, (double)w->dx[group][i], largest);
        }
    }
}

static void check_batch(int64_t n, int32_t groups, bool batch_statistics, int32_t threads) {
    whole w = {.groups = groups, .n = n};
    advrob_context *ctx = test_context(threads);
    ar_rng rng;
    ctx->kernels = ar_kernels_get(AR_CPU_PORTABLE, false);
    test_ok(ar_zoo_build(ctx, "tiny_batch_norm", NULL, &w.model));
    w.image = ar_shape_count(w.model->nodes[0].shape);
    w.classes = ar_model_classes(w.model);
    ar_rng_init(&rng, n, AR_RNG_TEST, 1, 0, 0);
    for (int32_t p = 0; p < w.model->parameter_count; p++)
        for (int64_t i = 0; i < w.model->parameters[p].count && w.model->parameters[p].rank == 1;
             i++) {
            ar_real *value = &w.model->slab[w.model->parameters[p].offset + i];
            *value += 0.3 * (2 * (double)ar_rng_uniform(&rng) - 1);
        }
    ar_model_changed(w.model);
    test_ok(ar_model_program(w.model, true, &w.program));
    test_ok(ar_tiles_create(w.program, AR_RUN_TRAIN, batch_statistics, n, groups, &w.tiles));
    w.ids = calloc((size_t)n, sizeof *w.ids);
    for (int64_t i = 0; i < n; i++)
        w.ids[i] = 1000 + 7 * i;
    w.draws = (ar_draws){5, w.ids};
    for (int32_t group = 0; group < groups; group++) {
        w.x[group] = test_images(n, w.image, 3 + group);
        w.dx[group] = calloc((size_t)(n * w.image), sizeof(float));
        w.out[group] = calloc((size_t)(n * w.classes), sizeof(float));
        w.dout[group] = calloc((size_t)(n * w.classes), sizeof(float));
        for (int64_t i = 0; i < n * w.classes; i++)
            w.dout[group][i] = (float)((int32_t)ar_rng_below(&rng, 65) - 32) / 32;
        for (int64_t i = 0; i < n * w.image; i++)
            w.x[group][i] = (float)(8 + ar_rng_below(&rng, 240)) / 256;
    }
    ar_real *gradient = calloc((size_t)w.model->slab_count, sizeof *gradient);
    objective(&w);
    test_ok(ar_tiles_backward(w.tiles, (const float *const *)w.dout, w.dx, gradient));
    check_pixels(&w);
    int32_t pixels = w.entries;
    check_parameters(&w, gradient);
    print_message("%d images, %d groups, %s statistics: %d entries, worst %.2g; %d at a kink\n",
                  (int)n, groups, batch_statistics ? "batch" : "running", w.entries, w.worst,
                  w.kinks);
    assert_true(pixels > 80 && w.entries > pixels + 50 && w.kinks < w.entries / 5);
    ar_tiles_destroy(w.tiles);
    for (int32_t group = 0; group < groups; group++) {
        free(w.x[group]);
        free(w.dx[group]);
        free(w.out[group]);
        free(w.dout[group]);
    }
    free(w.ids);
    free(gradient);
    ar_model_release(w.model);
    ar_context_release(ctx);
}

static void test_batch_statistics(void **state) {
    (void)state;
    check_batch(5, 1, true, 1);
    check_batch(37, 1, true, 3);
    check_batch(20, 2, true, 2);
}

static void test_running_statistics(void **state) {
    (void)state;
    check_batch(5, 1, false, 1);
    check_batch(20, 2, false, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_statistics),
        cmocka_unit_test(test_running_statistics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
