/* AutoAttack (Croce and Hein 2020, arXiv 2003.01690): parameter-free attacks of several kinds, each
 * on the samples that hold against those before. Versions as in the authors' code, but for two
 * things in `plus`: FAB's five restarts are its targeted form, and so FAB-T, their first run, does
 * not come once more at the end. */
#include "attack.h"

#include <string.h>

typedef struct autoattack_options {
    ar_attack_common common;
    const char *version;
} autoattack_options;

static const ar_option entries[] = {
    AR_ATTACK_EPSILON,
    AR_ATTACK_NORM,
    AR_STR(autoattack_options, version, "standard", "standard|plus|rand",
           "plus: more restarts and losses; rand: for targets that answer at random"),
    AR_ATTACK_DRAWS,
    AR_ATTACK_TRANSFER,
};
static const ar_option_table table = AR_TABLE(autoattack_options, entries);

typedef struct member {
    const char *name, *options;
} member;

static const member standard[] = {{"apgd", "loss=ce steps=100"},
                                  {"apgd_t", "steps=100"},
                                  {"fab", "steps=100"},
                                  {"square", "queries=5000"},
                                  {NULL, NULL}};
static const member plus[] = {{"apgd", "loss=ce steps=100 restarts=5"},
                              {"apgd", "loss=dlr steps=100 restarts=5"},
                              {"fab", "steps=100 restarts=5"},
                              {"square", "queries=5000"},
                              {"apgd_t", "steps=100"},
                              {NULL, NULL}};
static const member randomised[] = {
    {"apgd", "loss=ce steps=100 eot=20"}, {"apgd", "loss=dlr steps=100 eot=20"}, {NULL, NULL}};

static int32_t members(const void *options, int32_t classes, ar_attack_list *list) {
    int32_t status = ADVROB_OK;
    const char *version = ((const autoattack_options *)options)->version;
    (void)classes;
    const member *m = strcmp(version, "plus") == 0   ? plus
                      : strcmp(version, "rand") == 0 ? randomised
                                                     : standard;
    for (; m->name != NULL; m++)
        AR_TRY(ar_attack_list_add(list, m->name, m->options));
out:
    return status;
}

const ar_attack ar_attack_autoattack = {
    .name = "autoattack",
    .help = "AutoAttack: APGD, targeted APGD, FAB and Square, one after the other",
    .options = &table,
    .needs_gradient = true,
    .loss = "margin",
    .members = members,
};
