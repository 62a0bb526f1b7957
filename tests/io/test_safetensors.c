/* Reading safetensors: a zoo of malformed files, each of a kind that some loader has fallen for;
 * cuts and bit flips. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"

static test_allocator allocator;
static advrob_context *ctx;

static int set_up(void **state) {
    (void)state;
    ctx = test_context_with(&allocator, 1);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    ar_context_release(ctx);
    test_allocator_check(&allocator);
    return 0;
}

/* Files in memory */

typedef struct image {
    uint8_t *data;
    size_t size;
} image;

/* A file of `length` as header length, the header, and n bytes of data (0, 1, 2, ...), in a block
 * of exactly that size, so that a sanitizer sees a read past it. */
static image make(uint64_t length, const char *header, size_t header_size, size_t n) {
    image file = {malloc(8 + header_size + n), 8 + header_size + n};
    assert_non_null(file.data);
    for (int i = 0; i < 8; i++)
        file.data[i] = (uint8_t)(length >> 8 * i);
    memcpy(file.data + 8, header, header_size);
    for (size_t i = 0; i < n; i++)
        file.data[8 + header_size + i] = (uint8_t)i;
    return file;
}

static image make_text(const char *header, size_t n) {
    return make(strlen(header), header, strlen(header), n);
}

/* What every parsed file must hold. */
static void assert_consistent(const ar_safetensors *file, const uint8_t *data, size_t size) {
    size_t total = 0;
    for (int32_t i = 0; i < file->count; i++) {
        const ar_stored *t = &file->tensors[i];
        int64_t count;
        assert_true(t->data >= data + 8 && t->data <= data + size);
        assert_true(t->size <= (size_t)(data + size - t->data));
        assert_true(t->rank >= 0 && t->rank <= 8);
        assert_true(ar_product(t->shape, t->rank, &count) && count == t->count);
        assert_ptr_equal(ar_safetensors_find(file, t->name), t);
        if (i > 0) assert_true(strcmp(t[-1].name, t->name) < 0);
        total += t->size;
    }
    assert_true(total <= size - 8);
}

static int32_t parse(image file) {
    ar_safetensors parsed;
    uint64_t before = ctx->memory.used;
    ctx->memory.peak = before;
    int32_t status = ar_safetensors_parse(ctx, "zoo", file.data, file.size, &parsed);
    if (status == ADVROB_OK) {
        assert_consistent(&parsed, file.data, file.size);
    } else {
        assert_int_equal(parsed.count, 0);
        assert_true(strncmp(ar_message(), "zoo: ", 5) == 0);
        /* The bytes of the file themselves are the first of the two times. */
        assert_true(ctx->memory.peak - before <= file.size + (1 << 20));
    }
    ar_safetensors_free(ctx, &parsed);
    assert_int_equal(ctx->memory.used, before);
    return status;
}

static void assert_status(const char *header, size_t n, int32_t wanted) {
    image file = make_text(header, n);
    int32_t status = parse(file);
    if (status != wanted)
        fail_msg("%.200s: got %d, expected %d: %s", header, status, wanted, ar_message());
    free(file.data);
}

#define E(dtype, shape, offsets) \
    "{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" offsets "]}"

static const char two[] = "{\"b\":" E("F32", "2", "0,8") ",\"a\":" E("F32", "1,1", "8,12") "}";

/* Reading */

static void test_reads(void **state) {
    (void)state;
    image file = make_text("{\"__metadata__\":{\"k\":\"v\",\"\":\"w\"},"
                           "\"b\":" E("F32", "2", "4,12") ",\"a\":" E("I16", "1,2", "0,4") "}   ",
                           12);
    ar_safetensors parsed;
    assert_int_equal(ar_safetensors_parse(ctx, "f", file.data, file.size, &parsed), ADVROB_OK);
    assert_int_equal(parsed.count, 2);
    assert_string_equal(parsed.tensors[0].name, "a"); /* sorted */
    const ar_stored *b = ar_safetensors_find(&parsed, "b");
    assert_string_equal(b->dtype, "F32");
    assert_int_equal(b->rank, 1);
    assert_int_equal(b->shape[0], 2);
    assert_int_equal(b->count, 2);
    assert_int_equal(b->size, 8);
    assert_ptr_equal(b->data, file.data + file.size - 8);
    assert_null(ar_safetensors_find(&parsed, "c"));
    assert_null(ar_safetensors_find(&parsed, ""));
    assert_int_equal(parsed.metadata, 2);
    assert_string_equal(ar_safetensors_metadata(&parsed, "k"), "v");
    assert_string_equal(ar_safetensors_metadata(&parsed, ""), "w");
    assert_null(ar_safetensors_metadata(&parsed, "x"));
    ar_safetensors_free(ctx, &parsed);
    ar_safetensors_free(ctx, &parsed); /* once more does no harm */
    free(file.data);
}

static void test_accepts(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t n;
    } rows[] = {
        {"{}", 0},
        {"{}        ", 0},
        {"{\"__metadata__\":{}}", 0},
        {two, 12},
        {"{\"a\":" E("F32", "", "0,4") "}", 4},  /* a scalar */
        {"{\"a\":" E("F32", "0", "0,0") "}", 0}, /* empty tensors */
        {"{\"a\":" E("F32", "0,2147483647,2147483647", "0,0") "}", 0},
        {"{\"a\":" E("U8", "4", "0,4") ",\"b\":" E("U8", "0", "4,4") ",\"c\":" E(
             "U8", "1", "4,5") ",\"d\":" E("U8", "0", "0,0") ",\"e\":" E("U8", "0", "5,5") "}",
         5},
        {"{\"a\":" E("U8", "1,1,1,1,1,1,1,1", "0,1") "}", 1},
        {"{\"\":" E("U8", "1", "0,1") "}", 1},
        {"{\"\\u00e9\\ud83d\\ude00\":" E("BOOL", "1", "0,1") "}", 1},
        {"{\"a\":{\"data_offsets\":[0,2],\"shape\":[1],\"dtype\":\"BF16\"}}", 2},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_status(rows[i].header, rows[i].n, ADVROB_OK);
    static const struct {
        const char *name;
        size_t size;
    } types[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
                 {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
                 {"U32", 4},  {"F32", 4}, {"F64", 8}, {"I64", 8},     {"U64", 8}};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        char header[128];
        ar_format(header, sizeof(header),
                  "{\"a\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%zu]}}",
                  types[i].name, 3 * types[i].size);
        assert_status(header, 3 * types[i].size, ADVROB_OK);
    }
}

/* The zoo */

static void test_header_length(void **state) {
    (void)state;
    static const uint64_t lengths[] = {0,
                                       1,
                                       3,
                                       (uint64_t)1 << 31,
                                       (uint64_t)1 << 32,
                                       (uint64_t)1 << 63,
                                       UINT64_MAX - 7,
                                       UINT64_MAX - 8,
                                       UINT64_MAX - 1,
                                       UINT64_MAX};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        image file = make(lengths[i], "{}", 2, 0);
        assert_int_equal(parse(file), ADVROB_E_FORMAT);
        free(file.data);
    }
    for (size_t size = 0; size < 8; size++) {
        image file = {calloc(1, size ? size : 1), size};
        assert_int_equal(parse(file), ADVROB_E_FORMAT);
        free(file.data);
    }
    /* 16 MiB are taken, a byte more is not. */
    size_t most = (size_t)16 << 20;
    char *header = malloc(most + 1);
    assert_non_null(header);
    memset(header, ' ', most + 1);
    memcpy(header, "{}", 2);
    for (size_t more = 0; more < 2; more++) {
        image file = make(most + more, header, most + more, 0);
        assert_int_equal(parse(file), more ? ADVROB_E_LIMIT : ADVROB_OK);
        free(file.data);
    }
    free(header);
}

static void test_layout(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t n;
        int32_t status;
    } rows[] = {
        {"{}", 1, ADVROB_E_FORMAT}, /* bytes that no tensor owns */
        {two, 13, ADVROB_E_FORMAT}, /* trailing bytes */
        {two, 11, ADVROB_E_FORMAT}, /* past the end of the file */
        {"{\"a\":" E("U8", "4", "0,4") ",\"b\":" E("U8", "4", "2,6") "}", 6, ADVROB_E_FORMAT},
        {"{\"a\":" E("U8", "4", "0,4") ",\"b\":" E("U8", "4", "0,4") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("U8", "6", "0,6") ",\"b\":" E("U8", "2", "2,4") "}", 6, ADVROB_E_FORMAT},
        {"{\"a\":" E("U8", "2", "0,2") ",\"b\":" E("U8", "2", "4,6") "}", 6, ADVROB_E_FORMAT},
        {"{\"a\":" E("U8", "2", "1,3") "}", 3, ADVROB_E_FORMAT},
        {"{\"a\":" E("U8", "4", "0,4") ",\"b\":" E("U8", "0", "2,2") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "1", "8,4") "}", 8, ADVROB_E_FORMAT}, /* end before begin */
        {"{\"a\":" E("F32", "1", "0,-1") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "1", "-1,4") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "1", "-4,0") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "1", "0,4.0") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "1", "0,4e0") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "1", "0,\"4\"") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "1", "0") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "1", "") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "1", "0,4,4") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "1", "0,18446744073709551615") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "1", "0,9223372036854775807") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "1", "9223372036854775803,9223372036854775807") "}", 4,
         ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "1000000", "0,4000000") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "1000,1000", "0,4") "}", 4, ADVROB_E_FORMAT}, /* shape over offsets */
        {"{\"a\":" E("F32", "1", "0,8") "}", 8, ADVROB_E_FORMAT},         /* and under */
        {"{\"a\":" E("F32", "0", "0,4") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "2", "0,0") "}", 0, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "50000000,50000000", "0,10") "}", 10, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "4294967296,4294967296", "0,0") "}", 0, ADVROB_E_LIMIT},
        {"{\"a\":" E("F32", "4294967297", "0,4") "}", 4, ADVROB_E_LIMIT},
        {"{\"a\":" E("F32", "2147483648", "0,0") "}", 0, ADVROB_E_LIMIT},
        {"{\"a\":" E("F32", "0,9223372036854775807", "0,0") "}", 0, ADVROB_E_LIMIT},
        {"{\"a\":" E("F32", "0,9223372036854775808", "0,0") "}", 0, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "2147483647,2147483647,2147483647", "0,0") "}", 0, ADVROB_E_OVERFLOW},
        {"{\"a\":" E("F64", "1073741824,1073741824,4", "0,0") "}", 0, ADVROB_E_OVERFLOW},
        {"{\"a\":" E("F32", "-1", "0,4") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "-1,-1", "0,4") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "1.0", "0,4") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "null", "0,4") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("F32", "[1]", "0,4") "}", 4, ADVROB_E_FORMAT},
        {"{\"a\":" E("U8", "1,1,1,1,1,1,1,1,1", "0,1") "}", 1, ADVROB_E_LIMIT},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_status(rows[i].header, rows[i].n, rows[i].status);
}

static void test_form(void **state) {
    (void)state;
    static const char *const headers[] = {
        "",
        " {}",
        "\n{}",
        "[]",
        "null",
        "{",
        "{}}",
        "{} x",
        "{}{}",
        "{\"a\":1}",
        "{\"a\":[]}",
        "{\"a\":{}}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"offsets\":[0,1]}}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":0}}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,1]}}",
        "{\"a\":{\"dtype\":1,\"shape\":[1],\"data_offsets\":[0,1]}}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]}}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":{},\"data_offsets\":[0,1]}}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":{\"0\":0,\"1\":1}}}",
        "{\"a\":" E("F7", "1", "0,1") "}",
        "{\"a\":" E("", "1", "0,1") "}",
        "{\"a\":" E("u8", "1", "0,1") "}",
        "{\"a\":" E("U8 ", "1", "0,1") "}",
        "{\"a\":" E("U8\\u0000", "1", "0,1") "}",
        "{\"a\":" E("U8", "1", "0,1") "",
        "{\"a\":" E("U8", "1", "0,1") ",}",
        "{\"a\":" E("U8", "1", "0,1") ",\"a\":" E("U8", "0", "1,1") "}",
        "{\"a\":" E("U8", "1", "0,1") ",\"\\u0061\":" E("U8", "0", "1,1") "}",
        "{\"a\\u0000b\":" E("U8", "1", "0,1") "}",
        "{\"\xff\":" E("U8", "1", "0,1") "}",
        "{\"\xed\xa0\x80\":" E("U8", "1", "0,1") "}",
        "{\"\\ud800\":" E("U8", "1", "0,1") "}",
        "{\"__metadata__\":1,\"a\":" E("U8", "1", "0,1") "}",
        "{\"__metadata__\":null,\"a\":" E("U8", "1", "0,1") "}",
        "{\"__metadata__\":\"x\",\"a\":" E("U8", "1", "0,1") "}",
        "{\"__metadata__\":{\"k\":1},\"a\":" E("U8", "1", "0,1") "}",
        "{\"__metadata__\":{\"k\":{\"l\":\"m\"}},\"a\":" E("U8", "1", "0,1") "}",
        "{\"__metadata__\":{\"k\":null},\"a\":" E("U8", "1", "0,1") "}",
        "{\"__metadata__\":{\"k\":\"\xff\"},\"a\":" E("U8", "1", "0,1") "}",
        "{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"},\"a\":" E("U8", "1", "0,1") "}",
        "{\"__metadata__\":{},\"__metadata__\":{},\"a\":" E("U8", "1", "0,1") "}",
        "{\"__metadata__\":" E("U8", "1", "0,1") "}",
    };
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
        assert_status(headers[i], 1, ADVROB_E_FORMAT);
}

/* Messages carry names from the file: cut, and on one line. */
static void test_messages(void **state) {
    (void)state;
    assert_status("{\"a\\nb\":" E("U9\\n", "1", "0,1") "}", 1, ADVROB_E_FORMAT);
    assert_non_null(strstr(ar_message(), "tensor \"a\\nb\": dtype \"U9\\n\", expected"));
    assert_null(strchr(ar_message(), '\n'));
    assert_status("{\"conv\":" E("F32", "10,2", "0,4") "}", 4, ADVROB_E_FORMAT);
    assert_non_null(strstr(ar_message(), "\"conv\": 4 bytes of data, expected 80"));
}

/* `before`, n times `c`, `after`. */
static char *long_text(const char *before, char c, size_t n, const char *after) {
    size_t a = strlen(before), b = strlen(after);
    char *text = malloc(a + n + b + 1);
    assert_non_null(text);
    memcpy(text, before, a);
    memset(text + a, c, n);
    memcpy(text + a + n, after, b + 1);
    return text;
}

static void test_long(void **state) {
    (void)state;
    const struct {
        const char *before;
        char c;
        size_t n;
        const char *after;
        int32_t status;
    } rows[] = {
        {"{\"", 'n', 1024, "\":" E("U8", "1", "0,1") "}", ADVROB_OK},
        {"{\"", 'n', 1025, "\":" E("U8", "1", "0,1") "}", ADVROB_E_LIMIT},
        {"{\"", 'n', 4000000, "\":" E("U8", "1", "0,1") "}", ADVROB_E_LIMIT},
        {"{\"a\":{\"dtype\":\"", 'F', 1000000, "\",\"shape\":[1],\"data_offsets\":[0,1]}}",
         ADVROB_E_FORMAT},
        {"{\"a\":", '[', 100000, "", ADVROB_E_FORMAT},
        {"{\"__metadata__\":{\"k\":\"", 'v', 4000000, "\"},\"a\":" E("U8", "1", "0,1") "}",
         ADVROB_OK},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *header = long_text(rows[i].before, rows[i].c, rows[i].n, rows[i].after);
        assert_status(header, 1, rows[i].status);
        free(header);
    }
    /* A shape of a million sizes. */
    char *header = malloc(2000100), *to = header;
    assert_non_null(header);
    to += ar_format(to, 64, "{\"a\":{\"dtype\":\"U8\",\"shape\":[1");
    for (int i = 0; i < 1000000; i++, to += 2)
        memcpy(to, ",1", 2);
    memcpy(to, "],\"data_offsets\":[0,1]}}", 25);
    assert_status(header, 1, ADVROB_E_FORMAT);
    free(header);
}

/* n entries of one byte, names falling, by `kind`: right, all the same name, all over each other.
 */
static char *many(int n, int kind) {
    char *header = malloc((size_t)n * 80 + 2), *to = header;
    assert_non_null(header);
    *to++ = '{';
    for (int i = 0; i < n; i++)
        to += ar_format(
            to, 80, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
            i ? "," : "", kind == 1 ? 0 : n - i, kind == 2 ? 0 : i, kind == 2 ? 1 : i + 1);
    memcpy(to, "}", 2);
    return header;
}

static void test_many_tensors(void **state) {
    (void)state;
    static const struct {
        int n, kind;
        int32_t status;
    } rows[] = {
        {65536, 0, ADVROB_OK},       {65537, 0, ADVROB_E_LIMIT},  {10000, 1, ADVROB_E_FORMAT},
        {10000, 2, ADVROB_E_FORMAT}, {200000, 2, ADVROB_E_LIMIT},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *header = many(rows[i].n, rows[i].kind);
        double from = ar_clock();
        assert_status(header, (size_t)rows[i].n, rows[i].status);
        assert_true(ar_clock() - from < 5.0); /* quadratic checks take minutes */
        free(header);
    }
}

static void test_many_metadata(void **state) {
    (void)state;
    for (int n = 4096; n <= 4097; n++) {
        char *header = malloc((size_t)n * 16 + 64), *to = header;
        assert_non_null(header);
        to += ar_format(to, 64, "{\"__metadata__\":{");
        for (int i = 0; i < n; i++)
            to += ar_format(to, 16, "%s\"%d\":\"\"", i ? "," : "", i);
        memcpy(to, "}}", 3);
        assert_status(header, 0, n == 4096 ? ADVROB_OK : ADVROB_E_FORMAT);
        free(header);
    }
}

/* Cuts and flips */

static const char rich[] =
    "{\"__metadata__\":{\"format\":\"pt\"},\"w\":" E("F32", "2,2", "0,16") ",\"e\":" E(
        "F16", "0", "16,16") ",\"n\\u00e9\":" E("I64", "", "16,24") "}";

static void test_every_cut(void **state) {
    (void)state;
    image file = make_text(rich, 24);
    assert_int_equal(parse(file), ADVROB_OK);
    for (size_t size = 0; size < file.size; size++) {
        image cut = {malloc(size ? size : 1), size};
        memcpy(cut.data, file.data, size);
        assert_int_equal(parse(cut), ADVROB_E_FORMAT);
        free(cut.data);
    }
    free(file.data);
}

static void test_every_bit(void **state) {
    (void)state;
    image file = make_text(rich, 24);
    int parsed = 0;
    for (size_t bit = 0; bit < file.size * 8; bit++) {
        file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        parsed += parse(file) == ADVROB_OK; /* which checks that it is consistent */
        file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(parsed >= 24 * 8); /* flips in the data stay unseen */
    free(file.data);
}

/* Values */

static void test_copy(void **state) {
    (void)state;
    const float values[3] = {1.5f, -0.0f, 3e38f};
    ar_real copy[3];
    uint8_t bytes[13];
    memcpy(bytes + 1, values, 12); /* not aligned */
    ar_stored t = {.name = "w", .dtype = "F32", .rank = 1, .shape = {3}, .count = 3, .size = 12};
    t.data = bytes + 1;
    assert_int_equal(ar_stored_copy(&t, "f", copy), ADVROB_OK);
    for (int i = 0; i < 3; i++)
        assert_true(copy[i] == values[i]);
    const float bad[3] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        memcpy(bytes + 9, &bad[i], 4);
        assert_int_equal(ar_stored_copy(&t, "f", copy), ADVROB_E_NONFINITE);
        assert_non_null(strstr(ar_message(), "f: tensor \"w\": element 2"));
    }
    t.dtype = "I32";
    assert_int_equal(ar_stored_copy(&t, "f", copy), ADVROB_E_FORMAT);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_reads),     TEST(test_accepts),      TEST(test_header_length),
        TEST(test_layout),    TEST(test_form),         TEST(test_messages),
        TEST(test_long),      TEST(test_many_tensors), TEST(test_many_metadata),
        TEST(test_every_cut), TEST(test_every_bit),    TEST(test_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
