/* AutoAttack on the published nets, against what is published of them (shared/models/README.md):
 * "standard" and what "autoattack_lite" leaves more, with their times. Minutes to an hour: suite
 * "long".
 *
 *     long_autoattack MODELS MNIST FASHION_MNIST CIFAR10 [net] */
#include <math.h>
#include <stdbool.h>
#include <time.h>

#include "../../examples/common.h"

static advrob_context *ctx;

static void add(advrob_model *model, const char *op, const char *name, const char *a, const char *b,
                const char *text) {
    const char *inputs[] = {a, b};
    advrob_options *o = options(text);
    must(advrob_model_add(model, op, name, inputs, b == NULL ? 1 : 2, o));
    advrob_options_destroy(o);
}

static advrob_model *build_2b(void) {
    advrob_model *m = NULL;
    advrob_options *o = options("mean=0.4914,0.4822,0.4465 std=0.2471,0.2435,0.2616");
    must(advrob_model_begin(ctx, 3, 32, 32, o, &m));
    advrob_options_destroy(o);
    add(m, "conv2d", "conv1", "input", NULL, "outputs=8 kernel=3 stride=2 padding=1");
    add(m, "relu", "relu1", "conv1", NULL, "");
    add(m, "conv2d", "layer1.0.conv1", "relu1", NULL, "outputs=16 kernel=3 stride=2 padding=1");
    add(m, "relu", "relu2", "layer1.0.conv1", NULL, "");
    add(m, "conv2d", "layer1.0.conv2", "relu2", NULL, "outputs=16 kernel=3 padding=1");
    add(m, "conv2d", "layer1.0.shortcut.0", "relu1", NULL, "outputs=16 kernel=1 stride=2");
    add(m, "add", "add1", "layer1.0.conv2", "layer1.0.shortcut.0", "");
    add(m, "relu", "relu3", "add1", NULL, "");
    add(m, "conv2d", "layer1.1.conv1", "relu3", NULL, "outputs=16 kernel=3 padding=1");
    add(m, "relu", "relu4", "layer1.1.conv1", NULL, "");
    add(m, "conv2d", "layer1.1.conv2", "relu4", NULL, "outputs=16 kernel=3 padding=1");
    add(m, "add", "add2", "layer1.1.conv2", "relu3", "");
    add(m, "relu", "relu5", "add2", NULL, "");
    add(m, "flatten", "flatten", "relu5", NULL, "");
    add(m, "linear", "linear1", "flatten", NULL, "outputs=100");
    add(m, "relu", "relu6", "linear1", NULL, "");
    add(m, "linear", "linear2", "relu6", NULL, "outputs=10");
    return m;
}

/* least, most: robust accuracy under "standard" that agrees with what is known. */
static const struct net {
    const char *name, *dataset, *epsilon;
    int64_t images;
    double least, most;
} nets[] = {
    {"cifar10-resnet-2b", "cifar10", "2/255", 500, 0.556, 0.56},
    {"fashion-mnist-wong", "fashion-mnist", "0.1", 1000, 0.676, 0.678},
    {"mnist-wong", "mnist", "0.1", 10000, 0.5, 0.9589},
    {"mnist-fast-fgsm", "mnist", "0.3", 10000, 0.8263, 0.8323},
};
enum { NETS = sizeof nets / sizeof nets[0] };

static double clock_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The share that `attack` leaves right. */
static double score(advrob_target *target, const advrob_dataset *data, const char *attack,
                    const char *epsilon, double *clean, double *seconds) {
    double robust = NAN, start = clock_now();
    char text[64], column[64];
    advrob_report *report = NULL;
    snprintf(text, sizeof text, "epsilon=%s", epsilon);
    advrob_options *o = options("batch_size=65536"), *sub = options(text);
    must(advrob_options_append(o, "attacks", attack, sub));
    must(advrob_report_create(ctx, &report));
    must(advrob_report_add_row(report));
    must(advrob_report_evaluate(report, target, data, o));
    must(advrob_report_get_f64(report, 0, "clean_accuracy", clean));
    snprintf(column, sizeof column, "%s_accuracy", attack);
    must(advrob_report_get_f64(report, 0, column, &robust));
    *seconds = clock_now() - start;
    advrob_report_destroy(report);
    advrob_options_destroy(sub);
    advrob_options_destroy(o);
    return robust;
}

static bool check(const struct net *net, const char *models, const char *folder) {
    char path[1024];
    double clean, standard_seconds, lite_seconds;
    advrob_dataset *data = open_dataset(ctx, net->dataset, folder, "test", net->images);
    advrob_target *target = NULL;
    advrob_model *model = NULL;
    if (strcmp(net->dataset, "cifar10") == 0)
        model = build_2b();
    else
        must(advrob_model_build(ctx, "conv_small", NULL, &model));
    snprintf(path, sizeof path, "%s/%s.safetensors", models, net->name);
    must(advrob_model_load_weights(model, path));
    must(advrob_target_from_model(model, &target));
    double lite = score(target, data, "autoattack_lite", net->epsilon, &clean, &lite_seconds);
    double standard = score(target, data, "autoattack", net->epsilon, &clean, &standard_seconds);
    bool good = standard >= net->least - 1e-9 && standard <= net->most + 1e-9 && lite >= standard &&
                lite - standard <= 0.02;
    printf("%s: %s at %s, %lld images: clean %.4f, standard %.4f in %.0f s (known: %.4f to %.4f), "
           "lite %.4f in %.0f s, %.2f points above\n",
           good ? "ok" : "FAIL", net->name, net->epsilon, (long long)net->images, clean, standard,
           standard_seconds, net->least, net->most, lite, lite_seconds, 100 * (lite - standard));
    fflush(stdout);
    advrob_target_destroy(target);
    advrob_dataset_destroy(data);
    advrob_model_destroy(model);
    return good;
}

int main(int argc, char **argv) {
    bool good = true;
    if (argc < 5) return 2;
    must(advrob_context_create(NULL, &ctx));
    for (int32_t i = 0; i < NETS; i++) {
        const char *folder = strcmp(nets[i].dataset, "mnist") == 0           ? argv[2]
                             : strcmp(nets[i].dataset, "fashion-mnist") == 0 ? argv[3]
                                                                             : argv[4];
        if (argc > 5 && strcmp(argv[5], nets[i].name) != 0) continue;
        good = check(&nets[i], argv[1], folder) && good;
    }
    advrob_context_destroy(ctx);
    return good ? 0 : 1;
}
