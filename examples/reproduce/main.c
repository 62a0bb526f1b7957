/* Reproduces "Adversarial Fine-tuning of Compressed Neural Networks for Joint Improvement of
 * Robustness and Efficiency" (arXiv 2403.09441): reproduce --help tells how. */
#include "reproduce.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* Ctrl-C asks the library to stop; what is at work is dropped, what is finished is on disk. */
static advrob_context *volatile running;
static volatile sig_atomic_t stopped;
static struct timespec stopped_at;

/* A second signal kills; but not one that comes with the first, as when a whole group of processes
 * gets it beside this one. */
static void stop(int number) {
    static const char text[] = "\nreproduce: stopping; once more to kill\n";
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    if (stopped != 0) {
        if (t.tv_sec - stopped_at.tv_sec < 2) return;
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    stopped_at = t;
    stopped = number;
    if (running != NULL) advrob_context_cancel(running);
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) return;
}

static void watch_signals(void) {
    struct sigaction action = {.sa_handler = stop, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static int32_t list(const settings *s) {
    point_list plan = {NULL, 0};
    char text[160];
    int32_t status = list_points(s, &plan);
    for (int32_t i = 0; status == 0 && i < plan.count; i++) {
        describe_point(&plan.points[i], s->repeats > 1, text, sizeof text);
        printf("%d/%d %s\n", i + 1, plan.count, text);
    }
    free_points(&plan);
    return status;
}

static int32_t finished(const job *j) {
    int32_t n = 0;
    for (int32_t i = 0; i < j->plan.count; i++)
        n += find_row(j->results, &j->plan.points[i]) >= 0;
    return n;
}

static int32_t run_all(job *j) {
    int32_t status = 0, before = finished(j);
    if (before > 0) {
        progress_say(&j->progress, "%d of %d points are finished already in %s", before,
                     j->plan.count, j->settings->out);
    }
    TRY(estimate(j));
    for (int32_t i = 0; i < j->plan.count; i++) {
        if (find_row(j->results, &j->plan.points[i]) >= 0) continue;
        if (stopped) return ADVROB_E_CANCELLED;
        TRY(run_point(j, i));
    }
    TRY(write_results(j)); /* also where nothing was left to do: results.json may be missing */
    TRY(run_curves(j));
    TRY(run_transfer(j));
    TRY(write_page(j));
out:
    return status;
}

/* Says how the run ended; the exit status. */
static int finish(job *j, int32_t status) {
    const char *out = j->settings->out;
    if (j->progress.terminal && j->progress.phase[0] != '\0') fputc('\n', stderr);
    if (status == ADVROB_E_CANCELLED || (stopped && status < 0)) {
        if (!j->opened) {
            complain(FAILED, "stopped; nothing in %s was changed", out);
        } else {
            complain(FAILED,
                     "stopped; %d of %d points are finished and kept in %s, the same command "
                     "goes on",
                     finished(j), j->plan.count, out);
        }
        return 128 + stopped;
    }
    if (status < 0 && j->progress.phase[0] != '\0') {
        return complain(FAILED, "%s: %s", j->progress.phase, advrob_last_message());
    }
    if (status < 0) return complain(FAILED, "%s", advrob_last_message());
    if (status > 0) return status;
    status = print_table(j);
    if (status > 0) return status;
    print_findings(j);
    printf("Results: %s/results.csv, %s/results.json; nets: %s/models\n", out, out, out);
    printf("Page: %s/report.html\n", out);
    if (fflush(stdout) != 0) return complain(FAILED, "cannot write to the standard output");
    return 0;
}

int main(int argc, char **argv) {
    settings s;
    int32_t status = parse_arguments(&s, argc, argv);
    if (status == 0 && s.help) {
        print_help();
    } else if (status == 0 && s.list) {
        status = list(&s);
    } else if (status == 0) {
        job j;
        watch_signals();
        status = job_create(&j, &s);
        running = j.ctx;
        if (status == 0 && stopped) status = ADVROB_E_CANCELLED;
        if (status == 0) status = job_open(&j);
        if (status == 0) status = run_all(&j);
        status = finish(&j, status);
        running = NULL;
        job_close(&j);
    }
    free_settings(&s);
    return (int)status;
}
