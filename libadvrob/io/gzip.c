/* gzip (RFC 1952): whole files unpacked in memory by zlib, with a limit against bombs. */
#include "io.h"

#include <errno.h>
#include <string.h>
#define ZLIB_CONST
#include <zlib.h>

/* Bytes between two looks at the cancel flag; zlib counts in unsigned int. */
#define MAX_PIECE ((size_t)1 << 22)
#define FIRST_ROOM ((size_t)1 << 16)

typedef struct output {
    advrob_context *ctx;
    ar_memory *memory;
    const char *name;
    uint8_t *data;
    size_t size, capacity;
    uint64_t limit;
} output;

void *ar_zlib_alloc(void *opaque, unsigned items, unsigned size) {
    size_t bytes;
    void *block;
    if (!ar_mul(items, size, &bytes)) return Z_NULL;
    return ar_alloc(opaque, bytes, "zlib", &block) < 0 ? Z_NULL : block;
}

void ar_zlib_free(void *opaque, void *block) {
    ar_free(opaque, block);
}

static int32_t format_error(const char *name, const char *what) {
    return ar_error(ADVROB_E_FORMAT, "%.200s: gzip: %s", name, what);
}

/* Room for at least one more byte; one byte past the limit is given too, so that a stream of
 * exactly `limit` bytes can reach its end. */
static int32_t output_grow(output *o) {
    if (o->size < o->capacity) return ADVROB_OK;
    uint64_t most = o->limit < SIZE_MAX ? o->limit + 1 : SIZE_MAX;
    uint64_t wanted = o->capacity <= most / 2 ? (uint64_t)o->capacity * 2 : most;
    if (o->size > o->limit || wanted <= o->capacity)
        return ar_error(ADVROB_E_LIMIT,
                        "%.200s: gzip: unpacks to more than the limit of %llu bytes", o->name,
                        (unsigned long long)o->limit);
    void *block = o->data;
    int32_t status = ar_regrow(o->memory, &block, 1, (size_t)wanted, "unpacked data");
    if (status < 0) return status;
    o->data = block;
    o->capacity = (size_t)wanted;
    return ADVROB_OK;
}

/* The last four bytes tell the unpacked size: believed only as far as the memory is small beside
 * the packed data. */
static size_t first_capacity(const uint8_t *packed, size_t size, uint64_t limit) {
    size_t hint = 0, cap;
    if (size >= 18) {
        const uint8_t *end = packed + size - 4;
        hint = (size_t)end[0] | (size_t)end[1] << 8 | (size_t)end[2] << 16 | (size_t)end[3] << 24;
        hint++; /* the end of the stream is only seen with room left */
    }
    if (!ar_mul(size, 4, &cap)) cap = size;
    if (cap < FIRST_ROOM) cap = FIRST_ROOM;
    if (hint == 0 || hint > cap) hint = FIRST_ROOM;
    return hint > limit ? (size_t)limit + 1 : hint;
}

/* Runs inflate until a member ends. */
static int32_t unpack_member(z_stream *z, const uint8_t *end, output *o) {
    for (;;) {
        int32_t status = ar_cancelled(o->ctx);
        if (status >= 0) status = output_grow(o);
        if (status < 0) return status;
        size_t in = (size_t)(end - z->next_in), room = o->capacity - o->size;
        z->avail_in = (uInt)(in < MAX_PIECE ? in : MAX_PIECE);
        z->avail_out = (uInt)(room < MAX_PIECE ? room : MAX_PIECE);
        z->next_out = o->data + o->size;
        uInt avail_out = z->avail_out;
        int code = inflate(z, Z_NO_FLUSH);
        o->size += avail_out - z->avail_out;
        if (o->size > o->limit)
            return ar_error(ADVROB_E_LIMIT,
                            "%.200s: gzip: unpacks to more than the limit of %llu bytes", o->name,
                            (unsigned long long)o->limit);
        if (code == Z_STREAM_END) return ADVROB_OK;
        if (code == Z_MEM_ERROR)
            return ar_error(ADVROB_E_NOMEM, "%.200s: gzip: no memory to unpack", o->name);
        if (code == Z_BUF_ERROR || (code == Z_OK && z->next_in == end && z->avail_out > 0))
            return format_error(o->name, "the stream is truncated");
        if (code != Z_OK) return format_error(o->name, z->msg ? z->msg : "the stream is damaged");
    }
}

int32_t ar_gzip_unpack(advrob_context *ctx, const char *name, const uint8_t *packed,
                       size_t packed_size, uint64_t limit, uint8_t **data, size_t *size) {
    int32_t status = ADVROB_OK;
    output o = {.ctx = ctx, .memory = &ctx->memory, .name = name, .limit = limit};
    z_stream z = {.zalloc = ar_zlib_alloc, .zfree = ar_zlib_free, .opaque = &ctx->memory};
    const uint8_t *end = packed + packed_size;
    bool open = false;
    *data = NULL;
    *size = 0;

    void *block;
    o.capacity = first_capacity(packed, packed_size, limit);
    AR_TRY(ar_alloc(o.memory, o.capacity, "unpacked data", &block));
    o.data = block;
    int code = inflateInit2(&z, 15 + 16); /* 16: gzip only, no bare zlib streams */
    if (code != Z_OK) AR_FAIL(ADVROB_E_NOMEM, "%.200s: gzip: no memory to unpack", name);
    open = true;
    z.next_in = packed;
    do { /* members may follow each other */
        if (z.next_in != packed &&
            (end - z.next_in < 2 || z.next_in[0] != 31 || z.next_in[1] != 139))
            AR_FAIL(ADVROB_E_FORMAT, "%.200s: gzip: %zu bytes of garbage after the stream", name,
                    (size_t)(end - z.next_in));
        if (inflateReset(&z) != Z_OK)
            AR_FAIL(ADVROB_E_INTERNAL, "%.200s: gzip: reset failed", name);
        AR_TRY(unpack_member(&z, end, &o));
    } while (z.next_in < end);
    *data = o.data;
    *size = o.size;
    o.data = NULL;
out:
    if (open) inflateEnd(&z);
    ar_free(&ctx->memory, o.data);
    return status;
}

int32_t ar_gzip_read(advrob_context *ctx, const char *path, uint64_t limit, uint8_t **data,
                     size_t *size) {
    int32_t status = ADVROB_OK;
    uint8_t *packed = NULL;
    size_t packed_size, length = strlen(path);
    if (length < 3 || strcmp(path + length - 3, ".gz") != 0)
        return ar_file_read(ctx, path, limit, data, size);
    AR_TRY(ar_file_read(ctx, path, limit, &packed, &packed_size));
    AR_TRY(ar_gzip_unpack(ctx, path, packed, packed_size, limit, data, size));
out:
    ar_free(&ctx->memory, packed);
    return status;
}

/* Only a file that is not there makes the next name be tried: any other trouble is reported by who
 * reads it. */
static bool is_missing(advrob_context *ctx, const char *path) {
    int32_t fd;
    do {
        fd = ctx->files->open_read(ctx->files_user, path);
    } while (fd == -EINTR);
    if (fd >= 0) ctx->files->close(ctx->files_user, fd);
    return fd == -ENOENT;
}

int32_t ar_gzip_find(advrob_context *ctx, ar_buffer *path, bool *found) {
    int32_t status = ar_buffer_status(path);
    size_t plain = path->length;
    if (status < 0) return status;
    *found = !is_missing(ctx, path->data);
    if (*found) return ADVROB_OK;
    ar_buffer_add(path, ".gz");
    status = ar_buffer_status(path);
    if (status < 0) return status;
    *found = !is_missing(ctx, path->data);
    if (!*found) {
        path->data[plain] = 0;
        path->length = plain;
    }
    return ADVROB_OK;
}
