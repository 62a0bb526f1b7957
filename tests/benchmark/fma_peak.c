/* Prints the FMA peak on 1 and on 2 threads in GFLOP/s, one figure a line; the second is the sum of
 * what two threads reach at the same time, each by its best try. */
#include "fma_peak.h"

#include <pthread.h>
#include <stdio.h>

static pthread_barrier_t both;

static void *measure(void *peak) {
    (void)fma_peak_try(); /* the clock of an idle core needs a moment */
    pthread_barrier_wait(&both);
    *(double *)peak = fma_peak();
    return NULL;
}

int main(void) {
    double one = 0, two[2] = {0, 0};
    pthread_t other;
    (void)fma_peak_try();
    one = fma_peak();
    if (pthread_barrier_init(&both, NULL, 2) != 0) return 1;
    if (pthread_create(&other, NULL, measure, &two[1]) != 0) return 1;
    measure(&two[0]);
    if (pthread_join(other, NULL) != 0) return 1;
    printf("%.2f\n%.2f\n", one, two[0] + two[1]);
    return 0;
}
