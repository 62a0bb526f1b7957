/* Memory: the caller's allocator behind every allocation, checked size arithmetic, and the arena.
 *
 * Every block is aligned to 64 bytes. */
#ifndef AR_MEMORY_H
#define AR_MEMORY_H

#include "status.h"

#define AR_ALIGN 64

/* The element type of all computation: float as shipped; double in the test build that checks
 * gradients by finite differences (-DAR_REAL_IS_DOUBLE). */
#ifdef AR_REAL_IS_DOUBLE
typedef double ar_real;
#else
typedef float ar_real;
#endif

/* An allocator: hook, limit and counters. Safe to use from any thread. */
typedef struct ar_memory {
    advrob_alloc_fn hook;
    void *user;
    uint64_t limit;        /* bytes; 0 = none */
    _Atomic uint64_t used; /* bytes handed out, bookkeeping included */
    _Atomic uint64_t peak;
    _Atomic uint64_t calls; /* allocations so far: a steady state must not raise it */
} ar_memory;

void ar_memory_init(ar_memory *memory, advrob_alloc_fn hook, void *user); /* NULL hook: malloc */

/* `size` bytes, not cleared; size 0 gives a valid block too. E_NOMEM names `what`. */
int32_t ar_alloc(ar_memory *memory, size_t size, const char *what, void **out);
/* count * size bytes of zeros; E_OVERFLOW. */
int32_t ar_calloc(ar_memory *memory, size_t count, size_t size, const char *what, void **out);
/* Grows a block to count * size bytes, contents kept (*block may be NULL). *block is unchanged on
 * failure. */
int32_t ar_regrow(ar_memory *memory, void **block, size_t count, size_t size, const char *what);
void ar_free(ar_memory *memory, void *block); /* NULL is fine */

/* Checked arithmetic: false when the result does not fit. */
bool ar_mul(size_t a, size_t b, size_t *out);
bool ar_add(size_t a, size_t b, size_t *out);
/* a[0] * ... * a[n-1]; false when a factor is negative or the product passes 2^62. */
bool ar_product(const int64_t *factors, int32_t n, int64_t *out);
/* size rounded up to a multiple of AR_ALIGN; false when it does not fit. */
bool ar_align_up(size_t size, size_t *out);

/* An arena: many small blocks that are freed together. */
typedef struct ar_arena {
    ar_memory *memory;
    struct ar_arena_chunk *chunks;
} ar_arena;

void ar_arena_init(ar_arena *arena, ar_memory *memory);
int32_t ar_arena_alloc(ar_arena *arena, size_t count, size_t size, const char *what,
                       void **out); /* zeros */
int32_t ar_arena_copy(ar_arena *arena, const char *text, const char **out);
size_t ar_arena_bytes(const ar_arena *arena); /* of its chunks */
void ar_arena_free(ar_arena *arena);

#endif
