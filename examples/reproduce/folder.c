/* The folder of a run: made if it is missing, tied to its settings, cleared with --fresh. */
#include "reproduce.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* settings.txt stands alone: see clear_folder. */
static const char *const files[] = {"results.csv", "results.json", "steps.csv",    "history.csv",
                                    "classes.csv", "curves.csv",   "transfer.csv", "report.html",
                                    "report.json", "plots.csv"};

void out_path(const settings *s, const char *name, char *path, size_t size) {
    snprintf(path, size, "%s/%s", s->out, name);
}

void model_path(const settings *s, const char *name, char *path, size_t size) {
    snprintf(path, size, "%s/models/%s.safetensors", s->out, name);
}

void engine_path(const settings *s, const char *name, char *path, size_t size) {
    snprintf(path, size, "%s/models/%s.advrob", s->out, name);
}

/* The library adds ".0" and ".1". */
void checkpoint_path(const settings *s, const char *name, char *path, size_t size) {
    snprintf(path, size, "%s/checkpoints/%s", s->out, name);
}

bool has_checkpoint(const settings *s, const char *name) {
    char path[4096];
    checkpoint_path(s, name, path, sizeof path - 2);
    size_t length = strlen(path);
    memcpy(path + length, ".0", 3);
    if (file_exists(path)) return true;
    path[length + 1] = '1';
    return file_exists(path);
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

static bool ends_with(const char *name, const char *end) {
    size_t length = strlen(name), tail = strlen(end);
    return length > tail && strcmp(name + length - tail, end) == 0;
}

/* Whether an earlier run wrote a file of that name into DIR ("."), models or checkpoints: the names
 * that name_point, name_base or name_finetuned gives. */
static bool is_ours(const char *folder, const char *name) {
    bool base = strncmp(name, "standard-", 9) == 0 || strncmp(name, "adversarial-", 12) == 0;
    if (strcmp(folder, ".") == 0) {
        for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
            if (strcmp(name, files[i]) == 0) return true;
        }
        return false;
    }
    if (!base || strstr(name, "seed") == NULL) return false;
    if (strcmp(folder, "models") == 0)
        return ends_with(name, ".safetensors") || ends_with(name, ".advrob");
    return ends_with(name, ".0") || ends_with(name, ".1");
}

static int32_t remove_file(const char *path) {
    if (unlink(path) == 0 || errno == ENOENT) return 0;
    return complain(FAILED, "cannot remove %s: %s", path, strerror(errno));
}

/* Removes what an earlier run wrote into a folder under DIR, and nothing else; without `all` only
 * the temporary files of a run that was killed ("results.csv.tmp-123-0"). */
static int32_t clear(const settings *s, const char *folder, bool all) {
    char path[4096], name[256];
    int32_t status = 0;
    snprintf(path, sizeof path, "%s/%s", s->out, folder);
    DIR *open = opendir(path);
    if (open == NULL) return 0;
    for (struct dirent *e = readdir(open); e != NULL && status == 0; e = readdir(open)) {
        snprintf(name, sizeof name, "%s", e->d_name);
        char *temporary = strstr(name, ".tmp-");
        if (temporary != NULL) *temporary = '\0';
        if (!is_ours(folder, name) || !(all || temporary != NULL)) continue;
        snprintf(path, sizeof path, "%s/%s/%s", s->out, folder, e->d_name);
        status = remove_file(path);
    }
    closedir(open);
    return status;
}

int32_t remove_checkpoint(const settings *s, const char *name) {
    char path[4096];
    int32_t status = 0;
    checkpoint_path(s, name, path, sizeof path - 2);
    size_t length = strlen(path);
    memcpy(path + length, ".0", 3);
    TRY(remove_file(path));
    path[length + 1] = '1';
    TRY(remove_file(path));
out:
    return status;
}

/* settings.txt goes last: a folder that is half cleared is still known as ours. */
static int32_t clear_folder(const settings *s, bool all) {
    char path[4096];
    int32_t status = 0;
    TRY(clear(s, "models", all));
    TRY(clear(s, "checkpoints", all));
    TRY(clear(s, ".", all));
    out_path(s, "settings.txt", path, sizeof path);
    if (all) TRY(remove_file(path));
out:
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

static int32_t make_folder_in(const settings *s, const char *name) {
    char path[4096];
    out_path(s, name, path, sizeof path);
    return make_folders(path);
}

/* Without settings.txt files of our names are somebody else's: neither mixed nor removed. */
static int32_t refuse_others(const settings *s) {
    static const char *const folders[] = {"", "/models", "/checkpoints"};
    char path[4096], name[256] = "";
    for (int32_t i = 0; i < 3 && name[0] == '\0'; i++) {
        snprintf(path, sizeof path, "%s%s", s->out, folders[i]);
        DIR *open = opendir(path);
        if (open == NULL) continue;
        for (struct dirent *e = readdir(open); e != NULL; e = readdir(open)) {
            if (is_ours(i == 0 ? "." : folders[i] + 1, e->d_name))
                snprintf(name, sizeof name, "%s", e->d_name);
        }
        closedir(open);
    }
    if (name[0] == '\0') return 0;
    return complain(FAILED, "%s/%s is there but no settings.txt in %s; choose another --out", path,
                    name, s->out);
}

int32_t prepare_folder(const settings *s, const char *text) {
    char path[4096];
    int32_t status = 0;
    out_path(s, "settings.txt", path, sizeof path);
    bool ours = file_exists(path);
    if (s->resume && !ours) {
        return complain(FAILED, "--resume: there is no run in %s (no settings.txt)", s->out);
    }
    if (!ours) TRY(refuse_others(s));
    TRY(make_folders(s->out));
    TRY(make_folder_in(s, "models"));
    TRY(make_folder_in(s, "checkpoints"));
    if (ours && !s->fresh) {
        TRY(compare_settings(path, text));
        TRY(clear_folder(s, false));
    } else {
        if (ours) TRY(clear_folder(s, true));
        TRY(write_text(path, text));
    }
out:
    return status;
}
