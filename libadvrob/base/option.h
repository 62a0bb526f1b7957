/* Option tables: what a component can be told, in one table beside its code.
 *
 *     typedef struct { double epsilon; int64_t steps; const char *loss; } pgd_options;
 *     static const ar_option entries[] = {
 *         AR_F64(pgd_options, epsilon, 8.0 / 255, 0, 1e6, "radius of the l-inf ball, in pixels"),
 *         AR_I64(pgd_options, steps, 20, 1, 1000000, "gradient steps"),
 *         AR_STR(pgd_options, loss, "ce", "ce|margin", "loss that is raised"),
 *     };
 *     const ar_option_table table = AR_TABLE(pgd_options, entries);
 */
#ifndef AR_OPTION_H
#define AR_OPTION_H

#include "memory.h"

typedef struct ar_option {
    const char *name;
    int32_t type;        /* ADVROB_TYPE_* */
    size_t offset;       /* of the field in the component's option struct */
    double initial;      /* default of f64 and i64 */
    double low, high;    /* inclusive range of f64 (NaN: only if it is the default) and i64 */
    const char *text;    /* str: default */
    const char *choices; /* str: "a|b|c", or NULL for any text */
    const char *help;
} ar_option;

typedef struct ar_option_table {
    const ar_option *options;
    int32_t count;
    size_t size; /* of the struct */
} ar_option_table;

/* Fields: f64 double, i64 int64_t, str const char *, f64 array ar_f64_array, handle void *,
 * list ar_option_list. */
typedef struct ar_f64_array {
    const double *values;
    size_t count;
} ar_f64_array;

typedef struct ar_option_list {
    const struct ar_list_item *items;
    size_t count;
} ar_option_list;

typedef struct ar_list_item {
    const char *component;
    advrob_options *options; /* owned by the list: read it, do not set in it or destroy it */
} ar_list_item;

#define AR_F64(T, field, initial, low, high, help) \
    { #field, ADVROB_TYPE_F64, offsetof(T, field), initial, low, high, NULL, NULL, help }
#define AR_I64(T, field, initial, low, high, help) \
    { #field, ADVROB_TYPE_I64, offsetof(T, field), initial, low, high, NULL, NULL, help }
#define AR_STR(T, field, text, choices, help) \
    { #field, ADVROB_TYPE_STR, offsetof(T, field), 0, 0, 0, text, choices, help }
#define AR_F64_ARRAY(T, field, low, high, help) \
    { #field, ADVROB_TYPE_F64_ARRAY, offsetof(T, field), 0, low, high, NULL, NULL, help }
#define AR_HANDLE(T, field, help) \
    { #field, ADVROB_TYPE_HANDLE, offsetof(T, field), 0, 0, 0, NULL, NULL, help }
#define AR_LIST(T, field, help) \
    { #field, ADVROB_TYPE_LIST, offsetof(T, field), 0, 0, 0, NULL, NULL, help }
#define AR_TABLE(T, array) \
    { array, (int32_t)(sizeof(array) / sizeof(array[0])), sizeof(T) }

/* A table under a prefix: {"attack.", &pgd_table}; prefix "" for the component itself. */
typedef struct ar_option_scope {
    const char *prefix;
    const ar_option_table *table;
} ar_option_scope;

/* The option set behind include/advrob/options.h; semantics and errors stand there. `hook` NULL:
 * malloc. Lists nest up to 16 deep (E_LIMIT). */
int32_t ar_options_create(advrob_alloc_fn hook, void *user, advrob_options **out);
void ar_options_destroy(advrob_options *options);
int32_t ar_options_set_f64(advrob_options *options, const char *name, double value);
int32_t ar_options_set_i64(advrob_options *options, const char *name, int64_t value);
int32_t ar_options_set_str(advrob_options *options, const char *name, const char *value);
int32_t ar_options_set_f64_array(advrob_options *options, const char *name, const double *values,
                                 size_t count);
int32_t ar_options_set_handle(advrob_options *options, const char *name, void *handle);
int32_t ar_options_append(advrob_options *options, const char *name, const char *component,
                          const advrob_options *sub);
int32_t ar_options_set_text(advrob_options *options, const char *name, const char *text);
/* A copy with the same allocator; NULL gives an empty set. */
int32_t ar_options_copy(const advrob_options *options, advrob_options **out);

/* Every name in `options` must be known to one of the scopes: otherwise E_UNKNOWN with the nearest
 * known name. `who` names the component in messages ("attack pgd"). options may be NULL. */
int32_t ar_options_check(const advrob_options *options, const char *who,
                         const ar_option_scope *scopes, int32_t n);

/* Fills `out` (table->size bytes) with defaults and the values under `prefix`. Texts, arrays and
 * lists are copied into `arena`. E_RANGE / E_INVALID name option, value and what was expected. */
int32_t ar_options_read(const advrob_options *options, const char *who, const char *prefix,
                        const ar_option_table *table, ar_arena *arena, void *out);

struct ar_buffer; /* text.h */

/* Adds "name=value" for every option of a table that ar_options_read has filled, with a blank
 * between; handles and lists are left out, as is what `skip` (may be NULL) knows. `seed`: what a
 * seed of -1 stands for. */
void ar_options_print(struct ar_buffer *text, const char *prefix, const ar_option_table *table,
                      const void *values, int64_t seed, bool (*skip)(const char *name));

/* A new set with the entries under `prefix`, prefix removed: the options of a part. `options` may
 * be NULL: an empty set. Allocates by `memory`; NULL: by the allocator of `options`. */
int32_t ar_options_part(const advrob_options *options, const char *prefix, const ar_memory *memory,
                        advrob_options **out);

/* The allocator given to advrob_options_create_with; NULL hook when there is none. */
void ar_options_allocator(const advrob_options *options, advrob_alloc_fn *hook, void **user);

/* The default or a bound of an i64 option; what int64_t cannot hold stands for its end. */
long long ar_option_whole(double value);

/* The index of `name` among a registry's `count` names; E_UNKNOWN with the nearest name: `no attack
 * "x"; did you mean "y"?`. */
int32_t ar_find_name(const char *what, const char *name, int32_t count,
                     const char *(*name_at)(int32_t index), int32_t *out);

/* Of `count` names the one nearest to `name` by edit distance; NULL if none is near. */
const char *ar_nearest(const char *name, const char *const *names, int32_t count);

#endif
