/* Size, memory and speed of a float net, measured on its file as another program would load it. */
#include "reproduce.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Memory held while the net runs one image: parameters, packed weights, workspace. Where loading
 * took more for a moment (the file and the net at once), that moment is not counted. */
static int32_t measure_memory(advrob_context *ctx, const advrob_model *model, int64_t *bytes) {
    int32_t shape[3], status = 0;
    uint64_t loading = advrob_context_memory_peak(ctx);
    float *x = NULL, *logits = calloc((size_t)advrob_model_classes(model), sizeof *logits);
    TRY(advrob_model_input_shape(model, shape));
    x = calloc((size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2], sizeof *x);
    if (x == NULL || logits == NULL) {
        status = complain(FAILED, "out of memory");
        goto out;
    }
    TRY(advrob_model_forward(model, 1, x, logits));
    uint64_t peak = advrob_context_memory_peak(ctx);
    *bytes = (int64_t)(peak > loading ? peak : advrob_context_memory(ctx));
out:
    free(x);
    free(logits);
    return status;
}

/* One thread, in a context of its own. */
static int32_t measure_alone(job *j, const char *path, advrob_report *score) {
    int32_t status = 0, repeats = j->settings->preset->latency_repeats;
    advrob_options *o = NULL;
    advrob_context *ctx = NULL;
    advrob_model *model = NULL;
    double milliseconds = 0;
    int64_t bytes = 0;
    TRY(advrob_options_create(&o));
    TRY(advrob_options_set_i64(o, "threads", 1));
    TRY(advrob_context_create(o, &ctx));
    TRY(advrob_model_load(ctx, path, NULL, &model));
    TRY(measure_memory(ctx, model, &bytes));
    TRY(advrob_report_put_i64(score, "memory_bytes", bytes));
    TRY(advrob_model_latency(model, 1, repeats, &milliseconds));
    TRY(advrob_report_put_f64(score, "latency_ms_batch1_threads1", milliseconds));
    TRY(advrob_model_latency(model, 64, repeats, &milliseconds));
    TRY(advrob_report_put_f64(score, "latency_ms_batch64_threads1", milliseconds));
out:
    advrob_model_destroy(model);
    advrob_context_destroy(ctx);
    advrob_options_destroy(o);
    return status;
}

int32_t measure_efficiency(job *j, const char *name, const advrob_model *model,
                           advrob_report *score) {
    int32_t status = 0, repeats = j->settings->preset->latency_repeats;
    struct stat file;
    char path[4096];
    double milliseconds = 0;
    model_path(j->settings, name, path, sizeof path);
    if (stat(path, &file) != 0) return complain(FAILED, "%s is gone", path);
    TRY(advrob_report_put_i64(score, "bytes", (int64_t)file.st_size));
    TRY(measure_alone(j, path, score));
    TRY(advrob_model_latency(model, 1, repeats, &milliseconds));
    TRY(advrob_report_put_f64(score, "latency_ms_batch1", milliseconds));
    TRY(advrob_model_latency(model, 64, repeats, &milliseconds));
    TRY(advrob_report_put_f64(score, "latency_ms_batch64", milliseconds));
    TRY(advrob_report_put_i64(score, "latency_threads", advrob_context_threads(j->ctx)));
out:
    return status;
}
