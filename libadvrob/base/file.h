/* Files: every access goes through one table, so that tests can make each operation fail. */
#ifndef AR_FILE_H
#define AR_FILE_H

#include "context.h"

/* Each returns -errno on failure. `read` and `write` may be short. */
typedef struct ar_file_ops {
    int32_t (*open_read)(void *user, const char *path);
    int32_t (*open_new)(void *user, const char *path); /* must not exist; never follows a link */
    int64_t (*size)(void *user, int32_t fd);           /* -EINVAL if not a regular file */
    int64_t (*read)(void *user, int32_t fd, void *data, size_t size);
    int64_t (*write)(void *user, int32_t fd, const void *data, size_t size);
    int32_t (*sync)(void *user, int32_t fd);
    int32_t (*close)(void *user, int32_t fd);
    int32_t (*rename)(void *user, const char *from, const char *to);
    int32_t (*unlink)(void *user, const char *path);
    int32_t (*sync_folder)(void *user, const char *path); /* the folder that holds `path` */
    /* 0 if nothing or a regular file is at `path`; -EINVAL for a link, a folder, a device */
    int32_t (*replaceable)(void *user, const char *path);
} ar_file_ops;

extern const ar_file_ops ar_file_ops_posix;

/* The whole file as one block (ar_free); a terminating zero byte follows it. Files over `limit`
 * bytes are E_LIMIT. E_IO names path and reason. */
int32_t ar_file_read(advrob_context *ctx, const char *path, uint64_t limit, uint8_t **data,
                     size_t *size);

/* Whether something is at `path`. E_IO names path and reason if it cannot be told. */
int32_t ar_file_exists(advrob_context *ctx, const char *path, bool *exists);

/* The first bytes of a file that has no length of its own, as under /sys: up to size - 1 of them,
 * terminated; at the file's end or when `text` is full. The number of bytes, or -errno (no
 * message is set). */
int64_t ar_file_peek(advrob_context *ctx, const char *path, char *text, size_t size);
/* The text of such a -errno. */
const char *ar_file_reason(int64_t failed);

/* Writes a file whole or not at all: a temporary in the same folder, fsync, rename, fsync of the
 * folder. On failure the old file is as it was and no temporary is left. What is not a
 * regular file is not replaced. A folder that cannot be synced is a warning: the new file is in
 * place by then, whole. */
int32_t ar_file_write(advrob_context *ctx, const char *path, const void *data, size_t size);

/* The checksum of a file's bytes: CRC-32 of IEEE 802.3 (polynomial 0xedb88320, reflected), zlib's
 * crc32. */
uint32_t ar_crc32(const uint8_t *data, size_t size);

#endif
