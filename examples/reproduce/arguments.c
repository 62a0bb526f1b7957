/* The command line. */
#include "reproduce.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "presets.h"

enum { OPTIONS = 17 };
static const char *const option_names[OPTIONS] = {
    "--dataset", "--model",   "--data",     "--preset", "--out",      "--threads",
    "--seed",    "--repeats", "--protocol", "--base",   "--finetune", "--order",
    "--only",    "--resume",  "--fresh",    "--list",   "--help"};

int32_t complain(int32_t code, const char *format, ...) {
    va_list list;
    va_start(list, format);
    fputs("reproduce: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    return code;
}

static int32_t distance(const char *a, const char *b) {
    int32_t row[64];
    int32_t n = (int32_t)strlen(b);
    if (n > 63) return 1000;
    for (int32_t j = 0; j <= n; j++)
        row[j] = j;
    for (int32_t i = 1; a[i - 1] != '\0'; i++) {
        int32_t diagonal = row[0];
        row[0] = i;
        for (int32_t j = 1; j <= n; j++) {
            int32_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

const char *nearest(const char *word, const char *const *names, int32_t n) {
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++) {
        if (distance(word, names[i]) < distance(word, names[best])) best = i;
    }
    return names[best];
}

void print_help(void) {
    printf("usage: reproduce [options]\n\n"
           "Compresses nets that were trained in the standard way and adversarially, fine-tunes\n"
           "them in both ways, and measures clean accuracy and accuracy under PGD-20\n"
           "(arXiv 2403.09441).\n\n"
           "  --dataset NAME   fashion-mnist (default), mnist or cifar10\n"
           "  --model NAME     the net, one of the library's that takes such images; default: the\n"
           "                   preset's (eight_layer_conv; resnet20 or resnet18_cifar10)\n"
           "  --data DIR       folder of its files; default /usr/share/datasets/NAME\n"
           "  --preset NAME    how much is done:\n");
    for (int32_t i = 0; i < preset_count; i++) {
        const preset *p = &presets[i];
        printf("                     %-6s %s%s%s\n", p->name, p->dataset != NULL ? p->dataset : "",
               p->dataset != NULL ? ": " : "", p->help);
    }
    printf(
        "                   default quick\n"
        "  --out DIR        folder for results and models; default results\n"
        "  --threads N      0 (default): one for each core; changes no result\n"
        "  --seed N         seed of the first repeat; default 1\n"
        "  --repeats N      repeats with seeds N, N+1, ...; default: the preset's\n"
        "  --protocol NAME  pixel (default): attacked images stay valid pixels;\n"
        "                   paper: they are not clipped, as in the paper\n"
        "  --base NAME      standard, adversarial or both (default; of cifar10 quick and\n"
        "                   tiny: standard)\n"
        "  --finetune NAME  standard, adversarial or both (default); without is always there\n"
        "  --order NAME     of quantization: finetune_then_quantize, quantize_then_finetune or\n"
        "                   both (default)\n"
        "  --only LIST      these compressions only: prune:0.5,quant:int8 or prune or base\n"
        "  --resume         go on with the run that lies in --out, which must be there\n"
        "  --fresh          forget the results that lie in --out\n"
        "  --list           print the points that would be run, and end\n"
        "  --help           print this, and end\n\n"
        "After each point DIR/results.csv, DIR/results.json and DIR/models are brought up to\n"
        "date; the same command goes on where an earlier run was stopped or killed, also in the\n"
        "middle of a training (DIR/checkpoints). At the end: DIR/report.html.\n"
        "Exit status: 0 done, 1 failed, 2 wrong usage, 130 stopped.\n");
}

/* An integer in [low, high]. */
static int32_t parse_integer(const char *option, const char *text, int64_t low, int64_t high,
                             int64_t *out) {
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value < low || value > high) {
        return complain(USAGE, "%s wants a whole number from %lld to %lld, not \"%s\"", option,
                        (long long)low, (long long)high, text);
    }
    *out = value;
    return 0;
}

static int32_t parse_choice(const char *option, const char *text, const char *const *names,
                            int32_t n, int32_t *out) {
    for (int32_t i = 0; i < n; i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return 0;
        }
    }
    return complain(USAGE, "%s \"%s\" is unknown; did you mean \"%s\"?", option, text,
                    nearest(text, names, n));
}

/* One of two names, or "both". */
static int32_t parse_chosen(const char *option, const char *text, const char *const *names,
                            bool chosen[2]) {
    const char *const all[] = {names[0], names[1], "both"};
    int32_t index = 0, status = parse_choice(option, text, all, 3, &index);
    chosen[0] = index != 1;
    chosen[1] = index != 0;
    return status;
}

static int32_t parse_preset(settings *s, const char *text) {
    const char *names[16] = {NULL};
    int32_t index = 0, count = 0;
    for (int32_t i = 0; i < preset_count; i++) {
        if (presets[i].dataset == NULL) names[count++] = presets[i].name;
    }
    int32_t status = parse_choice("--preset", text, names, count, &index);
    if (status == 0) s->preset_name = names[index];
    return status;
}

static int32_t replace(const char *option, char **field, const char *text) {
    if (*text == '\0') return complain(USAGE, "%s wants a value that is not empty", option);
    char *copy = strdup(text);
    if (copy == NULL) return complain(FAILED, "out of memory");
    free(*field);
    *field = copy;
    return 0;
}

static int32_t parse_value(settings *s, const char *option, const char *text) {
    static const char *const datasets[] = {"fashion-mnist", "mnist", "cifar10"};
    static const char *const protocols[] = {"pixel", "paper"};
    int32_t index = 0, status = 0;
    if (strcmp(option, "--dataset") == 0) {
        TRY(parse_choice(option, text, datasets, 3, &index));
        TRY(replace(option, &s->dataset, text));
    } else if (strcmp(option, "--model") == 0) {
        TRY(replace(option, &s->model, text));
    } else if (strcmp(option, "--data") == 0) {
        TRY(replace(option, &s->data, text));
    } else if (strcmp(option, "--preset") == 0) {
        TRY(parse_preset(s, text));
    } else if (strcmp(option, "--out") == 0) {
        TRY(replace(option, &s->out, text));
    } else if (strcmp(option, "--threads") == 0) {
        TRY(parse_integer(option, text, 0, 1024, &s->threads));
    } else if (strcmp(option, "--seed") == 0) {
        TRY(parse_integer(option, text, 0, 1000000000, &s->seed));
    } else if (strcmp(option, "--repeats") == 0) {
        TRY(parse_integer(option, text, 1, 100, &s->repeats));
    } else if (strcmp(option, "--protocol") == 0) {
        TRY(parse_choice(option, text, protocols, 2, &index));
        s->clip = index == 0;
    } else if (strcmp(option, "--base") == 0) {
        TRY(parse_chosen(option, text, base_names, s->base));
        s->base_chosen = true;
    } else if (strcmp(option, "--finetune") == 0) {
        TRY(parse_chosen(option, text, base_names, s->finetune));
    } else if (strcmp(option, "--order") == 0) {
        TRY(parse_chosen(option, text, order_names, s->order));
    } else {
        TRY(replace(option, &s->only, text));
    }
out:
    return status;
}

/* What depends on other arguments. */
static int32_t fill_in(settings *s) {
    char data[64];
    if (s->dataset == NULL && replace("--dataset", &s->dataset, "fashion-mnist") != 0) {
        return FAILED;
    }
    s->preset = find_preset(s->preset_name, s->dataset);
    if (s->model == NULL && replace("--model", &s->model, s->preset->model) != 0) return FAILED;
    if (strlen(s->model) > 64 || strpbrk(s->model, " '\n") != NULL) {
        return complain(USAGE, "--model \"%.80s\" is no name of a net", s->model);
    }
    if (s->preset->standard_alone && !s->base_chosen) s->base[1] = false;
    snprintf(data, sizeof data, "/usr/share/datasets/%s", s->dataset);
    if (s->data == NULL && replace("--data", &s->data, data) != 0) return FAILED;
    if (s->out == NULL && replace("--out", &s->out, "results") != 0) return FAILED;
    if (s->repeats == 0) s->repeats = s->preset->repeats;
    if (s->resume && s->fresh) return complain(USAGE, "--resume and --fresh exclude each other");
    if (strlen(s->out) > 3000) return complain(USAGE, "--out is longer than 3000 bytes");
    return 0;
}

int32_t parse_arguments(settings *s, int argc, char **argv) {
    *s = (settings){.preset_name = presets[0].name,
                    .clip = true,
                    .base = {true, true},
                    .finetune = {true, true},
                    .order = {true, true},
                    .seed = 1};
    for (int i = 1; i < argc; i++) {
        char option[24] = "";
        const char *value = strchr(argv[i], '=');
        size_t length = value != NULL ? (size_t)(value - argv[i]) : strlen(argv[i]);
        if (length < sizeof option) memcpy(option, argv[i], length);
        int32_t index = 0;
        while (index < OPTIONS && strcmp(option, option_names[index]) != 0)
            index++;
        if (strcmp(argv[i], "-h") == 0) index = OPTIONS - 1;
        if (index == OPTIONS) {
            return complain(USAGE, "unknown argument \"%s\"; did you mean %s? (--help lists all)",
                            argv[i], nearest(argv[i], option_names, OPTIONS));
        }
        if (index >= OPTIONS - 4) {
            if (value != NULL) return complain(USAGE, "%s takes no value", option);
            s->resume = s->resume || index == OPTIONS - 4;
            s->fresh = s->fresh || index == OPTIONS - 3;
            s->list = s->list || index == OPTIONS - 2;
            s->help = s->help || index == OPTIONS - 1;
            continue;
        }
        if (value == NULL && i + 1 == argc) return complain(USAGE, "%s wants a value", option);
        int32_t status = parse_value(s, option, value != NULL ? value + 1 : argv[++i]);
        if (status != 0) return status;
    }
    return fill_in(s);
}

void free_settings(settings *s) {
    free(s->dataset);
    free(s->model);
    free(s->data);
    free(s->out);
    free(s->only);
}
