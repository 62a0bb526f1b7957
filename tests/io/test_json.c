/* The JSON reader: what it takes, what it refuses and where, limits; and the writer's helpers. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"

#define MAX_VALUES 100000

static ar_memory memory;
static ar_arena arena;

static int set_up(void **state) {
    (void)state;
    ar_memory_init(&memory, NULL, NULL);
    ar_arena_init(&arena, &memory);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    ar_arena_free(&arena);
    assert_int_equal(memory.used, 0);
    return 0;
}

/* From a block of exactly the text's size, so that a sanitizer sees a read past it. */
static int32_t parse_bytes(const char *text, size_t size, size_t max_values, ar_json **out) {
    char *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, text, size);
    int32_t status = ar_json_parse("t", copy, size, max_values, &arena, out);
    free(copy); /* the tree must not point into it */
    return status;
}

static int32_t parse(const char *text, ar_json **out) {
    return parse_bytes(text, strlen(text), MAX_VALUES, out);
}

static void test_values(void **state) {
    (void)state;
    ar_json *v;
    assert_int_equal(
        parse(" {\"a\": [1, -2.5e-1, true, false, null, \"x\"], \"b\": {}, \"\": []}\n", &v),
        ADVROB_OK);
    assert_int_equal(v->kind, AR_JSON_OBJECT);
    assert_int_equal(v->count, 3);
    assert_string_equal(v->keys[0], "a"); /* in the file's order */
    assert_string_equal(v->keys[2], "");
    const ar_json *a = ar_json_get(v, "a");
    assert_ptr_equal(a, &v->items[0]);
    assert_int_equal(a->kind, AR_JSON_ARRAY);
    assert_int_equal(a->count, 6);
    assert_true(a->items[0].integer && a->items[0].whole == 1 && a->items[0].number == 1.0);
    assert_true(!a->items[1].integer && a->items[1].number == -0.25);
    assert_true(a->items[2].kind == AR_JSON_BOOL && a->items[2].truth);
    assert_true(a->items[3].kind == AR_JSON_BOOL && !a->items[3].truth);
    assert_int_equal(a->items[4].kind, AR_JSON_NULL);
    assert_string_equal(a->items[5].text, "x");
    assert_int_equal(ar_json_get(v, "b")->kind, AR_JSON_OBJECT);
    assert_int_equal(ar_json_get(v, "b")->count, 0);
    assert_int_equal(ar_json_get(v, "")->count, 0);
    assert_null(ar_json_get(v, "c"));
    assert_null(ar_json_get(a, "c"));
    assert_null(ar_json_get(NULL, "c"));
}

static void test_nested_containers_keep_their_items(void **state) {
    (void)state;
    ar_json *v;
    assert_int_equal(parse("[[1,[2,3],{\"k\":[4]}],5,[[]],{\"m\":6,\"n\":[7,8]}]", &v), ADVROB_OK);
    assert_int_equal(v->count, 4);
    assert_int_equal(v->items[0].items[0].whole, 1);
    assert_int_equal(v->items[0].items[1].items[1].whole, 3);
    assert_int_equal(ar_json_get(&v->items[0].items[2], "k")->items[0].whole, 4);
    assert_int_equal(v->items[1].whole, 5);
    assert_int_equal(v->items[2].items[0].count, 0);
    assert_int_equal(ar_json_get(&v->items[3], "m")->whole, 6);
    assert_int_equal(ar_json_get(&v->items[3], "n")->items[1].whole, 8);
}

static void test_numbers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double number;
        bool integer;
        int64_t whole;
    } rows[] = {
        {"0", 0, true, 0},
        {"-0", -0.0, true, 0},
        {"9223372036854775807", 9223372036854775807.0, true, INT64_MAX},
        {"-9223372036854775808", -9223372036854775808.0, true, INT64_MIN},
        {"9223372036854775808", 9223372036854775808.0, false, 0},
        {"1.0", 1, false, 0},
        {"1e2", 100, false, 0},
        {"1E+2", 100, false, 0},
        {"0.1", 0.1, false, 0},
        {"1e-400", 0, false, 0},
        {"1.7976931348623157e308", 1.7976931348623157e308, false, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ar_json *v;
        assert_int_equal(parse(rows[i].text, &v), ADVROB_OK);
        assert_int_equal(v->kind, AR_JSON_NUMBER);
        assert_true(v->number == rows[i].number);
        assert_int_equal(!signbit(v->number), !signbit(rows[i].number));
        assert_int_equal(v->integer, rows[i].integer);
        if (v->integer) assert_true(v->whole == rows[i].whole);
    }
}

static void test_strings(void **state) {
    (void)state;
    static const struct {
        const char *text, *value;
    } rows[] = {
        {"\"\"", ""},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"a\\u00e9\\u20ac\\uD83D\\ude00z\"", "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z"},
        {"\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\"\\u007f\\u0080\\u07ff\\u0800\\uffff\"", "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf"},
        {"\"\\udbff\\udfff\"", "\xf4\x8f\xbf\xbf"},
        {"\"\x7f\"", "\x7f"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ar_json *v;
        assert_int_equal(parse(rows[i].text, &v), ADVROB_OK);
        assert_int_equal(v->kind, AR_JSON_STRING);
        assert_string_equal(v->text, rows[i].value);
        assert_int_equal(v->length, strlen(rows[i].value));
    }
}

static const struct {
    const char *text;
    int at; /* the byte that the message names */
} refused[] = {
    {"", 0},
    {"  ", 2},
    {"nul", 0},
    {"nulll", 4},
    {"True", 0},
    {"NaN", 0},
    {"Infinity", 0},
    {"-Infinity", 1},
    {"+1", 0},
    {"01", 1},
    {"-", 1},
    {"1.", 2},
    {".5", 0},
    {"1e", 2},
    {"1e+", 3},
    {"0x10", 1},
    {"1_000", 1},
    {"1e309", 0},
    {"-1e309", 0},
    {"1 2", 2},
    {"[1,]", 3},
    {"[,1]", 1},
    {"[1 2]", 3},
    {"[1", 2},
    {"[", 1},
    {"]", 0},
    {"[1}", 2},
    {"{\"a\":1,}", 7},
    {"{,}", 1},
    {"{\"a\"}", 4},
    {"{\"a\" 1}", 5},
    {"{\"a\":}", 5},
    {"{a:1}", 1},
    {"{'a':1}", 1},
    {"{1:1}", 1},
    {"{\"a\":1", 6},
    {"{\"a\":1]", 6},
    {"{", 1},
    {"[1]//", 3},
    {"\xef\xbb\xbf[]", 0},
    {"\"a", 2},
    {"\"\\", 2},
    {"\"\\\"", 3},
    {"\"\\x41\"", 2},
    {"\"\\u12\"", 5},
    {"\"\\u12g4\"", 5},
    {"\"\\u", 3},
    {"\"\\u0000\"", 1},
    {"\"\\ud800\"", 1},
    {"\"\\ud800\\n\"", 1},
    {"\"\\ud800\\u0041\"", 1},
    {"\"\\ud800\\ud800\"", 1},
    {"\"\\udc00\"", 1},
    {"\"\\ud800\\u", 9},
    {"\"a\nb\"", 2},
    {"\"\x01\"", 1},
    {"\"\x80\"", 1},
    {"\"\xc0\x80\"", 1},
    {"\"\xc1\xbf\"", 1},
    {"\"\xc3\"", 1},
    {"\"\xe0\x80\x80\"", 1},
    {"\"\xed\xa0\x80\"", 1},
    {"\"\xe2\x82\"", 1},
    {"\"\xf0\x80\x80\x80\"", 1},
    {"\"\xf4\x90\x80\x80\"", 1},
    {"\"\xf5\x80\x80\x80\"", 1},
    {"\"\xff\"", 1},
    {"\"\xe2\x82", 1},
    {"{\"a\":1,\"b\":2,\"a\":3}", 0},
    {"[0,{\"a\":1,\"\\u0061\":3}]", 3},
    {"{\"\xff\":1}", 2},
};

static void test_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        ar_json *v = (ar_json *)&v;
        char place[32];
        assert_int_equal(parse(refused[i].text, &v), ADVROB_E_FORMAT);
        assert_null(v);
        ar_format(place, sizeof(place), "t: JSON byte %d: ", refused[i].at);
        if (!strstr(ar_message(), place)) fail_msg("%s: %s", refused[i].text, ar_message());
    }
    ar_json *v;
    assert_int_equal(parse_bytes("[\0]", 3, MAX_VALUES, &v), ADVROB_E_FORMAT);
    assert_int_equal(parse_bytes("\"a\0b\"", 5, MAX_VALUES, &v), ADVROB_E_FORMAT);
    assert_int_equal(parse_bytes("[]\0", 3, MAX_VALUES, &v), ADVROB_E_FORMAT);
}

static void test_every_cut_is_refused(void **state) {
    (void)state;
    static const char text[] =
        "{\"a\":[1.5e-3,true,null,\"\\ud83d\\ude00\xe2\x82\xac\"],\"b\":{\"c\":-0}}";
    ar_json *v;
    assert_int_equal(parse(text, &v), ADVROB_OK);
    for (size_t size = 0; size < strlen(text); size++)
        assert_int_equal(parse_bytes(text, size, MAX_VALUES, &v), ADVROB_E_FORMAT);
}

static void test_depth(void **state) {
    (void)state;
    size_t size = 100000;
    char *text = malloc(size);
    ar_json *v;
    assert_non_null(text);
    memset(text, '[', size);
    assert_int_equal(parse_bytes(text, size, MAX_VALUES, &v), ADVROB_E_FORMAT);
    memset(text + 32, ']', 32);
    assert_int_equal(parse_bytes(text, 64, MAX_VALUES, &v), ADVROB_OK);
    text[32] = '[';
    memset(text + 33, ']', 33);
    assert_int_equal(parse_bytes(text, 66, MAX_VALUES, &v), ADVROB_E_FORMAT);
    assert_non_null(strstr(ar_message(), "byte 32: nested over 32 deep"));
    for (size_t i = 0; i + 5 <= size; i += 5)
        memcpy(text + i, "{\"a\":", 5);
    assert_int_equal(parse_bytes(text, size, MAX_VALUES, &v), ADVROB_E_FORMAT);
    free(text);
}

static void test_number_of_values(void **state) {
    (void)state;
    ar_json *v;
    const char *text = "[1,{\"a\":2},[]]";
    assert_int_equal(parse_bytes(text, strlen(text), 5, &v), ADVROB_OK);
    uint64_t used = memory.used;
    assert_int_equal(parse_bytes(text, strlen(text), 4, &v), ADVROB_E_FORMAT);
    assert_int_equal(parse_bytes(text, strlen(text), 0, &v), ADVROB_E_FORMAT);
    assert_int_equal(memory.used, used); /* counted before memory is taken */
}

static char *many_keys(size_t n, bool equal, size_t *size) {
    char *text = malloc(n * 16 + 2), *to = text;
    assert_non_null(text);
    for (size_t i = 0; i < n; i++) {
        /* Falling, so that the sort has to work. */
        *to++ = i ? ',' : '{';
        to += ar_format(to, 16, "\"%d\":0", equal ? 7 : (int)(n - i));
    }
    *to++ = '}';
    *size = (size_t)(to - text);
    return text;
}

static void test_many_keys(void **state) {
    (void)state;
    size_t size;
    ar_json *v;
    char *text = many_keys(90000, false, &size);
    double from = ar_clock();
    assert_int_equal(parse_bytes(text, size, MAX_VALUES, &v), ADVROB_OK);
    assert_true(ar_clock() - from < 2.0); /* a quadratic check takes many times that */
    assert_string_equal(v->keys[0], "90000");
    free(text);
    text = many_keys(10000, true, &size);
    assert_int_equal(parse_bytes(text, size, MAX_VALUES, &v), ADVROB_E_FORMAT);
    assert_non_null(strstr(ar_message(), "two keys \"7\""));
    free(text);
}

static void test_walk(void **state) {
    (void)state;
    static const char text[] = " {\"a\" : [1, 2] , \"b\":\"c\",\"a\":{\"d\":null}} ";
    ar_json_walk walk = {.name = "w", .text = text, .size = sizeof(text) - 1};
    const char *key;
    ar_json *value;
    assert_int_equal(ar_json_walk_next(&walk, 3, &arena, &key, &value), ADVROB_OK);
    assert_string_equal(key, "a");
    assert_int_equal(value->items[1].whole, 2);
    assert_int_equal(ar_json_walk_next(&walk, 3, &arena, &key, &value), ADVROB_OK);
    assert_string_equal(key, "b");
    assert_string_equal(value->text, "c");
    assert_int_equal(ar_json_walk_next(&walk, 3, &arena, &key, &value), ADVROB_OK);
    assert_string_equal(key, "a");
    assert_int_equal(ar_json_get(value, "d")->kind, AR_JSON_NULL);
    assert_int_equal(ar_json_walk_next(&walk, 3, &arena, &key, &value), ADVROB_OK);
    assert_null(key);
    assert_null(value);
}

static void test_walk_refuses(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",           "[]",   "{",          "{,}", "{\"a\"}",  "{\"a\":1",    "{\"a\":1,",
        "{\"a\":1,}", "{} x", "{\"a\":1}}", "{a}", "{\"a\":}", "{\"a\":1 2}", "{\"a\":[1,2,3]}"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        ar_json_walk walk = {.name = "w", .text = texts[i], .size = strlen(texts[i])};
        const char *key;
        ar_json *value;
        int32_t status;
        do {
            status = ar_json_walk_next(&walk, 3, &arena, &key, &value);
        } while (status == ADVROB_OK && key);
        assert_int_equal(status, ADVROB_E_FORMAT);
    }
}

static void test_writing(void **state) {
    (void)state;
    ar_buffer b;
    ar_buffer_init(&b, &memory);
    ar_json_write_string(&b, "a\"\\\n\r\t\x01\x1f/\xc3\xa9");
    ar_json_write_f64(&b, 0.1);
    ar_buffer_add(&b, " ");
    ar_json_write_f64(&b, -1.0 / 0.0);
    ar_json_write_string(&b, "");
    assert_int_equal(ar_buffer_status(&b), ADVROB_OK);
    assert_string_equal(b.data, "\"a\\\"\\\\\\n\\r\\t\\u0001\\u001f/\xc3\xa9\"0.1 null\"\"");
    ar_buffer_free(&b);
}

static void test_quote(void **state) {
    (void)state;
    char text[16];
    ar_json_quote(text, sizeof(text), "a\nb");
    assert_string_equal(text, "\"a\\nb\"");
    ar_json_quote(text, sizeof(text), "0123456789abcdef");
    assert_string_equal(text, "\"0123456789...\"");
    ar_json_quote(text, sizeof(text), "012345678\xc3\xa9z"); /* no half characters */
    assert_string_equal(text, "\"012345678...\"");
    ar_json_quote(text, sizeof(text), "\xff\x01");
    assert_string_equal(text, "\"?\\u0001\"");
    for (size_t size = 0; size < sizeof(text); size++) {
        memset(text, 'x', sizeof(text));
        ar_json_quote(text, size, "ab\x01\xe2\x82\xac");
        for (size_t i = size; i < sizeof(text); i++)
            assert_int_equal(text[i], 'x');
        if (size > 0) assert_true(strlen(text) < size);
    }
}

/* Every allocation fails once: an error, nothing left, and in the end success. */
static void test_out_of_memory(void **state) {
    (void)state;
    size_t size;
    char *text = many_keys(50, false, &size);
    int32_t status = ADVROB_E_NOMEM;
    for (int64_t n = 1; status != ADVROB_OK; n++) {
        test_allocator allocator = {.fail_at = n};
        ar_memory faulty;
        ar_arena tree;
        ar_json *v;
        assert_true(n < 100);
        ar_memory_init(&faulty, test_alloc, &allocator);
        ar_arena_init(&tree, &faulty);
        status = ar_json_parse("t", text, size, MAX_VALUES, &tree, &v);
        assert_true(status == ADVROB_OK || status == ADVROB_E_NOMEM);
        ar_arena_free(&tree);
        test_allocator_check(&allocator);
        if (n == 1) assert_int_equal(status, ADVROB_E_NOMEM);
    }
    free(text);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_values),       TEST(test_nested_containers_keep_their_items),
        TEST(test_numbers),      TEST(test_strings),
        TEST(test_refused),      TEST(test_every_cut_is_refused),
        TEST(test_depth),        TEST(test_number_of_values),
        TEST(test_many_keys),    TEST(test_walk),
        TEST(test_walk_refuses), TEST(test_writing),
        TEST(test_quote),        TEST(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
