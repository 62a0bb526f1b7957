/* Every tolerance of the tests, in one place. A commit that loosens one says why. */
#ifndef TESTS_TOLERANCE_H
#define TESTS_TOLERANCE_H

/* One operator in float32 against an independent reference: of the largest value. */
#define TOLERANCE_OP 1e-5
/* Gradients of whole nets: ReLU masks may flip. */
#define TOLERANCE_NET_GRADIENT 2e-3
/* The same on images drawn such that none does. */
#define TOLERANCE_SMOOTH_GRADIENT 5e-5
/* Logits of whole nets, of the largest. */
#define TOLERANCE_LOGITS 1e-4
/* A vector kernel against reference C: of the sum of the absolute products. */
#define TOLERANCE_KERNEL 1e-6
/* Winograd against the convolution in double: of the sum of the output's |w|, where |x| <= 1. By
 * the norms of the transforms one rounding may grow 16-fold in F(2) and 860-fold in F(4), to 1e-6
 * and 5e-5; the largest errors seen are 1.5e-7 and 3.6e-6, of single channels. */
#define TOLERANCE_WINOGRAD_2 5e-7
#define TOLERANCE_WINOGRAD_4 1e-5
/* Finite differences in double, relative to the largest entry of the gradient. */
#define TOLERANCE_FINITE_DIFFERENCE 1e-6
/* A loss against PyTorch's, relative. */
#define TOLERANCE_LOSS 1e-3
/* Pruned net against masked net, of the largest logit. */
#define TOLERANCE_PRUNED 1e-5

#endif
