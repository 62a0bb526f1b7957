/* Sorting in place, O(n log n) on any input. Not qsort: the C library's may allocate past the
 * context's allocator, and be quadratic on hostile input. */
#ifndef AR_SORT_H
#define AR_SORT_H

#include <stddef.h>
#include <string.h>

typedef int (*ar_compare_fn)(const void *a, const void *b);

static inline void ar_sort_swap(char *a, char *b, size_t size) {
    char kept[64];
    while (size > 0) {
        size_t n = size < sizeof(kept) ? size : sizeof(kept);
        memcpy(kept, a, n);
        memcpy(a, b, n);
        memcpy(b, kept, n);
        a += n;
        b += n;
        size -= n;
    }
}

/* Heapsort; what is in order already is left in one look. */
static inline void ar_sort(void *items, size_t count, size_t size, ar_compare_fn compare) {
    char *base = items;
    size_t in_order = 1;
    while (in_order < count && compare(base + (in_order - 1) * size, base + in_order * size) <= 0)
        in_order++;
    if (in_order >= count) return;

    size_t root = count / 2, end = count;
    while (end > 1) {
        if (root > 0) {
            root--;
        } else {
            end--;
            ar_sort_swap(base, base + end * size, size);
        }
        for (size_t parent = root, child; (child = 2 * parent + 1) < end; parent = child) {
            if (child + 1 < end && compare(base + child * size, base + (child + 1) * size) < 0)
                child++;
            if (compare(base + parent * size, base + child * size) >= 0) break;
            ar_sort_swap(base + parent * size, base + child * size, size);
        }
    }
}

#endif
