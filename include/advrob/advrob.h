/* libadvrob: compress small neural networks, attack them, fine-tune them adversarially, measure
 * them.
 *
 * The whole pipeline (error checks left out; examples/ has them):
 *
 *     advrob_context_create(NULL, &ctx);
 *     advrob_dataset_open(ctx, "fashion-mnist", dir, NULL, &train);
 *     advrob_model_build(ctx, "eight_layer_conv", NULL, &base);
 *     advrob_finetune_create(ctx, "standard", NULL, &fit);
 *     advrob_finetune_run(fit, base, train, NULL, NULL);
 *     advrob_compressor_create(ctx, "prune_l1", NULL, &prune);
 *     advrob_compressor_run(prune, base, NULL, &small);
 *     advrob_finetune_create(ctx, "pgd_at", NULL, &robust);
 *     advrob_finetune_run(robust, small, train, NULL, NULL);
 *     advrob_target_from_model(small, &target);
 *     advrob_report_add_row(report);
 *     advrob_report_evaluate(report, target, test, attacks);
 *     advrob_model_save(small, "small.safetensors");
 */
#ifndef ADVROB_H
#define ADVROB_H

#include <advrob/attack.h>
#include <advrob/components.h>
#include <advrob/compress.h>
#include <advrob/context.h>
#include <advrob/dataset.h>
#include <advrob/energy.h>
#include <advrob/engine.h>
#include <advrob/finetune.h>
#include <advrob/lower.h>
#include <advrob/model.h>
#include <advrob/options.h>
#include <advrob/report.h>
#include <advrob/status.h>
#include <advrob/target.h>
#include <advrob/tensor.h>
#include <advrob/version.h>

#endif
