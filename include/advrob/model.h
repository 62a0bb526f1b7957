/* Models: a graph of operators with its parameters. Normalisation and the valid input box belong to
 * the model: inputs are pixels.
 *
 *     advrob_model_build(ctx, "eight_layer_conv", NULL, &m);
 *     advrob_model_forward(m, n, x, logits);
 *     advrob_model_save(m, "net.safetensors");
 *
 * A model is not thread-safe while it is changed; while a target on it lives it is frozen (changing
 * it gives E_BUSY) and may be shared by threads. */
#ifndef ADVROB_MODEL_H
#define ADVROB_MODEL_H

#include <advrob/dataset.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct advrob_model advrob_model;

/* Builds a net of the zoo (advrob_component_name_at("model", i) lists them). Common options:
 * "classes", "seed", "init" ("he", "pytorch"), "weights" (path of a safetensors file with PyTorch's
 * names), and those of advrob_model_begin. Errors: E_UNKNOWN, E_RANGE, E_NOMEM;
 * with "weights" also those of advrob_model_load_weights. */
ADVROB_API int32_t advrob_model_build(advrob_context *ctx, const char *name,
                                      const advrob_options *options, advrob_model **out);

/* Begins a net of one's own, with its input node, which is named "input": images of `channels` x
 * `height` x `width`. Options, each one value or one per channel: "mean", "std" (what enters the
 * net is (pixel - mean) / std; 0 and 1), "low", "high" (the box of valid pixels; 0 and 1),
 * "epsilon_unit" (how much of a pixel is 1 of an attack's epsilon; 1). For a net whose images come
 * normalised already, leave mean and std and set low = (0 - mean) / std, high = (1 - mean) / std,
 * epsilon_unit = 1 / std.
 *
 *     const char *in[] = {"input"}, *conv1[] = {"conv1"};
 *     advrob_model_begin(ctx, 3, 32, 32, NULL, &m);
 *     advrob_options_set_i64(o, "outputs", 8);
 *     advrob_options_set_i64(o, "kernel", 3);
 *     advrob_model_add(m, "conv2d", "conv1", in, 1, o);
 *     advrob_model_add(m, "relu", "relu1", conv1, 1, NULL);
 *
 * Errors: E_SHAPE, E_RANGE, E_UNKNOWN (an option), E_NOMEM. */
ADVROB_API int32_t advrob_model_begin(advrob_context *ctx, int32_t channels, int32_t height,
                                      int32_t width, const advrob_options *options,
                                      advrob_model **out);

/* Adds the node `name` (letters, digits, '.', '_', '-') of operator `op`
 * (advrob_component_name_at("operator", i) lists them, and their options), which reads the earlier
 * nodes `inputs` [count]. The last node that is added is the result; a net is ready at any time. A
 * convolution's parameters are "<name>.weight" [outputs, inputs / groups, height, width] and
 * "<name>.bias" [outputs]; a linear layer wants its input flattened, and has weight [outputs,
 * inputs]. Parameters are zeros (a batch norm's: its neutral values) until they are set, loaded or
 * initialised. Errors: E_UNKNOWN (an operator, a node, an option), E_INVALID (name, number of
 * inputs), E_SHAPE (inputs that do not fit), E_RANGE, E_LIMIT, E_BUSY, E_NOMEM; the net stays as it
 * was. */
ADVROB_API int32_t advrob_model_add(advrob_model *model, const char *op, const char *name,
                                    const char *const *inputs, int32_t count,
                                    const advrob_options *options);

/* Draws all parameters: "he" (He et al. 2015, arXiv 1502.01852, equation 10: normal, variance
 * 2 / fan-in, biases 0) or "pytorch" (its layers' default: uniform in +-1 / sqrt(fan-in)). seed -1:
 * the context's. Errors: E_RANGE, E_BUSY. */
ADVROB_API int32_t advrob_model_initialise(advrob_model *model, const char *how, int64_t seed);

/* Loads a model file written by advrob_model_save: graph, parameters, normalisation and
 * quantization records. Any bytes are safe to load. Errors: E_IO, E_FORMAT, E_LIMIT, E_NONFINITE
 * (names the tensor), E_UNSUPPORTED (a later version of the format, an unknown operator), E_NOMEM.
 */
ADVROB_API int32_t advrob_model_load(advrob_context *ctx, const char *path,
                                     const advrob_options *options, advrob_model **out);

/* Writes the model as one safetensors file, whole or not at all. Errors: E_IO, E_NONFINITE (a
 * weight; it could not be loaded again), E_NOMEM. */
ADVROB_API int32_t advrob_model_save(const advrob_model *model, const char *path);

/* Reads parameters by name (PyTorch's names) from a safetensors file; every parameter must be
 * there with its shape; tensors "mean" and "std" set the normalisation. Errors: E_IO, E_FORMAT,
 * E_SHAPE, E_RANGE (std), E_NONFINITE, E_BUSY, E_NOMEM. */
ADVROB_API int32_t advrob_model_load_weights(advrob_model *model, const char *path);

/* A deep copy. */
ADVROB_API int32_t advrob_model_clone(const advrob_model *model, advrob_model **out);
ADVROB_API void advrob_model_destroy(advrob_model *model);

/* shape: [3] = channels, height, width of the input. */
ADVROB_API int32_t advrob_model_input_shape(const advrob_model *model, int32_t *shape);
/* The box of pixels and how much of one is 1 of an attack's epsilon, by channel: [channels] each,
 * any may be NULL. Byte k of an 8-bit image is the pixel low + k / 255 * (high - low). */
ADVROB_API int32_t advrob_model_box(const advrob_model *model, double *low, double *high,
                                    double *unit);
ADVROB_API int32_t advrob_model_classes(const advrob_model *model);

/* Size: trained parameters (running statistics and border biases are none), multiply-adds of one
 * image (padding counted as multiplied), bytes of the parameters, running statistics included. */
ADVROB_API int64_t advrob_model_parameter_total(const advrob_model *model);
ADVROB_API int64_t advrob_model_macs(const advrob_model *model);
ADVROB_API int64_t advrob_model_bytes(const advrob_model *model);

/* Parameters by name, running statistics and border biases included. get returns a copy, owned by
 * the caller; set wants float32 and the same shape. Errors: E_UNKNOWN, E_SHAPE, E_NONFINITE,
 * E_RANGE (a negative variance), E_BUSY. */
ADVROB_API int32_t advrob_model_parameter_count(const advrob_model *model);
ADVROB_API const char *advrob_model_parameter_name_at(const advrob_model *model, int32_t index);
ADVROB_API int32_t advrob_model_get_parameter(const advrob_model *model, const char *name,
                                              advrob_tensor **out);
ADVROB_API int32_t advrob_model_set_parameter(advrob_model *model, const char *name,
                                              const advrob_tensor *value);

/* Nodes in order of execution; node 0 is the input. The name is valid as long as the model. */
ADVROB_API int32_t advrob_model_node_count(const advrob_model *model);
ADVROB_API const char *advrob_model_node_name_at(const advrob_model *model, int32_t index);

/* logits [n, classes] for pixels x [n, c, h, w]. Errors: E_INVALID, E_NONFINITE (x), E_NOMEM. */
ADVROB_API int32_t advrob_model_forward(const advrob_model *model, int64_t n, const float *x,
                                        float *logits);

/* The output of the node `name` for x: a new tensor [n, c, h, w]. */
ADVROB_API int32_t advrob_model_node_output(const advrob_model *model, const char *name, int64_t n,
                                            const float *x, advrob_tensor **out);

/* A table of the nodes as text, for people. Valid until the next call on this model. */
ADVROB_API int32_t advrob_model_summary(advrob_model *model, const char **text);

/* A digest of graph, parameters and quantization records, as advrob_dataset_digest. */
ADVROB_API int32_t advrob_model_digest(const advrob_model *model, char *buffer, size_t size);

#ifdef __cplusplus
}
#endif

#endif
