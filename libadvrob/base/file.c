/* Files: the table of operations on a POSIX system, reading a file whole, replacing a file whole.
 *
 * Everything goes through the context's table, so that a test can make each single operation fail
 * and see that no descriptor, no temporary and no half-written file is left. */
#include "base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Leftovers of dead processes with the same pid that are stepped over. */
#define MOST_TEMPORARIES 1000

static int32_t posix_open_read(void *user, const char *path) {
    (void)user;
    /* Without O_NONBLOCK a pipe that nobody writes to would block here, before it is refused. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

static int32_t posix_open_new(void *user, const char *path) {
    (void)user;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    return fd < 0 ? -errno : fd;
}

static int64_t posix_size(void *user, int32_t fd) {
    struct stat info;
    (void)user;
    if (fstat(fd, &info) != 0) return -errno;
    return S_ISREG(info.st_mode) ? (int64_t)info.st_size : -EINVAL;
}

static int64_t posix_read(void *user, int32_t fd, void *data, size_t size) {
    (void)user;
    ssize_t n = read(fd, data, size);
    return n < 0 ? -errno : n;
}

static int64_t posix_write(void *user, int32_t fd, const void *data, size_t size) {
    (void)user;
    ssize_t n = write(fd, data, size);
    return n < 0 ? -errno : n;
}

static int32_t posix_sync(void *user, int32_t fd) {
    (void)user;
    return fsync(fd) != 0 ? -errno : 0;
}

static int32_t posix_close(void *user, int32_t fd) {
    (void)user;
    return close(fd) != 0 ? -errno : 0;
}

static int32_t posix_rename(void *user, const char *from, const char *to) {
    (void)user;
    return rename(from, to) != 0 ? -errno : 0;
}

static int32_t posix_unlink(void *user, const char *path) {
    (void)user;
    return unlink(path) != 0 ? -errno : 0;
}

static int32_t posix_sync_folder(void *user, const char *path) {
    char folder[4096];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    (void)user;
    if (length >= sizeof folder) return -ENAMETOOLONG;
    memcpy(folder, path, length);
    folder[length] = 0;
    const char *name = !slash ? "." : length == 0 ? "/" : folder;
    int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -errno;
    int32_t result = fsync(fd) != 0 ? -errno : 0;
    close(fd);
    return result;
}

static int32_t posix_replaceable(void *user, const char *path) {
    struct stat info;
    (void)user;
    if (lstat(path, &info) != 0) return errno == ENOENT ? 0 : -errno;
    return S_ISREG(info.st_mode) ? 0 : -EINVAL;
}

const ar_file_ops ar_file_ops_posix = {
    .open_read = posix_open_read,
    .open_new = posix_open_new,
    .size = posix_size,
    .read = posix_read,
    .write = posix_write,
    .sync = posix_sync,
    .close = posix_close,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .sync_folder = posix_sync_folder,
    .replaceable = posix_replaceable,
};

/* The reason of a failed operation. Not strerror: it speaks the locale's language. */
const char *ar_file_reason(int64_t failed) {
    const char *text = NULL;
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 32)
    text = strerrordesc_np((int)-failed);
#endif
    return text ? text : "the operating system refused";
}

/* E_IO: what was done to which file, why it failed, and the number for where no text is known. */
static int32_t io_error(const char *path, const char *what, int64_t failed) {
    return ar_error(ADVROB_E_IO, "%.300s: cannot %s: %s (errno %d)", path, what,
                    ar_file_reason(failed), (int)-failed);
}

/* A close that a signal cuts short has closed: the descriptor may belong to another thread now. */
static int32_t close_file(advrob_context *ctx, int32_t fd) {
    int32_t result = ctx->files->close(ctx->files_user, fd);
    return result == -EINTR ? 0 : result;
}

static int32_t open_for_reading(advrob_context *ctx, const char *path, int32_t *fd) {
    do {
        *fd = ctx->files->open_read(ctx->files_user, path);
    } while (*fd == -EINTR);
    return *fd < 0 ? io_error(path, "open", *fd) : ADVROB_OK;
}

static int32_t read_all(advrob_context *ctx, const char *path, int32_t fd, uint8_t *data,
                        size_t size) {
    for (size_t done = 0; done < size;) {
        int64_t n = ctx->files->read(ctx->files_user, fd, data + done, size - done);
        if (n == -EINTR) continue;
        if (n < 0) return io_error(path, "read", n);
        if (n == 0) {
            return ar_error(ADVROB_E_IO,
                            "%.300s: ends after %zu bytes, expected %zu: it was cut "
                            "while it was read",
                            path, done, size);
        }
        done += (size_t)n;
    }
    return ADVROB_OK;
}

int32_t ar_file_exists(advrob_context *ctx, const char *path, bool *exists) {
    int32_t fd;
    do {
        fd = ctx->files->open_read(ctx->files_user, path);
    } while (fd == -EINTR);
    *exists = fd != -ENOENT;
    if (fd < 0) return *exists ? io_error(path, "open", fd) : ADVROB_OK;
    close_file(ctx, fd);
    return ADVROB_OK;
}

int32_t ar_file_read(advrob_context *ctx, const char *path, uint64_t limit, uint8_t **data,
                     size_t *size) {
    int32_t status = ADVROB_OK;
    int32_t fd = -1;
    void *block = NULL;
    size_t bytes;

    *data = NULL;
    *size = 0;
    AR_TRY(open_for_reading(ctx, path, &fd));
    int64_t length = ctx->files->size(ctx->files_user, fd);
    if (length == -EINVAL) AR_FAIL(ADVROB_E_IO, "%.300s: not a regular file", path);
    if (length < 0) {
        status = io_error(path, "tell the size", length);
        goto out;
    }
    if ((uint64_t)length > limit) {
        AR_FAIL(ADVROB_E_LIMIT, "%.300s: has %lld bytes, expected %llu at most", path,
                (long long)length, (unsigned long long)limit);
    }
    if ((uint64_t)length > SIZE_MAX - 1 || !ar_add((size_t)length, 1, &bytes)) {
        AR_FAIL(ADVROB_E_OVERFLOW, "%.300s: %lld bytes do not fit in memory", path,
                (long long)length);
    }
    AR_TRY(ar_alloc(&ctx->memory, bytes, path, &block));
    AR_TRY(read_all(ctx, path, fd, block, (size_t)length));
    ((uint8_t *)block)[length] = 0;
    *data = block;
    *size = (size_t)length;
    block = NULL;
out:
    if (fd >= 0) close_file(ctx, fd); /* nothing was written: its result says nothing */
    ar_free(&ctx->memory, block);
    return status;
}

int64_t ar_file_peek(advrob_context *ctx, const char *path, char *text, size_t size) {
    size_t done = 0;
    int32_t fd;
    int64_t n = 0;
    do {
        fd = ctx->files->open_read(ctx->files_user, path);
    } while (fd == -EINTR);
    if (fd < 0) return fd;
    while (done < size - 1) {
        n = ctx->files->read(ctx->files_user, fd, text + done, size - 1 - done);
        if (n == -EINTR) continue;
        if (n <= 0) break;
        done += (size_t)n;
    }
    text[done] = 0;
    close_file(ctx, fd);
    return n < 0 ? n : (int64_t)done;
}

/* Creates a temporary beside `path`; `name` is then its path. */
static int32_t create_temporary(advrob_context *ctx, const char *path, ar_buffer *name,
                                int32_t *fd) {
    int32_t result = -EEXIST;
    for (int32_t i = 0; i < MOST_TEMPORARIES && result == -EEXIST; i++) {
        name->length = 0;
        ar_buffer_add(name, "%s.tmp-%lld-%d", path, (long long)getpid(), i);
        int32_t status = ar_buffer_status(name);
        if (status < 0) return status;
        do {
            result = ctx->files->open_new(ctx->files_user, name->data);
        } while (result == -EINTR);
    }
    if (result < 0) return io_error(path, "create a temporary file beside it", result);
    *fd = result;
    return ADVROB_OK;
}

static int32_t write_all(advrob_context *ctx, const char *path, int32_t fd, const uint8_t *data,
                         size_t size) {
    for (size_t done = 0; done < size;) {
        int64_t n = ctx->files->write(ctx->files_user, fd, data + done, size - done);
        if (n == -EINTR) continue;
        if (n == 0) n = -ENOSPC; /* no progress and no reason: do not turn for ever */
        if (n < 0) return io_error(path, "write", n);
        done += (size_t)n;
    }
    int32_t result;
    do {
        result = ctx->files->sync(ctx->files_user, fd);
    } while (result == -EINTR);
    return result < 0 ? io_error(path, "sync", result) : ADVROB_OK;
}

static int32_t rename_over(advrob_context *ctx, const char *from, const char *path) {
    int32_t result;
    do {
        result = ctx->files->rename(ctx->files_user, from, path);
    } while (result == -EINTR);
    return result < 0 ? io_error(path, "replace", result) : ADVROB_OK;
}

static int32_t check_target(advrob_context *ctx, const char *path) {
    int32_t result;
    do {
        result = ctx->files->replaceable(ctx->files_user, path);
    } while (result == -EINTR);
    if (result == -EINVAL) {
        return ar_error(ADVROB_E_IO, "%.300s: not a regular file, and so it is not replaced", path);
    }
    return result < 0 ? io_error(path, "look at it", result) : ADVROB_OK;
}

int32_t ar_file_write(advrob_context *ctx, const char *path, const void *data, size_t size) {
    int32_t status = ADVROB_OK, result;
    int32_t fd = -1;
    bool temporary = false;
    ar_buffer name;

    ar_buffer_init(&name, &ctx->memory);
    AR_TRY(check_target(ctx, path));
    AR_TRY(create_temporary(ctx, path, &name, &fd));
    temporary = true;
    AR_TRY(write_all(ctx, path, fd, data, size));
    result = close_file(ctx, fd);
    fd = -1;
    if (result < 0) {
        status = io_error(path, "close", result);
        goto out;
    }
    AR_TRY(rename_over(ctx, name.data, path));
    temporary = false;
    do {
        result = ctx->files->sync_folder(ctx->files_user, path);
    } while (result == -EINTR);
    if (result < 0) {
        ar_log(ctx, ADVROB_LOG_WARNING, "%.300s: written, but its folder was not synced: %s", path,
               ar_file_reason(result));
    }
out:
    if (fd >= 0) close_file(ctx, fd);
    if (temporary) {
        do {
            result = ctx->files->unlink(ctx->files_user, name.data);
        } while (result == -EINTR);
    }
    ar_buffer_free(&name);
    return status;
}

/* Half a byte at a time, so that the table takes one cache line. */
uint32_t ar_crc32(const uint8_t *data, size_t size) {
    static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac,
                                       0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                       0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                       0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}
