/* BIM, MI-FGSM and PGD in l2 against torchattacks (family.py): the images that they end at, away
 * from classes and towards them. */
#include "support/support.h"

#include <advrob/advrob.h>

#include "attack/attack.h"
#include "support/golden.h"

#include "support/golden_net.h"
#include "support/options.h"

/* Signs of gradients near zero may differ, and a path with them. */
#define PIXEL_EQUAL 1e-6
#define PIXELS_EQUAL 0.99

static void check(advrob_context *ctx, const ar_safetensors *file, advrob_target *target,
                  const char *attack, const char *name, const char *text) {
    int64_t n = 0, count = 0, equal, moved;
    char key[64], words[192];
    float *x = golden_get(file, "x", &count), *out = malloc(sizeof(float) * (size_t)count);
    int32_t *y = golden_labels(file, "labels", &n), *aims = golden_labels(file, "targets", NULL);
    for (int32_t targeted = 0; targeted < 2; targeted++) {
        advrob_attack *made = NULL;
        snprintf(words, sizeof words, "%s targeted=%d", text, targeted);
        snprintf(key, sizeof key, "%s.%s", name, targeted ? "targeted" : "plain");
        float *expected = golden_get(file, key, NULL);
        advrob_options *options = test_options(words);
        test_ok(advrob_attack_create(ctx, attack, options, &made));
        ar_options_destroy(options);
        if (targeted)
            test_ok(advrob_attack_run_targeted(made, target, n, x, y, aims, out, NULL, NULL));
        else
            test_ok(advrob_attack_run(made, target, n, x, y, out, NULL, NULL));
        equal = moved = 0;
        for (int64_t i = 0; i < count; i++) {
            equal += fabsf(out[i] - expected[i]) <= PIXEL_EQUAL;
            moved += out[i] != x[i];
        }
        print_message("%s: %lld of %lld pixels are those of torchattacks\n", key, (long long)equal,
                      (long long)count);
        assert_true((double)equal >= PIXELS_EQUAL * (double)count && moved > count / 2);
        advrob_attack_destroy(made);
        free(expected);
    }
    free(x);
    free(out);
    free(y);
    free(aims);
}

static void test_family(void **state) {
    (void)state;
    advrob_context *ctx = test_context_at(NULL, 2, ar_kernels_get(ar_cpu_detect(), false));
    ar_safetensors file, net;
    advrob_target *target = NULL;
    golden_open(ctx, "attacks", "family.safetensors", &file);
    golden_open(ctx, "nets", "tiny.safetensors", &net);
    advrob_model *model = golden_net(ctx, "tiny", &net);
    ar_safetensors_free(ctx, &net);
    test_ok(ar_target_from_model(model, &target));
    check(ctx, &file, target, "bim", "bim", "epsilon=0.05 step=0.01 steps=10");
    check(ctx, &file, target, "bim", "bim", "epsilon=0.05"); /* the defaults are these */
    check(ctx, &file, target, "mi_fgsm", "mi_fgsm", "epsilon=0.05 step=0.005 steps=10");
    check(ctx, &file, target, "mi_fgsm", "mi_fgsm", "epsilon=0.05");
    check(ctx, &file, target, "pgd", "pgd_l2",
          "norm=l2 epsilon=0.4 step=0.1 steps=10 random_start=0");
    check(ctx, &file, target, "bim", "pgd_l2", "norm=l2 epsilon=0.4 step=0.1 steps=10");
    ar_target_release(target);
    ar_model_release(model);
    ar_safetensors_free(ctx, &file);
    ar_context_release(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_family),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
