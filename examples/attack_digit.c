/* Attacks one test image of MNIST or Fashion-MNIST with FGSM and PGD and draws what comes out.
 *
 *     attack_digit [data folder [number of the test image [model.safetensors]]]
 *
 * Without a model a small net is trained for a few seconds. */
#include "common.h"

static const char *const garments[10] = {"T-shirt", "trouser", "pullover", "dress", "coat",
                                         "sandal",  "shirt",   "sneaker",  "bag",   "ankle boot"};

static void print_label(const char *dir, int32_t label) {
    if (strstr(dir, "fashion") != NULL && label >= 0 && label < 10) {
        printf("%s", garments[label]);
    } else {
        printf("%d", (int)label);
    }
}

/* Draws images side by side; each is [1, h, w]. */
static void draw(const float *const *images, int32_t n, const int32_t *shape) {
    static const char shades[] = " .:-=+*#%@";
    for (int32_t y = 0; y < shape[1]; y++) {
        for (int32_t i = 0; i < n; i++) {
            for (int32_t x = 0; x < shape[2]; x++) {
                float pixel = images[i][y * shape[2] + x];
                int32_t shade = (int32_t)(pixel * 9.999f);
                putchar(shades[shade < 0 ? 0 : shade > 9 ? 9 : shade]);
            }
            printf("%s", i + 1 < n ? " | " : "\n");
        }
    }
}

/* Attacks x [1, c, h, w]; returns the new label. */
static int32_t attack(advrob_context *ctx, const char *name, const char *text,
                      advrob_target *target, const float *x, int32_t label, float *adversarial) {
    advrob_options *o = options(text);
    advrob_attack *method;
    int32_t prediction;
    must(advrob_attack_create(ctx, name, o, &method));
    must(advrob_attack_run(method, target, 1, x, &label, adversarial, &prediction, NULL));
    advrob_attack_destroy(method);
    advrob_options_destroy(o);
    return prediction;
}

static int32_t classify(advrob_target *target, const float *x) {
    int32_t classes = advrob_target_classes(target), best = 0;
    float *logits = malloc((size_t)classes * sizeof *logits);
    if (logits == NULL) exit(1);
    must(advrob_target_forward(target, 1, x, logits));
    for (int32_t i = 1; i < classes; i++) {
        if (logits[i] > logits[best]) best = i;
    }
    free(logits);
    return best;
}

int main(int argc, char **argv) {
    const char *dir = argc > 1 ? argv[1] : DEFAULT_DATA;
    int64_t index = argc > 2 ? atoll(argv[2]) : 0;
    advrob_context *ctx;
    must(advrob_context_create(NULL, &ctx));
    advrob_dataset *images = open_data(ctx, dir, "train", 10000);
    advrob_dataset *test = open_data(ctx, dir, "test", 0);
    advrob_model *model = open_net(ctx, argc > 3 ? argv[3] : NULL, images);
    advrob_target *target;
    must(advrob_target_from_model(model, &target));

    int32_t shape[3], label;
    must(advrob_dataset_shape(test, shape));
    size_t pixels = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2];
    float *x = calloc(3 * pixels, sizeof *x);
    if (x == NULL) return 1;
    must(advrob_dataset_read(test, index, 1, x, &label));
    int32_t before = classify(target, x);
    int32_t fgsm = attack(ctx, "fgsm", "epsilon=0.05", target, x, label, x + pixels);
    int32_t pgd =
        attack(ctx, "pgd", "epsilon=0.05 step=0.005 steps=20", target, x, label, x + 2 * pixels);

    draw((const float *const[]){x, x + pixels, x + 2 * pixels}, 3, shape);
    printf("\nTrue label: ");
    print_label(dir, label);
    printf("\nPredicted:  ");
    print_label(dir, before);
    printf("\nAfter FGSM: ");
    print_label(dir, fgsm);
    printf("\nAfter PGD:  ");
    print_label(dir, pgd);
    printf("\nNo pixel was changed by more than 0.05.\n");

    free(x);
    advrob_target_destroy(target);
    advrob_model_destroy(model);
    advrob_dataset_destroy(test);
    advrob_dataset_destroy(images);
    advrob_context_destroy(ctx);
    return 0;
}
