/* An evaluation's file of images: CSV, one line an image, written whole after each group, from
 * which a run that was stopped goes on. Its first column is a digest of net, data and options. */
#include <string.h>

#include "report.h"

enum { FIXED = 16 };
static const char *const columns[FIXED] = {
    "evaluation", "image", "label",  "clean_prediction", "clean_loss", "prediction", "loss",
    "linf",       "l2",    "attack", "member",           "run",        "step",       "forwards",
    "backwards",  "passes"};

/* ---- Whose file it is ---- */

/* Images whose logits tell one program behind callbacks from another. */
enum { PROBES = 16 };

static int32_t digest_answers(const ar_evaluate_call *call, advrob_target *target,
                              uint64_t *digest) {
    int32_t status = ADVROB_OK;
    int64_t n = call->data->count < PROBES ? call->data->count : PROBES;
    size_t classes = (size_t)target->classes;
    void *x = NULL, *logits = NULL;
    ar_arena arena;
    ar_arena_init(&arena, &target->ctx->memory);
    AR_TRY(ar_arena_alloc(&arena, (size_t)(n * ar_shape_count(target->shape)), sizeof(float),
                          "images", &x));
    AR_TRY(ar_arena_alloc(&arena, (size_t)n * classes, sizeof(float), "logits", &logits));
    AR_TRY(ar_dataset_gather(call->data, 0, NULL, n, x, NULL));
    AR_TRY(ar_target_forward(target, n, x, logits));
    *digest = ar_fnv(*digest, logits, (size_t)n * classes * sizeof(float));
out:
    ar_arena_free(&arena);
    return status;
}

static int32_t digest_net(const ar_evaluate_call *call, advrob_target *target, uint64_t *digest) {
    size_t channels = (size_t)target->shape.c * sizeof(double);
    *digest = ar_fnv(*digest, &target->lattice, sizeof target->lattice);
    *digest = ar_fnv(*digest, target->low, channels);
    *digest = ar_fnv(*digest, target->high, channels);
    *digest = ar_fnv(*digest, target->unit, channels);
    if (target->model == NULL) return digest_answers(call, target, digest);
    uint64_t model = ar_model_digest(target->model);
    *digest = ar_fnv(*digest, &model, sizeof model);
    return ADVROB_OK;
}

/* Who the first column says it is, against who it should be. */
static int32_t check_digest(const ar_records *r, const char *found) {
    static const char *const what[3] = {"another net", "other data", "other attacks or options"};
    for (int32_t i = 0; i < 3 && strlen(found) == strlen(r->digest); i++)
        if (memcmp(found + i * 17, r->digest + i * 17, 16) != 0)
            return ar_error(ADVROB_E_INVALID,
                            "%.200s: records of %s; remove the file or give another path", r->path,
                            what[i]);
    if (strcmp(found, r->digest) == 0) return ADVROB_OK;
    return ar_error(ADVROB_E_FORMAT, "%.200s: no records of an evaluation", r->path);
}

/* ---- Reading ---- */

typedef struct reader {
    const ar_records *records;
    const advrob_report *file;
    ar_evaluation *e;
    int32_t row;
} reader;

static int32_t damaged(const reader *r, const char *column) {
    return ar_error(ADVROB_E_FORMAT, "%.200s, image %d: no valid \"%s\"", r->records->path, r->row,
                    column);
}

static int32_t read_whole(const reader *r, const char *column, int64_t low, int64_t high,
                          int64_t *value) {
    const ar_cell *cell = ar_report_get(r->file, r->row, column);
    *value = 0;
    if (cell == NULL || cell->kind != ADVROB_TYPE_I64 || cell->whole < low || cell->whole > high)
        return damaged(r, column);
    *value = cell->whole;
    return ADVROB_OK;
}

static int32_t read_number(const reader *r, const char *column, double *value) {
    const ar_cell *cell = ar_report_get(r->file, r->row, column);
    if (cell == NULL || cell->kind == ADVROB_TYPE_STR) return damaged(r, column);
    *value = cell->kind == ADVROB_TYPE_I64 ? (double)cell->whole : cell->number;
    return ADVROB_OK;
}

static bool is_empty(const reader *r, const char *column) {
    return ar_report_get(r->file, r->row, column) == NULL;
}

/* "forwards/backwards" of each step; between attacks ";", between their runs a blank. */
static int32_t read_passes(const reader *r, ar_passes *passes) {
    const ar_cell *cell = ar_report_get(r->file, r->row, "passes");
    const char *at = cell != NULL && cell->kind == ADVROB_TYPE_STR ? cell->text : "";
    for (int32_t i = 0; i < r->e->steps; i++) {
        size_t length = strcspn(at, "; "), slash = strcspn(at, "/");
        if (slash >= length || !ar_parse_i64(at, slash, &passes[i].forwards) ||
            !ar_parse_i64(at + slash + 1, length - slash - 1, &passes[i].backwards) ||
            passes[i].forwards < 0 || passes[i].backwards < 0)
            return damaged(r, "passes");
        at += length;
        if (*at != 0) at++;
    }
    return *at == 0 ? ADVROB_OK : damaged(r, "passes");
}

static int32_t read_prediction(const reader *r, int32_t a, int32_t *prediction) {
    char column[AR_LABEL + 16];
    int64_t value;
    ar_format(column, sizeof column, "%s_prediction", r->records->labels[a]);
    const ar_cell *cell = ar_report_get(r->file, r->row, column);
    *prediction = AR_UNTOUCHED;
    if (cell == NULL) return ADVROB_OK;
    *prediction = AR_UNFINISHED;
    if (cell->kind == ADVROB_TYPE_STR)
        return strcmp(cell->text, "unfinished") == 0 ? ADVROB_OK : damaged(r, column);
    int32_t status = read_whole(r, column, -1, r->e->classes - 1, &value);
    if (status >= 0) *prediction = (int32_t)value;
    return status;
}

static int32_t read_attack(const reader *r, ar_sample *sample) {
    int32_t status = ADVROB_OK;
    int64_t member, run;
    const ar_cell *cell = ar_report_get(r->file, r->row, "attack");
    sample->attack = -1;
    if (cell == NULL) return ADVROB_OK;
    for (int32_t a = 0; a < r->e->attacks && cell->kind == ADVROB_TYPE_STR; a++)
        if (strcmp(cell->text, r->records->labels[a]) == 0) sample->attack = a;
    if (sample->attack < 0) return damaged(r, "attack");
    AR_TRY(read_whole(r, "member", 1, INT32_MAX, &member));
    AR_TRY(read_whole(r, "run", 1, INT32_MAX, &run));
    sample->answer.member = (int32_t)member - 1;
    sample->answer.run = (int32_t)run - 1;
out:
    return status;
}

static int32_t read_image(const reader *r) {
    int32_t status = ADVROB_OK;
    ar_evaluation *e = r->e;
    ar_sample *sample = &e->samples[r->row];
    int64_t image, label, clean, prediction, step = 0;
    *sample = (ar_sample){.label = 0};
    AR_TRY(read_whole(r, "image", r->row, r->row, &image));
    AR_TRY(read_whole(r, "label", 0, e->classes - 1, &label));
    AR_TRY(read_whole(r, "clean_prediction", -1, e->classes - 1, &clean));
    AR_TRY(read_number(r, "clean_loss", &sample->clean_loss));
    AR_TRY(read_whole(r, "prediction", -1, e->classes - 1, &prediction));
    AR_TRY(read_number(r, "loss", &sample->answer.loss));
    AR_TRY(read_number(r, "linf", &sample->answer.linf));
    AR_TRY(read_number(r, "l2", &sample->answer.l2));
    AR_TRY(read_attack(r, sample));
    if (!is_empty(r, "step")) AR_TRY(read_whole(r, "step", 1, e->steps, &step));
    AR_TRY(read_whole(r, "forwards", 0, INT64_MAX, &sample->answer.forwards));
    AR_TRY(read_whole(r, "backwards", 0, INT64_MAX, &sample->answer.backwards));
    AR_TRY(read_passes(r, e->passes + (int64_t)r->row * e->steps));
    for (int32_t a = 0; a < e->attacks; a++)
        AR_TRY(read_prediction(r, a, &e->predictions[(int64_t)r->row * e->attacks + a]));
    sample->label = (int32_t)label;
    sample->clean_prediction = (int32_t)clean;
    sample->answer.prediction = (int32_t)prediction;
    sample->answer.fooled = prediction != label;
    sample->step = (int32_t)step - 1;
out:
    return status;
}

static int32_t check_columns(const ar_records *r, const advrob_report *file, int32_t attacks) {
    char column[AR_LABEL + 16];
    const ar_cell *cell = ar_report_get(file, 0, columns[0]);
    const bool text = cell != NULL && cell->kind == ADVROB_TYPE_STR;
    int32_t status = check_digest(r, text ? cell->text : "");
    for (int32_t c = 0; c < FIXED + attacks && status >= 0; c++) {
        ar_format(column, sizeof column, "%s_prediction", c < FIXED ? "" : r->labels[c - FIXED]);
        const char *wanted = c < FIXED ? columns[c] : column;
        if (c >= file->column_count || strcmp(file->columns[c], wanted) != 0)
            status = ar_error(ADVROB_E_FORMAT, "%.200s: column %d is not \"%s\"", r->path, c + 1,
                              wanted);
    }
    return status;
}

/* Whole groups, up to the first that a budget in minutes has left unfinished: one in passes was not
 * spent there. */
static int64_t whole_groups(const ar_evaluate_call *call, const ar_evaluation *e, int64_t rows) {
    int64_t spent = 0, done = 0, end;
    for (; done < rows; done = end) {
        bool unfinished = false;
        end = e->images - done < call->group ? e->images : done + call->group;
        for (int64_t i = done; i < end && end <= rows; i++) {
            spent += e->samples[i].answer.forwards + e->samples[i].answer.backwards;
            for (int32_t a = 0; a < e->attacks; a++)
                unfinished = unfinished || e->predictions[i * e->attacks + a] == AR_UNFINISHED;
        }
        bool by_passes =
            call->budget_passes > 0 && (double)spent >= call->budget_passes * (double)end;
        if (end > rows || (unfinished && !by_passes)) break;
    }
    return done;
}

static int32_t read_file(ar_records *records, const ar_evaluate_call *call, ar_evaluation *e) {
    int32_t status = ADVROB_OK;
    advrob_report *file = NULL;
    AR_TRY(ar_report_create(records->ctx, &file));
    AR_TRY(ar_report_read_csv(file, records->path));
    AR_TRY(check_columns(records, file, e->attacks));
    if (file->column_count != FIXED + e->attacks || file->row_count > e->images)
        AR_FAIL(ADVROB_E_FORMAT, "%.200s: more columns or images than this evaluation has",
                records->path);
    reader r = {records, file, e, 0};
    for (; r.row < file->row_count; r.row++) {
        const ar_cell *cell = ar_report_get(file, r.row, columns[0]);
        AR_TRY(
            check_digest(records, cell != NULL && cell->kind == ADVROB_TYPE_STR ? cell->text : ""));
        AR_TRY(read_image(&r));
    }
    e->done = whole_groups(call, e, file->row_count);
out:
    ar_report_destroy(file);
    return status;
}

/* ---- Writing ---- */

static void print_image(ar_records *r, const ar_evaluation *e, int64_t i) {
    const ar_sample *s = &e->samples[i];
    const ar_attack_record *answer = &s->answer;
    ar_buffer *text = &r->text;
    ar_buffer_add(text, "%s,%lld,%d,%d,%g,%d,%g,%g,%g,", r->digest, (long long)i, s->label,
                  s->clean_prediction, s->clean_loss, answer->prediction, answer->loss,
                  answer->linf, answer->l2);
    if (s->attack >= 0) {
        ar_csv_text(text, r->labels[s->attack]);
        ar_buffer_add(text, ",%d,%d,", answer->member + 1, answer->run + 1);
    } else {
        ar_buffer_add(text, ",,,");
    }
    if (s->step >= 0) ar_buffer_add(text, "%d", s->step + 1);
    ar_buffer_add(text, ",%lld,%lld,", (long long)answer->forwards, (long long)answer->backwards);
    for (int32_t a = 0; a < e->attacks; a++)
        for (int32_t k = e->first_step[a]; k < e->first_step[a + 1]; k++) {
            const ar_passes *p = &e->passes[i * e->steps + k];
            ar_buffer_add(text, "%s%lld/%lld",
                          k == 0                  ? ""
                          : k == e->first_step[a] ? ";"
                                                  : " ",
                          (long long)p->forwards, (long long)p->backwards);
        }
    for (int32_t a = 0; a < e->attacks; a++) {
        int32_t prediction = e->predictions[i * e->attacks + a];
        ar_buffer_add(text, ",");
        if (prediction == AR_UNFINISHED) ar_buffer_add(text, "unfinished");
        if (prediction >= -1) ar_buffer_add(text, "%d", prediction);
    }
    ar_buffer_add(text, "\n");
}

static void print_header(ar_records *r, int32_t attacks) {
    char column[AR_LABEL + 16];
    for (int32_t c = 0; c < FIXED; c++)
        ar_buffer_add(&r->text, "%s%s", c > 0 ? "," : "", columns[c]);
    for (int32_t a = 0; a < attacks; a++) {
        ar_format(column, sizeof column, "%s_prediction", r->labels[a]);
        ar_buffer_add(&r->text, ",");
        ar_csv_text(&r->text, column);
    }
    ar_buffer_add(&r->text, "\n");
}

int32_t ar_records_write(void *records, const ar_evaluation *e) {
    int32_t status = ADVROB_OK;
    ar_records *r = records;
    for (; r->printed < e->done; r->printed++)
        print_image(r, e, r->printed);
    AR_TRY(ar_buffer_status(&r->text));
    AR_TRY(ar_file_write(r->ctx, r->path, r->text.data, r->text.length));
out:
    return status;
}

int32_t ar_records_open(ar_records *records, const ar_evaluate_call *call, const char *path,
                        const char (*labels)[AR_LABEL], uint64_t options,
                        ar_evaluation *evaluation) {
    int32_t status = ADVROB_OK;
    bool exists = false;
    uint64_t net = AR_FNV_START;
    *records = (ar_records){.ctx = call->target->ctx, .path = path, .labels = labels};
    ar_buffer_init(&records->text, &records->ctx->memory);
    AR_TRY(digest_net(call, call->target, &net));
    if (call->target->source != NULL) AR_TRY(digest_net(call, call->target->source, &net));
    ar_format(records->digest, sizeof records->digest, "%016llx-%016llx-%016llx",
              (unsigned long long)net, (unsigned long long)ar_dataset_digest(call->data),
              (unsigned long long)options);
    AR_TRY(ar_file_exists(records->ctx, path, &exists));
    if (exists) AR_TRY(read_file(records, call, evaluation));
    print_header(records, evaluation->attacks);
    for (; records->printed < evaluation->done; records->printed++)
        print_image(records, evaluation, records->printed);
    AR_TRY(ar_buffer_status(&records->text));
out:
    return status;
}

void ar_records_close(ar_records *records) {
    if (records->text.memory != NULL) ar_buffer_free(&records->text);
}
