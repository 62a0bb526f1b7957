/* Checkpoints: a run's state in safetensors files, two of them that are written in turn.
 *
 * A file carries a CRC-32 over all that it means (names, shapes, tensors, metadata), so that damage
 * is told and never used, and the run's fingerprint, so that no other run goes on from it. The
 * layout is described in docs/file-format.md. */
#include <string.h>

#include <zlib.h>

#include "run.h"

#define FORMAT "advrob-checkpoint"
#define VERSION "1"
#define REAL (sizeof(ar_real) == sizeof(float) ? "F32" : "F64")

enum { SLOTS = 2, MOST_TENSORS = 7, CRC_SIZE = 16, PATH_SIZE = 4096 };
/* The CRC comes last: it is over the others. */
enum { FORMAT_KEY, VERSION_KEY, METHOD, MODEL, TRAIN, VALID, OPTIONS, ALARM, CRC, KEYS };
static const char *const keys[KEYS] = {"format",     "version", "method", "model", "training",
                                       "validation", "options", "alarm",  "crc"};

/* One tensor of the state: where it lies in the run. */
typedef struct part {
    const char *name, *dtype;
    void *data;
    int64_t count;
    size_t size; /* of one value */
} part;

/* The tensors of a run, sorted by name as a reader has them; data of `size` 0 are left out. */
static int32_t list_parts(ar_tuning *t, part parts[MOST_TENSORS]) {
    int64_t slab = t->model->slab_count, state, count = 0;
    ar_real *optimizer = ar_trainer_state(t->trainer, &state);
    if (t->valid != NULL) parts[count++] = (part){"best", REAL, t->best, slab, sizeof(ar_real)};
    parts[count++] = (part){"counts", "I64", &t->counts,
                            (int64_t)(sizeof t->counts / sizeof(int64_t)), sizeof(int64_t)};
    parts[count++] = (part){"history", "F64", t->history->values,
                            t->counts.rows * AR_HISTORY_COLUMNS, sizeof(double)};
    parts[count++] = (part){"optimizer", REAL, optimizer, state, sizeof(ar_real)};
    if (t->silent != NULL)
        parts[count++] = (part){"silent", REAL, t->silent, slab, sizeof(ar_real)};
    parts[count++] =
        (part){"sums", "F64", &t->sums, (int64_t)(sizeof t->sums / sizeof(double)), sizeof(double)};
    parts[count++] = (part){"weights", REAL, t->model->slab, slab, sizeof(ar_real)};
    return (int32_t)count;
}

static uLong seal_text(uLong crc, const char *text) {
    return crc32_z(crc, (const Bytef *)text, strlen(text) + 1);
}

/* Over the tensors and all metadata but the seal itself. */
static void seal(const ar_stored *tensors, int32_t count, const char *const *names,
                 const char *const *values, int32_t metadata, char text[CRC_SIZE]) {
    uLong crc = crc32_z(0, Z_NULL, 0);
    for (int32_t i = 0; i < count; i++) {
        const ar_stored *s = &tensors[i];
        crc = seal_text(seal_text(crc, s->name), s->dtype);
        crc = crc32_z(crc, (const Bytef *)s->shape, sizeof(int64_t) * (size_t)s->rank);
        if (s->size > 0) crc = crc32_z(crc, s->data, s->size);
    }
    for (int32_t i = 0; i < metadata; i++)
        if (strcmp(names[i], keys[CRC]) != 0) crc = seal_text(seal_text(crc, names[i]), values[i]);
    ar_format(text, CRC_SIZE, "%08lx", (unsigned long)crc);
}

/* Reading */

/* The tensor as the run has it, or NULL. */
static const ar_stored *find(const ar_safetensors *file, const part *p) {
    const ar_stored *s = ar_safetensors_find(file, p->name);
    bool fits =
        s != NULL && strcmp(s->dtype, p->dtype) == 0 && s->rank == 1 && s->count == p->count;
    return fits ? s : NULL;
}

int32_t ar_checkpoint_check(const char *path, const ar_safetensors *file, int64_t *sequence) {
    ar_tuning_counts counts;
    const part p = {"counts", "I64", NULL, (int64_t)(sizeof counts / sizeof(int64_t)), 0};
    char wanted[CRC_SIZE];
    const char *values[KEYS];
    for (int32_t i = 0; i < KEYS; i++) {
        values[i] = ar_safetensors_metadata(file, keys[i]);
        if (values[i] == NULL)
            return ar_error(ADVROB_E_FORMAT, "%.200s: no checkpoint: no metadata \"%s\"", path,
                            keys[i]);
    }
    if (strcmp(values[FORMAT_KEY], FORMAT) != 0)
        return ar_error(ADVROB_E_FORMAT, "%.200s: its format is not \"" FORMAT "\"", path);
    seal(file->tensors, file->count, file->keys, file->values, file->metadata, wanted);
    if (strcmp(values[CRC], wanted) != 0)
        return ar_error(ADVROB_E_FORMAT, "%.200s: damaged: its CRC-32 is %s, it says \"%.32s\"",
                        path, wanted, values[CRC]);
    const ar_stored *stored = find(file, &p);
    if (strcmp(values[VERSION_KEY], VERSION) != 0 || stored == NULL)
        return ar_error(ADVROB_E_FORMAT,
                        "%.200s: a checkpoint of version \"%.16s\", expected " VERSION, path,
                        values[VERSION_KEY]);
    memcpy(&counts, stored->data, sizeof counts);
    *sequence = counts.sequence;
    return ADVROB_OK;
}

/* One of the two files. */
typedef struct slot {
    char path[PATH_SIZE];
    char why[AR_MESSAGE_SIZE]; /* what is wrong with it; "": nothing */
    int32_t status;            /* the code of `why` */
    bool whole;
    ar_safetensors file;
    int64_t sequence;
} slot;

static int32_t slot_path(const ar_tuning *t, int32_t i, char path[PATH_SIZE]) {
    size_t length = ar_format(path, PATH_SIZE, "%s.%d", t->options->checkpoint, i);
    if (length < PATH_SIZE) return ADVROB_OK;
    return ar_error(ADVROB_E_RANGE,
                    "option \"checkpoint\": a path of %zu bytes, expected %d at most", length - 2,
                    PATH_SIZE - 3);
}

/* A file that cannot be used is no error yet; lack of memory is. */
static int32_t read_slot(ar_tuning *t, int32_t i, slot *s) {
    int32_t status = ADVROB_OK;
    bool there;
    ar_arena_init(&s->file.arena, &t->ctx->memory);
    AR_TRY(slot_path(t, i, s->path));
    status = ar_file_exists(t->ctx, s->path, &there);
    if (status >= 0 && !there) return ADVROB_OK;
    if (status >= 0) status = ar_safetensors_read(t->ctx, s->path, &s->file);
    if (status >= 0) status = ar_checkpoint_check(s->path, &s->file, &s->sequence);
    if (status == ADVROB_E_NOMEM) return status;
    s->whole = status >= 0;
    s->status = status;
    if (!s->whole) ar_copy_text(s->why, sizeof s->why, ar_message());
    status = ADVROB_OK;
out:
    return status;
}

/* The newest whole file; *newest = -1 if there is none, which is an error if there were any. */
static int32_t choose(const ar_tuning *t, const slot slots[SLOTS], int32_t *newest) {
    bool damaged = false;
    *newest = -1;
    for (int32_t i = 0; i < SLOTS; i++) {
        if (slots[i].whole && (*newest < 0 || slots[i].sequence > slots[*newest].sequence))
            *newest = i;
        damaged = damaged || slots[i].why[0] != 0;
    }
    if (!damaged || !t->options->resume) return ADVROB_OK;
    if (*newest >= 0) {
        ar_log(t->ctx, ADVROB_LOG_WARNING, "%s; the checkpoint %s is used", slots[1 - *newest].why,
               slots[*newest].path);
        return ADVROB_OK;
    }
    const char *second = slots[1].why;
    bool unread = slots[0].status == ADVROB_E_IO || slots[1].status == ADVROB_E_IO;
    return ar_error(unread ? ADVROB_E_IO : ADVROB_E_FORMAT,
                    "no checkpoint is whole: %.200s%s%.200s", slots[0].why,
                    slots[0].why[0] != 0 && second[0] != 0 ? "; " : "", second);
}

/* The first option that differs, as both have it. */
static void print_options(const char *there, const char *here, char *text, size_t size) {
    size_t i = 0;
    while (there[i] != 0 && there[i] == here[i])
        i++;
    while (i > 0 && there[i - 1] != ' ')
        i--;
    ar_format(text, size, "the options (%.*s there, %.*s here)", (int)strcspn(there + i, " "),
              there + i, (int)strcspn(here + i, " "), here + i);
}

static int32_t check_fingerprint(const ar_tuning *t, const slot *s) {
    char what[256] = "", options[192];
    const char *stored[KEYS];
    for (int32_t i = 0; i < KEYS; i++)
        stored[i] = ar_safetensors_metadata(&s->file, keys[i]);
    print_options(stored[OPTIONS], t->fingerprint.data, options, sizeof options);
    const struct {
        const char *name, *there, *here;
    } all[] = {
        {"the method", stored[METHOD], t->finetune->method->name},
        {"the model", stored[MODEL], t->model_digest},
        {"the training data", stored[TRAIN], t->train_digest},
        {"the validation data", stored[VALID], t->valid_digest},
        {options, stored[OPTIONS], t->fingerprint.data},
    };
    size_t at = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i].there, all[i].here) != 0 && at < sizeof what)
            at += ar_format(what + at, sizeof what - at, "%s%s", at > 0 ? ", " : "", all[i].name);
    if (at == 0) return ADVROB_OK;
    return ar_error(ADVROB_E_INVALID,
                    "%.200s: a checkpoint of another run: its start differs in %s", s->path, what);
}

/* Counts that a run can have: what is read is not believed, whole or not. */
static bool possible(const ar_tuning *t, const ar_tuning_counts *c) {
    const int64_t most = INT64_MAX / 2;
    bool between = c->ended >= 0 && c->ended < AR_ENDS && c->closed >= 0 && c->closed <= 1 &&
                   c->epoch >= 0 && c->epoch < t->options->epochs && c->step >= 0 &&
                   c->step <= t->steps && c->sequence >= 0 && c->sequence < most;
    if (!between || (c->closed && c->ended == AR_RUNNING)) return false;
    /* A run that is closed has its last row, also where the next epoch has not begun. */
    bool rows = c->rows == c->epoch || (c->closed && c->rows == c->epoch + 1);
    return rows && c->done == c->epoch * t->steps + c->step && c->worse >= 0 &&
           c->worse <= c->rows && c->correct >= 0 && c->correct <= t->train->count &&
           c->checked <= c->done;
}

/* Weights that are no numbers, or a negative variance, are not taken over. */
static int32_t check_weights(const ar_tuning *t, const ar_stored *stored, const slot *s) {
    for (int32_t i = 0; i < t->model->parameter_count; i++) {
        const ar_parameter *p = &t->model->parameters[i];
        for (int64_t k = 0; k < p->count; k++) {
            ar_real value;
            memcpy(&value, stored->data + sizeof value * (size_t)(p->offset + k), sizeof value);
            if (ar_parameter_check(p, k, (double)value) < 0)
                return ar_error(ADVROB_E_FORMAT, "%.200s: %s: %s", s->path, stored->name,
                                ar_message());
        }
    }
    return ADVROB_OK;
}

/* The state of a checkpoint becomes the run's: all of it, or nothing. */
static int32_t restore(ar_tuning *t, const slot *s) {
    int32_t status = ADVROB_OK;
    const ar_stored *stored[MOST_TENSORS];
    part parts[MOST_TENSORS];
    ar_tuning_counts counts;
    const part counted = {"counts", "I64", NULL, (int64_t)(sizeof counts / sizeof(int64_t)), 0};
    memcpy(&counts, find(&s->file, &counted)->data, sizeof counts);
    bool fits = possible(t, &counts);
    if (fits) t->counts.rows = counts.rows;
    int32_t count = list_parts(t, parts);
    for (int32_t i = 0; i < count; i++)
        fits = fits && (stored[i] = find(&s->file, &parts[i])) != NULL;
    if (!fits)
        AR_FAIL(ADVROB_E_FORMAT, "%.200s: its counts or tensors are not those of this run",
                s->path);
    for (int32_t i = 0; i < count; i++) {
        bool weights =
            stored[i]->count == t->model->slab_count && strcmp(parts[i].name, "optimizer") != 0;
        if (weights && strcmp(parts[i].dtype, REAL) == 0) AR_TRY(check_weights(t, stored[i], s));
    }
    for (int32_t i = 0; i < count; i++)
        if (stored[i]->size > 0) memcpy(parts[i].data, stored[i]->data, stored[i]->size);
    ar_copy_text(t->history->alarm, sizeof t->history->alarm,
                 ar_safetensors_metadata(&s->file, keys[ALARM]));
    t->history->rows = (int32_t)t->counts.rows;
    ar_tuning_put_weights(t, t->model->slab);
out:
    if (status < 0) t->counts.rows = 0;
    return status;
}

/* The fingerprint */

/* Options that change nothing of the result. */
static bool is_idle(const char *name) {
    static const char *const idle[] = {"checkpoint", "checkpoint_minutes", "resume",
                                       "best_path",  "last_path",          "minutes"};
    for (size_t i = 0; i < sizeof idle / sizeof idle[0]; i++)
        if (strcmp(name, idle[i]) == 0) return true;
    return false;
}

static int32_t take_fingerprint(ar_tuning *t) {
    const advrob_finetune *f = t->finetune;
    ar_format(t->model_digest, sizeof t->model_digest, "%016llx",
              (unsigned long long)ar_model_digest(t->model));
    ar_format(t->train_digest, sizeof t->train_digest, "%016llx",
              (unsigned long long)ar_dataset_digest(t->train));
    ar_copy_text(t->valid_digest, sizeof t->valid_digest, "none");
    if (t->valid != NULL)
        ar_format(t->valid_digest, sizeof t->valid_digest, "%016llx",
                  (unsigned long long)ar_dataset_digest(t->valid));
    ar_options_print(&t->fingerprint, "", &ar_finetune_options, &f->options, f->seed, is_idle);
    ar_options_print(&t->fingerprint, "augment.", &ar_augment_options, &f->augment, f->seed, NULL);
    ar_options_print(&t->fingerprint, "valid.", f->valid->kind->options, f->valid->options,
                     f->valid->seed, NULL);
    if (f->attack != NULL)
        ar_options_print(&t->fingerprint, "attack.", f->attack->kind->options, f->attack->options,
                         f->attack->seed, NULL);
    return ar_buffer_status(&t->fingerprint);
}

int32_t ar_checkpoint_open(ar_tuning *t) {
    int32_t status = ADVROB_OK, newest;
    void *block = NULL;
    slot *slots = NULL;
    if (!ar_tuning_has_checkpoint(t)) return ADVROB_OK;
    AR_TRY(take_fingerprint(t));
    AR_TRY(ar_calloc(&t->ctx->memory, SLOTS, sizeof(slot), "checkpoints", &block));
    slots = block;
    for (int32_t i = 0; i < SLOTS; i++)
        AR_TRY(read_slot(t, i, &slots[i]));
    AR_TRY(choose(t, slots, &newest));
    t->written = ar_clock();
    if (newest < 0) goto out;
    if (t->options->resume) {
        AR_TRY(check_fingerprint(t, &slots[newest]));
        AR_TRY(restore(t, &slots[newest]));
    }
    /* A new run too goes on counting: its files are newer than those that lie there. */
    t->counts.sequence = slots[newest].sequence;
    t->slot = 1 - newest;
out:
    for (int32_t i = 0; slots != NULL && i < SLOTS; i++)
        ar_safetensors_free(t->ctx, &slots[i].file);
    ar_free(&t->ctx->memory, slots);
    return status;
}

void ar_checkpoint_close(ar_tuning *t) {
    ar_buffer_free(&t->fingerprint);
}

/* Writing */

int32_t ar_checkpoint_write(ar_tuning *t) {
    int32_t status = ADVROB_OK;
    char path[PATH_SIZE], crc[CRC_SIZE];
    part parts[MOST_TENSORS];
    ar_stored stored[MOST_TENSORS];
    const char *values[KEYS] = {FORMAT,
                                VERSION,
                                t->finetune->method->name,
                                t->model_digest,
                                t->train_digest,
                                t->valid_digest,
                                t->fingerprint.data,
                                t->history->alarm,
                                crc};
    AR_TRY(slot_path(t, t->slot, path));
    ar_tuning_settle_clocks(t);
    t->counts.sequence++;
    int32_t count = list_parts(t, parts);
    for (int32_t i = 0; i < count; i++)
        stored[i] = (ar_stored){.name = parts[i].name,
                                .dtype = parts[i].dtype,
                                .rank = 1,
                                .shape = {parts[i].count},
                                .count = parts[i].count,
                                .data = parts[i].data,
                                .size = (size_t)parts[i].count * parts[i].size};
    seal(stored, count, keys, values, CRC, crc);
    AR_TRY(ar_safetensors_write(t->ctx, path, stored, count, keys, values, KEYS));
    t->slot = 1 - t->slot;
    t->written = ar_clock();
out:
    return status;
}

void ar_checkpoint_try(ar_tuning *t) {
    if (!ar_tuning_has_checkpoint(t) || ar_checkpoint_write(t) >= 0) return;
    t->written = ar_clock(); /* not again at every step */
    ar_log(t->ctx, ADVROB_LOG_WARNING, "the checkpoint was not written, the run goes on: %s",
           ar_message());
}
