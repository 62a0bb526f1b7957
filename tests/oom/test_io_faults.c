/* Every file operation of the public API fails once: opening, reading, writing, syncing, closing,
 * renaming.
 *
 * A failed write leaves the old file as it was and no temporary beside it; a failed read gives
 * nothing. Both answer E_IO with a message that names the path, close what they opened, and succeed
 * when they are called again. Short and interrupted reads and writes are no failures at all. */
#include "support/support.h"

#include <advrob/advrob.h>

#include <errno.h>
#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { SIDE = 8, IMAGES = 12, FILES = 7 };

typedef struct world {
    char folder[256];
    advrob_context *ctx;
    advrob_model *old, *fresh;
    advrob_report *old_report, *fresh_report;
    test_files files;
    char digest[17];   /* of what the last call read */
    char warning[512]; /* the last that was logged */
} world;

static int64_t faults;

/* ---- The calls ---- */

static const char *path_of(const world *w, const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", w->folder, name);
    return path;
}

static int32_t save_model(world *w, bool old) {
    return advrob_model_save(old ? w->old : w->fresh, path_of(w, "net.safetensors"));
}

static int32_t write_csv(world *w, bool old) {
    return advrob_report_write(old ? w->old_report : w->fresh_report, path_of(w, "report.csv"));
}

static int32_t write_json(world *w, bool old) {
    return advrob_report_write(old ? w->old_report : w->fresh_report, path_of(w, "report.json"));
}

/* Keeps the digest of a model that was read, and frees it; NULL: nothing was read. */
static int32_t keep_model(world *w, int32_t status, advrob_model *model) {
    if (status < 0)
        assert_null(model);
    else
        assert_int_equal(advrob_model_digest(model, w->digest, sizeof w->digest), ADVROB_OK);
    advrob_model_destroy(model);
    return status;
}

static int32_t load_model(world *w) {
    advrob_model *model = NULL;
    int32_t status = advrob_model_load(w->ctx, path_of(w, "saved.safetensors"), NULL, &model);
    return keep_model(w, status, model);
}

static int32_t build_with_weights(world *w) {
    advrob_model *model = NULL;
    advrob_options *options = NULL;
    assert_int_equal(advrob_options_create(&options), ADVROB_OK);
    advrob_options_set_str(options, "weights", path_of(w, "saved.safetensors"));
    int32_t status = advrob_model_build(w->ctx, "tiny", options, &model);
    advrob_options_destroy(options);
    return keep_model(w, status, model);
}

/* A failure leaves the model as it was: the digest is then that of its own weights. */
static int32_t load_weights(world *w) {
    char before[17], after[17];
    advrob_model *model = NULL;
    assert_int_equal(advrob_model_clone(w->fresh, &model), ADVROB_OK);
    advrob_model_digest(model, before, sizeof before);
    int32_t status = advrob_model_load_weights(model, path_of(w, "saved.safetensors"));
    advrob_model_digest(model, after, sizeof after);
    assert_true((strcmp(before, after) == 0) == (status < 0));
    if (status == ADVROB_OK) memcpy(w->digest, after, sizeof after);
    advrob_model_destroy(model);
    return status;
}

static int32_t open_dataset(world *w) {
    advrob_dataset *data = NULL;
    int32_t status = advrob_dataset_open(w->ctx, "mnist", w->folder, NULL, &data);
    if (status < 0)
        assert_null(data);
    else
        assert_int_equal(advrob_dataset_digest(data, w->digest, sizeof w->digest), ADVROB_OK);
    advrob_dataset_destroy(data);
    return status;
}

static int32_t read_csv(world *w) {
    advrob_report *report = NULL;
    double value = 0;
    assert_int_equal(advrob_report_create(w->ctx, &report), ADVROB_OK);
    int32_t status = advrob_report_read_csv(report, path_of(w, "saved.csv"));
    assert_int_equal(advrob_report_rows(report), status < 0 ? 0 : 1);
    if (status == ADVROB_OK) {
        assert_int_equal(advrob_report_get_f64(report, 0, "figure", &value), ADVROB_OK);
        snprintf(w->digest, sizeof w->digest, "%g", value);
    }
    advrob_report_destroy(report);
    return status;
}

static const struct {
    const char *name, *file;
    int32_t (*call)(world *w, bool old);
} writers[] = {
    {"advrob_model_save", "net.safetensors", save_model},
    {"advrob_report_write, CSV", "report.csv", write_csv},
    {"advrob_report_write, JSON", "report.json", write_json},
};

static const struct {
    const char *name, *file;
    int32_t (*call)(world *w);
} readers[] = {
    {"advrob_model_load", "saved.safetensors", load_model},
    {"advrob_model_build with weights", "saved.safetensors", build_with_weights},
    {"advrob_model_load_weights", "saved.safetensors", load_weights},
    {"advrob_dataset_open", "-ubyte", open_dataset},
    {"advrob_report_read_csv", "saved.csv", read_csv},
};

/* ---- What they stand on ---- */

static void log_hook(void *user, int32_t level, const char *message) {
    world *w = user;
    assert_int_equal(level, ADVROB_LOG_WARNING);
    snprintf(w->warning, sizeof w->warning, "%s", message);
}

static void write_bytes(const world *w, const char *name, const unsigned char *bytes, size_t size) {
    FILE *file = fopen(path_of(w, name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void write_dataset(const world *w) {
    unsigned char pixels[16 + IMAGES * SIDE * SIDE] = {0, 0, 8, 3};
    unsigned char labels[8 + IMAGES] = {0, 0, 8, 1};
    pixels[7] = labels[7] = IMAGES;
    pixels[11] = pixels[15] = SIDE;
    for (size_t i = 16; i < sizeof pixels; i++)
        pixels[i] = (unsigned char)(i * 13);
    for (size_t i = 8; i < sizeof labels; i++)
        labels[i] = (unsigned char)(i % 10);
    write_bytes(w, "train-images-idx3-ubyte", pixels, sizeof pixels);
    gzFile packed = gzopen(path_of(w, "train-labels-idx1-ubyte.gz"), "wb");
    assert_int_equal(gzwrite(packed, labels, sizeof labels), sizeof labels);
    assert_int_equal(gzclose(packed), Z_OK);
}

static advrob_report *new_report(const world *w, double figure) {
    advrob_report *report = NULL;
    assert_int_equal(advrob_report_create(w->ctx, &report), ADVROB_OK);
    assert_int_equal(advrob_report_add_row(report), ADVROB_OK);
    assert_int_equal(advrob_report_put_f64(report, "figure", figure), ADVROB_OK);
    return report;
}

static advrob_model *new_model(const world *w, int64_t seed) {
    advrob_options *options = NULL;
    advrob_model *model = NULL;
    assert_int_equal(advrob_options_create(&options), ADVROB_OK);
    advrob_options_set_i64(options, "seed", seed);
    assert_int_equal(advrob_model_build(w->ctx, "tiny", options, &model), ADVROB_OK);
    advrob_options_destroy(options);
    return model;
}

static int set_up(void **state) {
    static world w;
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1); /* syncs cost nothing there */
    test_folder_make(w.folder, sizeof w.folder);
    assert_int_equal(advrob_context_create(NULL, &w.ctx), ADVROB_OK);
    w.old = new_model(&w, 1);
    w.fresh = new_model(&w, 2);
    w.old_report = new_report(&w, 1);
    w.fresh_report = new_report(&w, 2);
    write_dataset(&w);
    assert_int_equal(advrob_model_save(w.old, path_of(&w, "saved.safetensors")), ADVROB_OK);
    assert_int_equal(advrob_report_write(w.old_report, path_of(&w, "saved.csv")), ADVROB_OK);
    for (size_t i = 0; i < sizeof writers / sizeof writers[0]; i++)
        assert_int_equal(writers[i].call(&w, true), ADVROB_OK);
    assert_int_equal(advrob_context_set_log(w.ctx, log_hook, &w), ADVROB_OK);
    test_files_use(w.ctx, &w.files);
    *state = &w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    advrob_context_destroy(w->ctx);
    advrob_model_destroy(w->old);
    advrob_model_destroy(w->fresh);
    advrob_report_destroy(w->old_report);
    advrob_report_destroy(w->fresh_report);
    test_folder_remove(w->folder);
    return 0;
}

/* The file's bytes as a number; 0 if there is no file. */
static uint64_t hash_file(const world *w, const char *name) {
    uint64_t hash = 1;
    FILE *file = fopen(path_of(w, name), "rb");
    if (file == NULL) return 0;
    for (int c = getc(file); c != EOF; c = getc(file))
        hash = (hash ^ (uint64_t)c) * 0x100000001b3u;
    fclose(file);
    return hash;
}

/* The n-th operation fails with `error`, or all from there on. */
static void arm(world *w, int64_t n, bool from_there, int32_t error) {
    w->files = (test_files){.fail_at = n, .from_there = from_there, .error = error};
    w->warning[0] = 0;
}

/* What stands after every call; true if the fault made it fail. */
static bool check_call(world *w, const char *name, const char *file, int32_t status) {
    assert_int_equal(w->files.opened, w->files.closed);
    assert_int_equal(test_folder_count(w->folder), FILES);
    if (w->files.failed != NULL) faults++;
    if (status == ADVROB_OK) return false;
    if (w->files.failed == NULL) fail_msg("%s: %s", name, advrob_last_message());
    if (status != ADVROB_E_IO || strstr(advrob_last_message(), file) == NULL ||
        strstr(advrob_last_message(), "errno") == NULL)
        fail_msg("%s, %s failed: %d, %s", name, w->files.failed, status, advrob_last_message());
    return true;
}

/* ---- The sweeps ---- */

static void sweep_writer(world *w, size_t i, bool from_there, int32_t error) {
    const char *name = writers[i].name, *file = writers[i].file;
    int32_t failures = 0;
    arm(w, 0, false, 0);
    assert_int_equal(writers[i].call(w, false), ADVROB_OK);
    uint64_t fresh = hash_file(w, file);
    assert_int_equal(writers[i].call(w, true), ADVROB_OK);
    uint64_t old = hash_file(w, file);
    assert_true(old != fresh);
    for (int64_t n = 1;; n++) {
        arm(w, n, from_there, error);
        int32_t status = writers[i].call(w, false);
        const char *failed = w->files.failed;
        bool broken = check_call(w, name, file, status);
        failures += broken;
        if (hash_file(w, file) != (broken ? old : fresh))
            fail_msg("%s, %s failed: the file is not the %s one", name, failed,
                     broken ? "old" : "new");
        if (failed != NULL && strcmp(failed, "sync_folder") == 0 && error != EINTR)
            assert_non_null(strstr(w->warning, file));
        arm(w, 0, false, 0);
        assert_int_equal(writers[i].call(w, true), ADVROB_OK);
        assert_true(hash_file(w, file) == old);
        if (failed == NULL) break;
    }
    assert_true(error == EINTR ? failures == 0 : failures >= 5);
}

static void test_writers(void **state) {
    static const int32_t errors[] = {EIO, ENOSPC, EACCES};
    test_guard guard = test_guard_begin();
    for (size_t i = 0; i < sizeof writers / sizeof writers[0]; i++)
        for (size_t k = 0; k < sizeof errors / sizeof errors[0]; k++)
            for (int32_t from_there = 0; from_there < 2; from_there++)
                sweep_writer(*state, i, from_there != 0, errors[k]);
    test_guard_check(&guard);
}

static void sweep_reader(world *w, size_t i, bool from_there, int32_t error) {
    char wanted[17];
    int32_t failures = 0;
    arm(w, 0, false, 0);
    assert_int_equal(readers[i].call(w), ADVROB_OK);
    memcpy(wanted, w->digest, sizeof wanted);
    for (int64_t n = 1;; n++) {
        arm(w, n, from_there, error);
        w->digest[0] = 0;
        int32_t status = readers[i].call(w);
        bool untouched = w->files.failed == NULL;
        bool asks_size =
            !untouched && strcmp(w->files.failed, "size") == 0; /* no signal stops that */
        if (check_call(w, readers[i].name, readers[i].file, status) &&
            !(asks_size && error == EINTR))
            failures++;
        if (status == ADVROB_OK) assert_string_equal(w->digest, wanted);
        arm(w, 0, false, 0);
        assert_int_equal(readers[i].call(w), ADVROB_OK);
        assert_string_equal(w->digest, wanted);
        if (untouched) break;
    }
    assert_true(error == EINTR ? failures == 0 : failures >= 3);
}

static void test_readers(void **state) {
    static const int32_t errors[] = {EIO, EACCES};
    test_guard guard = test_guard_begin();
    for (size_t i = 0; i < sizeof readers / sizeof readers[0]; i++)
        for (size_t k = 0; k < sizeof errors / sizeof errors[0]; k++)
            for (int32_t from_there = 0; from_there < 2; from_there++)
                sweep_reader(*state, i, from_there != 0, errors[k]);
    test_guard_check(&guard);
}

/* Signals interrupt: each operation once. Nothing fails. */
static void test_interrupted(void **state) {
    for (size_t i = 0; i < sizeof writers / sizeof writers[0]; i++)
        sweep_writer(*state, i, false, EINTR);
    for (size_t i = 0; i < sizeof readers / sizeof readers[0]; i++)
        sweep_reader(*state, i, false, EINTR);
}

static void test_short(void **state) {
    world *w = *state;
    for (size_t i = 0; i < sizeof writers / sizeof writers[0]; i++) {
        arm(w, 0, false, 0);
        assert_int_equal(writers[i].call(w, false), ADVROB_OK);
        uint64_t fresh = hash_file(w, writers[i].file);
        w->files.short_io = 7;
        assert_int_equal(writers[i].call(w, false), ADVROB_OK);
        assert_true(hash_file(w, writers[i].file) == fresh && w->files.operations > 8);
    }
    for (size_t i = 0; i < sizeof readers / sizeof readers[0]; i++) {
        char wanted[17];
        arm(w, 0, false, 0);
        assert_int_equal(readers[i].call(w), ADVROB_OK);
        memcpy(wanted, w->digest, sizeof wanted);
        w->files.short_io = 3;
        assert_int_equal(readers[i].call(w), ADVROB_OK);
        assert_string_equal(w->digest, wanted);
    }
}

static int log_rounding;

static void rounding_hook(void *user, int32_t level, const char *message) {
    (void)user;
    (void)level;
    (void)message;
    log_rounding = fegetround();
}

/* The log hook sees the caller's rounding, and the file is the same for all that. */
static void test_log_rounding(void **state) {
    world *w = *state;
    arm(w, 0, false, 0);
    assert_int_equal(save_model(w, false), ADVROB_OK);
    uint64_t fresh = hash_file(w, "net.safetensors");
    int64_t syncs_folder = w->files.operations; /* the last of a save */
    assert_int_equal(advrob_context_set_log(w->ctx, rounding_hook, NULL), ADVROB_OK);
    arm(w, syncs_folder, false, EIO);
    fesetround(FE_UPWARD);
    int32_t status = save_model(w, false);
    int after = fegetround();
    fesetround(FE_TONEAREST);
    assert_int_equal(status, ADVROB_OK);
    assert_string_equal(w->files.failed, "sync_folder");
    assert_int_equal(log_rounding, FE_UPWARD);
    assert_int_equal(after, FE_UPWARD);
    assert_true(hash_file(w, "net.safetensors") == fresh);
    assert_int_equal(advrob_context_set_log(w->ctx, log_hook, w), ADVROB_OK);
}

/* Nothing is there yet: a failed first write leaves nothing. */
static void test_first_write(void **state) {
    world *w = *state;
    for (int64_t n = 1;; n++) {
        arm(w, n, true, EIO);
        int32_t status = advrob_model_save(w->fresh, path_of(w, "first.safetensors"));
        assert_int_equal(access(path_of(w, "first.safetensors"), F_OK), status < 0 ? -1 : 0);
        assert_int_equal(test_folder_count(w->folder), FILES + (status == ADVROB_OK));
        remove(path_of(w, "first.safetensors"));
        if (w->files.failed == NULL) break;
        faults++;
    }
}

static void test_enough(void **state) {
    (void)state;
    print_message("%lld faults injected\n", (long long)faults);
    assert_true(faults >= 200);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writers),      cmocka_unit_test(test_readers),
        cmocka_unit_test(test_interrupted),  cmocka_unit_test(test_short),
        cmocka_unit_test(test_log_rounding), cmocka_unit_test(test_first_write),
        cmocka_unit_test(test_enough),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
