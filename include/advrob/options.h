/* Options: named, typed values handed to a `create` call, and the listing of what exists.
 *
 *     advrob_options *o;
 *     advrob_options_create(&o);
 *     advrob_options_set_f64(o, "epsilon", 8.0 / 255);
 *     advrob_options_set_i64(o, "steps", 20);
 *     advrob_attack_create(ctx, "pgd", o, &attack);      // copies what it needs
 *     advrob_options_destroy(o);
 *
 * A dotted name reaches into a part: "attack.epsilon" of a fine-tune method is the "epsilon" of
 * its attack. Names and ranges are checked by the `create` call that reads them: an unknown name
 * is refused with the nearest known one. An options handle is not thread-safe. */
#ifndef ADVROB_OPTIONS_H
#define ADVROB_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include <advrob/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct advrob_options advrob_options;

/* Types of an option's value. */
enum {
    ADVROB_TYPE_F64 = 1,       /* double; an i64 value is accepted too */
    ADVROB_TYPE_I64 = 2,       /* int64_t */
    ADVROB_TYPE_STR = 3,       /* UTF-8 text */
    ADVROB_TYPE_F64_ARRAY = 4, /* doubles; a single number is accepted too */
    ADVROB_TYPE_HANDLE = 5,    /* a handle of this library, borrowed: it must outlive its reader */
    ADVROB_TYPE_LIST = 6       /* a list of (name, options): a list of attacks, for example */
};

/* Allocation hook: `size` bytes for `ptr` (NULL: a new block; its `old_size` is then 0).
 * size 0 frees and returns NULL. Returns NULL when memory is short; `ptr` then stays as it is.
 * Must be callable from any thread. */
typedef void *(*advrob_alloc_fn)(void *user, void *ptr, size_t old_size, size_t size);

/* An empty set. Owned by the caller: advrob_options_destroy. Errors: E_NOMEM. */
ADVROB_API int32_t advrob_options_create(advrob_options **out);

/* The same with the caller's allocator; a context created from this set allocates by it too. */
ADVROB_API int32_t advrob_options_create_with(advrob_alloc_fn alloc, void *user,
                                              advrob_options **out);

/* Frees the set. NULL is fine. */
ADVROB_API void advrob_options_destroy(advrob_options *options);

/* Set one value; a value set before under the same name is replaced. Names and texts are copied.
 * Errors: E_INVALID (NULL, an empty name, a name over 127 bytes), E_NOMEM. */
ADVROB_API int32_t advrob_options_set_f64(advrob_options *options, const char *name, double value);
ADVROB_API int32_t advrob_options_set_i64(advrob_options *options, const char *name, int64_t value);
ADVROB_API int32_t advrob_options_set_str(advrob_options *options, const char *name,
                                          const char *value);
ADVROB_API int32_t advrob_options_set_f64_array(advrob_options *options, const char *name,
                                                const double *values, size_t count);
ADVROB_API int32_t advrob_options_set_handle(advrob_options *options, const char *name,
                                             void *handle);

/* Appends (component, a copy of `sub`) to the list `name`; `sub` may be NULL for defaults. */
ADVROB_API int32_t advrob_options_append(advrob_options *options, const char *name,
                                         const char *component, const advrob_options *sub);

/* Sets `name` from text, as a command line gives it: the reader of the option converts it to the
 * type that it wants ("0.05", "8/255", "20", "0.1,0.2"). Errors as for the setters. */
ADVROB_API int32_t advrob_options_set_text(advrob_options *options, const char *name,
                                           const char *text);

#ifdef __cplusplus
}
#endif

#endif
