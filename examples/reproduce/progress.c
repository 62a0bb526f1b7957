/* Progress on stderr: a bar on a terminal, plain lines elsewhere. The time left is that of the
 * whole run, from the work that its points are thought to be (forward passes of the whole net). */
#include "reproduce.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static const double bar_seconds = 0.1, line_seconds = 30;

double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_init(progress *p) {
    *p = (progress){.terminal = isatty(STDERR_FILENO) == 1};
}

static int32_t columns(void) {
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20) return size.ws_col;
    return 80;
}

void progress_left(const progress *p, char *text, size_t size) {
    double done = p->work_known + p->work_done + p->phase_done;
    double seconds =
        p->seconds_known + p->seconds + (p->phase[0] != '\0' ? now() - p->phase_start : 0);
    double left = p->work_left + p->phase_work - p->phase_done;
    if (seconds <= 0 || done <= 0) {
        snprintf(text, size, "?");
        return;
    }
    long long guess = llround(left * seconds / done);
    if (guess >= 3600) {
        snprintf(text, size, "%lld:%02lld:%02lld", guess / 3600, guess / 60 % 60, guess % 60);
    } else {
        snprintf(text, size, "%lld:%02lld", guess / 60, guess % 60);
    }
}

static void show(progress *p, double value) {
    char left[32], tail[96], bar[24], figure[32] = "", line[512];
    double part = p->phase_work > 0 ? p->phase_done / p->phase_work : 0;
    progress_left(p, left, sizeof left);
    if (!isnan(value)) snprintf(figure, sizeof figure, "  %.3f", value);
    snprintf(tail, sizeof tail, " %3d %%%s, %s left", (int)(100 * part), figure, left);
    if (!p->terminal) {
        fprintf(stderr, "%d/%d %s:%s\n", p->number, p->total, p->phase, tail);
        return;
    }
    for (int32_t i = 0; i < 20; i++)
        bar[i] = i < (int32_t)(20 * part) ? '#' : '.';
    bar[20] = '\0';
    snprintf(line, sizeof line, "%d/%d %s [%s]%s", p->number, p->total, p->phase, bar, tail);
    if ((int32_t)strlen(line) >= columns()) {
        snprintf(line, sizeof line, "%d/%d %.*s%s", p->number, p->total,
                 columns() - 12 - (int)strlen(tail) > 0 ? columns() - 12 - (int)strlen(tail) : 0,
                 p->phase, tail);
    }
    fprintf(stderr, "\r\033[K%s", line);
    fflush(stderr);
}

void progress_begin(progress *p, int32_t number, int32_t total, const char *phase, double work) {
    p->number = number;
    p->total = total;
    p->phase_start = p->last_shown = now();
    p->phase_work = work;
    p->phase_done = 0;
    p->work_left = p->work_left > work ? p->work_left - work : 0;
    snprintf(p->phase, sizeof p->phase, "%s", phase);
    if (p->terminal) {
        show(p, NAN);
    } else {
        fprintf(stderr, "%d/%d %s\n", number, total, phase);
    }
}

void progress_end(progress *p) {
    p->seconds += now() - p->phase_start;
    p->work_done += p->phase_work;
    p->phase_work = p->phase_done = 0;
    p->phase[0] = '\0';
    if (p->terminal) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
}

int32_t progress_hook(void *user, const char *what, int64_t done, int64_t total, double value) {
    progress *p = user;
    (void)what;
    if (p->phase[0] == '\0' || total <= 0) return 0;
    p->phase_done = p->phase_work * (double)done / (double)total;
    double t = now();
    if (t - p->last_shown < (p->terminal ? bar_seconds : line_seconds)) return 0;
    p->last_shown = t;
    show(p, value);
    return 0;
}

void progress_say(progress *p, const char *format, ...) {
    va_list list;
    va_start(list, format);
    if (p->terminal) fputs("\r\033[K", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
}
