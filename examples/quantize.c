/* Quantizes a net after training to 8 and 4 bits, calibrated on training images, and measures what
 * that costs; then lowers it to integers, and writes what a program would ship (classify.c).
 *
 *     quantize [data folder [model.safetensors [engine.advrob]]]
 *
 * Without a model a small net is trained for a few seconds. */
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
    };
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
    lower(ctx, model, calibration, test, argc > 3 ? argv[3] : NULL);

    advrob_dataset_destroy(calibration);
    advrob_model_destroy(model);
    advrob_dataset_destroy(test);
    advrob_dataset_destroy(images);
    advrob_context_destroy(ctx);
    return 0;
}
