/* The library as a guest in a process: fork, the caller's floating-point state, errno, locale,
 * signals and descriptors, and being loaded and unloaded again and again. */
#include "pipeline.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#if defined(__SANITIZE_THREAD__)
enum { THREAD_SANITIZER = 1 };
#else
enum { THREAD_SANITIZER = 0 };
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static int32_t count_descriptors(void) {
    int32_t count = 0;
    DIR *open_files = opendir("/proc/self/fd");
    assert_non_null(open_files);
    while (readdir(open_files) != NULL)
        count++;
    closedir(open_files);
    return count;
}

static int32_t count_threads(void) {
    char line[256];
    int32_t count = -1;
    FILE *file = fopen("/proc/self/status", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL)
        (void)sscanf(line, "Threads: %d", &count);
    fclose(file);
    return count;
}

/* ---- fork ---- */

/* In the child: the old context refuses, a new one gives the same bits, the old handles can be
 * freed. The exit code says what went wrong. */
static void child(advrob_context *old, advrob_model *model, advrob_target *target) {
    static result got;
    static float logits[P_CLASSES];
    advrob_model *made = NULL;
    alarm(30);
    if (advrob_model_build(old, "tiny", NULL, &made) != ADVROB_E_FORKED) _exit(2);
    if (strstr(advrob_last_message(), "fork") == NULL) _exit(3);
    if (advrob_model_forward(model, 1, make_images()->x, logits) != ADVROB_E_FORKED) _exit(4);
    if (target != NULL &&
        advrob_target_forward(target, 1, make_images()->x, logits) != ADVROB_E_FORKED)
        _exit(5);
    advrob_context *ctx = new_context(2, "auto");
    char own[96];
    snprintf(own, sizeof own, "%s.child", path);
    run_pipeline(ctx, own, &got);
    remove(own);
    advrob_context_destroy(ctx);
    if (memcmp(&got, &wanted, sizeof got) != 0) _exit(6);
    advrob_context_destroy(old);
    advrob_target_destroy(target);
    advrob_model_destroy(model);
    _exit(0);
}

static void fork_once(advrob_context *ctx, advrob_model *model, advrob_target *target) {
    int status = 0;
    pid_t process = fork();
    assert_true(process >= 0);
    if (process == 0) child(ctx, model, target);
    assert_int_equal(waitpid(process, &status, 0), process);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("the child ended with status %d, signal %d",
                 WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                 WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

static void test_fork(void **state) {
    (void)state;
    static result got;
    if (THREAD_SANITIZER) skip(); /* it allows no threads in a forked child */
    for (int32_t threads = 1; threads <= 4; threads *= 2) {
        advrob_context *ctx = new_context(threads, "auto");
        advrob_model *model = NULL;
        advrob_target *target = NULL;
        OK(advrob_model_build(ctx, "tiny", NULL, &model));
        fork_once(ctx, model, NULL); /* before a job */
        run_pipeline(ctx, path, &got);
        OK(advrob_target_from_model(model, &target));
        fork_once(ctx, model, target);
        run_pipeline(ctx, path, &got); /* the parent does not notice */
        assert_memory_equal(&got, &wanted, sizeof got);
        advrob_target_destroy(target);
        advrob_model_destroy(model);
        advrob_context_destroy(ctx);
    }
}

typedef struct trainer {
    advrob_context *ctx;
    _Atomic int32_t stop;
    int64_t runs, wrong;
} trainer;

static void *train_on(void *arg) {
    trainer *t = arg;
    static result got;
    char own[96];
    snprintf(own, sizeof own, "%s.trainer", path);
    while (!t->stop) {
        run_pipeline(t->ctx, own, &got);
        t->wrong += memcmp(&got, &wanted, sizeof got) != 0;
        t->runs++;
    }
    remove(own);
    return NULL;
}

/* While another thread trains with the context's workers. */
static void test_fork_beside(void **state) {
    (void)state;
    pthread_t thread;
    trainer t = {0};
    advrob_model *model = NULL;
    if (SANITIZED) skip(); /* their allocators may be locked for ever in the child */
    t.ctx = new_context(3, "auto");
    OK(advrob_model_build(t.ctx, "tiny", NULL, &model));
    assert_int_equal(pthread_create(&thread, NULL, train_on, &t), 0);
    for (int32_t i = 0; i < 6; i++) {
        usleep(7000);
        fork_once(t.ctx, model, NULL);
    }
    t.stop = 1;
    pthread_join(thread, NULL);
    assert_true(t.runs > 0 && t.wrong == 0);
    advrob_model_destroy(model);
    advrob_context_destroy(t.ctx);
}

/* ---- Floating-point state ---- */

/* Rounding and flushing; not the flags of what happened. */
typedef struct fp_state {
    int rounding;
    unsigned control;
} fp_state;

static fp_state get_state(void) {
#if defined(__x86_64__)
    return (fp_state){fegetround(), _mm_getcsr() & ~0x3fu};
#else
    return (fp_state){fegetround(), 0};
#endif
}

/* Upwards, subnormals flushed: as bad as a program can have it. */
static fp_state set_strange_state(void) {
    fesetround(FE_UPWARD);
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040u);
#endif
    return get_state();
}

typedef struct fp_watch {
    fp_state wanted;
    int64_t calls, wrong;
    advrob_model *model; /* a hook may use the library */
} fp_watch;

static void check_state(fp_watch *w) {
    fp_state now = get_state();
    w->calls++;
    w->wrong += memcmp(&now, &w->wanted, sizeof now) != 0;
}

static int32_t fp_progress(void *user, const char *what, int64_t done, int64_t total,
                           double value) {
    (void)what;
    (void)done;
    (void)total;
    (void)value;
    check_state(user);
    return 0;
}

static void fp_parallel(void *user, int64_t count, int32_t threads, advrob_body_fn body,
                        void *arg) {
    (void)threads;
    for (int64_t i = 0; i < count; i++) {
        check_state(user);
        body(arg, i, 0);
    }
    check_state(user);
}

static int32_t fp_forward(void *user, int64_t n, const float *x, float *logits) {
    fp_watch *w = user;
    check_state(w);
    int32_t status = advrob_model_forward(w->model, n, x, logits);
    check_state(w);
    return status;
}

static int32_t fp_backward(void *user, int64_t n, const float *x, const float *dlogits, float *dx) {
    fp_watch *w = user;
    check_state(w);
    for (int64_t i = 0; i < n * P_PIXELS; i++)
        dx[i] = x[i] - 0.5f + 0 * dlogits[i / P_PIXELS * P_CLASSES];
    return 0;
}

/* An attack on a target whose callbacks use the library: its images. */
static void attack_callbacks(advrob_context *ctx, fp_watch *w, float *adversarial) {
    advrob_target *target = NULL;
    advrob_attack *attack = NULL;
    advrob_options *options = new_options();
    OK(advrob_options_set_i64(options, "steps", 4));
    OK(advrob_model_build(ctx, "tiny", NULL, &w->model));
    OK(advrob_target_from_callbacks(ctx, 1, P_SIDE, P_SIDE, P_CLASSES, 0, 1, fp_forward,
                                    fp_backward, w, &target));
    OK(advrob_attack_create(ctx, "pgd", options, &attack));
    OK(advrob_attack_run(attack, target, P_ATTACKED, make_images()->x, make_images()->y,
                         adversarial, NULL, NULL));
    advrob_options_destroy(options);
    advrob_attack_destroy(attack);
    advrob_target_destroy(target);
    advrob_model_destroy(w->model);
}

/* The caller's state changes no bit of the results, stands after every call and in every hook. */
static void test_fp_state(void **state) {
    (void)state;
    static result got;
    static float attacked[2][P_ATTACKED * P_PIXELS];
    fenv_t before;
    fegetenv(&before);
    for (int32_t strange = 0; strange < 2; strange++)
        for (int32_t own_loop = 0; own_loop < 2; own_loop++) {
            fp_watch progress = {get_state(), 0, 0, NULL};
            if (strange) progress.wanted = set_strange_state();
            fp_watch loop = progress, target = progress;
            advrob_context *ctx = new_context(2, "auto");
            OK(advrob_context_set_progress(ctx, fp_progress, &progress));
            if (own_loop) OK(advrob_context_set_parallel(ctx, fp_parallel, &loop));
            run_pipeline(ctx, path, &got);
            attack_callbacks(ctx, &target, attacked[strange]);
            advrob_context_destroy(ctx);
            fp_state after = get_state();
            fesetenv(&before);
            assert_memory_equal(&after, &progress.wanted, sizeof after);
            assert_memory_equal(&got, &wanted, sizeof got);
            assert_true(progress.calls > 20 && progress.wrong == 0);
            assert_true((loop.calls > 20) == (own_loop != 0) && loop.wrong == 0);
            assert_true(target.calls > 8 && target.wrong == 0);
        }
    assert_memory_equal(attacked[0], attacked[1], sizeof attacked[0]);
}

/* ---- The rest of the process ---- */

/* errno, locale, signal mask and handlers, umask, folder, descriptors, threads: as before. */
static void test_unchanged(void **state) {
    (void)state;
    static result got;
    char cwd[2][512];
    sigset_t blocked, masks[2];
    struct sigaction actions[2][32];
    assert_non_null(setlocale(LC_ALL, "C.UTF-8"));
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &blocked, NULL), 0);
    mode_t old = umask(027);
    int32_t descriptors = count_descriptors(), threads = count_threads();
    for (int32_t when = 0; when < 2; when++) {
        if (when == 1) {
            advrob_context *ctx = new_context(3, "auto");
            remove(path); /* a look for what is not there sets errno */
            errno = 4711;
            run_pipeline(ctx, path, &got);
            assert_int_equal(errno, 4711);
            advrob_context_destroy(ctx);
            assert_int_equal(errno, 4711);
        }
        assert_non_null(getcwd(cwd[when], sizeof cwd[when]));
        assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &masks[when]), 0);
        memset(actions[when], 0, sizeof actions[when]);
        for (int32_t i = 1; i < 32; i++)
            sigaction(i, NULL, &actions[when][i]);
    }
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640); /* the caller's umask decides */
    assert_int_equal(umask(old), 027);
    assert_string_equal(cwd[0], cwd[1]);
    assert_string_equal(setlocale(LC_ALL, NULL), "C.UTF-8");
    for (int32_t i = 1; i < 32; i++) {
        assert_int_equal(sigismember(&masks[0], i), sigismember(&masks[1], i));
        assert_true(actions[0][i].sa_handler == actions[1][i].sa_handler);
    }
    assert_int_equal(count_descriptors(), descriptors);
    for (int32_t i = 0; i < 200 && count_threads() != threads; i++)
        usleep(5000); /* the kernel lists a thread a moment longer than it is joined */
    assert_int_equal(count_threads(), threads);
    pthread_sigmask(SIG_UNBLOCK, &blocked, NULL);
    setlocale(LC_ALL, "C");
    assert_memory_equal(&got, &wanted, sizeof got);
}

/* Nothing is written to stdout and stderr, not even by calls that fail. */
static void test_silent(void **state) {
    (void)state;
    static result got;
    char noise[96];
    struct stat info;
    advrob_model *model = NULL;
    advrob_dataset *data = NULL;
    snprintf(noise, sizeof noise, "%s.noise", path);
    fflush(NULL);
    int file = open(noise, O_RDWR | O_CREAT | O_TRUNC, 0600), saved[2] = {dup(1), dup(2)};
    assert_true(file >= 0 && saved[0] >= 0 && saved[1] >= 0);
    dup2(file, 1);
    dup2(file, 2);
    advrob_context *ctx = new_context(2, "auto");
    run_pipeline(ctx, path, &got);
    int32_t codes[4] = {advrob_model_build(ctx, "tiny2", NULL, &model),
                        advrob_model_load(ctx, "/nowhere/net", NULL, &model),
                        advrob_dataset_open(ctx, "mnist", "/nowhere", NULL, &data),
                        advrob_context_create(NULL, NULL)};
    advrob_context_destroy(ctx);
    fflush(NULL);
    dup2(saved[0], 1);
    dup2(saved[1], 2);
    close(saved[0]);
    close(saved[1]);
    assert_int_equal(fstat(file, &info), 0);
    close(file);
    remove(noise);
    assert_int_equal(info.st_size, 0);
    assert_int_equal(codes[0], ADVROB_E_UNKNOWN);
    assert_int_equal(codes[1], ADVROB_E_IO);
    assert_int_equal(codes[2], ADVROB_E_IO);
    assert_int_equal(codes[3], ADVROB_E_INVALID);
    assert_memory_equal(&got, &wanted, sizeof got);
}

static _Atomic int32_t alarms; /* any thread may take the signal */

static void on_alarm(int number) {
    (void)number;
    alarms++;
}

/* A signal every millisecond that interrupts system calls. */
static void test_signals(void **state) {
    (void)state;
    static result got;
    struct sigaction action = {.sa_handler = on_alarm}, old; /* no SA_RESTART */
    struct itimerval each = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    assert_int_equal(sigaction(SIGALRM, &action, &old), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &each, NULL), 0);
    for (int32_t i = 0; i < 50 && (i < 4 || alarms < 40); i++) {
        advrob_context *ctx = new_context(3, "auto");
        run_pipeline(ctx, path, &got);
        advrob_context_destroy(ctx);
        if (memcmp(&got, &wanted, sizeof got) != 0) break;
    }
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &old, NULL);
    assert_memory_equal(&got, &wanted, sizeof got);
    assert_true(alarms >= 40);
}

/* ---- Loading and unloading ---- */

static void copy_file(const char *from, const char *to) {
    char buffer[65536];
    size_t n;
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_true(in != NULL && out != NULL);
    while ((n = fread(buffer, 1, sizeof buffer, in)) > 0)
        assert_int_equal(fwrite(buffer, 1, n, out), n);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

/* A function of the loaded copy; ISO C knows no conversion from an object pointer. */
static void *find_symbol(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (found == NULL) fail_msg("%s: %s", name, dlerror());
    return found;
}

#define LOAD(name) \
    union { \
        void *object; \
        __typeof__(&name) call; \
    } own_##name = {find_symbol(library, #name)}

/* A small training run in a copy of the library that nobody else uses. */
static void load_once(const char *copy, char digest[17]) {
    void *library = dlopen(copy, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) fail_msg("%s", dlerror());
    LOAD(advrob_options_create);
    LOAD(advrob_options_set_i64);
    LOAD(advrob_options_destroy);
    LOAD(advrob_context_create);
    LOAD(advrob_context_destroy);
    LOAD(advrob_dataset_from_memory);
    LOAD(advrob_dataset_destroy);
    LOAD(advrob_model_build);
    LOAD(advrob_model_digest);
    LOAD(advrob_model_destroy);
    LOAD(advrob_finetune_create);
    LOAD(advrob_finetune_run);
    LOAD(advrob_finetune_destroy);
    assert_true(own_advrob_model_build.call != advrob_model_build);
    advrob_options *options = NULL;
    advrob_context *ctx = NULL;
    advrob_dataset *data = NULL;
    advrob_model *model = NULL;
    advrob_finetune *finetune = NULL;
    const images *all = make_images();
    OK(own_advrob_options_create.call(&options));
    OK(own_advrob_options_set_i64.call(options, "threads", 3));
    OK(own_advrob_context_create.call(options, &ctx));
    own_advrob_options_destroy.call(options);
    OK(own_advrob_dataset_from_memory.call(ctx, ADVROB_F32, all->x, all->y, 64, 1, P_SIDE, P_SIDE,
                                           P_CLASSES, &data));
    OK(own_advrob_model_build.call(ctx, "tiny", NULL, &model));
    OK(own_advrob_finetune_create.call(ctx, "pgd_at", NULL, &finetune));
    OK(own_advrob_finetune_run.call(finetune, model, data, NULL, NULL));
    OK(own_advrob_model_digest.call(model, digest, 17));
    own_advrob_finetune_destroy.call(finetune);
    own_advrob_model_destroy.call(model);
    own_advrob_dataset_destroy.call(data);
    own_advrob_context_destroy.call(ctx);
    assert_int_equal(dlclose(library), 0);
    assert_null(dlopen(copy, RTLD_NOW | RTLD_NOLOAD)); /* it is really gone */
}

static int64_t resident_bytes(void) {
    long long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lld %lld", &total, &resident), 2);
    fclose(file);
    return resident * sysconf(_SC_PAGESIZE);
}

static void test_load(void **state) {
    (void)state;
    char copy[96], first[17], digest[17];
    Dl_info info;
    union {
        int32_t (*call)(void);
        void *object;
    } inside = {advrob_version};
    assert_true(dladdr(inside.object, &info) != 0 && info.dli_fname != NULL);
    snprintf(copy, sizeof copy, "%s/libcopy.so", folder);
    copy_file(info.dli_fname, copy);
    int32_t threads = count_threads();
    int64_t before = 0;
    for (int32_t i = 0; i < 60; i++) {
        load_once(copy, i == 0 ? first : digest);
        if (i > 0) assert_string_equal(digest, first);
        if (i == 9) before = resident_bytes(); /* the first ones warm up the C library */
    }
    int64_t grown = resident_bytes() - before;
    print_message("50 cycles: %lld bytes more\n", (long long)grown);
    if (!SANITIZED) assert_true(grown < 2000000);
    for (int32_t i = 0; i < 200 && count_threads() != threads; i++)
        usleep(5000);
    assert_int_equal(count_threads(), threads);
    remove(copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fork),     cmocka_unit_test(test_fork_beside),
        cmocka_unit_test(test_fp_state), cmocka_unit_test(test_unchanged),
        cmocka_unit_test(test_silent),   cmocka_unit_test(test_signals),
        cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
