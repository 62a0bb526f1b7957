/* A short adversarial fine-tuning with a checkpoint after every step, for check_kills.py to kill.
 *
 *     short_run CHECKPOINT MODEL HISTORY
 *
 * Goes on from CHECKPOINT.0 and .1 if they are there, and writes the finished model and its history
 * without times. CHECKPOINT "": no checkpoints. */
#include <stdio.h>
#include <stdlib.h>

#include <advrob/advrob.h>

enum { SIDE = 8, PIXELS = SIDE * SIDE, IMAGES = 240, VALID = 40, CLASSES = 10 };

static void must(int32_t status) {
    if (status == ADVROB_OK) return;
    fprintf(stderr, "short_run: %s\n", advrob_last_message());
    exit(1);
}

static void print_log(void *user, int32_t level, const char *message) {
    (void)user;
    (void)level;
    fprintf(stderr, "short_run: %s\n", message);
}

/* Ten patterns and noise, from a generator of its own. */
static advrob_dataset *make_data(advrob_context *ctx, int32_t n, uint64_t seed) {
    static float x[IMAGES * PIXELS];
    static int32_t y[IMAGES];
    advrob_dataset *data = NULL;
    for (int32_t i = 0; i < n; i++) {
        y[i] = i % CLASSES;
        for (int32_t k = 0; k < PIXELS; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            float noise = (float)(seed >> 40) / (float)(1 << 24);
            float pattern = (float)((y[i] + 3) * (k + 1) * 37 % 101) / 100.0f;
            x[i * PIXELS + k] = 0.5f * pattern + 0.5f * noise;
        }
    }
    must(advrob_dataset_from_memory(ctx, ADVROB_F32, x, y, n, 1, SIDE, SIDE, CLASSES, &data));
    return data;
}

static advrob_finetune *make_method(advrob_context *ctx, const char *checkpoint) {
    static const char *const texts[][2] = {
        {"epochs", "8"},        {"batch_size", "8"},     {"lr", "0.02"},
        {"schedule", "cosine"}, {"select", "sum"},       {"valid.steps", "3"},
        {"attack.steps", "3"},  {"attack.step", "0.02"}, {"attack.epsilon", "0.05"},
        {"alarm", "rollback"},  {"alarm_steps", "7"},    {"checkpoint_minutes", "1e-9"},
    };
    advrob_options *o = NULL;
    advrob_finetune *fit = NULL;
    must(advrob_options_create(&o));
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        must(advrob_options_set_text(o, texts[i][0], texts[i][1]));
    must(advrob_options_set_str(o, "checkpoint", checkpoint));
    must(advrob_finetune_create(ctx, "pgd_at", o, &fit));
    advrob_options_destroy(o);
    return fit;
}

static void write_history(const advrob_history *history, const char *path) {
    static const char *const columns[] = {"epoch",
                                          "steps",
                                          "lr",
                                          "loss",
                                          "accuracy",
                                          "valid_accuracy",
                                          "valid_robust_accuracy",
                                          "fgsm_accuracy",
                                          "pgd_accuracy"};
    const char *text = NULL;
    FILE *file = fopen(path, "w");
    if (file == NULL) exit(1);
    for (int32_t row = 0; row < advrob_history_rows(history); row++)
        for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
            double value = 0;
            must(advrob_history_get(history, row, columns[i], &value));
            fprintf(file, "%s %a\n", columns[i], value);
        }
    must(advrob_history_get_str(history, "ended", &text));
    fprintf(file, "%s\n", text);
    must(advrob_history_get_str(history, "alarm", &text));
    fprintf(file, "%s\n", text);
    if (fclose(file) != 0) exit(1);
}

int main(int argc, char **argv) {
    advrob_context *ctx = NULL;
    advrob_model *model = NULL;
    advrob_history *history = NULL;
    if (argc != 4) {
        fprintf(stderr, "usage: short_run CHECKPOINT MODEL HISTORY\n");
        return 2;
    }
    must(advrob_context_create(NULL, &ctx));
    must(advrob_context_set_log(ctx, print_log, NULL));
    advrob_dataset *train = make_data(ctx, IMAGES, 1), *valid = make_data(ctx, VALID, 2);
    must(advrob_model_build(ctx, "tiny", NULL, &model));
    advrob_finetune *fit = make_method(ctx, argv[1]);
    must(advrob_finetune_run(fit, model, train, valid, &history));
    must(advrob_model_save(model, argv[2]));
    write_history(history, argv[3]);
    advrob_history_destroy(history);
    advrob_finetune_destroy(fit);
    advrob_model_destroy(model);
    advrob_dataset_destroy(valid);
    advrob_dataset_destroy(train);
    advrob_context_destroy(ctx);
    return 0;
}
