/* What each way to calibrate quant_ptq leaves of a net, on the public interface alone: accuracy,
 * top-1 agreement with the float net and SQNR of the logits, on training images that were not
 * calibrated on, by which one may choose, and on the test images. Run on the integer engine, where
 * it takes the net.
 *
 *     calibration NET WEIGHTS CIFAR10 ["options" ...]
 *
 * Calibration: the first 512 training images. To choose by: the last 5,000. */
#include <math.h>
#include <time.h>

#include "../../examples/common.h"

enum { CLASSES = 10, PIXELS = 3 * 32 * 32 };

static advrob_context *ctx;

typedef struct images {
    int64_t n;
    float *x;
    int32_t *y;
    float *clean; /* the float net's logits */
} images;

static double seconds(void) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static float *room_for(const images *set) {
    float *logits = malloc(sizeof(float) * (size_t)(set->n * CLASSES));
    if (logits == NULL) exit(1);
    return logits;
}

/* The last `most` images, and what the float net says of them. */
static images read_images(const advrob_dataset *data, int64_t most, advrob_model *model) {
    int64_t count = advrob_dataset_count(data), n = count < most ? count : most;
    images set = {.n = n};
    advrob_target *target = NULL;
    set.x = malloc(sizeof(float) * (size_t)(n * PIXELS));
    set.y = malloc(sizeof(int32_t) * (size_t)n);
    if (set.x == NULL || set.y == NULL) exit(1);
    must(advrob_dataset_read(data, count - n, n, set.x, set.y));
    set.clean = room_for(&set);
    must(advrob_target_from_model(model, &target));
    must(advrob_target_forward(target, n, set.x, set.clean));
    advrob_target_destroy(target);
    return set;
}

static int32_t best(const float *logits) {
    int32_t top = 0;
    for (int32_t k = 1; k < CLASSES; k++)
        if (logits[k] > logits[top]) top = k;
    return top;
}

static void print(const images *set, const float *logits) {
    double signal = 0, noise = 0;
    int64_t right = 0, same = 0;
    for (int64_t i = 0; i < set->n; i++) {
        const float *clean = set->clean + i * CLASSES, *now = logits + i * CLASSES;
        right += best(now) == set->y[i];
        same += best(now) == best(clean);
        for (int32_t k = 0; k < CLASSES; k++) {
            signal += (double)clean[k] * (double)clean[k];
            noise += ((double)clean[k] - (double)now[k]) * ((double)clean[k] - (double)now[k]);
        }
    }
    printf("  %6.2f %6.2f %6.2f", 100 * (double)right / (double)set->n,
           100 * (double)same / (double)set->n, 10 * log10(signal / noise));
}

static void print_float_layers(const advrob_model *model, advrob_model *quantized,
                               const advrob_dataset *data) {
    advrob_report *report = NULL;
    must(advrob_report_create(ctx, &report));
    must(advrob_report_quantization(report, model, quantized, data, NULL));
    printf("    in float:");
    for (int32_t i = 0; i < advrob_report_rows(report); i++) {
        const char *layer;
        double bits = 1;
        (void)advrob_report_get_f64(report, i, "weight_bits", &bits);
        must(advrob_report_get_str(report, i, "layer", &layer));
        if (bits == 0) printf(" %s", layer);
    }
    printf("\n");
    advrob_report_destroy(report);
}

/* Accuracy on a thousand of the images to choose by: an advrob_compress_score_fn. */
static int32_t score(void *user, advrob_model *model, double *accuracy) {
    enum { FEW = 1000 };
    const images *set = user;
    static float logits[FEW * CLASSES];
    advrob_target *target = NULL;
    int32_t right = 0;
    must(advrob_target_from_model(model, &target));
    must(advrob_target_forward(target, FEW, set->x, logits));
    for (int32_t i = 0; i < FEW; i++)
        right += best(logits + i * CLASSES) == set->y[i];
    advrob_target_destroy(target);
    *accuracy = right / (double)FEW;
    return 0;
}

/* One line: by the engine where it takes the net, else simulated. */
static void measure(const char *way, const advrob_model *model, const advrob_dataset *train,
                    images *sets) {
    advrob_options *o = options(way);
    advrob_compressor *quant = NULL;
    advrob_model *quantized = NULL;
    advrob_engine *engine = NULL;
    advrob_target *target = NULL;
    must(advrob_compressor_create(ctx, "quant_ptq", o, &quant));
    must(advrob_compressor_on_score(quant, score, &sets[0]));
    const double start = seconds();
    must(advrob_compressor_run(quant, model, train, &quantized));
    const double took = seconds() - start;
    if (advrob_engine_create(quantized, NULL, &engine) == ADVROB_OK)
        must(advrob_target_from_engine(engine, NULL, &target));
    else
        must(advrob_target_from_model(quantized, &target));
    printf("%-72s", way);
    for (int32_t s = 0; s < 2; s++) {
        float *logits = room_for(&sets[s]);
        must(advrob_target_forward(target, sets[s].n, sets[s].x, logits));
        print(&sets[s], logits);
        free(logits);
    }
    printf("  %6.1f s%s\n", took, engine == NULL ? ", simulated" : "");
    if (engine == NULL) print_float_layers(model, quantized, train);
    fflush(stdout);
    advrob_target_destroy(target);
    advrob_engine_destroy(engine);
    advrob_model_destroy(quantized);
    advrob_compressor_destroy(quant);
    advrob_options_destroy(o);
}

int main(int argc, char **argv) {
    static const char *const ways[] = {
        "range=minmax",
        "range=moving_average",
        "range=percentile percentile=99.99",
        "range=percentile percentile=99.9",
        "range=mse",
    };
    char text[256];
    advrob_model *model = NULL;
    if (argc < 4) return 2;
    must(advrob_context_create(NULL, &ctx));
    advrob_options *o = options("");
    must(advrob_options_set_str(o, "weights", argv[2]));
    must(advrob_model_build(ctx, argv[1], o, &model));
    advrob_options_destroy(o);
    advrob_dataset *train = open_dataset(ctx, "cifar10", argv[3], "train", 0),
                   *test = open_dataset(ctx, "cifar10", argv[3], "test", 0);
    images sets[2] = {read_images(train, 5000, model), read_images(test, 10000, model)};
    printf("%-72s  %20s  %20s\n%-72s  %6s %6s %6s  %6s %6s %6s\n", "", "training images",
           "test images", "", "right", "alike", "dB", "right", "alike", "dB");
    printf("%-72s", "float");
    for (int32_t s = 0; s < 2; s++)
        print(&sets[s], sets[s].clean);
    printf("\n");
    const int32_t rows = argc > 4 ? argc - 4 : 2 * (int32_t)(sizeof ways / sizeof ways[0]);
    for (int32_t i = 0; i < rows; i++) {
        snprintf(text, sizeof text, "%s bias_correction=%d", ways[i / 2 % 5], i % 2);
        measure(argc > 4 ? argv[4 + i] : text, model, train, sets);
    }
    for (int32_t s = 0; s < 2; s++) {
        free(sets[s].x);
        free(sets[s].y);
        free(sets[s].clean);
    }
    advrob_dataset_destroy(train);
    advrob_dataset_destroy(test);
    advrob_model_destroy(model);
    advrob_context_destroy(ctx);
    return 0;
}
