/* Quantizes a net after training to 8 and 4 bits, calibrated on training images, and measures what
 * that costs; then lowers it to integers, and writes what a program would ship (classify.c).
 *
 *     quantize [--guard DROP [--robust]] [data folder [model.safetensors [engine.advrob]]]
 *
 * Without a model a small net is trained for a few seconds. --guard 0.01: also to 4 bits with the
 * worst layers left in float, so that accuracy on training images that were not calibrated on -
 * with --robust under PGD-10, too - stays within 0.01 of the float net's. */
#include "common.h"

static void print_accuracy(advrob_context *ctx, const char *what, advrob_target *target,
                           const advrob_dataset *test) {
    advrob_report *report;
    double accuracy, low, high;
    must(advrob_report_create(ctx, &report));
    must(advrob_report_add_row(report));
    must(advrob_report_evaluate(report, target, test, NULL));
    must(advrob_report_get_f64(report, 0, "clean_accuracy", &accuracy));
    must(advrob_report_get_f64(report, 0, "clean_low", &low));
    must(advrob_report_get_f64(report, 0, "clean_high", &high));
    printf("%-32s %5.1f %% right (95 %% interval %.1f to %.1f)\n", what, 100 * accuracy, 100 * low,
           100 * high);
    advrob_target_destroy(target);
    advrob_report_destroy(report);
}

static advrob_target *target_of(advrob_model *model) {
    advrob_target *target;
    must(advrob_target_from_model(model, &target));
    return target;
}

/* What a guarded quantization may not lose: accuracy, clean or under attack, as a
 * advrob_compress_score_fn. */
typedef struct judge {
    advrob_context *ctx;
    const advrob_dataset *images;
    int robust;
} judge;

static int32_t score(void *user, advrob_model *model, double *accuracy) {
    const judge *j = user;
    advrob_report *report;
    advrob_target *target = target_of(model);
    advrob_options *o = options(""), *pgd = options("epsilon=8/255 step=2/255 steps=10");
    if (j->robust) must(advrob_options_append(o, "attacks", "pgd", pgd));
    must(advrob_report_create(j->ctx, &report));
    must(advrob_report_add_row(report));
    must(advrob_report_evaluate(report, target, j->images, o));
    must(advrob_report_get_f64(report, 0, j->robust ? "pgd_accuracy" : "clean_accuracy", accuracy));
    advrob_report_destroy(report);
    advrob_options_destroy(pgd);
    advrob_options_destroy(o);
    advrob_target_destroy(target); /* the model is the library's */
    return 0;
}

/* The layers that had to stay in float, and what the others lost. */
static void print_layers(advrob_context *ctx, const advrob_model *model, advrob_model *quantized,
                         const advrob_dataset *calibration) {
    advrob_report *report;
    must(advrob_report_create(ctx, &report));
    must(advrob_report_quantization(report, model, quantized, calibration, NULL));
    for (int32_t i = 0; i < advrob_report_rows(report); i++) {
        const char *layer;
        double bits, weights, net;
        if (advrob_report_get_f64(report, i, "weight_bits", &bits) < 0) continue;
        must(advrob_report_get_str(report, i, "layer", &layer));
        if (advrob_report_get_f64(report, i, "weight_sqnr", &weights) < 0)
            printf("    %-20s float\n", layer);
        else if (advrob_report_get_f64(report, i, "net_sqnr", &net) == ADVROB_OK)
            printf("    %-20s %.0f bits, SQNR of its weights %.1f dB, of the net so far %.1f dB\n",
                   layer, bits, weights, net);
    }
    advrob_report_destroy(report);
}

static void guard(advrob_context *ctx, const char *drop, int robust, const advrob_model *model,
                  const advrob_dataset *images, const advrob_dataset *calibration,
                  const advrob_dataset *test) {
    advrob_options *o = options("weight_bits=4 activation_bits=4 range=mse bias_correction=1");
    advrob_compressor *quant;
    advrob_dataset *judged;
    advrob_model *quantized;
    must(advrob_options_set_text(o, "max_drop", drop));
    must(advrob_dataset_slice(images, advrob_dataset_count(images) - 1000, 1000, &judged));
    judge j = {ctx, judged, robust};
    must(advrob_compressor_create(ctx, "quant_ptq", o, &quant));
    must(advrob_compressor_on_score(quant, score, &j));
    must(advrob_compressor_run(quant, model, calibration, &quantized));
    print_accuracy(ctx, "4 bits, guarded", target_of(quantized), test);
    print_layers(ctx, model, quantized, calibration);
    advrob_model_destroy(quantized);
    advrob_compressor_destroy(quant);
    advrob_dataset_destroy(judged);
    advrob_options_destroy(o);
}

/* Activations of 7 bits: the fast kernel of CPUs without VNNI is exact on them. */
static void lower(advrob_context *ctx, const advrob_model *model, const advrob_dataset *calibration,
                  const advrob_dataset *test, const char *path) {
    advrob_model *quantized = compress(ctx, "quant_ptq", "activation_bits=7", model, calibration);
    advrob_engine *engine;
    advrob_target *target;
    must(advrob_engine_create(quantized, NULL, &engine));
    must(advrob_target_from_engine(engine, NULL, &target));
    print_accuracy(ctx, "8 bits (7), run in integers", target, test);
    if (path != NULL) must(advrob_engine_save(engine, path));
    advrob_engine_destroy(engine);
    advrob_model_destroy(quantized);
}

int main(int argc, char **argv) {
    static const struct {
        const char *what, *options;
    } ways[] = {
        {"8 bits, one scale a tensor", "weight_bits=8 activation_bits=8 weight_granularity=tensor"},
        {"8 bits, one scale a channel",
         "weight_bits=8 activation_bits=8 weight_granularity=channel"},
        {"4 bits, one scale a tensor", "weight_bits=4 activation_bits=4 weight_granularity=tensor"},
        {"4 bits, a channel, best ranges",
         "weight_bits=4 activation_bits=4 weight_granularity=channel weight_range=mse range=mse"},
        {"the same, biases corrected",
         "weight_bits=4 activation_bits=4 weight_range=mse range=mse bias_correction=1"},
    };
    const char *drop = NULL;
    int robust = 0;
    for (; argc > 1 && argv[1][0] == '-'; argc--, argv++) {
        if (strcmp(argv[1], "--robust") == 0) {
            robust = 1;
        } else if (strcmp(argv[1], "--guard") == 0 && argc > 2) {
            drop = argv[2];
            argc--;
            argv++;
        } else {
            fprintf(stderr, "error: %s: expected --guard DROP or --robust\n", argv[1]);
            return 2;
        }
    }
    const char *dir = argc > 1 ? argv[1] : DEFAULT_DATA;
    advrob_context *ctx;
    advrob_dataset *calibration;
    must(advrob_context_create(NULL, &ctx));
    advrob_dataset *images = open_data(ctx, dir, "train", 10000);
    advrob_dataset *test = open_data(ctx, dir, "test", 2000);
    advrob_model *model = open_net(ctx, argc > 2 ? argv[2] : NULL, images);
    must(advrob_dataset_slice(images, 0, 512, &calibration));

    print_accuracy(ctx, "float", target_of(model), test);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        advrob_model *quantized = compress(ctx, "quant_ptq", ways[i].options, model, calibration);
        print_accuracy(ctx, ways[i].what, target_of(quantized), test);
        advrob_model_destroy(quantized);
    }
    if (drop != NULL) guard(ctx, drop, robust, model, images, calibration, test);
    lower(ctx, model, calibration, test, argc > 3 ? argv[3] : NULL);

    advrob_dataset_destroy(calibration);
    advrob_model_destroy(model);
    advrob_dataset_destroy(test);
    advrob_dataset_destroy(images);
    advrob_context_destroy(ctx);
    return 0;
}
