/* An options set from the inside: what option.c fills and option_read.c reads. Private to base. */
#ifndef AR_OPTION_SET_H
#define AR_OPTION_SET_H

#include "option.h"

#define AR_OPTION_NAME 127
#define AR_OPTION_DEPTH 16
#define AR_TYPE_TEXT 0 /* beside ADVROB_TYPE_*: text whose type the reader chooses */

typedef struct ar_entry {
    ar_arena arena; /* empty in a frozen set */
    const char *name;
    int32_t type;
    int32_t depth; /* of the lists inside */
    double f64;
    int64_t i64;
    const char *text;
    const double *values;
    ar_list_item *items;
    size_t count; /* of values or items */
    void *handle;
} ar_entry;

struct advrob_options {
    ar_memory memory;
    ar_entry *entries;
    size_t count, capacity;
    bool own_hook;
    bool frozen; /* lies in somebody's arena */
};

/* The entry `prefix` + `name`, or NULL. */
ar_entry *ar_entry_find(const advrob_options *options, const char *prefix, const char *name);
/* A copy in `arena`, named `name`. */
int32_t ar_entry_copy(ar_arena *arena, const ar_entry *from, const char *name, ar_entry *to);

#endif
