/* report: rows of named figures and the page around them, as a person or a machine reads them.
 * Others include this header alone. */
#ifndef AR_REPORT_H
#define AR_REPORT_H

#include <advrob/report.h>

#include "io/io.h"
#include "io/json.h"
#include "method/method.h"
#include "page.h"

/* A cell; kind 0 is empty. */
typedef struct ar_cell {
    int32_t kind; /* ADVROB_TYPE_STR, _F64, _I64 */
    double number;
    int64_t whole;
    char *text; /* owned */
} ar_cell;

typedef struct ar_setting {
    char *key;
    ar_cell value;
} ar_setting;

struct advrob_report {
    advrob_context *ctx;
    ar_setting *settings;
    int32_t setting_count;
    char **columns;
    int32_t column_count;
    ar_cell **rows; /* [rows]: [row_columns[row]] cells */
    int32_t *widths;
    int32_t row_count;
    ar_page page;
};

int32_t ar_report_create(advrob_context *ctx, advrob_report **out);
void ar_report_destroy(advrob_report *report); /* NULL is fine */
int32_t ar_report_add_column(advrob_report *report, const char *name);
int32_t ar_report_add_row(advrob_report *report);
/* Makes the cell of the last row without a value, so that putting a number cannot fail. */
int32_t ar_report_make_room(advrob_report *report, const char *column);
/* Into a cell that there is room for; the text is taken over. */
void ar_report_assign(advrob_report *report, const char *column, ar_cell value);
void ar_report_drop_rows(advrob_report *report, int32_t count); /* all but the first `count` */
/* Into the last row; values are copied. kind 0 clears. */
int32_t ar_report_put(advrob_report *report, const char *column, ar_cell value);
int32_t ar_report_set(advrob_report *report, const char *key, ar_cell value);
/* NULL when there is nothing. */
const ar_cell *ar_report_get(const advrob_report *report, int32_t row, const char *column);
/* A cell's text as CSV and table print it. */
void ar_cell_print(ar_buffer *buffer, const ar_cell *cell);

/* Cells that go into the last row together, or not at all. Failures stay in `status`. */
typedef struct ar_puts {
    ar_arena arena;
    struct ar_put *first, *last;
    int32_t status;
} ar_puts;
void ar_puts_init(ar_puts *puts, ar_memory *memory);
void ar_puts_free(ar_puts *puts);
/* The column's name is formatted as by ar_format. */
void ar_puts_f64(ar_puts *puts, double value, const char *column, ...)
    __attribute__((format(printf, 3, 4)));
void ar_puts_i64(ar_puts *puts, int64_t value, const char *column, ...)
    __attribute__((format(printf, 3, 4)));
void ar_puts_str(ar_puts *puts, const char *value, const char *column, ...)
    __attribute__((format(printf, 3, 4)));
/* "<label>_accuracy", "_low", "_high". */
void ar_puts_share(ar_puts *puts, const char *label, int64_t hits, int64_t n);
int32_t ar_report_put_all(advrob_report *report, ar_puts *puts);

/* Evaluation into the current row (include/advrob/report.h). */
extern const ar_option_table ar_evaluation_options;
int32_t ar_report_evaluate(advrob_report *report, advrob_target *target, const advrob_dataset *test,
                           const advrob_options *options);

/* Accuracy by epsilon as rows (include/advrob/report.h). */
extern const ar_option_table ar_curve_options;
int32_t ar_report_curve(advrob_report *report, advrob_target *target, const advrob_dataset *test,
                        const advrob_options *options);

/* Whether an accuracy under attack can be believed (include/advrob/report.h). */
extern const ar_option_table ar_check_options;
int32_t ar_report_check(advrob_report *report, advrob_target *target, const advrob_dataset *test,
                        const advrob_options *options);

/* records.c: an evaluation's file of images, from which it goes on. */
enum { AR_LABEL = 64 };
typedef struct ar_records {
    advrob_context *ctx;
    const char *path;
    const char (*labels)[AR_LABEL]; /* of the attacks */
    char digest[3 * 17];
    ar_buffer text; /* of the images so far */
    int64_t printed;
} ar_records;
/* Takes the answers that lie in the file, if it is there, into the evaluation. `options`: a digest.
 * E_INVALID if the file is another evaluation's, E_FORMAT if it is none. */
int32_t ar_records_open(ar_records *records, const ar_evaluate_call *call, const char *path,
                        const char (*labels)[AR_LABEL], uint64_t options,
                        ar_evaluation *evaluation);
int32_t ar_records_write(void *records, const ar_evaluation *evaluation); /* an after_group */
void ar_records_close(ar_records *records);

/* A model's profile as rows (include/advrob/report.h). */
extern const ar_option_table ar_profile_options;
int32_t ar_report_profile(advrob_report *report, advrob_model *model,
                          const advrob_options *options);

/* What quantization did to each layer, as rows (include/advrob/report.h). */
extern const ar_option_table ar_quantization_options;
int32_t ar_report_quantization(advrob_report *report, const advrob_model *model,
                               advrob_model *quantized, const advrob_dataset *data,
                               const advrob_options *options);

/* A cell of text, quoted where it needs to be. */
void ar_csv_text(ar_buffer *buffer, const char *text);

/* csv.c, json.c, html.c. The buffer's own failures stay in the buffer. */
void ar_report_csv(const advrob_report *report, ar_buffer *buffer);
int32_t ar_report_html(const advrob_report *report, ar_buffer *buffer);
int32_t ar_report_json(const advrob_report *report, ar_buffer *buffer);
int32_t ar_report_write(const advrob_report *report, const char *path);
int32_t ar_report_write_plots(const advrob_report *report, const char *path);
int32_t ar_report_read_csv(advrob_report *report, const char *path);

#endif
