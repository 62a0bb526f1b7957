/* What the C tests share; see support.h. */
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef SOURCE_ROOT
#define SOURCE_ROOT "."
#endif

/* In front of every block, so that a free can be held against its allocation. */
#define FRONT 32

void *test_alloc(void *user, void *ptr, size_t old_size, size_t size) {
    test_allocator *a = user;
    char *raw = ptr ? (char *)ptr - FRONT : NULL;
    if (raw) {
        size_t was;
        memcpy(&was, raw, sizeof was);
        if (was != old_size) atomic_fetch_add(&a->wrong, 1);
    }
    if (size == 0) {
        if (raw) {
            atomic_fetch_sub(&a->blocks, 1);
            atomic_fetch_sub(&a->bytes, (int64_t)old_size);
        }
        free(raw);
        return NULL;
    }
    int64_t call = atomic_fetch_add(&a->calls, 1) + 1;
    char *made = NULL;
    if (a->fail_at == 0 || call < a->fail_at || (call > a->fail_at && !a->from_there)) {
        made = realloc(raw, FRONT + size);
    }
    if (!made) {
        atomic_fetch_add(&a->failed, 1);
        return NULL;
    }
    memcpy(made, &size, sizeof size);
    if (!raw) atomic_fetch_add(&a->blocks, 1);
    atomic_fetch_add(&a->bytes, (int64_t)size - (int64_t)(raw ? old_size : 0));
    return made + FRONT;
}

void test_allocator_arm(test_allocator *allocator, int64_t n, int32_t from_there) {
    allocator->fail_at = n;
    allocator->from_there = from_there;
    atomic_store(&allocator->calls, 0);
    atomic_store(&allocator->failed, 0);
}

void test_allocator_check(test_allocator *allocator) {
    assert_int_equal(atomic_load(&allocator->blocks), 0);
    assert_int_equal(atomic_load(&allocator->bytes), 0);
    assert_int_equal(atomic_load(&allocator->wrong), 0);
}

int32_t test_context_try(test_allocator *allocator, int32_t threads, advrob_context **out) {
    int32_t status = ADVROB_OK;
    advrob_options *options = NULL;
    *out = NULL;
    AR_TRY(ar_options_create(allocator ? test_alloc : NULL, allocator, &options));
    AR_TRY(ar_options_set_i64(options, "threads", threads));
    AR_TRY(ar_options_set_i64(options, "seed", 1));
    AR_TRY(ar_context_create(options, out));
out:
    ar_options_destroy(options);
    return status;
}

advrob_context *test_context_with(test_allocator *allocator, int32_t threads) {
    advrob_context *ctx;
    if (test_context_try(allocator, threads, &ctx) != ADVROB_OK) fail_msg("%s", ar_message());
    return ctx;
}

advrob_context *test_context_at(test_allocator *allocator, int32_t threads,
                                const struct ar_kernels *kernels) {
    advrob_context *ctx = test_context_with(allocator, threads);
    ctx->kernels = kernels;
    return ctx;
}

advrob_context *test_context(int32_t threads) {
    return test_context_with(NULL, threads);
}

/* Counts one operation; true if it is to fail. */
static bool failing(test_files *f, const char *name, bool closes) {
    f->operations++;
    bool hit = f->fail_at != 0 && (f->operations == f->fail_at ||
                                   (f->operations > f->fail_at && f->from_there && !closes));
    if (hit) f->failed = name;
    return hit && f->error != 0;
}

static int32_t faulty_open_read(void *user, const char *path) {
    test_files *f = user;
    if (failing(f, "open_read", false)) return -f->error;
    int32_t fd = ar_file_ops_posix.open_read(NULL, path);
    if (fd >= 0) f->opened++;
    return fd;
}

static int32_t faulty_open_new(void *user, const char *path) {
    test_files *f = user;
    if (failing(f, "open_new", false)) return -f->error;
    int32_t fd = ar_file_ops_posix.open_new(NULL, path);
    if (fd >= 0 && f->replace) {
        close(fd);
        fd = open(f->replace, O_WRONLY | O_CLOEXEC);
        if (fd < 0) return -errno;
    }
    if (fd >= 0) f->opened++;
    return fd;
}

static int64_t faulty_size(void *user, int32_t fd) {
    test_files *f = user;
    return failing(f, "size", false) ? -f->error : ar_file_ops_posix.size(NULL, fd);
}

/* The bytes that the operation handles. */
static size_t shortened(const test_files *f, size_t size) {
    bool now = f->fail_at != 0 && f->error == 0 && f->operations >= f->fail_at &&
               (f->from_there || f->operations == f->fail_at);
    if (now && size > 1) size /= 2;
    if (f->short_io > 0 && size > (size_t)f->short_io) size = (size_t)f->short_io;
    return size;
}

static int64_t faulty_read(void *user, int32_t fd, void *data, size_t size) {
    test_files *f = user;
    if (failing(f, "read", false)) return -f->error;
    return ar_file_ops_posix.read(NULL, fd, data, shortened(f, size));
}

static int64_t faulty_write(void *user, int32_t fd, const void *data, size_t size) {
    test_files *f = user;
    if (failing(f, "write", false)) return -f->error;
    return ar_file_ops_posix.write(NULL, fd, data, shortened(f, size));
}

static int32_t faulty_sync(void *user, int32_t fd) {
    test_files *f = user;
    if (failing(f, "sync", false)) return -f->error;
    return f->replace ? 0 : ar_file_ops_posix.sync(NULL, fd);
}

static int32_t faulty_close(void *user, int32_t fd) {
    test_files *f = user;
    bool fails = failing(f, "close", true);
    int32_t result = ar_file_ops_posix.close(NULL, fd);
    f->closed++;
    return fails ? -f->error : result;
}

static int32_t faulty_rename(void *user, const char *from, const char *to) {
    test_files *f = user;
    return failing(f, "rename", false) ? -f->error : ar_file_ops_posix.rename(NULL, from, to);
}

static int32_t faulty_unlink(void *user, const char *path) {
    test_files *f = user;
    return failing(f, "unlink", true) ? -f->error : ar_file_ops_posix.unlink(NULL, path);
}

static int32_t faulty_sync_folder(void *user, const char *path) {
    test_files *f = user;
    return failing(f, "sync_folder", false) ? -f->error : ar_file_ops_posix.sync_folder(NULL, path);
}

static int32_t faulty_replaceable(void *user, const char *path) {
    test_files *f = user;
    return failing(f, "replaceable", false) ? -f->error : ar_file_ops_posix.replaceable(NULL, path);
}

const ar_file_ops test_file_ops = {
    .open_read = faulty_open_read,
    .open_new = faulty_open_new,
    .size = faulty_size,
    .read = faulty_read,
    .write = faulty_write,
    .sync = faulty_sync,
    .close = faulty_close,
    .rename = faulty_rename,
    .unlink = faulty_unlink,
    .sync_folder = faulty_sync_folder,
    .replaceable = faulty_replaceable,
};

void test_files_use(advrob_context *ctx, test_files *files) {
    ctx->files = files ? &test_file_ops : &ar_file_ops_posix;
    ctx->files_user = files;
}

const char *test_data(void) {
    struct stat info;
    const char *path = getenv("ADVROB_TEST_DATA");
    if (!path || !*path) path = SOURCE_ROOT "/../shared";
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode) ? path : NULL;
}

const char *test_cifar10(const char **why) {
    static char reason[4200], path[4096];
    const char *folder = getenv("ADVROB_CIFAR10");
    struct stat info;
    if (why) *why = reason;
    snprintf(reason, sizeof reason, "ADVROB_CIFAR10 is not set: run by meson test");
    if (!folder || !*folder) return NULL;
    snprintf(path, sizeof path, "%s/cifar-10-batches-bin/test_batch.bin", folder);
    if (stat(path, &info) == 0) return folder;
    snprintf(reason, sizeof reason, "%s is not there", path);
    snprintf(path, sizeof path, "%s/missing", folder);
    FILE *file = fopen(path, "r");
    if (!file) return NULL;
    if (fgets(path, sizeof path, file) && *path != '\n') {
        path[strcspn(path, "\n")] = 0;
        snprintf(reason, sizeof reason, "%s", path);
    }
    fclose(file);
    return NULL;
}

void test_skip_or_fail(const char *why) {
    const char *ci = getenv("CI");
    if (ci && *ci) fail_msg("missing under CI: %s", why);
    print_message("skipped: %s\n", why);
    skip();
}

void test_folder_make(char *path, size_t size) {
    const char *base = getenv("TMPDIR");
    int length = snprintf(path, size, "%s/advrob-test-XXXXXX", base && *base ? base : "/tmp");
    assert_true(length > 0 && (size_t)length < size);
    assert_non_null(mkdtemp(path));
}

/* Calls `each` for every file of a folder; the number of files. */
static int32_t walk(const char *path, void (*each)(const char *file)) {
    char file[4096];
    int32_t count = 0;
    DIR *folder = opendir(path);
    if (!folder) return -1;
    for (struct dirent *e = readdir(folder); e; e = readdir(folder)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        count++;
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        if (each) each(file);
    }
    closedir(folder);
    return count;
}

static void remove_file(const char *file) {
    remove(file);
}

void test_folder_remove(const char *path) {
    walk(path, remove_file);
    rmdir(path);
}

int32_t test_folder_count(const char *path) {
    return walk(path, NULL);
}

#if defined(__SANITIZE_THREAD__)
static void *nothing(void *arg) {
    return arg;
}
#endif

test_guard test_guard_begin(void) {
#if defined(__SANITIZE_THREAD__)
    pthread_t first; /* the sanitizer starts a thread of its own beside the first one */
    if (pthread_create(&first, NULL, nothing, NULL) == 0) pthread_join(first, NULL);
#endif
    test_guard guard = {walk("/proc/self/fd", NULL), walk("/proc/self/task", NULL)};
    return guard;
}

void test_guard_check(const test_guard *guard) {
    test_guard now = test_guard_begin();
    /* The kernel lists a thread a moment longer than pthread_join waits. */
    for (int i = 0; i < 200 && now.threads != guard->threads; i++) {
        usleep(5000);
        now = test_guard_begin();
    }
    assert_int_equal(now.descriptors, guard->descriptors);
    assert_int_equal(now.threads, guard->threads);
}
