/* Lists what the library has: every component with its options, their types, defaults and ranges.
 *
 *     components [kind [name]]          for example: components attack pgd */
#include <advrob/advrob.h>

#include <stdio.h>
#include <string.h>

static const char *const kinds[] = {
    "model",   "dataset",    "attack", "compressor", "finetune", "optimizer",    "schedule", "loss",
    "context", "evaluation", "curve",  "check",      "profile",  "quantization", "report"};

static const char *type_name(int32_t type) {
    static const char *const names[] = {"?",       "number", "whole number", "text",
                                        "numbers", "handle", "list"};
    return type >= 1 && type <= 6 ? names[type] : names[0];
}

static int print_component(const char *kind, int32_t index) {
    const char *name = advrob_component_name_at(kind, index);
    const char *help = advrob_component_help_at(kind, index);
    printf("%s %s: %s\n", kind, name, help != NULL ? help : "");
    for (int32_t i = 0; i < advrob_option_count(kind, name); i++) {
        const char *option, *initial, *range;
        int32_t type;
        if (advrob_option_at(kind, name, i, &option, &type, &initial, &range, &help) != 0) {
            fprintf(stderr, "error: %s\n", advrob_last_message());
            return 1;
        }
        printf("    %-22s %-12s default %-12s range %-24s %s\n", option, type_name(type),
               initial != NULL && *initial != '\0' ? initial : "-",
               range != NULL && *range != '\0' ? range : "-", help != NULL ? help : "");
    }
    return 0;
}

int main(int argc, char **argv) {
    int found = 0;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        if (argc > 1 && strcmp(argv[1], kinds[k]) != 0) continue;
        for (int32_t i = 0; i < advrob_component_count(kinds[k]); i++) {
            if (argc > 2 && strcmp(argv[2], advrob_component_name_at(kinds[k], i)) != 0) continue;
            if (print_component(kinds[k], i) != 0) return 1;
            found++;
        }
    }
    if (found == 0) {
        fprintf(stderr, "error: there is no %s %s\n", argc > 1 ? argv[1] : "component",
                argc > 2 ? argv[2] : "");
        return 1;
    }
    return 0;
}
