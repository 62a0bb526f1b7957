/* Training's way back on the calling thread, step by step; include support.h first. */
#ifndef TEST_BACKWARD_H
#define TEST_BACKWARD_H

#include <stdlib.h>

#include "model/program.h"

/* Tiles in AR_RUN_TRAIN that went forward: dout[tile] -> dx[tile] (dx NULL: not wanted) and the
 * gradient, of the slab's layout, of all tiles. */
static inline void test_backward(ar_workspace *const *tiles, int32_t count,
                                 const float *const *dout, float *const *dx, ar_real *gradient) {
    const ar_program *program = tiles[0]->program;
    ar_real *scratch = malloc(sizeof(ar_real) * (size_t)(ar_run_gradient_scratch(program) + 1));
    for (int32_t t = 0; t < count; t++)
        ar_run_load_gradient(tiles[t], dout[t]);
    for (int32_t s = program->count - 1; s >= 0; s--) {
        for (int32_t t = 0; t < count; t++)
            ar_run_gate(tiles[t], s);
        for (int32_t i = 0; i < ar_run_gradient_pieces(program, s); i++)
            ar_run_gradient_piece(tiles, count, s, i, scratch, gradient);
        for (int32_t t = 0; t < count; t++)
            ar_run_steps_backward(tiles[t], s, s + 1, true, dx != NULL);
    }
    for (int32_t t = 0; t < count && dx != NULL; t++)
        ar_run_store_gradient(tiles[t], dx[t]);
    free(scratch);
}

#endif
