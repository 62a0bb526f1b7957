/* Evaluation and reports: rows of named figures, written as CSV or JSON.
 *
 *     advrob_report_create(ctx, &r);
 *     advrob_report_set_str(r, "dataset", "fashion-mnist");        // a setting of the whole run
 *     advrob_report_add_row(r);
 *     advrob_report_put_str(r, "model", "pruned");
 *     advrob_report_evaluate(r, target, test, opts);               // puts the accuracies
 *     advrob_report_write(r, "results.csv");
 */
#ifndef ADVROB_REPORT_H
#define ADVROB_REPORT_H

#include <advrob/target.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct advrob_report advrob_report;

/* An empty report, owned by the caller. destroy(NULL) is fine. Errors: E_NOMEM. */
ADVROB_API int32_t advrob_report_create(advrob_context *ctx, advrob_report **out);
ADVROB_API void advrob_report_destroy(advrob_report *report);

/* Declares a column; columns are written in the order in which they were declared or first put. */
ADVROB_API int32_t advrob_report_add_column(advrob_report *report, const char *column);

/* Settings of the whole run (JSON only). */
ADVROB_API int32_t advrob_report_set_str(advrob_report *report, const char *key, const char *value);
ADVROB_API int32_t advrob_report_set_f64(advrob_report *report, const char *key, double value);

/* Starts a new row; the puts that follow go to it. A cell that is not put stays empty. */
ADVROB_API int32_t advrob_report_add_row(advrob_report *report);
ADVROB_API int32_t advrob_report_put_str(advrob_report *report, const char *column,
                                         const char *value);
ADVROB_API int32_t advrob_report_put_f64(advrob_report *report, const char *column, double value);
ADVROB_API int32_t advrob_report_put_i64(advrob_report *report, const char *column, int64_t value);

/* Number of rows; 0 for NULL. */
ADVROB_API int32_t advrob_report_rows(const advrob_report *report);
/* A cell as number or as text: E_UNKNOWN if there is no such row, column or value, E_INVALID if it
 * is of the other kind. The text is valid until the report changes. */
ADVROB_API int32_t advrob_report_get_f64(const advrob_report *report, int32_t row,
                                         const char *column, double *value);
ADVROB_API int32_t advrob_report_get_str(const advrob_report *report, int32_t row,
                                         const char *column, const char **value);

/* Evaluates `target` on the images of `test` and puts into the current row: "test_images",
 * "clean_accuracy" with "clean_low", "clean_high" (95 % Wilson interval), and the same for
 * each attack under the name "<label>_accuracy", "_low", "_high"; with several attacks
 * "worst_accuracy" counts the images that withstand all. Only images that are classified right are
 * attacked; an attack counts an image as robust if the target still gets it right.
 * Options: "attacks" (a list: advrob_options_append(o, "attacks", "pgd", sub)), "labels" (their
 * column labels, comma-separated; default the attacks' names; no label twice, and neither "clean"
 * nor "worst"), "batch_size", "per_class" (1: also "class<k>_accuracy" and for each attack
 * "class<k>_<label>_accuracy": shares of the images of class k; none for a class without images).
 * Errors: those of advrob_attack_run, E_SHAPE, E_INVALID (labels), E_LIMIT (per_class with over 256
 * classes). On error the row is unchanged. */
ADVROB_API int32_t advrob_report_evaluate(advrob_report *report, advrob_target *target,
                                          const advrob_dataset *test,
                                          const advrob_options *options);

/* Milliseconds of one forward pass of the model at the given batch size, best of `repeats`. */
ADVROB_API int32_t advrob_model_latency(const advrob_model *model, int64_t batch, int32_t repeats,
                                        double *milliseconds);

/* Writes the report; the ending chooses the format: ".csv" or ".json". Whole or not at all.
 * Errors: E_UNSUPPORTED (ending), E_IO. */
ADVROB_API int32_t advrob_report_write(const advrob_report *report, const char *path);

/* Reads rows back from a CSV file written by advrob_report_write; they are appended, on an
 * error none. Errors: E_IO, E_FORMAT, E_LIMIT, E_NOMEM. */
ADVROB_API int32_t advrob_report_read_csv(advrob_report *report, const char *path);

#ifdef __cplusplus
}
#endif

#endif
