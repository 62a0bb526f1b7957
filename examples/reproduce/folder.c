/* The folder of a run: made if it is missing, tied to its settings, cleared with --fresh. */
#include "reproduce.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void out_path(const settings *s, const char *name, char *path, size_t size) {
    snprintf(path, size, "%s/%s", s->out, name);
}

void model_path(const settings *s, const char *name, char *path, size_t size) {
    snprintf(path, size, "%s/models/%s.safetensors", s->out, name);
}

bool file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

/* mkdir -p */
static int32_t make_folders(const char *path) {
    char part[4096];
    snprintf(part, sizeof part, "%s", path);
    for (char *at = part + 1;; at++) {
        if (*at != '/' && *at != '\0') continue;
        char kept = *at;
        struct stat found;
        *at = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST) {
            return complain(FAILED, "cannot make the folder %s: %s", part, strerror(errno));
        }
        if (stat(part, &found) != 0 || !S_ISDIR(found.st_mode)) {
            return complain(FAILED, "%s is no folder", part);
        }
        if (kept == '\0') return 0;
        *at = kept;
    }
}

/* A name that name_point, name_base or name_finetuned gives. */
static bool is_our_model(const char *name) {
    size_t length = strlen(name);
    bool base = strncmp(name, "standard-", 9) == 0 || strncmp(name, "adversarial-", 12) == 0;
    return base && strstr(name, "seed") != NULL && length > 12 &&
           strcmp(name + length - 12, ".safetensors") == 0;
}

static int32_t remove_file(const char *path) {
    if (unlink(path) == 0 || errno == ENOENT) return 0;
    return complain(FAILED, "cannot remove %s: %s", path, strerror(errno));
}

/* Removes what an earlier run wrote, and nothing else. settings.txt goes last: a folder that is
 * half cleared is still known as ours. */
static int32_t clear_folder(const settings *s) {
    static const char *const names[] = {"results.csv", "results.json", "steps.csv", "settings.txt"};
    char path[4096];
    int32_t status = 0;
    out_path(s, "models", path, sizeof path);
    DIR *folder = opendir(path);
    if (folder != NULL) {
        for (struct dirent *e = readdir(folder); e != NULL && status == 0; e = readdir(folder)) {
            if (!is_our_model(e->d_name)) continue;
            snprintf(path, sizeof path, "%s/models/%s", s->out, e->d_name);
            status = remove_file(path);
        }
        closedir(folder);
    }
    for (int32_t i = 0; i < 4 && status == 0; i++) {
        out_path(s, names[i], path, sizeof path);
        status = remove_file(path);
    }
    return status;
}

static int32_t write_text(const char *path, const char *text) {
    char temporary[4200];
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    FILE *file = fopen(temporary, "wb");
    if (file == NULL) return complain(FAILED, "cannot write %s: %s", path, strerror(errno));
    bool good = fputs(text, file) >= 0;
    good = fflush(file) == 0 && good;
    good = fsync(fileno(file)) == 0 && good;
    good = fclose(file) == 0 && good;
    if (!good || rename(temporary, path) != 0) {
        int reason = errno;
        unlink(temporary);
        return complain(FAILED, "cannot write %s: %s", path, strerror(reason));
    }
    return 0;
}

/* The first line in which two texts differ, without its end. */
static void first_difference(const char *a, const char *b, char *line_a, char *line_b, int size) {
    size_t at = 0, start = 0;
    while (a[at] != '\0' && a[at] == b[at]) {
        at++;
        if (a[at - 1] == '\n') start = at;
    }
    snprintf(line_a, (size_t)size, "%.*s", (int)strcspn(a + start, "\n"), a + start);
    snprintf(line_b, (size_t)size, "%.*s", (int)strcspn(b + start, "\n"), b + start);
}

static int32_t compare_settings(const char *path, const char *text) {
    char found[4096], there[200], here[200];
    FILE *file = fopen(path, "rb");
    if (file == NULL) return complain(FAILED, "cannot read %s: %s", path, strerror(errno));
    size_t length = fread(found, 1, sizeof found - 1, file);
    found[length] = '\0';
    fclose(file);
    if (strcmp(found, text) == 0) return 0;
    first_difference(found, text, there, here, sizeof there);
    return complain(FAILED,
                    "the results there have other settings: %s says \"%s\", this run has \"%s\"; "
                    "choose another --out, or --fresh to start anew",
                    path, there, here);
}

int32_t prepare_folder(const settings *s) {
    char path[4096], other[4096];
    int32_t status = 0;
    char *text = settings_text(s);
    if (text == NULL) return complain(FAILED, "out of memory");
    TRY(make_folders(s->out));
    out_path(s, "models", path, sizeof path);
    TRY(make_folders(path));
    if (s->fresh) TRY(clear_folder(s));
    out_path(s, "settings.txt", path, sizeof path);
    out_path(s, "results.csv", other, sizeof other);
    if (file_exists(path)) {
        TRY(compare_settings(path, text));
    } else if (file_exists(other)) {
        status = complain(FAILED,
                          "%s is there but no settings.txt beside it; choose another --out, or "
                          "--fresh to start anew",
                          other);
    } else {
        status = write_text(path, text);
    }
out:
    free(text);
    return status;
}
