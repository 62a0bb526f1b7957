/* The energy meter: Linux's powercap counters, read through the context's file table.
 *
 * A zone's folder holds `name`, `energy_uj` (microjoules, back to 0 after max_energy_range_uj) and
 * `max_energy_range_uj`. */
#include "base.h"

#include <errno.h>
#include <string.h>

static const char default_root[] = "/sys/class/powercap";

static void make_path(const char *root, int32_t zone, const char *file, char *path, size_t size) {
    ar_format(path, size, "%s/intel-rapl:%d/%s", root, zone, file);
}

/* The first line of a zone's file, or -errno. */
static int64_t read_line(advrob_context *ctx, const char *path, char *text, size_t size) {
    int64_t length = ar_file_peek(ctx, path, text, size);
    if (length >= 0) text[strcspn(text, "\r\n")] = 0;
    return length;
}

/* A count of microjoules; `missing` is the status where the file cannot be read. */
static int32_t read_count(advrob_context *ctx, const char *root, int32_t zone, const char *file,
                          int32_t missing, uint64_t *value) {
    char path[600], text[64];
    int64_t number = 0;
    make_path(root, zone, file, path, sizeof path);
    int64_t length = read_line(ctx, path, text, sizeof text);
    if (length < 0)
        return ar_error(missing, "energy: cannot read the counter %.300s: %s (errno %d)", path,
                        ar_file_reason(length), (int)-length);
    if (!ar_parse_i64(text, strlen(text), &number) || number < 0)
        return ar_error(ADVROB_E_FORMAT,
                        "energy: %.300s holds \"%.40s\", expected a count of microjoules", path,
                        text);
    *value = (uint64_t)number;
    return ADVROB_OK;
}

static int32_t add_zone(advrob_energy *meter, int32_t zone) {
    int32_t status = ADVROB_OK, i = meter->count;
    AR_TRY(read_count(meter->ctx, meter->root, zone, "energy_uj", ADVROB_E_UNSUPPORTED,
                      &meter->last[i]));
    AR_TRY(read_count(meter->ctx, meter->root, zone, "max_energy_range_uj", ADVROB_E_UNSUPPORTED,
                      &meter->range[i]));
    meter->zones[meter->count++] = zone;
out:
    return status;
}

/* Numbers may have gaps: a zone can be switched off. */
static int32_t find_zones(advrob_energy *meter) {
    int32_t status = ADVROB_OK;
    int64_t first = 0;
    char path[600], name[64];
    for (int32_t zone = 0; zone < AR_ENERGY_ZONES; zone++) {
        make_path(meter->root, zone, "name", path, sizeof path);
        int64_t length = read_line(meter->ctx, path, name, sizeof name);
        if (zone == 0) first = length;
        if (length >= 0 && strncmp(name, "package", strlen("package")) == 0)
            AR_TRY(add_zone(meter, zone));
    }
    if (meter->count > 0) return ADVROB_OK;
    if (first < 0)
        return ar_error(ADVROB_E_UNSUPPORTED,
                        "energy: no counter: cannot read %.300s/intel-rapl:0/name: %s (errno %d)",
                        meter->root, ar_file_reason(first), (int)-first);
    return ar_error(ADVROB_E_UNSUPPORTED,
                    "energy: no zone %.300s/intel-rapl:N is of a package, by its name",
                    meter->root);
out:
    return status;
}

int32_t ar_energy_open(advrob_context *ctx, const char *root, advrob_energy **out) {
    int32_t status = ADVROB_OK;
    void *block = NULL;
    advrob_energy *meter = NULL;
    if (root == NULL) root = default_root;
    if (strlen(root) >= sizeof meter->root)
        AR_FAIL(ADVROB_E_INVALID, "energy: a root of %zu bytes, expected under %zu", strlen(root),
                sizeof meter->root);
    AR_TRY(ar_calloc(&ctx->memory, 1, sizeof *meter, "energy meter", &block));
    meter = block;
    meter->ctx = ctx;
    ar_copy_text(meter->root, sizeof meter->root, root);
    AR_TRY(find_zones(meter));
    ar_context_retain(ctx);
    *out = meter;
    block = NULL;
out:
    ar_free(&ctx->memory, block);
    return status;
}

int32_t ar_energy_read(advrob_energy *meter, double *joules) {
    int32_t status = ADVROB_OK;
    uint64_t now[AR_ENERGY_ZONES], total = meter->total;
    for (int32_t i = 0; i < meter->count; i++) {
        AR_TRY(read_count(meter->ctx, meter->root, meter->zones[i], "energy_uj", ADVROB_E_IO,
                          &now[i]));
        uint64_t wrapped = now[i] < meter->last[i] ? meter->range[i] : 0;
        if (wrapped > 0 && wrapped < meter->last[i])
            AR_FAIL(
                ADVROB_E_FORMAT, "energy: the counter of zone %d stood at %llu, past its end %llu",
                meter->zones[i], (unsigned long long)meter->last[i], (unsigned long long)wrapped);
        total += now[i] + wrapped - meter->last[i];
    }
    memcpy(meter->last, now, sizeof now[0] * (size_t)meter->count);
    meter->total = total;
    *joules = 1e-6 * (double)total;
out:
    return status;
}

void ar_energy_close(advrob_energy *meter) {
    if (meter == NULL) return;
    advrob_context *ctx = meter->ctx;
    ar_free(&ctx->memory, meter);
    ar_context_release(ctx);
}
