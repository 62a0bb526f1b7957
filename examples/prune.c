/* Removes filters from a net: prints what would go, cuts, compares size and speed, saves.
 *
 *     prune [sparsity [model.safetensors [result.safetensors]]]
 *
 * Without a model the paper's net with fresh weights is cut: sizes and times are the same. */
#include "common.h"

static void print_size(const char *what, const advrob_model *model) {
    double one, many;
    must(advrob_model_latency(model, 1, 50, &one));
    must(advrob_model_latency(model, 64, 10, &many));
    printf("%-8s %9lld parameters %10lld multiply-adds %9lld bytes %8.3f ms, 64 images %8.2f ms\n",
           what, (long long)advrob_model_parameter_total(model),
           (long long)advrob_model_macs(model), (long long)advrob_model_bytes(model), one, many);
}

int main(int argc, char **argv) {
    const char *sparsity = argc > 1 ? argv[1] : "0.5";
    const char *result = argc > 3 ? argv[3] : "pruned.safetensors";
    advrob_context *ctx;
    advrob_model *model, *small;
    must(advrob_context_create(NULL, &ctx));
    if (argc > 2) {
        must(advrob_model_load(ctx, argv[2], NULL, &model));
    } else {
        must(advrob_model_build(ctx, "eight_layer_conv", NULL, &model));
    }

    advrob_options *o = options("");
    advrob_compressor *compressor;
    char *plan;
    must(advrob_options_set_text(o, "sparsity", sparsity));
    must(advrob_compressor_create(ctx, "prune_l1", o, &compressor));
    must(advrob_compressor_plan(compressor, model, NULL, &plan));
    printf("%s\n", plan);
    must(advrob_compressor_run(compressor, model, NULL, &small));
    print_size("before", model);
    print_size("after", small);
    must(advrob_model_save(small, result));
    printf("saved as %s\n", result);

    advrob_text_destroy(ctx, plan);
    advrob_compressor_destroy(compressor);
    advrob_options_destroy(o);
    advrob_model_destroy(small);
    advrob_model_destroy(model);
    advrob_context_destroy(ctx);
    return 0;
}
