/* What the C tests share: a counting and failing allocator, contexts, failing files, the place of
 * the test data, and the check that a test leaves nothing behind.
 *
 *     static test_allocator allocator;
 *     test_guard guard = test_guard_begin();
 *     advrob_context *ctx = test_context_with(&allocator, 4);
 *     ...
 *     ar_context_release(ctx);
 *     test_allocator_check(&allocator);
 *     test_guard_check(&guard);
 *
 * Include this header first: it includes cmocka in the right order. */
#ifndef TEST_SUPPORT_H
#define TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

/* Whether a sanitizer slows the test down, so that it does a part of its work. */
#if defined(__SANITIZE_ADDRESS__)
#define TEST_SANITIZED 1
#else
#define TEST_SANITIZED 0
#endif

/* An allocator hook that counts and fails. All zeros is a valid one that never fails. */
typedef struct test_allocator {
    int64_t fail_at;        /* the allocation that fails, from 1; 0 = none */
    int32_t from_there;     /* non-zero: all after it fail too */
    _Atomic int64_t calls;  /* allocations asked for */
    _Atomic int64_t failed; /* of them refused */
    _Atomic int64_t blocks; /* live */
    _Atomic int64_t bytes;  /* live */
    _Atomic int64_t wrong;  /* frees whose old_size is not what was allocated */
} test_allocator;

void *test_alloc(void *user, void *ptr, size_t old_size, size_t size); /* an advrob_alloc_fn */
/* Counts from 0 again; the n-th allocation fails (0: none), once or from there on. */
void test_allocator_arm(test_allocator *allocator, int64_t n, int32_t from_there);
/* Fails the test unless everything was freed with its right size. */
void test_allocator_check(test_allocator *allocator);

/* A context with `threads` threads and seed 1; the test fails if it cannot be made. */
advrob_context *test_context(int32_t threads);
advrob_context *test_context_with(test_allocator *allocator, int32_t threads);
/* The same with a kernel table of the caller's choice. */
advrob_context *test_context_at(test_allocator *allocator, int32_t threads,
                                const struct ar_kernels *kernels);
/* The same, but gives the status back. */
int32_t test_context_try(test_allocator *allocator, int32_t threads, advrob_context **out);

/* A twin of the POSIX file table in which operations fail. All zeros (with `error` 0) only counts.
 *
 * A failing close has closed all the same, as on Linux. */
typedef struct test_files {
    int64_t fail_at;    /* the operation that fails, from 1; 0 = none */
    int32_t from_there; /* non-zero: all after it fail too, but for unlink and close */
    int32_t error;      /* errno of the failure; 0: reads and writes are short, others work */
    int32_t short_io;   /* non-zero: every read and write handles at most that many bytes */
    int64_t operations; /* so far */
    int64_t opened, closed;
    const char *failed;  /* name of the last operation that failed, NULL if none has */
    const char *replace; /* open_new opens this path instead: "/dev/full" */
} test_files;

extern const struct ar_file_ops test_file_ops; /* user: a test_files */
void test_files_use(advrob_context *ctx, test_files *files);

/* The folder with test data: ADVROB_TEST_DATA, or ../shared beside the source tree; NULL if there
 * is none. */
const char *test_data(void);
/* The folder with CIFAR-10's binary files, decoded once into the build folder (tests/meson.build,
 * which sets the environment variable ADVROB_CIFAR10): for ar_dataset_open(ctx, "cifar10", ...).
 * NULL if there are none; *why (may be NULL) then says what is missing, for test_skip_or_fail. */
const char *test_cifar10(const char **why);
/* Skips the test and names what is missing; under CI (env CI) a failure. Does not return. */
void test_skip_or_fail(const char *why);

/* An empty folder for a test's files and its removal with all files in it. */
void test_folder_make(char *path, size_t size);
void test_folder_remove(const char *path);
/* Number of files in a folder. */
int32_t test_folder_count(const char *path);

/* Open descriptors and threads of the process: equal at the end, or the test fails. */
typedef struct test_guard {
    int32_t descriptors, threads;
} test_guard;

test_guard test_guard_begin(void);
void test_guard_check(const test_guard *guard);

#endif
