/* Removes channels from a net: prints what would go, cuts, compares size and speed, saves.
 *
 *     prune [compressor [options [net [result.safetensors]]]]
 *     prune prune_l1 "sparsity=0.5"
 *     prune prune_l2 "sparsity=0.5 scope=global target=macs" resnet20 small.safetensors
 *     prune prune_plan plan.txt model.safetensors
 *
 * The net is a model file or a name of the zoo, then with fresh weights: sizes and times are the
 * same. What is printed first is a plan: keep it, edit it, and hand its file to prune_plan. */
#include "common.h"

static void print_size(const char *what, const advrob_model *model) {
    double one, many;
    must(advrob_model_latency(model, 1, 50, &one));
    must(advrob_model_latency(model, 64, 10, &many));
    printf(
        "# %-8s %9lld parameters %10lld multiply-adds %9lld bytes %8.3f ms, 64 images %8.2f ms\n",
        what, (long long)advrob_model_parameter_total(model), (long long)advrob_model_macs(model),
        (long long)advrob_model_bytes(model), one, many);
}

/* The text of a file as the option "plan". */
static advrob_options *plan_options(const char *path) {
    advrob_options *o = options("");
    FILE *file = fopen(path, "rb");
    char *text = calloc(1, 1 << 20);
    if (file == NULL || text == NULL) {
        fprintf(stderr, "error: cannot read the plan %s\n", path);
        exit(1);
    }
    size_t size = fread(text, 1, (1 << 20) - 1, file);
    text[size] = 0;
    fclose(file);
    must(advrob_options_set_str(o, "plan", text));
    free(text);
    return o;
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "prune_l1", *how = argc > 2 ? argv[2] : "";
    const char *net = argc > 3 ? argv[3] : "eight_layer_conv";
    const char *result = argc > 4 ? argv[4] : "pruned.safetensors";
    advrob_context *ctx;
    advrob_model *model, *small;
    must(advrob_context_create(NULL, &ctx));
    if (strstr(net, ".safetensors") != NULL)
        must(advrob_model_load(ctx, net, NULL, &model));
    else
        must(advrob_model_build(ctx, net, NULL, &model));

    advrob_options *o = strcmp(name, "prune_plan") == 0 ? plan_options(how) : options(how);
    advrob_compressor *compressor;
    char *plan;
    must(advrob_compressor_create(ctx, name, o, &compressor));
    must(advrob_compressor_plan(compressor, model, NULL, &plan));
    printf("%s", plan);
    must(advrob_compressor_run(compressor, model, NULL, &small));
    print_size("before", model);
    print_size("after", small);
    must(advrob_model_save(small, result));
    printf("# saved as %s\n", result);

    advrob_text_destroy(ctx, plan);
    advrob_compressor_destroy(compressor);
    advrob_options_destroy(o);
    advrob_model_destroy(small);
    advrob_model_destroy(model);
    advrob_context_destroy(ctx);
    return 0;
}
