/* Size, memory and speed of a net, measured on its file as another program would load it: of a
 * float net its model file, of a quantized one its engine's. */
#include "reproduce.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BATCH = 64 };

/* Images for a batch, again from the first one where they are few; and room for the answers. */
typedef struct batch {
    float *x, *logits;
} batch;

static int32_t open_batch(const job *j, batch *b) {
    int32_t shape[3], status = 0;
    int64_t count = advrob_dataset_count(j->test);
    TRY(advrob_dataset_shape(j->test, shape));
    size_t size = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2];
    b->x = calloc(BATCH * size, sizeof *b->x);
    b->logits = calloc(BATCH * (size_t)advrob_dataset_classes(j->test), sizeof *b->logits);
    if (b->x == NULL || b->logits == NULL) return complain(FAILED, "out of memory");
    for (int64_t i = 0; i < BATCH; i++)
        TRY(advrob_dataset_read(j->test, i % count, 1, b->x + (size_t)i * size, NULL));
out:
    return status;
}

static void close_batch(batch *b) {
    free(b->x);
    free(b->logits);
}

static int32_t forward(const runner *net, const batch *b, int64_t n) {
    if (net->engine != NULL) return advrob_engine_run(net->engine, n, b->x, b->logits);
    return advrob_model_forward(net->model, n, b->x, b->logits);
}

/* Milliseconds, the best of several after one that warms up. */
static int32_t put_latency(const runner *net, const batch *b, int64_t n, int32_t repeats,
                           const char *column, advrob_report *score) {
    double best = INFINITY;
    int32_t status = 0;
    if (net->engine == NULL) {
        TRY(advrob_model_latency(net->model, n, repeats, &best));
        return advrob_report_put_f64(score, column, best);
    }
    for (int32_t i = -1; i < repeats; i++) {
        double start = now();
        TRY(forward(net, b, n));
        if (i >= 0) best = fmin(best, now() - start);
    }
    TRY(advrob_report_put_f64(score, column, 1e3 * best));
out:
    return status;
}

/* Memory held while the net runs one image: parameters, packed weights, workspace. Where loading
 * took more for a moment (the file and the net at once), that moment is not counted. */
static int32_t measure_memory(advrob_context *ctx, const runner *net, const batch *b,
                              int64_t *bytes) {
    uint64_t loading = advrob_context_memory_peak(ctx);
    int32_t status = forward(net, b, 1);
    uint64_t peak = advrob_context_memory_peak(ctx);
    *bytes = (int64_t)(peak > loading ? peak : advrob_context_memory(ctx));
    return status;
}

/* One thread, in a context of its own. */
static int32_t measure_alone(job *j, const char *path, bool integers, const batch *b,
                             advrob_report *score) {
    int32_t status = 0, repeats = j->settings->preset->latency_repeats;
    advrob_options *o = NULL;
    advrob_context *ctx = NULL;
    runner net = {NULL, NULL};
    int64_t bytes = 0;
    TRY(advrob_options_create(&o));
    TRY(advrob_options_set_i64(o, "threads", 1));
    TRY(advrob_context_create(o, &ctx));
    if (integers) {
        TRY(advrob_engine_load(ctx, path, &net.engine));
    } else {
        TRY(advrob_model_load(ctx, path, NULL, &net.model));
    }
    TRY(measure_memory(ctx, &net, b, &bytes));
    TRY(advrob_report_put_i64(score, "memory_bytes", bytes));
    TRY(put_latency(&net, b, 1, repeats, "latency_ms_batch1_threads1", score));
    TRY(put_latency(&net, b, BATCH, repeats, "latency_ms_batch64_threads1", score));
out:
    advrob_engine_destroy(net.engine);
    advrob_model_destroy(net.model);
    advrob_context_destroy(ctx);
    advrob_options_destroy(o);
    return status;
}

int32_t measure_efficiency(job *j, const char *path, const runner *net, advrob_report *score) {
    int32_t status = 0, repeats = j->settings->preset->latency_repeats;
    struct stat file;
    batch b = {NULL, NULL};
    if (stat(path, &file) != 0) return complain(FAILED, "%s is gone", path);
    TRY(advrob_report_put_i64(score, "bytes", (int64_t)file.st_size));
    TRY(open_batch(j, &b));
    TRY(measure_alone(j, path, net->engine != NULL, &b, score));
    TRY(put_latency(net, &b, 1, repeats, "latency_ms_batch1", score));
    TRY(put_latency(net, &b, BATCH, repeats, "latency_ms_batch64", score));
    TRY(advrob_report_put_i64(score, "latency_threads", advrob_context_threads(j->ctx)));
out:
    close_batch(&b);
    return status;
}
