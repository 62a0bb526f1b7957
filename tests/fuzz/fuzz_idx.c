/* IDX and gzip. The first byte of an input says what the rest is: bit 0 the rank (1 or 3), bit 1
 * whether it is packed. */
#include <string.h>

#include "fuzz.h"
#include "io/io.h"

#define LIMIT ((uint64_t)1 << 20)

static void parse(const uint8_t *data, size_t size, int32_t rank) {
    int64_t dims[3];
    const uint8_t *values;
    int32_t status = ar_idx_parse("fuzz", data, size, rank, dims, &values);
    HOLDS(status == ADVROB_OK || status == ADVROB_E_FORMAT || status == ADVROB_E_OVERFLOW);
    if (status != ADVROB_OK) return;
    HOLDS(dims[0] > 0 && dims[1] > 0 && dims[2] > 0);
    HOLDS((size_t)(values - data) + (size_t)(dims[0] * dims[1] * dims[2]) == size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    advrob_context *ctx = fuzz_context();
    uint64_t before = ctx->memory.used;
    if (size == 0) return 0;
    int32_t rank = data[0] & 1 ? 3 : 1;
    bool packed = (data[0] & 2) != 0;
    data++;
    size--;
    if (packed) {
        uint8_t *plain;
        size_t plain_size;
        int32_t status = ar_gzip_unpack(ctx, "fuzz", data, size, LIMIT, &plain, &plain_size);
        HOLDS(status == ADVROB_OK || status == ADVROB_E_FORMAT || status == ADVROB_E_LIMIT);
        if (status == ADVROB_OK) {
            HOLDS(plain_size <= LIMIT);
            parse(plain, plain_size, rank);
        }
        ar_free(&ctx->memory, plain);
    } else {
        parse(data, size, rank);
    }
    HOLDS(ctx->memory.used == before);
    return 0;
}
