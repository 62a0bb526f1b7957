/* Cells that go into a report's row together, or not at all. */
#include <string.h>

#include "report.h"

typedef struct ar_put {
    struct ar_put *next;
    const char *column;
    ar_cell cell; /* its text lies in the arena */
} ar_put;

void ar_puts_init(ar_puts *puts, ar_memory *memory) {
    *puts = (ar_puts){.status = ADVROB_OK};
    ar_arena_init(&puts->arena, memory);
}

void ar_puts_free(ar_puts *puts) {
    if (puts->arena.memory != NULL) ar_arena_free(&puts->arena);
    puts->first = puts->last = NULL;
}

static int32_t append(ar_puts *puts, ar_cell cell, const char *format, va_list args) {
    int32_t status = ADVROB_OK;
    char column[160];
    void *block = NULL;
    ar_put *put = NULL;
    ar_vformat(column, sizeof column, format, args);
    AR_TRY(ar_arena_alloc(&puts->arena, 1, sizeof *put, "report cell", &block));
    put = block;
    put->cell = cell;
    AR_TRY(ar_arena_copy(&puts->arena, column, &put->column));
    if (puts->last != NULL)
        puts->last->next = put;
    else
        puts->first = put;
    puts->last = put;
out:
    return status;
}

void ar_puts_f64(ar_puts *puts, double value, const char *column, ...) {
    va_list args;
    va_start(args, column);
    ar_cell cell = {.kind = ADVROB_TYPE_F64, .number = value};
    if (puts->status >= 0) puts->status = append(puts, cell, column, args);
    va_end(args);
}

void ar_puts_i64(ar_puts *puts, int64_t value, const char *column, ...) {
    va_list args;
    va_start(args, column);
    ar_cell cell = {.kind = ADVROB_TYPE_I64, .whole = value};
    if (puts->status >= 0) puts->status = append(puts, cell, column, args);
    va_end(args);
}

void ar_puts_str(ar_puts *puts, const char *value, const char *column, ...) {
    va_list args;
    void *block = NULL;
    size_t size = strlen(value) + 1;
    va_start(args, column);
    if (puts->status >= 0)
        puts->status = ar_arena_alloc(&puts->arena, size, 1, "report text", &block);
    if (puts->status >= 0) {
        memcpy(block, value, size);
        ar_cell cell = {.kind = ADVROB_TYPE_STR, .text = block};
        puts->status = append(puts, cell, column, args);
    }
    va_end(args);
}

void ar_puts_share(ar_puts *puts, const char *label, int64_t hits, int64_t n) {
    double low, high;
    ar_wilson(hits, n, &low, &high);
    ar_puts_f64(puts, (double)hits / (double)n, "%s_accuracy", label);
    ar_puts_f64(puts, low, "%s_low", label);
    ar_puts_f64(puts, high, "%s_high", label);
}

/* Room and copies of all texts first: what is left then needs no memory. */
int32_t ar_report_put_all(advrob_report *report, ar_puts *puts) {
    int32_t status = ADVROB_OK;
    ar_memory *memory = &report->ctx->memory;
    ar_put *put = NULL, *copied = puts->first; /* where the copies end */
    AR_TRY(puts->status);
    for (put = puts->first; put != NULL; put = put->next)
        AR_TRY(ar_report_make_room(report, put->column));
    for (; copied != NULL; copied = copied->next) {
        void *block = NULL;
        if (copied->cell.kind != ADVROB_TYPE_STR) continue;
        size_t size = strlen(copied->cell.text) + 1;
        AR_TRY(ar_alloc(memory, size, "report text", &block));
        memcpy(block, copied->cell.text, size);
        copied->cell.text = block;
    }
    for (put = puts->first; put != NULL; put = put->next)
        ar_report_assign(report, put->column, put->cell);
    puts->first = puts->last = NULL; /* the texts are the report's now */
out:
    for (put = puts->first; status < 0 && put != copied; put = put->next)
        if (put->cell.kind == ADVROB_TYPE_STR) ar_free(memory, put->cell.text);
    if (status < 0) puts->first = puts->last = NULL;
    return status;
}
