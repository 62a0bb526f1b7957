/* The paper in small: prunes a net by half, fine-tunes it on PGD examples, and measures clean
 * accuracy and accuracy under PGD before and after.
 *
 *     finetune [--checkpoint PATH] [data folder [model.safetensors [result.safetensors]]]
 *
 * Without a model a small net is trained for a few seconds. With a checkpoint the adversarial
 * fine-tuning can be stopped (Ctrl-C, a power cut) and goes on where it was when the same command
 * is given again, to the same bits. */
#include "common.h"

#include <math.h>
#include <unistd.h>

/* Called by the library now and then while it works. */
static int32_t show_progress(void *user, const char *what, int64_t done, int64_t total,
                             double value) {
    (void)user;
    if (!isatty(STDERR_FILENO)) return 0;
    fprintf(stderr, "\r\033[K%s %3lld %%", what, (long long)(total > 0 ? 100 * done / total : 0));
    if (!isnan(value)) fprintf(stderr, " (%.3f)", value);
    if (done == total) fprintf(stderr, "\r\033[K");
    return 0; /* anything else stops the work */
}

/* What the library wants to be known: a catastrophic overfitting, a damaged checkpoint. */
static void show_log(void *user, int32_t level, const char *message) {
    (void)user;
    fprintf(stderr, "%s: %s\n", level == ADVROB_LOG_WARNING ? "warning" : "note", message);
}

static void tune(advrob_context *ctx, advrob_model *model, const advrob_dataset *images,
                 const char *checkpoint) {
    advrob_options *o = options("epochs=3 batch_size=64 lr=0.01 momentum=0.9 "
                                "attack.epsilon=0.05 attack.step=0.0125 attack.steps=7");
    advrob_finetune *fit;
    advrob_history *history;
    const char *ended;
    double seconds, sum = 0;
    must(advrob_options_set_str(o, "checkpoint", checkpoint));
    must(advrob_options_set_f64(o, "checkpoint_minutes", 0.1));
    must(advrob_finetune_create(ctx, "pgd_at", o, &fit));
    must(advrob_finetune_run(fit, model, images, NULL, &history));
    must(advrob_history_get_str(history, "ended", &ended));
    for (int32_t row = 0; row < advrob_history_rows(history); row++, sum += seconds)
        must(advrob_history_get(history, row, "seconds", &seconds));
    fprintf(stderr, "%d epochs in %.1f s, %s\n", advrob_history_rows(history), sum, ended);
    advrob_history_destroy(history);
    advrob_finetune_destroy(fit);
    advrob_options_destroy(o);
}

static void print_accuracies(advrob_context *ctx, const char *what, advrob_model *model,
                             const advrob_dataset *test) {
    advrob_report *report;
    advrob_target *target;
    double clean, attacked;
    advrob_options *o = options("labels=pgd20"), *pgd = options("epsilon=0.05 step=0.005 steps=20");
    must(advrob_options_append(o, "attacks", "pgd", pgd));
    must(advrob_report_create(ctx, &report));
    must(advrob_report_add_row(report));
    must(advrob_target_from_model(model, &target));
    must(advrob_report_evaluate(report, target, test, o));
    must(advrob_report_get_f64(report, 0, "clean_accuracy", &clean));
    must(advrob_report_get_f64(report, 0, "pgd20_accuracy", &attacked));
    printf("%-26s clean %5.1f %%, under PGD-20 %5.1f %%\n", what, 100 * clean, 100 * attacked);
    advrob_target_destroy(target);
    advrob_report_destroy(report);
    advrob_options_destroy(pgd);
    advrob_options_destroy(o);
}

int main(int argc, char **argv) {
    const char *checkpoint = "";
    if (argc == 2 && strcmp(argv[1], "--checkpoint") == 0) {
        fprintf(stderr, "usage: finetune [--checkpoint PATH] [data folder [model.safetensors "
                        "[result.safetensors]]]\n");
        return 2;
    }
    if (argc > 2 && strcmp(argv[1], "--checkpoint") == 0) {
        checkpoint = argv[2];
        argc -= 2;
        argv += 2;
    }
    const char *dir = argc > 1 ? argv[1] : DEFAULT_DATA;
    advrob_context *ctx;
    must(advrob_context_create(NULL, &ctx));
    must(advrob_context_set_progress(ctx, show_progress, NULL));
    must(advrob_context_set_log(ctx, show_log, NULL));
    advrob_dataset *images = open_data(ctx, dir, "train", 10000);
    advrob_dataset *test = open_data(ctx, dir, "test", 1000);
    advrob_model *model = open_net(ctx, argc > 2 ? argv[2] : NULL, images);
    print_accuracies(ctx, "trained", model, test);

    advrob_model *small = compress(ctx, "prune_l1", "sparsity=0.5", model, NULL);
    print_accuracies(ctx, "pruned by half", small, test);

    tune(ctx, small, images, checkpoint);
    print_accuracies(ctx, "and adversarially tuned", small, test);
    if (argc > 3) must(advrob_model_save(small, argv[3]));

    advrob_model_destroy(small);
    advrob_model_destroy(model);
    advrob_dataset_destroy(test);
    advrob_dataset_destroy(images);
    advrob_context_destroy(ctx);
    return 0;
}
