/* Memory: aligned blocks on top of the caller's hook, the limit and the counters, and the arena.
 *
 * A hook promises no alignment, so each block has a header in front of it that knows where the
 * hook's own block starts and how large it is. */
#include "memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct block_header {
    void *raw;   /* what the hook returned */
    size_t size; /* bytes that the caller asked for */
} block_header;

#define BLOCK_EXTRA (AR_ALIGN + sizeof(block_header))

struct ar_arena_chunk {
    struct ar_arena_chunk *next;
    size_t used, capacity; /* bytes behind the header */
};

#define CHUNK_FIRST 1024
#define CHUNK_LARGEST 65536
#define CHUNK_HEADER AR_ALIGN /* keeps the bytes behind it aligned */

_Static_assert(sizeof(struct ar_arena_chunk) <= CHUNK_HEADER, "an arena chunk's header");

/* From here on a block may lie in huge pages: packed weights of wide layers are read through again
 * and again, and small pages would miss the TLB at each turn. */
#define HUGE_FROM ((size_t)8 << 20)

/* Asks for huge pages; only advice, so nothing depends on the answer. */
static void advise_huge(void *block, size_t size) {
#ifdef MADV_HUGEPAGE
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)block + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)block + size) / page * page;
    if (begin < end)
        (void)madvise((char *)block + (begin - (uintptr_t)block), end - begin, MADV_HUGEPAGE);
#else
    (void)block;
    (void)size;
#endif
}

static void *default_hook(void *user, void *ptr, size_t old_size, size_t size) {
    (void)user;
    (void)old_size;
    if (size == 0) {
        free(ptr);
        return NULL;
    }
    void *block = realloc(ptr, size);
    if (block != NULL && size >= HUGE_FROM) advise_huge(block, size);
    return block;
}

void ar_memory_init(ar_memory *memory, advrob_alloc_fn hook, void *user) {
    memory->hook = hook ? hook : default_hook;
    memory->user = hook ? user : NULL;
    memory->limit = 0;
    atomic_init(&memory->used, 0);
    atomic_init(&memory->peak, 0);
    atomic_init(&memory->calls, 0);
}

/* Counts `size` bytes in before they are allocated, so that threads cannot pass the limit
 * together. */
static bool reserve(ar_memory *memory, size_t size, uint64_t *left) {
    uint64_t used = atomic_load_explicit(&memory->used, memory_order_relaxed);
    uint64_t now;
    do {
        *left = memory->limit > used ? memory->limit - used : 0;
        if (memory->limit != 0 && size > *left) return false;
        now = used + size;
    } while (!atomic_compare_exchange_weak_explicit(&memory->used, &used, now, memory_order_relaxed,
                                                    memory_order_relaxed));
    uint64_t peak = atomic_load_explicit(&memory->peak, memory_order_relaxed);
    while (peak < now &&
           !atomic_compare_exchange_weak_explicit(&memory->peak, &peak, now, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
    return true;
}

int32_t ar_alloc(ar_memory *memory, size_t size, const char *what, void **out) {
    size_t total;
    uint64_t left;
    *out = NULL;
    if (!ar_add(size, BLOCK_EXTRA, &total)) {
        return ar_error(ADVROB_E_OVERFLOW, "%s: a block of %zu bytes is too large", what, size);
    }
    if (!reserve(memory, total, &left)) {
        return ar_error(ADVROB_E_NOMEM,
                        "out of memory: %s needs %zu bytes, the memory limit of %llu leaves %llu",
                        what, total, (unsigned long long)memory->limit, (unsigned long long)left);
    }
    void *raw = memory->hook(memory->user, NULL, 0, total);
    if (!raw) {
        atomic_fetch_sub_explicit(&memory->used, total, memory_order_relaxed);
        return ar_error(ADVROB_E_NOMEM, "out of memory: no %zu bytes for %s", total, what);
    }
    atomic_fetch_add_explicit(&memory->calls, 1, memory_order_relaxed);
    uintptr_t gap = (uintptr_t)raw + sizeof(block_header);
    gap = (AR_ALIGN - gap % AR_ALIGN) % AR_ALIGN + sizeof(block_header);
    char *block = (char *)raw + gap;
    block_header header = {raw, size};
    memcpy(block - sizeof header, &header, sizeof header);
    *out = block;
    return ADVROB_OK;
}

static block_header header_of(const void *block) {
    block_header header;
    memcpy(&header, (const char *)block - sizeof header, sizeof header);
    return header;
}

int32_t ar_calloc(ar_memory *memory, size_t count, size_t size, const char *what, void **out) {
    size_t bytes;
    *out = NULL;
    if (!ar_mul(count, size, &bytes)) {
        return ar_error(ADVROB_E_OVERFLOW, "%s: %zu elements of %zu bytes are too large", what,
                        count, size);
    }
    int32_t status = ar_alloc(memory, bytes, what, out);
    if (status == ADVROB_OK) memset(*out, 0, bytes);
    return status;
}

int32_t ar_regrow(ar_memory *memory, void **block, size_t count, size_t size, const char *what) {
    size_t bytes;
    void *grown;
    if (!ar_mul(count, size, &bytes)) {
        return ar_error(ADVROB_E_OVERFLOW, "%s: %zu elements of %zu bytes are too large", what,
                        count, size);
    }
    size_t old = *block ? header_of(*block).size : 0;
    if (*block && bytes <= old) return ADVROB_OK;
    /* A new block, not the hook's own growing: that could move the contents off alignment. */
    int32_t status = ar_alloc(memory, bytes, what, &grown);
    if (status < 0) return status;
    if (*block) {
        memcpy(grown, *block, old);
        ar_free(memory, *block);
    }
    *block = grown;
    return ADVROB_OK;
}

void ar_free(ar_memory *memory, void *block) {
    if (!block) return;
    block_header header = header_of(block);
    size_t total = header.size + BLOCK_EXTRA;
    memory->hook(memory->user, header.raw, total, 0);
    atomic_fetch_sub_explicit(&memory->used, total, memory_order_relaxed);
}

bool ar_mul(size_t a, size_t b, size_t *out) {
    if (b != 0 && a > SIZE_MAX / b) return false;
    *out = a * b;
    return true;
}

bool ar_add(size_t a, size_t b, size_t *out) {
    if (a > SIZE_MAX - b) return false;
    *out = a + b;
    return true;
}

bool ar_product(const int64_t *factors, int32_t n, int64_t *out) {
    const int64_t most = (int64_t)1 << 62;
    int64_t product = 1;
    bool zero = false;
    for (int32_t i = 0; i < n; i++) {
        if (factors[i] < 0) return false;
        if (factors[i] == 0) zero = true;
    }
    for (int32_t i = 0; i < n && !zero; i++) {
        if (product > most / factors[i]) return false;
        product *= factors[i];
    }
    *out = zero ? 0 : product;
    return true;
}

bool ar_align_up(size_t size, size_t *out) {
    if (size > SIZE_MAX - (AR_ALIGN - 1)) return false;
    *out = (size + AR_ALIGN - 1) / AR_ALIGN * AR_ALIGN;
    return true;
}

void ar_arena_init(ar_arena *arena, ar_memory *memory) {
    arena->memory = memory;
    arena->chunks = NULL;
}

/* `size` bytes at a multiple of `align`, not cleared. Chunks grow, so that many small arenas cost
 * little and a large one takes few allocations. */
static int32_t arena_take(ar_arena *arena, size_t size, size_t align, const char *what,
                          char **out) {
    struct ar_arena_chunk *chunk = arena->chunks;
    if (chunk) {
        size_t start = (chunk->used + align - 1) / align * align;
        if (start <= chunk->capacity && size <= chunk->capacity - start) {
            chunk->used = start + size;
            *out = (char *)chunk + CHUNK_HEADER + start;
            return ADVROB_OK;
        }
    }
    size_t capacity = CHUNK_FIRST;
    if (chunk) capacity = chunk->capacity < CHUNK_LARGEST / 2 ? chunk->capacity * 2 : CHUNK_LARGEST;
    if (capacity < size) capacity = size;
    size_t total;
    void *block;
    if (!ar_add(capacity, CHUNK_HEADER, &total)) {
        return ar_error(ADVROB_E_OVERFLOW, "%s: a block of %zu bytes is too large", what, size);
    }
    int32_t status = ar_alloc(arena->memory, total, what, &block);
    if (status < 0) return status;
    chunk = block;
    chunk->next = arena->chunks;
    chunk->used = size;
    chunk->capacity = capacity;
    arena->chunks = chunk;
    *out = (char *)chunk + CHUNK_HEADER;
    return ADVROB_OK;
}

int32_t ar_arena_alloc(ar_arena *arena, size_t count, size_t size, const char *what, void **out) {
    size_t bytes;
    char *block = NULL;
    *out = NULL;
    if (!ar_mul(count, size, &bytes)) {
        return ar_error(ADVROB_E_OVERFLOW, "%s: %zu elements of %zu bytes are too large", what,
                        count, size);
    }
    int32_t status = arena_take(arena, bytes, AR_ALIGN, what, &block);
    if (status < 0) return status;
    memset(block, 0, bytes);
    *out = block;
    return ADVROB_OK;
}

int32_t ar_arena_copy(ar_arena *arena, const char *text, const char **out) {
    size_t size = strlen(text) + 1;
    char *block = NULL;
    *out = NULL;
    int32_t status = arena_take(arena, size, 1, "a text", &block);
    if (status < 0) return status;
    memcpy(block, text, size);
    *out = block;
    return ADVROB_OK;
}

size_t ar_arena_bytes(const ar_arena *arena) {
    size_t bytes = 0;
    for (const struct ar_arena_chunk *chunk = arena->chunks; chunk != NULL; chunk = chunk->next)
        bytes += CHUNK_HEADER + chunk->capacity;
    return bytes;
}

void ar_arena_free(ar_arena *arena) {
    while (arena->chunks) {
        struct ar_arena_chunk *next = arena->chunks->next;
        ar_free(arena->memory, arena->chunks);
        arena->chunks = next;
    }
}
