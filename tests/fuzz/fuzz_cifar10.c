/* CIFAR-10's files: every file of the folder has the input's bytes. The first byte of an input says
 * how they are opened: bit 0 the split, bit 1 whether they are packed, bits 2 to 4 the limit. */
#include <errno.h>
#include <string.h>

#include "fuzz.h"
#include "io/io.h"

enum { RECORD = 3073 };

typedef struct served {
    const uint8_t *data;
    size_t size, read;
    bool packed;
} served;

static int32_t serve_open(void *user, const char *path) {
    served *s = user;
    size_t length = strlen(path);
    if ((strcmp(path + length - 3, ".gz") == 0) != s->packed) return -ENOENT;
    s->read = 0;
    return 3;
}

static int64_t serve_size(void *user, int32_t fd) {
    HOLDS(fd == 3);
    return (int64_t)((served *)user)->size;
}

static int64_t serve_read(void *user, int32_t fd, void *data, size_t size) {
    served *s = user;
    HOLDS(fd == 3);
    if (size > s->size - s->read) size = s->size - s->read;
    if (size > 0) memcpy(data, s->data + s->read, size);
    s->read += size;
    return (int64_t)size;
}

static int32_t serve_close(void *user, int32_t fd) {
    (void)user;
    HOLDS(fd == 3);
    return 0;
}

static void check_dataset(const advrob_dataset *d, const served *s, bool test, int64_t limit) {
    float x[RECORD - 1];
    int32_t y;
    HOLDS(d->count >= 1 && (limit == 0 || d->count <= limit));
    if (!s->packed) {
        int64_t all = (int64_t)(s->size / RECORD) * (test ? 1 : 5);
        HOLDS(s->size % RECORD == 0 && d->count == (limit > 0 && limit < all ? limit : all));
    }
    HOLDS(ar_dataset_gather(d, d->count - 1, NULL, 1, x, &y) == ADVROB_OK);
    HOLDS(y >= 0 && y < 10);
    if (!s->packed) {
        const uint8_t *record = s->data + (size_t)(d->count - 1) % (s->size / RECORD) * RECORD;
        HOLDS(y == record[0] && x[RECORD - 2] == (float)record[RECORD - 1] / 255.0f);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    advrob_context *ctx = fuzz_context();
    uint64_t before = ctx->memory.used;
    ar_file_ops ops = ar_file_ops_posix;
    const ar_file_ops *kept = ctx->files;
    advrob_options *options = NULL;
    advrob_dataset *dataset = NULL;
    if (size == 0) return 0;
    bool test = (data[0] & 1) != 0;
    int64_t limit = data[0] >> 2 & 7;
    served s = {.data = data + 1, .size = size - 1, .packed = (data[0] & 2) != 0};
    ops.open_read = serve_open;
    ops.size = serve_size;
    ops.read = serve_read;
    ops.close = serve_close;
    HOLDS(ar_options_create(NULL, NULL, &options) == ADVROB_OK);
    HOLDS(ar_options_set_str(options, "split", test ? "test" : "train") == ADVROB_OK);
    HOLDS(ar_options_set_i64(options, "limit", limit) == ADVROB_OK);
    void *kept_user = ctx->files_user;
    ctx->files = &ops;
    ctx->files_user = &s;
    int32_t status = ar_dataset_open(ctx, "cifar10", "fuzz", options, &dataset);
    ctx->files = kept;
    ctx->files_user = kept_user;
    HOLDS(status == ADVROB_OK || status == ADVROB_E_FORMAT || status == ADVROB_E_RANGE ||
          status == ADVROB_E_LIMIT || status == ADVROB_E_NOMEM);
    HOLDS((status == ADVROB_OK) == (dataset != NULL));
    if (dataset != NULL) check_dataset(dataset, &s, test, limit);
    ar_dataset_release(dataset);
    ar_options_destroy(options);
    HOLDS(ctx->memory.used == before);
    return 0;
}
