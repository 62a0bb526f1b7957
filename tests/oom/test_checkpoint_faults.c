/* Every file operation of a run with checkpoints fails in turn, once and from there on: opening,
 * writing, syncing, closing, renaming, removing.
 *
 * The run goes on with a warning, what lies in the two files stays whole, no temporary is left, and
 * once the fault is gone the run resumes to the bits of an undisturbed one. Only the last write of
 * a run makes it fail. */
#include "support/support.h"

#include <advrob/advrob.h>

#include "method/run.h"
#include "support/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIDE = 8, IMAGES = 20, CLASSES = 10, STEPS = 10 }; /* 2 epochs of 5 steps */

typedef struct world {
    char folder[256], path[300], wanted[17];
    advrob_context *ctx;
    advrob_dataset *data;
    test_files files;
    test_watch watch;
    int32_t faults;
} world;

#define OK(call) \
    do { \
        int32_t ok_ = (call); \
        if (ok_ != ADVROB_OK) fail_msg("%s: %d, %s", #call, ok_, advrob_last_message()); \
    } while (0)

/* A run on a fresh model, with a checkpoint after every step. */
static int32_t tune(world *w, bool checkpoint, int64_t cancel_at, char digest[17]) {
    advrob_options *o = NULL;
    advrob_model *model = NULL;
    advrob_finetune *fit = NULL;
    OK(advrob_options_create(&o));
    OK(advrob_options_set_text(o, "seed", "3"));
    OK(advrob_model_build(w->ctx, "tiny", o, &model));
    OK(advrob_options_set_text(o, "epochs", "2"));
    OK(advrob_options_set_text(o, "batch_size", "4"));
    OK(advrob_options_set_text(o, "checkpoint_minutes", "1e-9"));
    if (checkpoint) OK(advrob_options_set_str(o, "checkpoint", w->path));
    OK(advrob_finetune_create(w->ctx, "standard", o, &fit));
    w->watch.calls = w->watch.warnings = 0;
    w->watch.cancel_at = cancel_at;
    int32_t status = advrob_finetune_run(fit, model, w->data, NULL, NULL);
    char message[512];
    snprintf(message, sizeof message, "%s", advrob_last_message());
    OK(advrob_model_digest(model, digest, 17));
    advrob_finetune_destroy(fit);
    advrob_model_destroy(model);
    advrob_options_destroy(o);
    if (status == ADVROB_E_IO && strstr(message, w->path) == NULL)
        fail_msg("E_IO without the path: %s", message);
    return status;
}

static int set_up(void **state) {
    static world w;
    static float pixels[IMAGES * SIDE * SIDE];
    static int32_t labels[IMAGES];
    if (access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 1);
    test_folder_make(w.folder, sizeof w.folder);
    snprintf(w.path, sizeof w.path, "%s/run", w.folder);
    for (int32_t i = 0; i < IMAGES * SIDE * SIDE; i++)
        pixels[i] = (float)(i * 37 % 101) / 101.0f;
    for (int32_t i = 0; i < IMAGES; i++)
        labels[i] = i % CLASSES;
    OK(advrob_context_create(NULL, &w.ctx));
    OK(advrob_dataset_from_memory(w.ctx, ADVROB_F32, pixels, labels, IMAGES, 1, SIDE, SIDE, CLASSES,
                                  &w.data));
    w.watch.path = w.path;
    OK(advrob_context_set_progress(w.ctx, watch_progress, &w.watch));
    OK(advrob_context_set_log(w.ctx, watch_log, &w.watch));
    OK(tune(&w, false, 0, w.wanted));
    test_files_use(w.ctx, &w.files);
    *state = &w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    advrob_dataset_destroy(w->data);
    advrob_context_destroy(w->ctx);
    test_folder_remove(w->folder);
    return 0;
}

/* Both files, as far as they are there, are whole; gives the number of the newest, or 0. */
static int64_t check_files(world *w) {
    int64_t newest = 0;
    int32_t there = 0;
    char path[320];
    for (int32_t i = 0; i < 2; i++) {
        ar_safetensors file;
        int64_t sequence;
        snprintf(path, sizeof path, "%s.%d", w->path, i);
        if (access(path, F_OK) != 0) continue;
        there++;
        OK(ar_safetensors_read(w->ctx, path, &file));
        OK(ar_checkpoint_check(path, &file, &sequence));
        ar_safetensors_free(w->ctx, &file);
        if (sequence > newest) newest = sequence;
    }
    assert_int_equal(test_folder_count(w->folder), there);
    return newest;
}

static void forget(const world *w) {
    char path[320];
    for (int32_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s.%d", w->path, i);
        remove(path);
    }
}

static void check_resumed(world *w) {
    char digest[17];
    w->files = (test_files){0};
    OK(tune(w, true, 0, digest));
    assert_string_equal(digest, w->wanted);
}

/* The run is cancelled after five steps; operation n fails on the way. */
static bool sweep_cancelled(world *w, int64_t n, bool from_there, int32_t error) {
    char digest[17];
    w->files = (test_files){.fail_at = n, .from_there = from_there, .error = error};
    int32_t status = tune(w, true, 5, digest);
    const char *failed = w->files.failed;
    assert_int_equal(w->files.opened, w->files.closed);
    w->files = (test_files){0};
    if (failed == NULL) assert_int_equal(check_files(w), 5);
    if (failed != NULL) w->faults++;
    int64_t newest = check_files(w);
    if (status == ADVROB_E_IO) /* it could not tell whether there is a checkpoint */
        assert_true(strcmp(failed, "open_read") == 0 && newest == 0 && w->watch.calls == 0);
    else
        assert_int_equal(status, ADVROB_E_CANCELLED);
    if (failed != NULL && !from_there && status != ADVROB_E_IO) assert_true(newest >= 4);
    check_resumed(w);
    forget(w);
    return failed != NULL;
}

/* A run to its end that was begun before; operation n fails on the way. */
static bool sweep_finished(world *w, int64_t n, bool from_there, int32_t error) {
    char digest[17];
    w->files = (test_files){0};
    assert_int_equal(tune(w, true, 6, digest), ADVROB_E_CANCELLED);
    int64_t before = check_files(w);
    w->files = (test_files){.fail_at = n, .from_there = from_there, .error = error};
    int32_t status = tune(w, true, 0, digest);
    const char *failed = w->files.failed;
    int64_t calls = w->watch.calls;
    assert_int_equal(w->files.opened, w->files.closed);
    w->files = (test_files){0};
    assert_true(check_files(w) >= before);
    if (failed != NULL) w->faults++;
    if (status == ADVROB_OK || calls > 0) assert_string_equal(digest, w->wanted);
    if (status != ADVROB_OK) assert_int_equal(status, ADVROB_E_IO);
    if (failed == NULL) assert_int_equal(status, ADVROB_OK);
    if (failed != NULL && from_there && strcmp(failed, "sync_folder") != 0)
        assert_int_equal(status, ADVROB_E_IO);
    check_resumed(w);
    forget(w);
    return failed != NULL;
}

static void test_faults(void **state) {
    world *w = *state;
    static const int32_t errors[] = {EIO, ENOSPC};
    test_guard guard = test_guard_begin();
    for (int32_t e = 0; e < 2; e++)
        for (int32_t from_there = 0; from_there < 2; from_there++) {
            for (int64_t n = 1; sweep_cancelled(w, n, from_there, errors[e]); n++)
                continue;
            for (int64_t n = 1; sweep_finished(w, n, from_there, errors[e]); n++)
                continue;
        }
    print_message("%d faults injected\n", w->faults);
    assert_true(w->faults > 200);
    test_guard_check(&guard);
}

/* Interrupted and short reads and writes are no faults. */
static void test_short(void **state) {
    world *w = *state;
    char digest[17];
    for (int64_t n = 1; n < 200; n += 3) {
        w->files = (test_files){.fail_at = n, .error = EINTR, .short_io = 1000};
        assert_int_equal(tune(w, true, 5, digest), ADVROB_E_CANCELLED);
        assert_int_equal(w->watch.warnings, 0);
        w->files = (test_files){0};
        assert_int_equal(check_files(w), 5);
        forget(w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_short),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
