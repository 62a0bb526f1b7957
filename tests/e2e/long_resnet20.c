/* The published resnet20, pruned and fine-tuned on CIFAR-10, on the public interface alone: 30 % of
 * its filters go; three epochs bring its clean accuracy back to within 2 points of its own; three
 * adversarial epochs from the same start (PGD-7, epsilon 4/255) bring its accuracy under PGD-20 to
 * 25 % at least. Minutes to half an hour: suite "long".
 *
 *     long_resnet20 WEIGHTS CIFAR10 [epochs] */
#include <stdbool.h>

#include "../../examples/common.h"

static advrob_context *ctx;

/* Accuracy on the images, clean and under PGD-20. */
static void score(const char *what, advrob_model *model, const advrob_dataset *data, double *clean,
                  double *robust) {
    advrob_report *report = NULL;
    advrob_target *target = NULL;
    advrob_options *o = options(""), *pgd = options("epsilon=4/255 step=0.005 steps=20");
    must(advrob_report_create(ctx, &report));
    must(advrob_report_add_row(report));
    must(advrob_options_append(o, "attacks", "pgd", pgd));
    must(advrob_target_from_model(model, &target));
    must(advrob_report_evaluate(report, target, data, o));
    must(advrob_report_get_f64(report, 0, "clean_accuracy", clean));
    must(advrob_report_get_f64(report, 0, "pgd_accuracy", robust));
    printf("%-40s clean %.4f, PGD-20 %.4f\n", what, *clean, *robust);
    fflush(stdout);
    advrob_target_destroy(target);
    advrob_report_destroy(report);
    advrob_options_destroy(pgd);
    advrob_options_destroy(o);
}

static advrob_model *tune(const char *method, const char *text, const char *epochs,
                          const advrob_model *from, const advrob_dataset *images) {
    char all[300];
    advrob_model *model = NULL;
    snprintf(all, sizeof all, "%s epochs=%s", text, epochs);
    must(advrob_model_clone(from, &model));
    train(ctx, method, all, model, images);
    return model;
}

int main(int argc, char **argv) {
    static const char common[] =
        "batch_size=64 lr=0.01 momentum=0.9 schedule=cosine augment.crop=4 augment.flip=1";
    char adversarial[256];
    double clean[4], robust[4];
    if (argc < 3) return 2;
    const char *epochs = argc > 3 ? argv[3] : "3";
    must(advrob_context_create(NULL, &ctx));
    advrob_dataset *images = open_dataset(ctx, "cifar10", argv[2], "train", 0),
                   *test = open_dataset(ctx, "cifar10", argv[2], "test", 0);
    advrob_model *whole = NULL, *small = NULL;
    advrob_options *o = options("");
    must(advrob_options_set_str(o, "weights", argv[1]));
    must(advrob_model_build(ctx, "resnet20", o, &whole));
    advrob_options_destroy(o);
    score("resnet20", whole, test, &clean[0], &robust[0]);

    advrob_compressor *prune = NULL;
    o = options("sparsity=0.3");
    must(advrob_compressor_create(ctx, "prune_l1", o, &prune));
    must(advrob_compressor_run(prune, whole, NULL, &small));
    advrob_compressor_destroy(prune);
    advrob_options_destroy(o);
    score("pruned by 0.3", small, test, &clean[1], &robust[1]);

    advrob_model *tuned = tune("standard", common, epochs, small, images);
    score("fine-tuned", tuned, test, &clean[2], &robust[2]);
    snprintf(adversarial, sizeof adversarial,
             "%s attack.epsilon=4/255 attack.step=1/255 attack.steps=7", common);
    advrob_model *hardened = tune("pgd_at", adversarial, epochs, small, images);
    score("fine-tuned on attacked images", hardened, test, &clean[3], &robust[3]);

    bool near = clean[2] >= clean[0] - 0.02, hard = robust[1] < 0.05 && robust[3] >= 0.25;
    printf("%s: %.2f points of clean accuracy lost, at most 2 allowed\n", near ? "ok" : "FAIL",
           100 * (clean[0] - clean[2]));
    printf("%s: PGD-20 from %.4f to %.4f, 0.25 asked\n", hard ? "ok" : "FAIL", robust[1],
           robust[3]);
    advrob_model_destroy(hardened);
    advrob_model_destroy(tuned);
    advrob_model_destroy(small);
    advrob_model_destroy(whole);
    advrob_dataset_destroy(images);
    advrob_dataset_destroy(test);
    advrob_context_destroy(ctx);
    return near && hard ? 0 : 1;
}
