/* Writing safetensors: what is written reads back; what cannot be read is refused; a write that
 * fails anywhere leaves the old file. */
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "io/safetensors.h"

static test_allocator allocator;
static advrob_context *ctx;
static char folder[256];

static int set_up(void **state) {
    (void)state;
    ctx = test_context_with(&allocator, 1);
    test_folder_make(folder, sizeof(folder));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_folder_remove(folder);
    ar_context_release(ctx);
    test_allocator_check(&allocator);
    return 0;
}

static const float weights[4] = {1, 2, 3, 4};
static const int64_t number = 7;

static void stored(ar_stored t[3]) {
    t[0] = (ar_stored){.name = "w", .dtype = "F32", .rank = 2, .shape = {2, 2}, .count = 4};
    t[0].data = (const uint8_t *)weights;
    t[0].size = sizeof(weights);
    t[1] = (ar_stored){.name = "empty \"\n", .dtype = "F16", .rank = 1, .shape = {0}};
    t[2] = (ar_stored){.name = "n\xc3\xa9", .dtype = "I64", .count = 1};
    t[2].data = (const uint8_t *)&number;
    t[2].size = sizeof(number);
}

static const char *const keys[] = {"graph", "b"};
static const char *const texts[] = {"{\"nodes\":[]}\n\\", ""};

static void test_write_and_read_back(void **state) {
    (void)state;
    char path[300];
    ar_stored t[3];
    ar_safetensors file;
    ar_real values[4];
    stored(t);
    snprintf(path, sizeof(path), "%s/f.safetensors", folder);
    for (int32_t count = 0; count <= 3; count++) {
        int32_t metadata = count % 3;
        assert_int_equal(ar_safetensors_write(ctx, path, t, count, keys, texts, metadata),
                         ADVROB_OK);
        assert_int_equal(ar_safetensors_read(ctx, path, &file), ADVROB_OK);
        assert_int_equal(file.count, count);
        assert_int_equal(file.metadata, metadata);
        for (int32_t i = 0; i < metadata; i++)
            assert_string_equal(ar_safetensors_metadata(&file, keys[i]), texts[i]);
        uint64_t header;
        memcpy(&header, file.owned, 8);
        assert_int_equal(header % 8, 0);
        const uint8_t *place = file.owned + 8 + header;
        for (int32_t i = 0; i < count; i++) { /* in the order given */
            const ar_stored *found = ar_safetensors_find(&file, t[i].name);
            assert_non_null(found);
            assert_string_equal(found->dtype, t[i].dtype);
            assert_int_equal(found->rank, t[i].rank);
            assert_memory_equal(found->shape, t[i].shape, (size_t)t[i].rank * sizeof(int64_t));
            assert_ptr_equal(found->data, place);
            assert_int_equal(found->size, t[i].size);
            if (t[i].size > 0) assert_memory_equal(found->data, t[i].data, t[i].size);
            place += t[i].size;
        }
        if (count > 0) {
            const ar_stored *w = ar_safetensors_find(&file, "w");
            assert_int_equal(ar_stored_copy(w, path, values), ADVROB_OK);
            assert_true(values[3] == 4);
        }
        ar_safetensors_free(ctx, &file);
    }
    assert_int_equal(test_folder_count(folder), 1);
}

static void test_write_refuses(void **state) {
    (void)state;
    char path[300], name[1100];
    ar_stored t[3];
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = 0;
    snprintf(path, sizeof(path), "%s/f.safetensors", folder);
    for (int i = 0; i < 9; i++) {
        static const int32_t wanted[9] = {ADVROB_E_INVALID, ADVROB_E_INVALID, ADVROB_E_INVALID,
                                          ADVROB_E_FORMAT,  ADVROB_E_FORMAT,  ADVROB_E_LIMIT,
                                          ADVROB_E_FORMAT,  ADVROB_E_FORMAT,  ADVROB_E_FORMAT};
        stored(t);
        if (i == 0) t[0].rank = 9;
        if (i == 1) t[0].rank = -1;
        if (i == 2) t[2].data = NULL;
        if (i == 3) t[0].dtype = "F33";
        if (i == 4) t[0].size = 12;
        if (i == 5) t[0].name = name;
        if (i == 6) t[0].name = t[2].name;
        if (i == 7) t[0].name = "__metadata__";
        if (i == 8) t[0].name = "\xff";
        assert_int_equal(ar_safetensors_write(ctx, path, t, 3, NULL, NULL, 0), wanted[i]);
        assert_int_equal(test_folder_count(folder), 0);
    }
}

static void assert_old_file(const char *path) {
    ar_safetensors file;
    assert_int_equal(ar_safetensors_read(ctx, path, &file), ADVROB_OK);
    assert_int_equal(file.count, 1);
    ar_safetensors_free(ctx, &file);
    assert_int_equal(test_folder_count(folder), 1);
}

/* Each file operation fails once, and from there on: the old file stays, no temporary is left. A
 * failure after the rename leaves the new file whole. */
static void test_write_fails(void **state) {
    (void)state;
    char path[300];
    ar_stored t[3];
    stored(t);
    snprintf(path, sizeof(path), "%s/f.safetensors", folder);
    for (int32_t from_there = 0; from_there < 2; from_there++) {
        int32_t status = ADVROB_E_IO;
        for (int64_t n = 1; status != ADVROB_OK; n++) {
            test_files files = {.fail_at = n, .from_there = from_there, .error = ENOSPC};
            assert_true(n < 50);
            assert_int_equal(ar_safetensors_write(ctx, path, t, 1, NULL, NULL, 0), ADVROB_OK);
            test_files_use(ctx, &files);
            status = ar_safetensors_write(ctx, path, t, 3, keys, texts, 2);
            test_files_use(ctx, NULL);
            assert_int_equal(files.opened, files.closed);
            if (!files.failed) break;
            bool renamed = strcmp(files.failed, "sync_folder") == 0;
            if (status == ADVROB_OK || renamed) {
                ar_safetensors file;
                assert_int_equal(ar_safetensors_read(ctx, path, &file), ADVROB_OK);
                ar_safetensors_free(ctx, &file);
                assert_int_equal(test_folder_count(folder), 1);
            } else {
                assert_int_equal(status, ADVROB_E_IO);
                assert_old_file(path);
            }
            status = ADVROB_E_IO;
        }
    }
    test_files files = {.short_io = 3}; /* short writes and reads are no failures */
    test_files_use(ctx, &files);
    assert_int_equal(ar_safetensors_write(ctx, path, t, 1, NULL, NULL, 0), ADVROB_OK);
    assert_old_file(path);
    test_files_use(ctx, NULL);
}

static void test_read_fails(void **state) {
    (void)state;
    char path[300];
    ar_stored t[3];
    ar_safetensors file;
    stored(t);
    snprintf(path, sizeof(path), "%s/f.safetensors", folder);
    assert_int_equal(ar_safetensors_read(ctx, path, &file), ADVROB_E_IO); /* missing */
    ar_safetensors_free(ctx, &file);
    assert_int_equal(ar_safetensors_read(ctx, folder, &file), ADVROB_E_IO); /* a folder */
    assert_int_equal(ar_safetensors_write(ctx, path, t, 3, NULL, NULL, 0), ADVROB_OK);
    for (int64_t n = 1;; n++) {
        test_files files = {.fail_at = n, .error = EIO};
        assert_true(n < 50);
        test_files_use(ctx, &files);
        int32_t status = ar_safetensors_read(ctx, path, &file);
        test_files_use(ctx, NULL);
        assert_int_equal(files.opened, files.closed);
        assert_true(status == ADVROB_OK || status == ADVROB_E_IO);
        if (n == 1) assert_int_equal(status, ADVROB_E_IO);
        ar_safetensors_free(ctx, &file);
        if (!files.failed) break;
    }
}

static void test_out_of_memory(void **state) {
    (void)state;
    char path[300];
    ar_stored t[3];
    ar_safetensors file;
    stored(t);
    snprintf(path, sizeof(path), "%s/f.safetensors", folder);
    for (int reading = 0; reading < 2; reading++) {
        int32_t status = ADVROB_E_NOMEM;
        uint64_t before = ctx->memory.used;
        for (int64_t n = 1; status != ADVROB_OK; n++) {
            assert_true(n < 1000);
            test_allocator_arm(&allocator, n, 0);
            if (reading) {
                status = ar_safetensors_read(ctx, path, &file);
                ar_safetensors_free(ctx, &file);
            } else {
                status = ar_safetensors_write(ctx, path, t, 3, keys, texts, 2);
            }
            assert_int_equal(status, allocator.failed ? ADVROB_E_NOMEM : ADVROB_OK);
            assert_int_equal(ctx->memory.used, before);
            if (n == 1) assert_int_equal(status, ADVROB_E_NOMEM);
        }
        test_allocator_arm(&allocator, 0, 0);
        assert_int_equal(test_folder_count(folder), 1);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_write_and_read_back), TEST(test_write_refuses), TEST(test_write_fails),
        TEST(test_read_fails),          TEST(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
