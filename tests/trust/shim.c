/* Counts what a process does to the files below one folder, fails the Nth of it, or notes all of it in a trace.

   Loaded by LD_PRELOAD, and idle until tests/trust/shim.py arms it. Every name of the C library that gfield's and
   torch's writing comes through is here; that none is missing shows when a trace, played again, gives the same files. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* The same numbers as in tests/trust/shim.py. */
enum { CREATE, WRITE, TRUNCATE, SYNC, RENAME, LINK, UNLINK, MKDIR, RMDIR, MARK };
enum { NOTHING = 0, KILL = -1, SHORT = -2 }; /* other faults are numbers of errno */

struct record {
    int32_t kind;
    int32_t path_bytes, other_bytes, data_bytes;
    int64_t inode, offset;
};

static char root[PATH_MAX];
static size_t root_length;
static int kinds, fault, lasting, trace = -1;
static long wanted;
static atomic_long seen;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* From now on: count operations of some kinds (a bit each) below a folder, and let the `nth` (from 0), or all from it
   on, come to harm; with a descriptor to trace to, note every operation there that went well. */
void shim_arm(const char *folder, int which, long nth, int harm, int all_later, int trace_to) {
    root_length = strlen(folder);
    memcpy(root, folder, root_length + 1);
    kinds = which, wanted = nth, fault = harm, lasting = all_later, trace = trace_to;
    atomic_store(&seen, 0);
}

/* How many operations there were. */
long shim_seen(void) { return atomic_load(&seen); }

static int below(const char *path) {
    return !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

/* The absolute path of a name that is relative to a folder; whether it lies below the root. */
static int is_ours(int folder, const char *name, char *path) {
    if (!root_length) return 0;
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return below(path);
    }
    char link[64];
    snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    snprintf(path + length, PATH_MAX - length, "/%s", name);
    return below(path);
}

static int is_our_file(int file) {
    char link[64], path[PATH_MAX];
    if (!root_length) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

/* What is to happen to an operation: NOTHING, KILL, SHORT or a number of errno. */
static int harm(int kind) {
    if (!(kinds >> kind & 1)) return NOTHING;
    long number = atomic_fetch_add(&seen, 1);
    return number == wanted || (lasting && number > wanted) ? fault : NOTHING;
}

static _Noreturn void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Ends the process when no other thread has done something that it has not noted yet. */
static _Noreturn void die_in_order(void) {
    pthread_mutex_lock(&order);
    die();
}

/* For all but writes, of which a half may come to pass. */
static int refused(int kind) {
    int what = harm(kind);
    if (what == KILL) die_in_order();
    if (what > 0) errno = what;
    return what > 0;
}

static void note(int kind, int64_t inode, const char *path, const char *other, int64_t offset, const void *data,
                 size_t size) {
    int before = errno;
    struct record record = {kind, path ? strlen(path) : 0, other ? strlen(other) : 0, size, inode, offset};
    struct iovec parts[4] = {
        {&record, sizeof record}, {(void *)path, record.path_bytes}, {(void *)other, record.other_bytes},
        {(void *)data, size}};
    size_t all = sizeof record + record.path_bytes + record.other_bytes + size;
    if (syscall(SYS_writev, trace, parts, 4) != (ssize_t)all) die(); /* a trace with a hole tells lies */
    errno = before;
}

/* A point in the trace that the caller wants to find again. */
void shim_mark(long number) {
    pthread_mutex_lock(&order);
    note(MARK, number, NULL, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&order);
}

static int64_t inode_of(int file) {
    struct stat status;
    return fstat(file, &status) ? -1 : (int64_t)status.st_ino;
}

static int64_t inode_at(const char *path) {
    struct stat status;
    return lstat(path, &status) ? -1 : (int64_t)status.st_ino;
}

/* Does an operation and notes it; others of a traced process wait, so that the trace has the order of what happened. */
#define TRACED(result, call, noted) \
    do { \
        int tracing = trace >= 0; \
        if (tracing) pthread_mutex_lock(&order); \
        (result) = (call); \
        if (tracing && (result) >= 0) { noted; } \
        if (tracing) pthread_mutex_unlock(&order); \
    } while (0)

static int opened(int folder, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    REAL(openat);
    int writes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
    if (!writes || (flags & O_TMPFILE) == O_TMPFILE || !is_ours(folder, name, path))
        return real(folder, name, flags, mode);
    if (refused(CREATE)) return -1;
    int file, new = 1;
    TRACED(file, (new = inode_at(path) < 0, real(folder, name, flags, mode)),
           if (new) note(CREATE, inode_of(file), path, NULL, 0, NULL, 0);
           else if (flags & O_TRUNC) note(TRUNCATE, inode_of(file), NULL, NULL, 0, NULL, 0));
    return file;
}

#define MODE(last) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list arguments; \
        va_start(arguments, last); \
        mode = va_arg(arguments, mode_t); \
        va_end(arguments); \
    }

int open(const char *name, int flags, ...) { MODE(flags) return opened(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags) return opened(AT_FDCWD, name, flags, mode); }
int openat(int folder, const char *name, int flags, ...) { MODE(flags) return opened(folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { MODE(flags) return opened(folder, name, flags, mode); }
int creat(const char *name, mode_t mode) { return opened(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *name, mode_t mode) { return opened(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* `offset` is -1 for where the file stands. */
static ssize_t written(int file, const void *data, size_t size, off_t offset) {
    REAL(pwrite);
    static ssize_t (*plain)(int, const void *, size_t);
    if (!plain) plain = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
#define WRITTEN(count) (offset < 0 ? plain(file, data, count) : real(file, data, count, offset))
    if (!root_length || !is_our_file(file)) return WRITTEN(size);
    int what = harm(WRITE);
    if (what == KILL) {
        if (size > 1) (void)!WRITTEN(size / 2);
        die_in_order();
    }
    if (what == SHORT && size > 1) size /= 2;
    if (what > 0) {
        errno = what;
        return -1;
    }
    ssize_t count;
    off_t at = offset;
    TRACED(count,
           (at = offset >= 0 ? offset : lseek(file, 0, fcntl(file, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR),
            WRITTEN(size)),
           note(WRITE, inode_of(file), NULL, NULL, at, data, count));
    return count;
}

ssize_t write(int file, const void *data, size_t size) { return written(file, data, size, -1); }
ssize_t pwrite(int file, const void *data, size_t size, off_t offset) { return written(file, data, size, offset); }
ssize_t pwrite64(int file, const void *data, size_t size, off_t offset) { return written(file, data, size, offset); }

/* Part by part, which is what writev may do. */
ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(writev);
    if (!root_length || !is_our_file(file)) return real(file, parts, count);
    ssize_t all = 0;
    for (int i = 0; i < count; i++) {
        ssize_t one = written(file, parts[i].iov_base, parts[i].iov_len, -1);
        if (one < 0) return all ? all : -1;
        all += one;
        if ((size_t)one < parts[i].iov_len) break;
    }
    return all;
}

static int cut(int file, off_t size) {
    REAL(ftruncate);
    if (!is_our_file(file)) return real(file, size);
    if (refused(TRUNCATE)) return -1;
    int result;
    TRACED(result, real(file, size), note(TRUNCATE, inode_of(file), NULL, NULL, size, NULL, 0));
    return result;
}

int ftruncate(int file, off_t size) { return cut(file, size); }
int ftruncate64(int file, off_t size) { return cut(file, size); }

static int synced(int file, int (*real)(int)) {
    if (!is_our_file(file)) return real(file);
    if (refused(SYNC)) return -1;
    int result;
    TRACED(result, real(file), note(SYNC, inode_of(file), NULL, NULL, 0, NULL, 0));
    return result;
}

int fsync(int file) { REAL(fsync); return synced(file, real); }
int fdatasync(int file) { REAL(fdatasync); return synced(file, real); }

int renameat(int from, const char *old, int to, const char *new) {
    char path[PATH_MAX], other[PATH_MAX];
    REAL(renameat);
    int ours = is_ours(from, old, path);
    if (!(is_ours(to, new, other) || ours)) return real(from, old, to, new);
    if (refused(RENAME)) return -1;
    int result;
    TRACED(result, real(from, old, to, new), note(RENAME, 0, path, other, 0, NULL, 0));
    return result;
}

int rename(const char *old, const char *new) { return renameat(AT_FDCWD, old, AT_FDCWD, new); }

int linkat(int from, const char *old, int to, const char *new, int flags) {
    char path[PATH_MAX], other[PATH_MAX];
    REAL(linkat);
    is_ours(from, old, path);
    if (!is_ours(to, new, other)) return real(from, old, to, new, flags);
    if (refused(LINK)) return -1;
    int result;
    TRACED(result, real(from, old, to, new, flags), note(LINK, 0, path, other, 0, NULL, 0));
    return result;
}

int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

int unlinkat(int folder, const char *name, int flags) {
    char path[PATH_MAX];
    REAL(unlinkat);
    int kind = flags & AT_REMOVEDIR ? RMDIR : UNLINK;
    if (!is_ours(folder, name, path)) return real(folder, name, flags);
    if (refused(kind)) return -1;
    int result;
    TRACED(result, real(folder, name, flags), note(kind, 0, path, NULL, 0, NULL, 0));
    return result;
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int folder, const char *name, mode_t mode) {
    char path[PATH_MAX];
    REAL(mkdirat);
    if (!is_ours(folder, name, path)) return real(folder, name, mode);
    if (refused(MKDIR)) return -1;
    int result;
    TRACED(result, real(folder, name, mode), note(MKDIR, inode_at(path), path, NULL, 0, NULL, 0));
    return result;
}

int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }
