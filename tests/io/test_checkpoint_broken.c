/* Damaged checkpoints: one that is cut anywhere or has any one bit flipped is refused with a
 * message, the one before it is used, and a run whose files are all damaged does not start anew. */
#include "support/support.h"

#include "method/run.h"
#include "support/golden.h"

#include "support/images.h"
#include "support/options.h"
#include "support/training.h"
#include "support/watch.h"

#include <stdio.h>
#include <unistd.h>
#include <zlib.h>

enum { CLASSES = 2, IMAGES = 12, STEPS = 3, EPOCHS = 2 }; /* in batches of 4 */
static const ar_shape shape = {1, 2, 2};

#define COMMON "epochs=2 batch_size=4 lr=0.1 seed=5 checkpoint_minutes=1e-9 "

typedef struct world {
    char folder[256], paths[2][300];
    test_allocator allocator;
    advrob_context *ctx;
    advrob_dataset *data, *valid;
    advrob_model *wanted; /* what an undisturbed run gives */
    test_watch watch;
    uint8_t *bytes[2]; /* of the two files after a run that was cancelled */
    size_t sizes[2];
} world;

/* Flatten and one linear layer: ten parameters, so that a file is small. */
static advrob_model *new_model(const world *w) {
    advrob_model *model = NULL;
    ar_attributes none = {.kernel = {1, 1}, .stride = {1, 1}},
                  linear = {.kernel = {1, 1}, .stride = {1, 1}, .outputs = CLASSES, .bias = true};
    int32_t inputs[AR_MAX_INPUTS] = {0}, at = 0;
    test_ok(ar_model_create(w->ctx, shape, &model));
    test_ok(ar_model_add(model, "flatten", "flat", inputs, &none, &at));
    inputs[0] = at;
    test_ok(ar_model_add(model, "linear", "fc", inputs, &linear, &at));
    test_ok(ar_model_initialise(model, "pytorch", 1));
    return model;
}

static int32_t tune(world *w, int64_t cancel_at, bool checkpoint, advrob_model **model) {
    char text[512];
    snprintf(text, sizeof text, COMMON "%s%.*s", checkpoint ? "checkpoint=" : "",
             checkpoint ? (int)strlen(w->paths[0]) - 2 : 0, w->paths[0]);
    *model = new_model(w);
    w->watch.calls = w->watch.warnings = 0;
    w->watch.cancel_at = cancel_at;
    return finetune_run(*model, "standard", text, w->data, w->valid, NULL);
}

static uint8_t *read_bytes(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    uint8_t *bytes = malloc(1 << 16);
    *size = fread(bytes, 1, 1 << 16, file);
    fclose(file);
    return bytes;
}

static void write_bytes(const char *path, const uint8_t *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static int set_up(void **state) {
    static world w;
    advrob_model *model = NULL;
    if (access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 1);
    test_folder_make(w.folder, sizeof w.folder);
    for (int32_t i = 0; i < 2; i++)
        snprintf(w.paths[i], sizeof w.paths[i], "%s/run.%d", w.folder, i);
    w.ctx = test_context_with(&w.allocator, 1);
    w.ctx->kernels = ar_kernels_get(ar_cpu_detect(), false);
    w.ctx->progress = watch_progress;
    w.ctx->log = watch_log;
    w.ctx->progress_user = w.ctx->log_user = &w.watch;
    w.data = test_dataset(w.ctx, IMAGES, shape, CLASSES, 0.3, 3);
    w.valid = test_dataset(w.ctx, 5, shape, CLASSES, 0.3, 4);
    test_ok(tune(&w, 0, false, &w.wanted));
    assert_int_equal(tune(&w, 5, true, &model), ADVROB_E_CANCELLED);
    ar_model_release(model);
    for (int32_t i = 0; i < 2; i++)
        w.bytes[i] = read_bytes(w.paths[i], &w.sizes[i]);
    *state = &w;
    return 0;
}

static int tear_down(void **state) {
    world *w = *state;
    ar_model_release(w->wanted);
    ar_dataset_release(w->data);
    ar_dataset_release(w->valid);
    ar_context_release(w->ctx);
    test_allocator_check(&w->allocator);
    test_folder_remove(w->folder);
    free(w->bytes[0]);
    free(w->bytes[1]);
    return 0;
}

/* ---- the reader ---- */

static int32_t check_bytes(const world *w, const uint8_t *bytes, size_t size, int64_t *sequence) {
    ar_safetensors file;
    int32_t status = ar_safetensors_parse(w->ctx, "it", bytes, size, &file);
    if (status >= 0) {
        status = ar_checkpoint_check("it", &file, sequence);
        ar_safetensors_free(w->ctx, &file);
    }
    return status;
}

static void refuses(const world *w, const uint8_t *bytes, size_t size, const char *what,
                    int64_t at) {
    int64_t sequence;
    ar_error_restore(ADVROB_E_INTERNAL, "");
    int32_t status = check_bytes(w, bytes, size, &sequence);
    if (status >= 0 || strncmp(ar_message(), "it: ", 4) != 0 || strlen(ar_message()) < 12)
        fail_msg("%s %lld: %d, \"%s\"", what, (long long)at, status, ar_message());
}

static void test_sequence(void **state) {
    const world *w = *state;
    int64_t first, second;
    test_ok(check_bytes(w, w->bytes[0], w->sizes[0], &first));
    test_ok(check_bytes(w, w->bytes[1], w->sizes[1], &second));
    print_message("files of %zu and %zu bytes, numbers %lld and %lld\n", w->sizes[0], w->sizes[1],
                  (long long)first, (long long)second);
    assert_true(first - second == 1 || second - first == 1);
}

static void test_cut(void **state) {
    const world *w = *state;
    for (size_t size = 0; size < w->sizes[0]; size++) {
        uint8_t *part = malloc(size + 1); /* its own block: reading on is caught */
        memcpy(part, w->bytes[0], size);
        part[size] = 0; /* as ar_file_read ends a file */
        refuses(w, part, size, "cut at", (int64_t)size);
        free(part);
    }
}

static void test_flipped(void **state) {
    const world *w = *state;
    for (size_t bit = 0; bit < 8 * w->sizes[0]; bit++) {
        w->bytes[0][bit / 8] ^= (uint8_t)(1 << bit % 8);
        refuses(w, w->bytes[0], w->sizes[0], "flipped bit", (int64_t)bit);
        w->bytes[0][bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    print_message("%zu bits\n", 8 * w->sizes[0]);
}

/* ---- whole runs ---- */

/* Puts the two files back, and gives the number of the newer one. */
static int32_t restore_files(const world *w) {
    int64_t first, second;
    for (int32_t i = 0; i < 2; i++)
        write_bytes(w->paths[i], w->bytes[i], w->sizes[i]);
    test_ok(check_bytes(w, w->bytes[0], w->sizes[0], &first));
    test_ok(check_bytes(w, w->bytes[1], w->sizes[1], &second));
    return first > second ? 0 : 1;
}

/* Damages file i: way 0 cuts it, way 1 flips a bit, way 2 empties it, way 3 writes a model. */
static void damage(const world *w, int32_t i, int32_t way, int64_t at) {
    uint8_t *copy = malloc(w->sizes[i]);
    memcpy(copy, w->bytes[i], w->sizes[i]);
    copy[at / 8] ^= (uint8_t)(1 << at % 8);
    if (way == 3)
        test_ok(ar_model_file_save(w->wanted, w->paths[i]));
    else if (way == 2)
        write_bytes(w->paths[i], copy, 0);
    else
        write_bytes(w->paths[i], way == 0 ? w->bytes[i] : copy,
                    way == 0 ? (size_t)at / 8 : w->sizes[i]);
    free(copy);
}

static void test_before_it(void **state) {
    world *w = *state;
    for (int32_t way = 0; way < 4; way++)
        for (int64_t at = 3; at < 8 * (int64_t)w->sizes[0]; at += way < 2 ? 1501 : 1 << 20) {
            advrob_model *model = NULL;
            int32_t newest = restore_files(w);
            damage(w, newest, way, at);
            test_ok(tune(w, 0, true, &model));
            assert_int_equal(w->watch.warnings, 1);
            if (strstr(w->watch.warning, w->paths[0]) == NULL ||
                strstr(w->watch.warning, w->paths[1]) == NULL)
                fail_msg("the warning names not both files: %s", w->watch.warning);
            assert_int_equal(w->watch.calls,
                             EPOCHS * STEPS - 4); /* one step more than the newest has */
            assert_true(ar_model_digest(model) == ar_model_digest(w->wanted));
            ar_model_release(model);
        }
}

static void test_none_whole(void **state) {
    world *w = *state;
    advrob_model *model = NULL;
    for (int32_t missing = -1; missing < 2; missing++) {
        restore_files(w);
        for (int32_t i = 0; i < 2; i++)
            if (i == missing)
                remove(w->paths[i]);
            else
                damage(w, i, i, 5000);
        assert_int_equal(tune(w, 0, true, &model), ADVROB_E_FORMAT);
        for (int32_t i = 0; i < 2; i++)
            if ((strstr(ar_message(), w->paths[i]) != NULL) != (i != missing))
                fail_msg("without file %d: %s", missing, ar_message());
        assert_int_equal(w->watch.calls, 0);
        ar_model_release(model);
    }
    for (int32_t i = 0; i < 2; i++)
        remove(w->paths[i]);
    test_ok(tune(w, 0, true, &model)); /* none there: a fresh start */
    assert_int_equal(w->watch.calls, EPOCHS * STEPS);
    assert_true(ar_model_digest(model) == ar_model_digest(w->wanted));
    ar_model_release(model);
}

/* ---- whole files that lie ---- */

static uLong seal_text(uLong crc, const char *text) {
    return crc32(crc, (const Bytef *)text, (uInt)strlen(text) + 1);
}

/* Writes file `slot` with 8 or 4 bytes at `at` of a tensor changed, under a CRC that fits. */
static void forge(const world *w, int32_t slot, const char *tensor, size_t at, const void *value,
                  size_t size) {
    ar_safetensors file;
    char seal[16];
    const char *values[32];
    uLong crc = crc32(0, Z_NULL, 0);
    uint8_t *bytes = malloc(w->sizes[slot]);
    memcpy(bytes, w->bytes[slot], w->sizes[slot]);
    test_ok(ar_safetensors_parse(w->ctx, "forged", bytes, w->sizes[slot], &file));
    const ar_stored *changed = ar_safetensors_find(&file, tensor);
    assert_non_null(changed);
    assert_true(at + size <= changed->size);
    memcpy(bytes + (changed->data - bytes) + at, value, size);
    for (int32_t i = 0; i < file.count; i++) {
        const ar_stored *t = &file.tensors[i];
        crc = seal_text(seal_text(crc, t->name), t->dtype);
        crc = crc32(crc, (const Bytef *)t->shape, (uInt)(sizeof(int64_t) * (size_t)t->rank));
        if (t->size > 0) crc = crc32(crc, t->data, (uInt)t->size);
    }
    assert_in_range(file.metadata, 1, 32);
    for (int32_t i = 0; i < file.metadata; i++) {
        bool own = strcmp(file.keys[i], "crc") == 0;
        values[i] = own ? seal : file.values[i];
        if (!own) crc = seal_text(seal_text(crc, file.keys[i]), file.values[i]);
    }
    snprintf(seal, sizeof seal, "%08lx", (unsigned long)crc);
    test_ok(ar_safetensors_write(w->ctx, w->paths[slot], file.tensors, file.count, file.keys,
                                 values, file.metadata));
    ar_safetensors_free(w->ctx, &file);
    free(bytes);
}

/* Both files forged alike; what a run then says. */
static int32_t tune_forged(world *w, const char *tensor, size_t at, const void *value,
                           size_t size) {
    advrob_model *model = NULL;
    for (int32_t slot = 0; slot < 2; slot++)
        forge(w, slot, tensor, at, value, size);
    int32_t status = tune(w, 0, true, &model);
    if (status >= 0) test_ok(ar_model_check_finite(model));
    ar_model_release(model);
    return status;
}

/* A checksum is no proof of honesty: counts that no run can have and weights that are no numbers
 * are refused. */
static void test_forged(void **state) {
    world *w = *state;
    enum { HONEST = 10, CHECKED = 7 }; /* fields of ar_tuning_counts up to `closed` */
    static const int64_t lies[] = {INT64_MAX, INT64_MIN, -2, 1000};
    const float nan = NAN;
    for (size_t field = 0; field < HONEST; field++)
        for (size_t k = 0; k < sizeof lies / sizeof lies[0]; k++) {
            int32_t status =
                tune_forged(w, "counts", field * sizeof(int64_t), &lies[k], sizeof lies[k]);
            bool harmless = (field == 0 && lies[k] == 1000) || (field == CHECKED && lies[k] < 0);
            if (status != (harmless ? ADVROB_OK : ADVROB_E_FORMAT))
                fail_msg("field %d as %lld: status %d", (int)field, (long long)lies[k], status);
        }
    assert_int_equal(tune_forged(w, "weights", 12, &nan, sizeof nan), ADVROB_E_FORMAT);
    assert_non_null(strstr(ar_message(), "weights: parameter fc.weight: value 3"));
    assert_int_equal(tune_forged(w, "best", 0, &nan, sizeof nan), ADVROB_E_FORMAT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequence),   cmocka_unit_test(test_cut),
        cmocka_unit_test(test_flipped),    cmocka_unit_test(test_before_it),
        cmocka_unit_test(test_none_whole), cmocka_unit_test(test_forged),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
