/* The model file: what its reader and its writer share. Private to io.
 *
 * A safetensors file. Tensors, all F32: every parameter under its name ("conv1.weight"), and the
 * scales of quantization records as "<node>.output_scales" and "<node>.weight_scales". Metadata:
 * "format" is "advrob", "version" is "1", and "graph" is a JSON text:
 *
 *     {"input":[1,8,8],"mean":[0.5],"std":[0.25],"box":[0,1],"zoo":"tiny","nodes":[
 *      {"name":"conv1","op":"conv2d","inputs":["input"],"kernel":[3,3],"padding":[1,1],"outputs":4,
 *       "bias":true,"weights":{"bits":8,"low":-127,"high":127,"zero":0}},
 *      {"name":"relu1","op":"relu","inputs":["conv1"],"output":{"bits":8,...}}],
 *      "input_quantization":{...}}
 *
 * Nodes stand in order of execution; node 0, which is not listed, is named "input". What a node
 * leaves out is: kernel, stride, dilation and groups 1, padding 0, outputs 0, no bias, not
 * quantized. Readers ignore fields that they do not know; what they must know raises the version.
 */
#ifndef AR_MODEL_FILE_H
#define AR_MODEL_FILE_H

#include "model/model.h"
#include "safetensors.h"

#define AR_MODEL_FORMAT "advrob"
#define AR_MODEL_VERSION 1

#define AR_OUTPUT_SCALES ".output_scales"
#define AR_WEIGHT_SCALES ".weight_scales"
/* A name with the longest suffix. */
#define AR_TENSOR_NAME_SIZE (AR_NAME_SIZE + 16)

/* `code`, naming file, tensor and both shapes, unless the tensor has exactly this shape. */
int32_t ar_stored_check(const ar_stored *tensor, const char *file, int32_t code, int32_t rank,
                        const int64_t *shape);

#endif
