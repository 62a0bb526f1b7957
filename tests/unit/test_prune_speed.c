/* What pruning saves in time, beside what its multiply-adds promise: every net of the zoo of more
 * than 5 million of them, half of its filters gone, batches of 64 on one thread, in turn, the best
 * of several. */
#include "support/support.h"

#include <advrob/advrob.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "support/golden.h"
#include "support/prune.h"

enum { BATCH = 64, TURNS = 7, MOST_TURNS = 200 };

#define LEAST 0.8 /* of the promised saving */

static void test_saving(void **state) {
    (void)state;
    advrob_context *ctx = test_context_at(NULL, 1, ar_kernels_get(ar_cpu_detect(), false));
    int32_t nets = 0;
    for (int32_t i = 0; i < ar_zoo_count(); i++) {
        advrob_model *whole = NULL, *small = NULL;
        test_ok(advrob_model_build(ctx, ar_zoo_at(i)->name, NULL, &whole));
        if (advrob_model_macs(whole) < 5000000) {
            advrob_model_destroy(whole);
            continue;
        }
        test_ok(test_compress(whole, "prune_l1", "sparsity=0.5 linear=1", NULL, &small));
        double promised = 1 - (double)advrob_model_macs(small) / (double)advrob_model_macs(whole);
        double best[2] = {INFINITY, INFINITY}, saved = 0;
        for (int32_t turn = 0; turn < TURNS || (turn < MOST_TURNS && saved < LEAST * promised);
             turn++) {
            for (int32_t k = 0; k < 2; k++) {
                double ms = 0;
                test_ok(advrob_model_latency(k == 0 ? whole : small, BATCH, 1, &ms));
                best[k] = fmin(best[k], ms);
            }
            saved = 1 - best[1] / best[0];
        }
        print_message(
            "%-18s %5.1f %% of the multiply-adds gone, %5.1f %% of the time (%.2f of it)\n",
            ar_zoo_at(i)->name, 100 * promised, 100 * saved, saved / promised);
        if (!(saved >= LEAST * promised))
            fail_msg("%s: %.2f of the promised saving, expected %.1f", ar_zoo_at(i)->name,
                     saved / promised, LEAST);
        advrob_model_destroy(small);
        advrob_model_destroy(whole);
        nets++;
    }
    assert_true(nets >= 10);
    ar_context_release(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_saving)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
