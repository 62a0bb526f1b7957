/* Engine files, with the checksum made to fit so that what is behind it is reached; those that are
 * taken run on an image. */
#include <string.h>
#include <zlib.h>

#include "engine/engine.h"
#include "fuzz.h"

enum { HEADER = 24, MOST_VALUES = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    advrob_context *ctx = fuzz_context();
    const uint64_t before = ctx->memory.used;
    ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    advrob_engine *engine = NULL;
    uint8_t *copy = malloc(size > 0 ? size : 1);
    HOLDS(copy != NULL);
    if (size > 0) memcpy(copy, data, size);
    if (size >= HEADER) {
        uint32_t crc = (uint32_t)crc32_z(0, copy + HEADER, size - HEADER);
        for (int32_t k = 0; k < 4; k++)
            copy[12 + k] = (uint8_t)(crc >> (8 * k));
        for (int32_t k = 0; k < 8; k++)
            copy[16 + k] = (uint8_t)((uint64_t)size >> (8 * k));
    }
    int32_t status = ar_engine_parse(ctx, "fuzz", copy, size, &engine);
    HOLDS(status == ADVROB_OK || status == ADVROB_E_FORMAT || status == ADVROB_E_RANGE ||
          status == ADVROB_E_NOMEM || status == ADVROB_E_OVERFLOW);
    HOLDS((status == ADVROB_OK) == (engine != NULL));
    if (engine != NULL && engine->room < (1 << 22) && engine->classes < MOST_VALUES &&
        ar_shape_count(engine->shape) < MOST_VALUES) {
        static float x[MOST_VALUES], logits[MOST_VALUES];
        HOLDS(ar_engine_run(engine, 1, x, logits) == ADVROB_OK);
    }
    ar_engine_release(engine);
    free(copy);
    HOLDS(ctx->memory.used == before);
    return 0;
}
