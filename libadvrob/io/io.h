/* io: file formats, one a file. Others may also include json.h and safetensors.h.
 *
 * Readers treat their input as hostile: every count is checked before it is used, memory before the
 * file is validated stays within twice its size, and any bytes end in success or an error. */
#ifndef AR_IO_H
#define AR_IO_H

#include "data/data.h"

/* Opens dataset `name` from its files in `dir`; registry: the list io/datasets.inc. */
int32_t ar_dataset_open(advrob_context *ctx, const char *name, const char *dir,
                        const advrob_options *options, advrob_dataset **out);

typedef struct ar_dataset_format {
    const char *name, *help;
    int32_t (*open)(advrob_context *ctx, const char *dir, const char *split, int64_t limit,
                    advrob_dataset **out);
} ar_dataset_format;

int32_t ar_dataset_format_count(void);
const ar_dataset_format *ar_dataset_format_at(int32_t index);
extern const ar_option_table ar_dataset_options; /* "split" train|test, "limit" */

/* An IDX file of unsigned bytes from memory (magic 0x00000801 with rank 1 or 0x00000803 with rank
 * 3): dims[3] and a pointer into data. The size must be exact. `name` is for messages. */
int32_t ar_idx_parse(const char *name, const uint8_t *data, size_t size, int32_t rank,
                     int64_t dims[3], const uint8_t **values);

/* Records of CIFAR-10's binary files from memory: how many there are. E_FORMAT unless they are
 * whole and at least one, E_RANGE for a label. `name` is for messages. */
int32_t ar_cifar10_parse(const char *name, const uint8_t *data, size_t size, int64_t *records);

/* Whether a file is at `path`, or at `path` with ".gz", which is then added to it. The plain file
 * is taken where both are there. */
int32_t ar_gzip_find(advrob_context *ctx, ar_buffer *path, bool *found);
/* A whole file, unpacked if its name ends in .gz; unpacked data over `limit` is E_LIMIT. Also
 * tells E_FORMAT for a gzip stream that is truncated, damaged, or followed by garbage. */
int32_t ar_gzip_read(advrob_context *ctx, const char *path, uint64_t limit, uint8_t **data,
                     size_t *size);
int32_t ar_gzip_unpack(advrob_context *ctx, const char *name, const uint8_t *packed,
                       size_t packed_size, uint64_t limit, uint8_t **data, size_t *size);

/* zlib's memory, through a context's allocator: `opaque` of a stream is its ar_memory. */
void *ar_zlib_alloc(void *opaque, unsigned items, unsigned size);
void ar_zlib_free(void *opaque, void *block);

struct advrob_model;

/* The library's model file: safetensors with the graph in its metadata. */
int32_t ar_model_file_save(const struct advrob_model *model, const char *path);
int32_t ar_model_file_load(advrob_context *ctx, const char *path, struct advrob_model **out);
int32_t ar_model_file_parse(advrob_context *ctx, const char *name, const uint8_t *data, size_t size,
                            struct advrob_model **out);
/* Parameters by name from a safetensors file; all must be there. */
int32_t ar_model_weights_load(struct advrob_model *model, const char *path);

#endif
