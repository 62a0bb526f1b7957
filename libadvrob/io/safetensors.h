/* safetensors: named tensors in one file (8 bytes header length, JSON header, data).
 * Format: github.com/huggingface/safetensors, README, "Format". */
#ifndef AR_SAFETENSORS_H
#define AR_SAFETENSORS_H

#include "json.h"

typedef struct ar_stored {
    const char *name;
    const char *dtype; /* "F32", "I64", ... */
    int32_t rank;
    int64_t shape[8];
    int64_t count;
    const uint8_t *data; /* little-endian, not aligned */
    size_t size;         /* bytes */
} ar_stored;

typedef struct ar_safetensors {
    ar_arena arena;
    uint8_t *owned;
    ar_stored *tensors; /* sorted by name */
    int32_t count;
    const char **keys, **values; /* __metadata__ */
    int32_t metadata;
} ar_safetensors;

/* Parses a file in memory (borrowed: it must outlive *out). Checks: header at most 16 MiB, at most
 * 65,536 tensors and 4,096 metadata entries, rank <= 8, dimensions below 2^31, known dtypes, size =
 * shape x dtype without overflow, offsets in order without holes or overlap and covering the data
 * exactly, distinct names of at most 1,024 bytes. */
int32_t ar_safetensors_parse(advrob_context *ctx, const char *name, const uint8_t *data,
                             size_t size, ar_safetensors *out);
int32_t ar_safetensors_read(advrob_context *ctx, const char *path, ar_safetensors *out);
void ar_safetensors_free(advrob_context *ctx, ar_safetensors *file);

/* NULL when there is none. */
const ar_stored *ar_safetensors_find(const ar_safetensors *file, const char *name);
const char *ar_safetensors_metadata(const ar_safetensors *file, const char *key);

/* Copies an F32 tensor's values; E_FORMAT for another dtype, E_NONFINITE (names the tensor) for
 * values that are not finite. */
int32_t ar_stored_copy(const ar_stored *tensor, const char *file, ar_real *values);

/* Writes tensors (name, dtype, rank, shape, data, size filled in) and metadata to `path` whole or
 * not at all. Tensors are written in the given order; data starts 8-aligned (header padded by
 * spaces). */
int32_t ar_safetensors_write(advrob_context *ctx, const char *path, const ar_stored *tensors,
                             int32_t count, const char *const *keys, const char *const *values,
                             int32_t metadata);

#endif
