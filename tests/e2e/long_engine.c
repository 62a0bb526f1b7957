/* What the integer engine keeps of the float net, on the public interface alone. EightLayerConv,
 * trained and adversarially fine-tuned on Fashion-MNIST: clean accuracy of all test images within
 * 0.3 points of float, under the worse of PGD-20 on the engine and transfer from float within 1
 * point of 1,000 images, a file of at most 0.27 of the float file, the simulation's answers for
 * 99.5 % of the images, exact simulation's for all. The published resnet20 within 0.5 points on all
 * of CIFAR-10, and resnet18_cifar10 runs. Minutes: suite "long".
 *
 *     long_engine WEIGHTS FASHION-MNIST CIFAR10 */
#include <stdbool.h>
#include <unistd.h>

#include "../../examples/common.h"

static advrob_context *ctx;
static bool failed;

static void ask(bool met, const char *what) {
    printf("  %s: %s\n", met ? "ok" : "FAIL", what);
    failed |= !met;
    fflush(stdout);
}

static advrob_target *model_target(advrob_model *model) {
    advrob_target *target;
    must(advrob_target_from_model(model, &target));
    return target;
}

/* A column of an evaluation with these attacks (none: NULL). */
static double score(advrob_target *target, const advrob_dataset *data, const char *const *attacks,
                    const char *column) {
    advrob_report *report;
    double value;
    advrob_options *o = options("");
    for (int32_t i = 0; attacks != NULL && attacks[i] != NULL; i++) {
        advrob_options *own = options(attacks[i]);
        must(advrob_options_append(o, "attacks", "pgd", own));
        advrob_options_destroy(own);
    }
    if (attacks != NULL && attacks[1] != NULL)
        must(advrob_options_set_str(o, "labels", "engine,transfer"));
    must(advrob_report_create(ctx, &report));
    must(advrob_report_add_row(report));
    must(advrob_report_evaluate(report, target, data, o));
    must(advrob_report_get_f64(report, 0, column, &value));
    advrob_report_destroy(report);
    advrob_options_destroy(o);
    return value;
}

static int64_t best_of(const float *logits, int32_t classes) {
    int64_t best = 0;
    for (int32_t k = 1; k < classes; k++)
        if (logits[k] > logits[best]) best = k;
    return best;
}

/* Share of images that two targets see as the same class. */
static double agreement(advrob_target *a, advrob_target *b, const advrob_dataset *data) {
    enum { BATCH = 100 };
    static float x[BATCH * 3 * 32 * 32], logits[2][BATCH * 10];
    static int32_t y[BATCH];
    const int64_t count = advrob_dataset_count(data);
    int64_t same = 0;
    for (int64_t first = 0; first < count; first += BATCH) {
        must(advrob_dataset_read(data, first, BATCH, x, y));
        must(advrob_target_forward(a, BATCH, x, logits[0]));
        must(advrob_target_forward(b, BATCH, x, logits[1]));
        for (int64_t i = 0; i < BATCH; i++)
            same += best_of(logits[0] + i * 10, 10) == best_of(logits[1] + i * 10, 10);
    }
    return (double)same / (double)count;
}

static double file_size(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) exit(1);
    const double size = (double)ftell(file);
    fclose(file);
    (void)remove(path);
    return size;
}

/* Bytes of the engine's file over those of the model's. */
static double file_ratio(const advrob_model *model, const advrob_engine *engine) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/long_engine.%ld", (long)getpid());
    must(advrob_model_save(model, path));
    const double whole = file_size(path);
    must(advrob_engine_save(engine, path));
    return file_size(path) / whole;
}

static void check_eight_layer_conv(const char *folder) {
    static const char pgd[] = "epsilon=0.05 step=0.01 steps=20",
                      transfer[] = "epsilon=0.05 step=0.01 steps=20 transfer=1";
    static const char *const alone[] = {pgd, NULL}, *const both[] = {pgd, transfer, NULL};
    advrob_dataset *images = open_data(ctx, folder, "train", 20000), *calibration, *few;
    advrob_dataset *test = open_data(ctx, folder, "test", 0);
    advrob_model *model;
    advrob_options *o = options("mean=0.5 std=0.5 seed=1");
    must(advrob_dataset_slice(images, 0, 512, &calibration));
    must(advrob_dataset_slice(test, 0, 1000, &few));
    must(advrob_model_build(ctx, "eight_layer_conv", o, &model));
    advrob_options_destroy(o);
    train(ctx, "standard", "epochs=3 batch_size=64 lr=0.05 momentum=0.9", model, images);
    train(ctx, "pgd_at",
          "epochs=1 batch_size=64 lr=0.01 momentum=0.9 attack.epsilon=0.05 attack.step=0.0125 "
          "attack.steps=7",
          model, images);
    advrob_target *whole = model_target(model);
    const double clean = score(whole, test, NULL, "clean_accuracy");
    const double robust = score(whole, few, alone, "pgd_accuracy");
    printf("eight_layer_conv, float: clean %.4f, PGD-20 %.4f\n", clean, robust);
    for (int32_t bits = 7; bits <= 8; bits++) {
        char text[64];
        advrob_engine *engine;
        advrob_target *target, *exact_target, *simulated_target;
        snprintf(text, sizeof text, "activation_bits=%d", bits);
        advrob_model *simulated = compress(ctx, "quant_ptq", text, model, calibration);
        snprintf(text, sizeof text, "activation_bits=%d simulate=exact", bits);
        advrob_model *exact = compress(ctx, "quant_ptq", text, model, calibration);
        must(advrob_engine_create(simulated, NULL, &engine));
        must(advrob_target_from_engine(engine, simulated, &target));
        must(advrob_target_set_source(target, whole));
        simulated_target = model_target(simulated);
        exact_target = model_target(exact);
        const double kept = score(target, test, NULL, "clean_accuracy");
        const double held = score(target, few, both, "worst_accuracy");
        const double ratio = file_ratio(model, engine);
        const double alike = agreement(target, simulated_target, test);
        const double same = agreement(target, exact_target, test);
        printf("%d bits: clean %.4f, worst of PGD-20 and transfer %.4f, file %.4f of the float "
               "file, top-1 as simulated %.4f, as simulated exactly %.4f\n",
               bits, kept, held, ratio, alike, same);
        ask(kept >= clean - 0.003, "clean within 0.3 points of float");
        ask(held >= robust - 0.01, "robust within 1 point of float");
        ask(ratio <= 0.27, "a file of at most 0.27 of the float file");
        ask(alike >= 0.995 && same == 1, "99.5 % of the simulation's answers, all of the exact");
        advrob_target_destroy(exact_target);
        advrob_target_destroy(simulated_target);
        advrob_target_destroy(target);
        advrob_engine_destroy(engine);
        advrob_model_destroy(exact);
        advrob_model_destroy(simulated);
    }
    advrob_target_destroy(whole);
    advrob_model_destroy(model);
    advrob_dataset_destroy(few);
    advrob_dataset_destroy(calibration);
    advrob_dataset_destroy(images);
    advrob_dataset_destroy(test);
}

/* A CIFAR-10 net in 7 and 8 bits against itself on `count` images (0: all). */
static void check_cifar10(const char *net, const char *weights, const char *folder, int64_t count,
                          bool trained) {
    advrob_dataset *images = open_dataset(ctx, "cifar10", folder, "train", 0), *calibration;
    advrob_dataset *test = open_dataset(ctx, "cifar10", folder, "test", count);
    advrob_model *model;
    advrob_options *o = options(trained ? "" : "seed=1");
    if (trained) must(advrob_options_set_str(o, "weights", weights));
    must(advrob_model_build(ctx, net, o, &model));
    advrob_options_destroy(o);
    must(advrob_dataset_slice(images, 0, 512, &calibration));
    advrob_target *whole = model_target(model);
    const double clean = score(whole, test, NULL, "clean_accuracy");
    printf("%s, float: clean %.4f\n", net, clean);
    for (int32_t bits = 7; bits <= 8; bits++) {
        char text[64];
        advrob_engine *engine;
        advrob_target *target;
        snprintf(text, sizeof text, "activation_bits=%d", bits);
        advrob_model *quantized = compress(ctx, "quant_ptq", text, model, calibration);
        must(advrob_engine_create(quantized, NULL, &engine));
        must(advrob_target_from_engine(engine, NULL, &target));
        const double kept = score(target, test, NULL, "clean_accuracy");
        const double alike = agreement(target, whole, test);
        printf("%d bits: clean %.4f, top-1 as float %.4f\n", bits, kept, alike);
        if (trained) ask(kept >= clean - 0.005, "clean within 0.5 points of float");
        advrob_target_destroy(target);
        advrob_engine_destroy(engine);
        advrob_model_destroy(quantized);
    }
    advrob_target_destroy(whole);
    advrob_model_destroy(model);
    advrob_dataset_destroy(calibration);
    advrob_dataset_destroy(images);
    advrob_dataset_destroy(test);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    must(advrob_context_create(NULL, &ctx));
    check_cifar10("resnet18_cifar10", NULL, argv[3], 100, false);
    check_cifar10("resnet20", argv[1], argv[3], 0, true);
    check_eight_layer_conv(argv[2]);
    advrob_context_destroy(ctx);
    return failed;
}
