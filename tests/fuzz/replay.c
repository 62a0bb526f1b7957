/* Runs a fuzz target over files, and over the files in folders, without a fuzzer. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "fuzz.h"

static int replay_file(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return -1;
    uint8_t *data = NULL;
    size_t size = 0, n;
    do {
        /* A block of exactly the file's size, so that a sanitizer sees a read past it. */
        uint8_t piece[4096];
        n = fread(piece, 1, sizeof(piece), f);
        uint8_t *grown = malloc(size + n ? size + n : 1);
        HOLDS(grown);
        if (size > 0) memcpy(grown, data, size);
        if (n > 0) memcpy(grown + size, piece, n);
        free(data);
        data = grown;
        size += n;
    } while (n > 0);
    int failed = ferror(f);
    fclose(f);
    if (!failed) LLVMFuzzerTestOneInput(data, size);
    free(data);
    return failed ? -1 : 1;
}

/* Number of files run, or -1. */
static int replay(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) return replay_file(path);
    int count = 0;
    for (struct dirent *entry = readdir(folder); entry && count >= 0; entry = readdir(folder)) {
        char file[4096];
        if (entry->d_name[0] == '.') continue;
        snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        int n = replay_file(file);
        count = n < 0 ? -1 : count + n;
    }
    closedir(folder);
    return count;
}

int main(int argc, char **argv) {
    int total = 0;
    for (int i = 1; i < argc; i++) {
        int n = replay(argv[i]);
        if (n < 0) {
            fprintf(stderr, "%s: cannot be read\n", argv[i]);
            return 1;
        }
        total += n;
    }
    printf("%d inputs\n", total);
    return total > 0 ? 0 : 1; /* a run over nothing proves nothing */
}
