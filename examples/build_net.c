/* Builds a net node by node: a residual block with a depthwise branch, its parameters by name, the
 * output of a node in its middle.
 *
 *     build_net [result.safetensors] */
#include "common.h"

/* Adds a node that reads one or two (b not NULL) earlier ones. */
static void add(advrob_model *model, const char *op, const char *name, const char *a, const char *b,
                const char *text) {
    const char *inputs[] = {a, b};
    advrob_options *o = options(text);
    must(advrob_model_add(model, op, name, inputs, b == NULL ? 1 : 2, o));
    advrob_options_destroy(o);
}

int main(int argc, char **argv) {
    static float image[3 * 32 * 32], logits[10];
    advrob_context *ctx;
    advrob_model *model;
    must(advrob_context_create(NULL, &ctx));
    advrob_options *o = options("mean=0.4914,0.4822,0.4465 std=0.2471,0.2435,0.2616");
    must(advrob_model_begin(ctx, 3, 32, 32, o, &model));
    advrob_options_destroy(o);
    add(model, "conv2d", "stem", "input", NULL, "outputs=16 kernel=3 stride=2 padding=1 bias=0");
    add(model, "batch_norm", "stem_bn", "stem", NULL, "");
    add(model, "relu", "stem_relu", "stem_bn", NULL, "");
    add(model, "conv2d", "spatial", "stem_relu", NULL, "outputs=16 kernel=3 padding=1 groups=16");
    add(model, "conv2d", "mix", "spatial", NULL, "outputs=16");
    add(model, "add", "sum", "mix", "stem_relu", "");
    add(model, "relu", "sum_relu", "sum", NULL, "");
    add(model, "global_avg_pool", "pool", "sum_relu", NULL, "");
    add(model, "linear", "fc", "pool", NULL, "outputs=10");
    must(advrob_model_initialise(model, "he", 1));

    const char *summary;
    must(advrob_model_summary(model, &summary));
    printf("%s", summary);

    advrob_tensor *weight, *value;
    must(advrob_model_get_parameter(model, "spatial.weight", &weight));
    ((float *)advrob_tensor_data(weight))[4] = 1; /* the middle tap of the first channel */
    must(advrob_model_set_parameter(model, "spatial.weight", weight));
    must(advrob_model_node_output(model, "spatial", 1, image, &value));
    must(advrob_model_forward(model, 1, image, logits));
    printf("\nspatial makes %lld values of a black image; its first logit is %g\n",
           (long long)advrob_tensor_count(value), (double)logits[0]);
    if (argc > 1) must(advrob_model_save(model, argv[1]));

    advrob_tensor_destroy(weight);
    advrob_tensor_destroy(value);
    advrob_model_destroy(model);
    advrob_context_destroy(ctx);
    return 0;
}
