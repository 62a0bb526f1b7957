/* What a run told its hooks: progress, with a call at which it is cancelled, and warnings. The
 * hooks' user pointer is the watch. Include support.h first. */
#ifndef TEST_WATCH_H
#define TEST_WATCH_H

#include <advrob/context.h>

#include <stdio.h>
#include <string.h>

typedef struct test_watch {
    int64_t calls, cancel_at; /* of the progress hook; cancel_at 0: never */
    char warning[1024];       /* the last that was logged */
    int32_t warnings;
    const char *path; /* that every warning has to name; NULL: none */
} test_watch;

static inline int32_t watch_progress(void *user, const char *what, int64_t done, int64_t total,
                                     double value) {
    test_watch *w = user;
    (void)what;
    (void)done;
    (void)total;
    (void)value;
    return ++w->calls == w->cancel_at;
}

static inline void watch_log(void *user, int32_t level, const char *message) {
    test_watch *w = user;
    assert_int_equal(level, ADVROB_LOG_WARNING);
    if (w->path != NULL && strstr(message, w->path) == NULL)
        fail_msg("a warning without the path: %s", message);
    snprintf(w->warning, sizeof w->warning, "%s", message);
    w->warnings++;
}

#endif
