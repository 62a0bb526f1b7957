/* Images on a report's page: each PNG is taken apart by zlib, and its pixels are those that were
 * put. */
#include "support/support.h"

#include <zlib.h>

#include "support/page.h"

static int32_t digit(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c == '=' ? digits : strchr(digits, c);
    assert_true(at != NULL && c != 0);
    return (int32_t)(at - digits);
}

/* Up to the closing quote. */
static size_t decode(const char *text, unsigned char *out) {
    size_t n = 0;
    for (; *text != '"'; text += 4) {
        uint32_t bits = 0;
        for (int32_t i = 0; i < 4; i++)
            bits = bits << 6 | (uint32_t)digit(text[i]);
        for (int32_t i = 0; i < 3 && text[i + 1] != '='; i++)
            out[n++] = (unsigned char)(bits >> (16 - 8 * i));
    }
    return n;
}

static uint32_t u32(const unsigned char *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* The chunk at *at, its checksum checked; *at then stands behind it. */
static const unsigned char *chunk(const unsigned char **at, const char *type, uint32_t *size) {
    const unsigned char *data = *at + 8;
    *size = u32(*at);
    assert_memory_equal(*at + 4, type, 4);
    assert_int_equal(u32(data + *size), crc32(0, *at + 4, *size + 4));
    *at = data + *size + 4;
    return data;
}

/* x: [c, h, w] */
static void check_png(const char *text, const int32_t *shape, const float *x) {
    static unsigned char png[1 << 16], lines[1 << 16];
    static const unsigned char start[8] = {0x89, 'P', 'N', 'G', 13, 10, 26, 10};
    size_t size = decode(text, png), c = (size_t)shape[0], h = (size_t)shape[1],
           w = (size_t)shape[2];
    uint32_t n;
    uLongf room = sizeof lines;
    const unsigned char *at = png + 8;
    assert_memory_equal(png, start, 8);
    const unsigned char *header = chunk(&at, "IHDR", &n);
    assert_int_equal(n, 13);
    assert_int_equal(u32(header), w);
    assert_int_equal(u32(header + 4), h);
    assert_int_equal(header[8], 8);
    assert_int_equal(header[9], c == 3 ? 2 : 0);
    assert_true(header[10] == 0 && header[11] == 0 && header[12] == 0);
    const unsigned char *data = chunk(&at, "IDAT", &n);
    assert_int_equal(uncompress(lines, &room, data, n), Z_OK);
    assert_int_equal(room, h * (w * c + 1));
    chunk(&at, "IEND", &n);
    assert_true(n == 0 && (size_t)(at - png) == size);
    for (size_t y = 0; y < h; y++) {
        const unsigned char *line = lines + y * (w * c + 1);
        assert_int_equal(line[0], 0); /* not filtered */
        for (size_t k = 0; k < w * c; k++) {
            double v = x[(k % c * h + y) * w + k / c];
            assert_int_equal(line[1 + k], lround(255 * fmin(fmax(v, 0), 1)));
        }
    }
}

static void test_images(void **state) {
    (void)state;
    static const int32_t shapes[4][3] = {{1, 1, 1}, {1, 28, 28}, {3, 32, 32}, {3, 5, 7}};
    static test_allocator allocator;
    for (int32_t s = 0; s < 4; s++) {
        place p;
        const int32_t *shape = shapes[s], n = shape[0] * shape[1] * shape[2];
        float *x = malloc(sizeof(float) * (size_t)n * 6);
        open_place(&p, &allocator);
        for (int32_t i = 0; i < 6 * n; i++)
            x[i] = (float)(i * 37 % 256) / 255 * 1.2f - 0.1f;
        if (n > 4) {
            x[1] = -INFINITY;
            x[2] = INFINITY;
        }
        test_ok(advrob_report_add_images(p.report, "images", 2, 3, shape, x, NULL, NULL));
        char *page = write_page(&p), *at = page;
        for (int32_t column = 0; column < 3; column++) { /* the page goes column by column */
            for (int32_t row = 0; row < 2; row++) {
                at = strstr(at, ";base64,");
                assert_non_null(at);
                at += 8;
                check_png(at, shape, x + (row * 3 + column) * n);
            }
        }
        assert_null(strstr(at, ";base64,"));
        free(page);
        free(x);
        close_place(&p);
    }
    test_allocator_check(&allocator);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_images),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
