/* Any bytes are refused or parsed; the tensors of what is parsed cover its data exactly. */
#include <string.h>

#include "fuzz.h"
#include "io/safetensors.h"

static void check_file(advrob_context *ctx, const ar_safetensors *file, const uint8_t *data,
                       size_t size) {
    size_t total = 0;
    for (int32_t i = 0; i < file->count; i++) {
        const ar_stored *t = &file->tensors[i];
        HOLDS(t->data >= data + 8 && t->data <= data + size);
        HOLDS(t->size <= (size_t)(data + size - t->data));
        HOLDS(t->rank >= 0 && t->rank <= 8 && strlen(t->name) <= 1024);
        HOLDS(ar_safetensors_find(file, t->name) == t);
        total += t->size;
        if (strcmp(t->dtype, "F32") != 0) continue;
        HOLDS(t->size == (size_t)t->count * 4);
        void *values;
        HOLDS(ar_calloc(&ctx->memory, (size_t)t->count, sizeof(ar_real), "fuzz", &values) == 0);
        int32_t status = ar_stored_copy(t, "fuzz", values);
        HOLDS(status == ADVROB_OK || status == ADVROB_E_NONFINITE);
        ar_free(&ctx->memory, values);
    }
    for (int32_t i = 0; i < file->metadata; i++)
        HOLDS(ar_safetensors_metadata(file, file->keys[i]) == file->values[i]);
    HOLDS(total <= size - 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    advrob_context *ctx = fuzz_context();
    uint64_t before = ctx->memory.used;
    ar_safetensors file;
    int32_t status = ar_safetensors_parse(ctx, "fuzz", data, size, &file);
    HOLDS(status == ADVROB_OK || status == ADVROB_E_FORMAT || status == ADVROB_E_LIMIT ||
          status == ADVROB_E_OVERFLOW);
    if (status == ADVROB_OK)
        check_file(ctx, &file, data, size);
    else
        HOLDS(strlen(ar_message()) > 0);
    ar_safetensors_free(ctx, &file);
    HOLDS(ctx->memory.used == before);
    return 0;
}
