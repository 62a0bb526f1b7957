/* Evaluation and reports: rows of named figures, written as CSV or JSON; and a page for people,
 * with plots, images and tables, written as HTML.
 *
 *     advrob_report_create(ctx, &r);
 *     advrob_report_set_str(r, "dataset", "fashion-mnist");        // a setting of the whole run
 *     advrob_report_add_row(r);
 *     advrob_report_put_str(r, "model", "pruned");
 *     advrob_report_evaluate(r, target, test, opts);               // puts the accuracies
 *     advrob_report_write(r, "results.csv");
 *
 *     advrob_report_set_title(r, "Pruned nets under attack");
 *     advrob_report_add_plot(r, "Accuracy", "sparsity (share of filters)", "accuracy", NULL);
 *     advrob_report_add_series(r, "pruned", 3, sparsity, accuracy, NULL, NULL, NULL);
 *     advrob_report_write(r, "page.html");
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

/* Settings of the whole run (JSON and HTML; the page shows the setting "command" as the way to run
 * it again). */
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
 * attacked; an attack counts an image as robust if the target still gets it right. Passes that the
 * attacks made stand in "<label>_forwards", "<label>_backwards", "forwards", "backwards".
 * Options: "attacks" (a list: advrob_options_append(o, "attacks", "pgd", sub)), "labels" (their
 * column labels, comma-separated; default the attacks' names; no label twice, and neither "clean"
 * nor "worst"), "batch_size", and
 * "cascade" (1: an image that fell goes into no further attack, and an attack's columns count the
 *   images that withstand it and all before it),
 * "per_class" (1: also "class<k>_accuracy", for each attack "class<k>_<label>_accuracy", and of all
 *   "class<k>_worst_accuracy": shares of the images of class k, none for a class without images;
 *   the class of the lowest stands in "clean_worst_class", "<label>_worst_class",
 *   "worst_worst_class", the share there in "..._worst_class_accuracy"),
 * "steps" (1: after each run of an attack (restart, target, member of a list), k from 1: its name
 *   "step<k>", the passes of an image on average so far "step<k>_passes", and "step<k>_accuracy"),
 * "budget_passes", "budget_minutes" (when that many forwards and backwards of an image on average,
 *   or minutes, are spent, no further run of an attack is started: "<label>_unfinished" images hold
 *   as far as that attack came, "unfinished_images" of them against all, by "unfinished_attacks"),
 * "records" (path of a CSV file with one line an image, docs/evaluation.md; it is written whole
 *   after each batch, and an evaluation that was stopped goes on from it, to the same bytes).
 * Errors: those of advrob_attack_run, E_SHAPE, E_INVALID (labels; a targeted attack; records of
 * another net, of other data or attacks), E_FORMAT (a file that holds no records), E_LIMIT
 * (per_class with over 256 classes, over 32 attacks). On error the row is unchanged. */
ADVROB_API int32_t advrob_report_evaluate(advrob_report *report, advrob_target *target,
                                          const advrob_dataset *test,
                                          const advrob_options *options);

/* Accuracy by epsilon: adds one row for each of "epsilons" in rising order: "epsilon",
 * "test_images", "clean_accuracy", "robust_accuracy" (each with "_low" and "_high"),
 * "attacked_images" and their "forwards" and "backwards". An image that fell at one epsilon counts
 * as fallen at all larger ones and is not attacked again, so the curve never rises.
 * Options: "epsilons" (numbers; default 1, 2, 4, 8 and 16 255ths), "attacks" (a list, run one after
 * another at each epsilon; default pgd; their own "epsilon" only gives the scale of their "step"),
 * "scale_step" (1, the default: an attack's "step" is multiplied by epsilon / its own epsilon),
 * "batch_size". Errors: those of advrob_report_evaluate. On error no row is added. */
ADVROB_API int32_t advrob_report_curve(advrob_report *report, advrob_target *target,
                                       const advrob_dataset *test, const advrob_options *options);

/* Can an accuracy under attack be believed? Puts into the current row what tells masked gradients
 * from robustness, "verdict" = "reliable" or "unreliable", and "reasons" (one text, "; " between;
 * empty for none). Of the first "images" images of `test`, of those that are right when clean:
 * "check_clean_accuracy", under FGSM, PGD and Square "check_fgsm_accuracy", "check_pgd_accuracy",
 * "check_square_accuracy", on PGD's images of the target's source, if it has one,
 * "check_transfer_accuracy", and under PGD in half of the box "check_large_accuracy" (at
 * "check_large_epsilon"; chance there is "check_chance"). Of all images "check_pgd_raw_accuracy"
 * (right under PGD, whether or not when clean), "check_zero_gradients" (share of images whose
 * gradient is 0), "check_noise" (largest difference of logits over 5 passes, relative) and
 * "check_unsteady" (share of images whose prediction differs between them). What was not measured
 * has no cell.
 *
 * Flags, 0 or 1: "flag_square_stronger", "flag_transfer_stronger" (than FGSM and PGD together),
 * "flag_fgsm_stronger" (than PGD), "flag_above_clean", "flag_large_epsilon" (accuracy above
 * chance), "flag_zero_gradients" (over 1 % of the images), "flag_random" (noise over 1e-4, or any
 * prediction), "flag_softmax" (all outputs are probabilities), "flag_no_gradient". Accuracies
 * differ when it is by more than a point and more than 3 standard errors of the paired difference.
 * Sources: arXiv 1802.00420, section 3.1; arXiv 1902.06705, section 5.
 *
 * Options: "epsilon" (pixels), "norm" (linf, l2), "images" (0: all), "steps" (of PGD), "queries"
 * (of Square; 0: no Square), "seed", "batch_size". Errors: those of advrob_attack_run, E_SHAPE,
 * E_INVALID (no row). On error the row is unchanged. */
ADVROB_API int32_t advrob_report_check(advrob_report *report, advrob_target *target,
                                       const advrob_dataset *test, const advrob_options *options);

/* Milliseconds of one forward pass of the model at the given batch size, best of `repeats`. */
ADVROB_API int32_t advrob_model_latency(const advrob_model *model, int64_t batch, int32_t repeats,
                                        double *milliseconds);

/* Where the model's time goes: adds one row for each layer and pass, and one for each pass in total
 * (layer "total", without an operator). A row has "pass" ("forward", "input_gradient",
 * "weight_gradient"), "layer" (its node's name), "operator" (with what was fused into it:
 * "conv2d + relu"), "kernel" ("gemm", "winograd 4x4", ...), "level" ("avx2", "portable"), "shape"
 * (channels x height x width, in > out), "milliseconds" (of the whole batch), "multiply_adds" (of
 * one image; taps that fall on padding are neither done nor counted), "gflops" (two operations a
 * multiply-add) and "peak_share": the share of what one core of this machine can do at that level,
 * multiply-adds in registers alone, measured in the same call. Cells are empty where there is
 * nothing to multiply. The totals also have "peak_gflops" and include what no layer does: images
 * turned into tiles and back.
 *
 * The batch, of noise, runs on the calling thread alone, so that shares are of one core; each
 * figure is the best of all repeats, so the layers' milliseconds add up to at most about the
 * total's. A layer by Winograd's way counts with the multiply-adds that it stands for: its share
 * may exceed 1. On a batch that is no multiple of 16 the last tile is partly empty.
 *
 * Options: "passes" ("forward"; "attack", the default: also the gradient by the input; "train":
 * also that by the weights, as training runs it: batch norms normalise by the batch, the gradient
 * by the images is not wanted), "batch_size" (1 to 4096, default 64), "repeats" (1 to 1000, default
 * 10), "label" (text for a column "model", to tell several profiles in one report apart; default
 * none). Errors: E_UNKNOWN, E_RANGE, E_INVALID (options; training batch norms by a single value),
 * E_NOMEM, E_OVERFLOW, E_CANCELLED. On error no row is added. */
ADVROB_API int32_t advrob_report_profile(advrob_report *report, advrob_model *model,
                                         const advrob_options *options);

/* What quantization did to each layer: `quantized` is what compressor quant_ptq made of `model`.
 * Adds one row for the input, if it is quantized, and one for each group of fused operators, on the
 * first "images" images of `data` (the calibration images, say): "layer" (its node's name),
 * "operator", "value" (the node at the group's end, where its quantization point lies),
 * of its weights, if there are any, "weight_bits" (0: float), "weight_sqnr", "weight_clipped",
 * "weight_scales" (how many), "weight_scale_low", "weight_scale_high" (the least and the largest),
 * of its output "output_bits" (0: no point), "output_sqnr" (the float net's values under this point
 * alone), "output_clipped", "output_low", "output_high" (the range), "output_scale",
 * "output_zero_point"; and "net_sqnr": the float net's values against those of the quantized net,
 * with all noise so far. SQNR: 10 log10(sum x^2 / sum (x - q(x))^2), in dB, no cell where it is
 * infinite. Clipped: the share of values beyond the last codes.
 *
 * Options: "images" (default 512), "label" (text for a column "model", to tell several nets in one
 * report apart; default none). Errors: E_UNKNOWN, E_RANGE, E_INVALID (options; not the same net),
 * E_UNSUPPORTED (`model` is quantized), E_SHAPE, E_NOMEM, E_CANCELLED. On error no row is added. */
ADVROB_API int32_t advrob_report_quantization(advrob_report *report, const advrob_model *model,
                                              advrob_model *quantized, const advrob_dataset *data,
                                              const advrob_options *options);

/* Writes the report; the ending chooses the format: ".csv" (the rows), ".json" (settings, rows,
 * plots, tables) or ".html" (one page that loads nothing from elsewhere; below). Whole or not at
 * all. Errors: E_UNSUPPORTED (ending), E_IO, E_NOMEM. */
ADVROB_API int32_t advrob_report_write(const advrob_report *report, const char *path);

/* Reads rows back from a CSV file written by advrob_report_write; they are appended, on an
 * error none. Errors: E_IO, E_FORMAT, E_LIMIT, E_NOMEM. */
ADVROB_API int32_t advrob_report_read_csv(advrob_report *report, const char *path);

/* ---- The page ----
 *
 * Title and large figures stand on top; what is added stands below in the order in which it was
 * added, under the headings. The page ends with all rows and all settings as tables. All texts are
 * UTF-8 and copied, and are escaped when the page is written: control characters and what is no
 * UTF-8 become U+FFFD. Lists of texts are separated by newlines. A failed call leaves the report as
 * it was. Errors of all: E_NOMEM. */

/* The page's title. */
ADVROB_API int32_t advrob_report_set_title(advrob_report *report, const char *title);

/* A large figure on top of the page ("68.3 %") with what it means. */
ADVROB_API int32_t advrob_report_add_figure(advrob_report *report, const char *value,
                                            const char *label);

/* Starts a section of the page. What is added later stands in it; what is added before the first
 * heading stands under the title. */
ADVROB_API int32_t advrob_report_add_heading(advrob_report *report, const char *text);

/* A paragraph. */
ADVROB_API int32_t advrob_report_add_text(advrob_report *report, const char *text);

/* A plot without series. The names of the axes bear their unit ("sparsity (share of filters)").
 * Options: "x_scale" (linear, log or category: each point of the first series stands at its x and
 * its label names it), "x_low", "x_high", "y_low", "y_high" (default: from the data), "percent_x",
 * "percent_y" (1: ticks from 0 to 1 read 0 % to 100 %), "x_ticks" (exact positions of the ticks),
 * "note" (a caption under the plot). Errors: E_RANGE (an empty range, a log axis at 0 or below),
 * those of options. */
ADVROB_API int32_t advrob_report_add_plot(advrob_report *report, const char *title,
                                          const char *x_name, const char *y_name,
                                          const advrob_options *options);

/* A series of the last plot. x, y [n]; low, high [n] are the ends of the error bars, both or
 * neither NULL. A NaN in y is a gap, a NaN in low or high leaves that bar out. n 0 is an entry of
 * the legend without points. Options: "style" (line, points, both), "color" (0 to 7; -1, the
 * default: by the number of the series), "dash" (1: dashed line and hollow markers, for the second
 * of two quantities that share a colour), "marker" (circle, square, diamond, cross, triangle;
 * default: by the colour), "labels" (names of the n points), "shift" (pixels to the right by which
 * it is drawn, so that series of equal x stand apart). Errors: E_INVALID (no plot yet, one of
 * low and high, number of labels), E_NONFINITE (infinite; NaN in x), E_RANGE (n below 0, low above
 * high, 0 or below on a log axis): they name series and point. */
ADVROB_API int32_t advrob_report_add_series(advrob_report *report, const char *name, int64_t n,
                                            const double *x, const double *y, const double *low,
                                            const double *high, const advrob_options *options);

/* A grid of small images. shape [3]: channels (1 or 3), height, width; x [rows, columns, channels,
 * height, width] in [0, 1], what is outside is clamped. row_names: `rows` names; captions: rows *
 * columns texts, row by row; either may be NULL. Errors: E_SHAPE, E_RANGE, E_INVALID (number of
 * texts), E_NONFINITE (NaN), E_LIMIT (over 64 MiB of pixels or 4096 images). */
ADVROB_API int32_t advrob_report_add_images(advrob_report *report, const char *title, int64_t rows,
                                            int64_t columns, const int32_t *shape, const float *x,
                                            const char *row_names, const char *captions);

/* A table without rows, by its column names; and a row of the last table. Cells that are numbers
 * ("0.5", "68.3 %") are aligned right. Errors: E_INVALID (no table yet, number of cells). */
ADVROB_API int32_t advrob_report_add_table(advrob_report *report, const char *title,
                                           const char *columns);
ADVROB_API int32_t advrob_report_add_table_row(advrob_report *report, const char *cells);

/* The last table as a heat map: cells that begin with a number ("68.3 %"), but for those of the
 * first column, have a background, from none at `low` to the strongest at `high`. Errors: E_INVALID
 * (no table yet), E_RANGE (unless low < high, both finite). */
ADVROB_API int32_t advrob_report_shade_table(advrob_report *report, double low, double high);

/* Every point of every plot as CSV, whatever the path's ending: plot, series, label, x, y, low,
 * high. Whole or not at all. Errors: E_IO, E_NOMEM. */
ADVROB_API int32_t advrob_report_write_plots(const advrob_report *report, const char *path);

#ifdef __cplusplus
}
#endif

#endif
