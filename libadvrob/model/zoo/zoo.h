/* Helpers to write a zoo net; private to model/zoo. */
#ifndef AR_ZOO_H
#define AR_ZOO_H

#include "model/model.h"

/* Each adds a node that reads node *at (and its ReLU where the name says so) and moves *at on. */
int32_t ar_zoo_conv(advrob_model *model, const char *name, int32_t outputs, int32_t kernel,
                    int32_t stride, int32_t padding, int32_t *at);
int32_t ar_zoo_plain_conv(advrob_model *model, const char *name, int32_t outputs, int32_t kernel,
                          int32_t stride, int32_t padding, int32_t *at);       /* without bias */
int32_t ar_zoo_batch_norm(advrob_model *model, const char *name, int32_t *at); /* as PyTorch's */
int32_t ar_zoo_dropout(advrob_model *model, const char *name, double rate, int32_t *at);
int32_t ar_zoo_linear(advrob_model *model, const char *name, int32_t outputs, int32_t *at);
int32_t ar_zoo_max_pool(advrob_model *model, const char *name, int32_t size, int32_t *at);
int32_t ar_zoo_relu(advrob_model *model, const char *name, int32_t *at);
int32_t ar_zoo_plain(advrob_model *model, const char *op, const char *name, int32_t *at);
int32_t ar_zoo_add(advrob_model *model, const char *name, int32_t other, int32_t *at);

/* The name "<block>.<part>". */
const char *ar_zoo_join(char name[AR_NAME_SIZE], const char *block, const char *part);

#define AR_ZOO(name) extern const ar_zoo_net ar_zoo_##name;
#include "zoo.inc"
#undef AR_ZOO

#endif
