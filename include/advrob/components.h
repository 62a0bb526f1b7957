/* What exists: every component by name, with its options; examples/components.c prints it all. */
#ifndef ADVROB_COMPONENTS_H
#define ADVROB_COMPONENTS_H

#include <advrob/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* `kind` is "attack", "compressor", "finetune", "model", "dataset", "loss",
 * "operator", "optimizer", "schedule", "context", "evaluation", "curve", "check", "profile",
 * "quantization", "report" (plot and series). Counts are 0 for an unknown kind or name. */
ADVROB_API int32_t advrob_component_count(const char *kind);
/* Name and one-line help of component `index`; NULL past the end. Static storage. */
ADVROB_API const char *advrob_component_name_at(const char *kind, int32_t index);
ADVROB_API const char *advrob_component_help_at(const char *kind, int32_t index);
/* Options of a component. */
ADVROB_API int32_t advrob_option_count(const char *kind, const char *name);
/* One option: all out-parameters may be NULL. `range` and `initial` are texts for people
 * ("[0, 1]", "0.05"). `help` is static; the other texts are valid until the next call
 * on this thread. Errors: E_UNKNOWN. */
ADVROB_API int32_t advrob_option_at(const char *kind, const char *name, int32_t index,
                                    const char **option, int32_t *type, const char **initial,
                                    const char **range, const char **help);

#ifdef __cplusplus
}
#endif

#endif
