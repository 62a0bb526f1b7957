/* Images as PNG (W3C, PNG specification, second edition) in a data URI. */
#include "io/io.h"
#include "page.h"

#include <string.h>
#define ZLIB_CONST
#include <zlib.h>

#define MAX_IDAT ((size_t)1 << 30)

static void put_u32(uint8_t *to, uint32_t value) {
    for (int32_t i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> (24 - 8 * i));
}

static void put_chunk(ar_buffer *png, const char *type, const uint8_t *data, size_t size) {
    uint8_t number[4];
    uLong crc = crc32(crc32(0, NULL, 0), (const Bytef *)type, 4);
    put_u32(number, (uint32_t)size);
    ar_buffer_bytes(png, number, 4);
    ar_buffer_bytes(png, type, 4);
    ar_buffer_bytes(png, data, size);
    if (size > 0) crc = crc32(crc, data, (uInt)size);
    put_u32(number, (uint32_t)crc);
    ar_buffer_bytes(png, number, 4);
}

/* All of data as one zlib stream. */
static int32_t pack(ar_memory *memory, const uint8_t *data, size_t size, uint8_t **out,
                    size_t *packed) {
    int32_t status = ADVROB_OK;
    void *block = NULL;
    z_stream stream = {.zalloc = ar_zlib_alloc, .zfree = ar_zlib_free, .opaque = memory};
    if (deflateInit(&stream, Z_DEFAULT_COMPRESSION) != Z_OK)
        return ar_error(ADVROB_E_NOMEM, "out of memory: a PNG image");
    size_t room = deflateBound(&stream, (uLong)size);
    AR_TRY(ar_alloc(memory, room, "a PNG image", &block));
    stream.next_in = data;
    stream.avail_in = (uInt)size;
    stream.next_out = block;
    stream.avail_out = (uInt)room;
    if (deflate(&stream, Z_FINISH) != Z_STREAM_END)
        AR_FAIL(ADVROB_E_OVERFLOW, "a PNG image of %zu bytes does not pack", size);
    *packed = stream.total_out;
    *out = block;
    block = NULL;
out:
    deflateEnd(&stream);
    ar_free(memory, block);
    return status;
}

/* Each line of pixels with the byte in front that says: not filtered. */
static int32_t make_lines(ar_memory *memory, size_t height, size_t stride, const uint8_t *pixels,
                          uint8_t **out) {
    void *block;
    int32_t status = ar_alloc(memory, height * (stride + 1), "a PNG image", &block);
    if (status < 0) return status;
    uint8_t *to = block;
    for (size_t y = 0; y < height; y++) {
        to[y * (stride + 1)] = 0;
        memcpy(to + y * (stride + 1) + 1, pixels + y * stride, stride);
    }
    *out = to;
    return ADVROB_OK;
}

static void put_base64(ar_buffer *buffer, const uint8_t *data, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t at = 0; at < size; at += 3) {
        size_t n = size - at < 3 ? size - at : 3;
        uint32_t bits = (uint32_t)data[at] << 16;
        if (n > 1) bits |= (uint32_t)data[at + 1] << 8;
        if (n > 2) bits |= data[at + 2];
        char text[4];
        for (size_t i = 0; i < 4; i++)
            text[i] = i <= n ? digits[bits >> (18 - 6 * i) & 63] : '=';
        ar_buffer_bytes(buffer, text, 4);
    }
}

int32_t ar_png_uri(ar_memory *memory, int32_t channels, int32_t height, int32_t width,
                   const uint8_t *pixels, ar_buffer *buffer) {
    int32_t status = ADVROB_OK;
    uint8_t *lines = NULL, *packed = NULL, header[13] = {0};
    size_t stride = (size_t)width * (size_t)channels, size = 0;
    ar_buffer png;
    ar_buffer_init(&png, memory);
    AR_TRY(make_lines(memory, (size_t)height, stride, pixels, &lines));
    AR_TRY(pack(memory, lines, (size_t)height * (stride + 1), &packed, &size));
    if (size > MAX_IDAT) AR_FAIL(ADVROB_E_OVERFLOW, "a PNG image of %zu bytes", size);
    put_u32(header, (uint32_t)width);
    put_u32(header + 4, (uint32_t)height);
    header[8] = 8;                     /* bits of a sample */
    header[9] = channels == 3 ? 2 : 0; /* RGB or grey */
    ar_buffer_bytes(&png, "\x89PNG\r\n\x1a\n", 8);
    put_chunk(&png, "IHDR", header, sizeof header);
    put_chunk(&png, "IDAT", packed, size);
    put_chunk(&png, "IEND", header, 0);
    AR_TRY(ar_buffer_status(&png));
    ar_buffer_add(buffer, "data:image/png;base64,");
    put_base64(buffer, (const uint8_t *)png.data, png.length);
out:
    ar_free(memory, lines);
    ar_free(memory, packed);
    ar_buffer_free(&png);
    return status;
}
