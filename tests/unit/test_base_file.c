/* Reading and replacing files when every single operation fails, is cut short or interrupted. */
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OLD "the old contents, which must survive"
#define SIZE 5000

typedef struct fixture {
    test_allocator allocator;
    test_guard guard;
    test_files files;
    advrob_context *ctx;
    char folder[256], path[300];
    uint8_t data[SIZE];
    char warning[300];
} fixture;

static void keep_warning(void *user, int32_t level, const char *message) {
    fixture *f = user;
    assert_int_equal(level, ADVROB_LOG_WARNING);
    ar_copy_text(f->warning, sizeof f->warning, message);
}

static void put_old(const fixture *f) {
    FILE *file = fopen(f->path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(OLD, 1, sizeof OLD, file), sizeof OLD);
    assert_int_equal(fclose(file), 0);
}

static int setup(void **state) {
    static fixture f;
    memset(&f, 0, sizeof f);
    f.guard = test_guard_begin();
    f.ctx = test_context_with(&f.allocator, 1);
    f.ctx->log = keep_warning;
    f.ctx->log_user = &f;
    test_files_use(f.ctx, &f.files);
    test_folder_make(f.folder, sizeof f.folder);
    snprintf(f.path, sizeof f.path, "%s/file", f.folder);
    for (int i = 0; i < SIZE; i++) {
        f.data[i] = (uint8_t)(i * 7);
    }
    *state = &f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    test_folder_remove(f->folder);
    ar_context_release(f->ctx);
    assert_int_equal(f->files.opened, f->files.closed);
    test_allocator_check(&f->allocator);
    test_guard_check(&f->guard);
    return 0;
}

static int32_t read_back(fixture *f, uint8_t **data, size_t *size) {
    test_files_use(f->ctx, NULL);
    int32_t status = ar_file_read(f->ctx, f->path, 1 << 20, data, size);
    test_files_use(f->ctx, &f->files);
    return status;
}

static void expect_contents(fixture *f, const void *contents, size_t expected) {
    uint8_t *data;
    size_t size;
    assert_int_equal(read_back(f, &data, &size), ADVROB_OK);
    assert_int_equal(size, expected);
    assert_memory_equal(data, contents, expected);
    assert_int_equal(data[size], 0);
    ar_free(&f->ctx->memory, data);
}

static void test_write_and_read(void **state) {
    fixture *f = *state;
    uint8_t *data;
    size_t size;
    assert_int_equal(ar_file_write(f->ctx, f->path, f->data, SIZE), ADVROB_OK);
    expect_contents(f, f->data, SIZE);
    assert_int_equal(ar_file_write(f->ctx, f->path, "x", 1), ADVROB_OK); /* replaced */
    expect_contents(f, "x", 1);
    assert_int_equal(ar_file_write(f->ctx, f->path, NULL, 0), ADVROB_OK);
    expect_contents(f, "", 0);
    assert_int_equal(test_folder_count(f->folder), 1);
    put_old(f);
    assert_int_equal(ar_file_read(f->ctx, f->path, sizeof OLD, &data, &size), ADVROB_OK);
    ar_free(&f->ctx->memory, data);
    assert_int_equal(ar_file_read(f->ctx, f->path, sizeof OLD - 1, &data, &size), ADVROB_E_LIMIT);
    assert_null(data);
    assert_int_equal(size, 0);
    assert_non_null(strstr(ar_message(), f->path));
}

static void test_relative_path(void **state) {
    fixture *f = *state;
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(f->folder), 0);
    int32_t status = ar_file_write(f->ctx, "file", f->data, SIZE);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(status, ADVROB_OK);
    assert_string_equal(f->warning, "");
    expect_contents(f, f->data, SIZE);
}

/* Each operation of a replacement fails in turn, once or with all that follow. */
static void fail_each_write(fixture *f, int32_t error, int32_t from_there) {
    bool done = false;
    int32_t named = 0;
    for (int64_t k = 1; !done; k++) {
        put_old(f);
        f->files = (test_files){.fail_at = k, .error = error, .from_there = from_there};
        int32_t status = ar_file_write(f->ctx, f->path, f->data, SIZE);
        const char *failed = f->files.failed;
        assert_int_equal(f->files.opened, f->files.closed);
        assert_int_equal(test_folder_count(f->folder), 1);
        done = failed == NULL;
        if (done || strcmp(failed, "sync_folder") == 0) {
            assert_int_equal(status, ADVROB_OK);
            expect_contents(f, f->data, SIZE);
            assert_true(done || strstr(f->warning, f->path));
            continue;
        }
        named++;
        assert_int_equal(status, ADVROB_E_IO);
        assert_non_null(strstr(ar_message(), f->path));
        assert_non_null(strstr(ar_message(), strerrordesc_np(error)));
        expect_contents(f, OLD, sizeof OLD);
    }
    assert_int_equal(named, 6); /* replaceable, open, write, sync, close, rename */
}

static void test_write_fails(void **state) {
    fixture *f = *state;
    fail_each_write(f, EIO, 0);
    fail_each_write(f, EIO, 1);
    fail_each_write(f, ENOSPC, 0);
    fail_each_write(f, EDQUOT, 1);
}

/* Without an old file a failure leaves an empty folder. */
static void test_write_new_fails(void **state) {
    fixture *f = *state;
    for (int64_t k = 1;; k++) {
        f->files = (test_files){.fail_at = k, .error = EIO};
        int32_t status = ar_file_write(f->ctx, f->path, f->data, SIZE);
        if (status == ADVROB_OK) break;
        assert_int_equal(test_folder_count(f->folder), 0);
    }
    expect_contents(f, f->data, SIZE);
}

static void test_interrupted(void **state) {
    fixture *f = *state;
    bool done = false;
    for (int64_t k = 1; !done; k++) {
        put_old(f);
        f->files = (test_files){.fail_at = k, .error = EINTR};
        assert_int_equal(ar_file_write(f->ctx, f->path, f->data, SIZE), ADVROB_OK);
        assert_int_equal(f->files.opened, f->files.closed);
        assert_int_equal(test_folder_count(f->folder), 1);
        expect_contents(f, f->data, SIZE);
        done = f->files.failed == NULL;
    }
    assert_string_equal(f->warning, "");
    done = false;
    for (int64_t k = 1; !done; k++) {
        uint8_t *data;
        size_t size;
        f->files = (test_files){.fail_at = k, .error = EINTR};
        int32_t status = ar_file_read(f->ctx, f->path, SIZE, &data, &size);
        done = f->files.failed == NULL;
        if (!done && strcmp(f->files.failed, "size") == 0) { /* fstat is never interrupted */
            assert_int_equal(status, ADVROB_E_IO);
            continue;
        }
        assert_int_equal(status, ADVROB_OK);
        assert_memory_equal(data, f->data, SIZE);
        ar_free(&f->ctx->memory, data);
    }
}

static void test_short(void **state) {
    fixture *f = *state;
    uint8_t *data;
    size_t size;
    f->files = (test_files){.short_io = 7};
    assert_int_equal(ar_file_write(f->ctx, f->path, f->data, SIZE), ADVROB_OK);
    assert_true(f->files.operations > SIZE / 7);
    expect_contents(f, f->data, SIZE);
    f->files = (test_files){.short_io = 7};
    assert_int_equal(ar_file_read(f->ctx, f->path, SIZE, &data, &size), ADVROB_OK);
    assert_true(f->files.operations > SIZE / 7);
    assert_int_equal(size, SIZE);
    assert_memory_equal(data, f->data, SIZE);
    ar_free(&f->ctx->memory, data);
    /* A short write, then a full disk. */
    put_old(f);
    f->files = (test_files){.short_io = 7, .fail_at = 20, .error = ENOSPC};
    assert_int_equal(ar_file_write(f->ctx, f->path, f->data, SIZE), ADVROB_E_IO);
    expect_contents(f, OLD, sizeof OLD);
    assert_int_equal(test_folder_count(f->folder), 1);
}

static void test_read_fails(void **state) {
    fixture *f = *state;
    uint8_t *data;
    size_t size;
    int32_t failures = 0;
    put_old(f);
    for (int64_t k = 1;; k++) {
        f->files = (test_files){.fail_at = k, .error = EIO, .short_io = 10};
        int32_t status = ar_file_read(f->ctx, f->path, SIZE, &data, &size);
        assert_int_equal(f->files.opened, f->files.closed);
        if (status == ADVROB_OK) { /* only the close could fail, and that says nothing */
            assert_string_equal(f->files.failed, "close");
            assert_memory_equal(data, OLD, sizeof OLD);
            ar_free(&f->ctx->memory, data);
            break;
        }
        failures++;
        assert_int_equal(status, ADVROB_E_IO);
        assert_null(data);
        assert_non_null(strstr(ar_message(), f->path));
        assert_non_null(strstr(ar_message(), strerrordesc_np(EIO)));
    }
    assert_int_equal(failures, 6); /* open, size, 4 reads */
}

static void test_without_memory(void **state) {
    fixture *f = *state;
    uint8_t *data;
    size_t size;
    put_old(f);
    test_allocator_arm(&f->allocator, 1, 1);
    assert_int_equal(ar_file_read(f->ctx, f->path, SIZE, &data, &size), ADVROB_E_NOMEM);
    assert_int_equal(ar_file_write(f->ctx, f->path, f->data, SIZE), ADVROB_E_NOMEM);
    test_allocator_arm(&f->allocator, 0, 0);
    assert_int_equal(test_folder_count(f->folder), 1);
    expect_contents(f, OLD, sizeof OLD);
}

/* A table whose size says more or less than there is: the file changes while it is read. */
static int64_t larger_size(void *user, int32_t fd) {
    return ar_file_ops_posix.size(user, fd) + 5;
}

static int64_t smaller_size(void *user, int32_t fd) {
    return ar_file_ops_posix.size(user, fd) - 5;
}

static void test_changing_file(void **state) {
    fixture *f = *state;
    ar_file_ops ops = ar_file_ops_posix;
    uint8_t *data;
    size_t size;
    put_old(f);
    f->ctx->files = &ops;
    ops.size = larger_size;
    assert_int_equal(ar_file_read(f->ctx, f->path, SIZE, &data, &size), ADVROB_E_IO);
    assert_non_null(strstr(ar_message(), "ends after 37 bytes, expected 42"));
    ops.size = smaller_size;
    assert_int_equal(ar_file_read(f->ctx, f->path, SIZE, &data, &size), ADVROB_OK);
    assert_int_equal(size, sizeof OLD - 5);
    assert_memory_equal(data, OLD, size);
    assert_int_equal(data[size], 0);
    ar_free(&f->ctx->memory, data);
}

static void expect_unreadable(fixture *f, const char *path, const char *why) {
    uint8_t *data;
    size_t size;
    assert_int_equal(ar_file_read(f->ctx, path, SIZE, &data, &size), ADVROB_E_IO);
    assert_non_null(strstr(ar_message(), path));
    assert_non_null(strstr(ar_message(), why));
}

static void test_not_a_regular_file(void **state) {
    fixture *f = *state;
    char link[400];
    alarm(20); /* a pipe must not block */
    expect_unreadable(f, f->folder, "not a regular file");
    expect_unreadable(f, "/dev/null", "not a regular file");
    assert_int_equal(mkfifo(f->path, 0600), 0);
    expect_unreadable(f, f->path, "not a regular file");
    alarm(0);
    assert_int_equal(ar_file_write(f->ctx, f->path, "x", 1), ADVROB_E_IO);
    assert_non_null(strstr(ar_message(), "not a regular file"));
    assert_int_equal(unlink(f->path), 0);
    expect_unreadable(f, f->path, "No such file");
    assert_int_equal(ar_file_write(f->ctx, f->folder, "x", 1), ADVROB_E_IO);
    assert_int_equal(ar_file_write(f->ctx, "/dev/full", "x", 1), ADVROB_E_IO);
    put_old(f);
    snprintf(link, sizeof link, "%s/link", f->folder);
    assert_int_equal(symlink(f->path, link), 0);
    assert_int_equal(ar_file_write(f->ctx, link, "x", 1), ADVROB_E_IO);
    expect_contents(f, OLD, sizeof OLD);
    assert_int_equal(test_folder_count(f->folder), 2);
    snprintf(link, sizeof link, "%s/none/file", f->folder);
    assert_int_equal(ar_file_write(f->ctx, link, "x", 1), ADVROB_E_IO);
    assert_non_null(strstr(ar_message(), "No such file"));
}

/* A temporary that a dead process with our pid left is stepped over and kept; a link in its place
 * is not followed. */
static void test_stale_temporaries(void **state) {
    fixture *f = *state;
    char stale[400], victim[400];
    put_old(f);
    snprintf(victim, sizeof victim, "%s/victim", f->folder);
    snprintf(stale, sizeof stale, "%s.tmp-%d-0", f->path, (int)getpid());
    assert_int_equal(symlink(victim, stale), 0);
    snprintf(stale, sizeof stale, "%s.tmp-%d-1", f->path, (int)getpid());
    assert_int_equal(close(open(stale, O_WRONLY | O_CREAT, 0600)), 0);
    assert_int_equal(ar_file_write(f->ctx, f->path, f->data, SIZE), ADVROB_OK);
    expect_contents(f, f->data, SIZE);
    assert_int_equal(test_folder_count(f->folder), 3);
    assert_int_equal(access(victim, F_OK), -1);
}

static void test_full_device(void **state) {
    fixture *f = *state;
    if (access("/dev/full", W_OK) != 0) test_skip_or_fail("/dev/full");
    put_old(f);
    f->files.replace = "/dev/full";
    assert_int_equal(ar_file_write(f->ctx, f->path, f->data, SIZE), ADVROB_E_IO);
    assert_non_null(strstr(ar_message(), strerrordesc_np(ENOSPC)));
    f->files.replace = NULL;
    assert_int_equal(test_folder_count(f->folder), 1);
    expect_contents(f, OLD, sizeof OLD);
}

/* The limit counts for a whole process: in a child. */
static void test_file_size_limit(void **state) {
    fixture *f = *state;
    int result = -1;
    put_old(f);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        advrob_context *ctx;
        struct rlimit limit = {1000, 1000};
        signal(SIGXFSZ, SIG_IGN);
        if (test_context_try(NULL, 1, &ctx) != ADVROB_OK) _exit(1);
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(2);
        if (ar_file_write(ctx, f->path, f->data, SIZE) != ADVROB_E_IO) _exit(3);
        if (!strstr(ar_message(), strerrordesc_np(EFBIG))) _exit(4);
        if (ar_file_write(ctx, f->path, f->data, 1000) != ADVROB_OK) _exit(5);
        if (ar_file_write(ctx, f->path, OLD, sizeof OLD) != ADVROB_OK) _exit(6);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result));
    assert_int_equal(WEXITSTATUS(result), 0);
    assert_int_equal(test_folder_count(f->folder), 1);
    expect_contents(f, OLD, sizeof OLD);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_write_and_read),     T(test_relative_path),     T(test_write_fails),
        T(test_write_new_fails),    T(test_interrupted),       T(test_short),
        T(test_read_fails),         T(test_without_memory),    T(test_changing_file),
        T(test_not_a_regular_file), T(test_stale_temporaries), T(test_full_device),
        T(test_file_size_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
