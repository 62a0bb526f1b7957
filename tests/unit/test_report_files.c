/* Reports as files: what is written comes back as it was, damaged CSV is named by its line, JSON is
 * JSON, and a write that fails leaves the old file. */
#include "support/support.h"

#include <errno.h>
#include <float.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report/report.h"
#include "support/golden.h"

typedef struct place {
    advrob_context *ctx;
    char folder[512], csv[600], json[600];
} place;

static void open_place(place *p, test_allocator *allocator) {
    p->ctx = test_context_with(allocator, 1);
    test_folder_make(p->folder, sizeof p->folder);
    snprintf(p->csv, sizeof p->csv, "%s/r.csv", p->folder);
    snprintf(p->json, sizeof p->json, "%s/r.json", p->folder);
}

static void close_place(place *p) {
    test_folder_remove(p->folder);
    ar_context_release(p->ctx);
}

static advrob_report *open_report(advrob_context *ctx) {
    advrob_report *report = NULL;
    test_ok(advrob_report_create(ctx, &report));
    return report;
}

static void write_text(const char *path, const char *text, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* The file's text; freed by the caller. */
static char *read_text(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    char *text = calloc(1 << 20, 1);
    assert_non_null(file);
    *size = fread(text, 1, (1 << 20) - 1, file);
    fclose(file);
    return text;
}

/* ---- there and back ---- */

static const char *const texts[] = {
    "plain", "a,b",   "say \"no\"", "\"",  "two\nlines", "\r\n", "",
    " ",     " lead", "7",          "-3",  "1e5",        "0.5",  "nan",
    "inf",   "-inf",  "+1",         "1.",  "0x10",       "007",  "caf\xc3\xa9",
    ",",     "\n",    "\"\"",       "1,5", "tab\there",  "-",    "99999999999999999999",
    "\r",    "a\rb",  "1e999"};
static const double numbers[] = {0.1,     1.0 / 3,  0.1 + 0.2,           -2.5e-300, 5e-324,
                                 DBL_MAX, -DBL_MIN, 123456789.123456789, 1e22,      3,
                                 -0.0,    1e300,    9007199254740993.0,  INFINITY,  -INFINITY,
                                 1e-5,    123456.7};
static const int64_t wholes[] = {0, 1, -1, INT64_MAX, INT64_MIN, 1234567890123456789};
enum {
    TEXTS = sizeof texts / sizeof texts[0],
    NUMBERS = sizeof numbers / sizeof numbers[0],
    WHOLES = sizeof wholes / sizeof wholes[0],
    ROWS = TEXTS
};

/* A row per text; columns of all kinds with holes, one of them with an awkward name. */
static advrob_report *full_report(advrob_context *ctx) {
    advrob_report *report = open_report(ctx);
    test_ok(advrob_report_add_column(report, "never put"));
    for (int32_t i = 0; i < ROWS; i++) {
        test_ok(advrob_report_add_row(report));
        if (i % 4 != 1) test_ok(advrob_report_put_str(report, "text", texts[i]));
        if (i % 3 != 1)
            test_ok(advrob_report_put_f64(report, "a \"number\", so", numbers[i % NUMBERS]));
        if (i % 5 != 2) test_ok(advrob_report_put_i64(report, "whole", wholes[i % WHOLES]));
        if (i % 4 == 1) test_ok(advrob_report_put_str(report, "late", texts[i]));
    }
    return report;
}

static void check_text(const advrob_report *report, int32_t row, const char *column,
                       const char *expected) {
    const char *text = NULL;
    if (expected == NULL) {
        assert_int_equal(advrob_report_get_str(report, row, column, &text), ADVROB_E_UNKNOWN);
        return;
    }
    test_ok(advrob_report_get_str(report, row, column, &text));
    assert_string_equal(text, expected);
}

static void check_full(const advrob_report *report, int32_t from) {
    double value;
    for (int32_t i = 0; i < ROWS; i++) {
        int32_t row = from + i;
        check_text(report, row, "text", i % 4 != 1 ? texts[i] : NULL);
        check_text(report, row, "late", i % 4 == 1 ? texts[i] : NULL);
        assert_null(ar_report_get(report, row, "never put"));
        if (i % 3 == 1) {
            assert_null(ar_report_get(report, row, "a \"number\", so"));
        } else {
            test_ok(advrob_report_get_f64(report, row, "a \"number\", so", &value));
            assert_true(value == numbers[i % NUMBERS]);
        }
        const ar_cell *cell = ar_report_get(report, row, "whole");
        assert_true((cell == NULL) == (i % 5 == 2));
        if (cell != NULL)
            assert_true(cell->kind == ADVROB_TYPE_I64 && cell->whole == wholes[i % WHOLES]);
    }
}

static void test_round_trip(void **state) {
    (void)state;
    static test_allocator allocator;
    place p;
    size_t size[2];
    open_place(&p, &allocator);
    advrob_report *report = full_report(p.ctx), *back = open_report(p.ctx);
    check_full(report, 0);
    test_ok(advrob_report_write(report, p.csv));
    char *first = read_text(p.csv, &size[0]);
    test_ok(advrob_report_read_csv(back, p.csv));
    assert_int_equal(advrob_report_rows(back), ROWS);
    check_full(back, 0);
    test_ok(advrob_report_write(back, p.csv));
    char *second = read_text(p.csv, &size[1]);
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(first, second, size[0]);
    /* Rows are appended; the report's own columns stay in front. */
    test_ok(advrob_report_read_csv(report, p.csv));
    assert_int_equal(advrob_report_rows(report), 2 * ROWS);
    check_full(report, 0);
    check_full(report, ROWS);
    free(first);
    free(second);
    advrob_report_destroy(report);
    advrob_report_destroy(back);
    close_place(&p);
    test_allocator_check(&allocator);
}

/* What the file looks like, byte for byte, and that others' line ends are read. */
static void test_form(void **state) {
    (void)state;
    place p;
    size_t size;
    double value;
    open_place(&p, NULL);
    advrob_report *report = open_report(p.ctx);
    test_ok(advrob_report_add_column(report, "b"));
    test_ok(advrob_report_add_row(report));
    test_ok(advrob_report_put_str(report, "model", "a, \"b\"\nc"));
    test_ok(advrob_report_put_f64(report, "accuracy", 0.1 + 0.2));
    test_ok(advrob_report_add_row(report));
    test_ok(advrob_report_put_i64(report, "b", 12));
    test_ok(advrob_report_put_str(report, "model", "12"));
    test_ok(advrob_report_put_f64(report, "accuracy", NAN));
    test_ok(advrob_report_write(report, p.csv));
    char *text = read_text(p.csv, &size);
    assert_string_equal(text, "b,model,accuracy\n"
                              ",\"a, \"\"b\"\"\nc\",0.30000000000000004\n"
                              "12,\"12\",nan\n");
    free(text);
    advrob_report_destroy(report);
    static const char other[] = "x,\"y\"\r\n1,\" two \"\r\n,\r\n2.5,\"3\"";
    report = open_report(p.ctx);
    write_text(p.csv, other, sizeof other - 1);
    test_ok(advrob_report_read_csv(report, p.csv));
    assert_int_equal(advrob_report_rows(report), 3);
    test_ok(advrob_report_get_f64(report, 0, "x", &value));
    assert_true(value == 1);
    check_text(report, 0, "y", " two ");
    assert_null(ar_report_get(report, 1, "x"));
    assert_null(ar_report_get(report, 1, "y"));
    check_text(report, 2, "y", "3");
    assert_int_equal(advrob_report_get_f64(report, 2, "y", &value), ADVROB_E_INVALID);
    assert_int_equal(advrob_report_get_f64(report, 3, "y", &value), ADVROB_E_UNKNOWN);
    assert_int_equal(advrob_report_get_f64(report, 2, "z", &value), ADVROB_E_UNKNOWN);
    advrob_report_destroy(report);
    close_place(&p);
}

/* ---- damage ---- */

static void damaged(place *p, const char *text, size_t size, int32_t status, const char *says) {
    advrob_report *report = open_report(p->ctx);
    test_ok(advrob_report_add_row(report));
    test_ok(advrob_report_put_i64(report, "mine", 5));
    write_text(p->csv, text, size);
    int32_t got = advrob_report_read_csv(report, p->csv);
    if (got != status || strstr(ar_message(), says) == NULL)
        fail_msg("\"%s\": %d, %s", text, got, ar_message());
    assert_int_equal(advrob_report_rows(report), 1); /* no half of a file */
    assert_true(ar_report_get(report, 0, "mine")->whole == 5);
    advrob_report_destroy(report);
}

static void test_damaged(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"a,b\n1,2\n3\n", "line 3: fewer than 2"},
        {"a,b\n1,2\n3,4,5\n", "line 3: more than 2"},
        {"a,b\n1,2\n\n", "line 3: fewer"},
        {"a,b\n1,\"2\n3,4\n", "line 2: a quote is not closed"},
        {"a,b\n1,\"2\"x\n", "line 2: text after"},
        {"a,b\n\"1\n\n\",2\n3\n", "line 5: fewer"}, /* lines within quotes count */
        {"a,b\n\"x\ny\",\"2\n", "line 3: a quote"},
        {"a,a\n1,2\n", "line 1: column 2"},
        {"a,,b\n1,2,3\n", "line 1: column 2"},
        {"a,b,\n1,2,3\n", "line 1: column 3"},
        {"\n", "line 1: column 1"},
        {"", "line 1: column 1"},
        {"\"a", "line 1: a quote"},
    };
    static test_allocator allocator;
    place p;
    open_place(&p, &allocator);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        damaged(&p, bad[i].text, strlen(bad[i].text), ADVROB_E_FORMAT, bad[i].says);
    damaged(&p, "a,b\n1,\0002\n", 9, ADVROB_E_FORMAT, "zero byte");
    char *many = malloc(16384), *end = many;
    for (int32_t i = 0; i < 1025; i++)
        end += sprintf(end, i == 0 ? "c%d" : ",c%d", i);
    damaged(&p, many, (size_t)(end - many), ADVROB_E_LIMIT, "1024");
    end[-6] = 0; /* one column less is fine */
    advrob_report *report = open_report(p.ctx);
    write_text(p.csv, many, strlen(many));
    test_ok(advrob_report_read_csv(report, p.csv));
    assert_true(report->column_count == 1024 && advrob_report_rows(report) == 0);
    free(many);
    remove(p.csv);
    assert_int_equal(advrob_report_read_csv(report, p.csv), ADVROB_E_IO);
    assert_non_null(strstr(ar_message(), "r.csv"));
    advrob_report_destroy(report);
    close_place(&p);
    test_allocator_check(&allocator);
}

/* ---- JSON ---- */

static void check_json_row(const ar_json *row, int32_t i) {
    const ar_json *v = ar_json_get(row, "text");
    double number = numbers[i % NUMBERS];
    assert_int_equal(row->kind, AR_JSON_OBJECT);
    assert_null(ar_json_get(row, "never put"));
    assert_true((v == NULL) == (i % 4 == 1));
    if (v != NULL) assert_true(v->kind == AR_JSON_STRING && strcmp(v->text, texts[i]) == 0);
    v = ar_json_get(row, "a \"number\", so");
    assert_true((v == NULL) == (i % 3 == 1));
    if (v != NULL && isfinite(number)) {
        assert_true(v->kind == AR_JSON_NUMBER && v->number == number);
    } else if (v != NULL) {
        assert_int_equal(v->kind, AR_JSON_NULL);
    }
    v = ar_json_get(row, "whole");
    assert_true((v == NULL) == (i % 5 == 2));
    if (v != NULL) assert_true(v->integer && v->whole == wholes[i % WHOLES]);
}

static void test_json(void **state) {
    (void)state;
    static test_allocator allocator;
    place p;
    size_t size;
    ar_arena arena;
    ar_json *root = NULL;
    open_place(&p, &allocator);
    for (int32_t empty = 0; empty < 2; empty++) {
        advrob_report *report = empty ? open_report(p.ctx) : full_report(p.ctx);
        if (!empty) {
            test_ok(advrob_report_set_str(report, "data\tset", "fashion \"mnist\"\x01\\"));
            test_ok(advrob_report_set_f64(report, "epsilon", 8.0 / 255));
            test_ok(advrob_report_set_f64(report, "limit", NAN));
            test_ok(advrob_report_set_f64(report, "epsilon", 0.1)); /* replaces */
        }
        test_ok(advrob_report_write(report, p.json));
        char *text = read_text(p.json, &size);
        ar_arena_init(&arena, &p.ctx->memory);
        test_ok(ar_json_parse("r.json", text, size, 10000, &arena, &root));
        const ar_json *settings = ar_json_get(root, "settings"), *rows = ar_json_get(root, "rows");
        assert_true(settings->kind == AR_JSON_OBJECT && rows->kind == AR_JSON_ARRAY);
        assert_int_equal(rows->count, empty ? 0 : ROWS);
        assert_int_equal(settings->count, empty ? 0 : 3);
        for (size_t i = 0; i < rows->count; i++)
            check_json_row(&rows->items[i], (int32_t)i);
        if (!empty) {
            assert_string_equal(ar_json_get(settings, "data\tset")->text,
                                "fashion \"mnist\"\x01\\");
            assert_true(ar_json_get(settings, "epsilon")->number == 0.1);
            assert_int_equal(ar_json_get(settings, "limit")->kind, AR_JSON_NULL);
        }
        free(text);
        ar_arena_free(&arena);
        advrob_report_destroy(report);
    }
    close_place(&p);
    test_allocator_check(&allocator);
}

/* ---- writing fails ---- */

static void test_unwritable(void **state) {
    (void)state;
    place p;
    char path[700];
    struct stat info;
    open_place(&p, NULL);
    advrob_report *report = full_report(p.ctx);
    static const char *const endings[] = {"r.txt", "r", "r.csv.gz", "csv", "r.CSV", ".cs"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", p.folder, endings[i]);
        assert_int_equal(advrob_report_write(report, path), ADVROB_E_UNSUPPORTED);
        assert_non_null(strstr(ar_message(), ".json"));
        assert_true(stat(path, &info) != 0);
    }
    snprintf(path, sizeof path, "%s/nowhere/r.csv", p.folder);
    assert_int_equal(advrob_report_write(report, path), ADVROB_E_IO);
    assert_non_null(strstr(ar_message(), "nowhere"));
    snprintf(path, sizeof path, "%s/folder.csv", p.folder);
    assert_int_equal(mkdir(path, 0777), 0);
    assert_int_equal(advrob_report_write(report, path), ADVROB_E_IO);
    rmdir(path);
    assert_int_equal(test_folder_count(p.folder), 0);
    advrob_report_destroy(report);
    close_place(&p);
}

/* Each file operation fails in turn: the old file stays, or the new one is whole. */
static void check_failures(place *p, const char *path) {
    static const char old[] = "the old file";
    size_t size, whole;
    advrob_report *report = full_report(p->ctx);
    test_ok(advrob_report_write(report, path));
    char *expected = read_text(path, &whole);
    int32_t kept = 0;
    for (int64_t k = 1;; k++) {
        test_files files = {.fail_at = k, .error = ENOSPC};
        write_text(path, old, sizeof old - 1);
        test_files_use(p->ctx, &files);
        int32_t status = advrob_report_write(report, path);
        test_files_use(p->ctx, NULL);
        if (files.failed == NULL) break;
        char *text = read_text(path, &size);
        if (status < 0) {
            assert_int_equal(status, ADVROB_E_IO);
            assert_true(size == sizeof old - 1 && memcmp(text, old, size) == 0);
            kept++;
        } else {
            assert_true(size == whole && memcmp(text, expected, size) == 0);
        }
        free(text);
        assert_true(files.opened == files.closed);
        assert_int_equal(test_folder_count(p->folder), 1);
    }
    assert_true(kept >= 4); /* create, write, sync, rename at least */
    remove(path);
    free(expected);
    advrob_report_destroy(report);
}

static void test_failing_files(void **state) {
    (void)state;
    static test_allocator allocator;
    place p;
    test_guard guard = test_guard_begin();
    open_place(&p, &allocator);
    check_failures(&p, p.csv);
    check_failures(&p, p.json);
    close_place(&p);
    test_allocator_check(&allocator);
    test_guard_check(&guard);
}

static void test_misuse(void **state) {
    (void)state;
    advrob_context *ctx = test_context(1);
    advrob_report *report = open_report(ctx);
    assert_int_equal(advrob_report_put_f64(report, "a", 1), ADVROB_E_INVALID); /* no row yet */
    assert_int_equal(advrob_report_add_column(report, ""), ADVROB_E_INVALID);
    test_ok(advrob_report_add_row(report));
    assert_int_equal(advrob_report_put_str(report, "", "x"), ADVROB_E_INVALID);
    assert_int_equal(advrob_report_put_str(report, "a", NULL), ADVROB_E_INVALID);
    test_ok(advrob_report_put_str(report, "a", "first"));
    test_ok(advrob_report_put_f64(report, "a", 2)); /* the last put counts */
    double value = 0;
    test_ok(advrob_report_get_f64(report, 0, "a", &value));
    assert_true(value == 2);
    assert_int_equal(advrob_report_rows(NULL), 0);
    advrob_report_destroy(NULL);
    advrob_report_destroy(report);
    ar_context_release(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_form),
        cmocka_unit_test(test_damaged),    cmocka_unit_test(test_json),
        cmocka_unit_test(test_unwritable), cmocka_unit_test(test_failing_files),
        cmocka_unit_test(test_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
