/* A disk that can be asked what was written to it, and that can fail. To be preloaded (LD_PRELOAD).
 *
 * It stands between a process and the files below one folder: it records, in order, everything that
 * changes them or makes a change durable, and it can let the calls fail or the process die at a
 * chosen one. LMDB's lock files are left alone: nothing in them is meant to last.
 *
 *     DISK_ROOT    the folder, absolute
 *     DISK_RECORD  the file to which the record is appended; several processes may, in turn
 *     DISK_KILL    N: die right before the N-th call that changes something or flushes (from 0)
 *     DISK_FAULT   CLASS:N:KIND; from the N-th call (from 0) of CLASS on, `write`, `flush` or `name`
 *                  (open of a new file, rename, unlink, mkdir):
 *                    eio, enospc              that call fails
 *                    short                    half of that write is done
 *                    eio-ever, enospc-ever    it and all writes and names after it fail, and with
 *                                             eio-ever all flushes
 *     DISK_OMIT    `directory`: a flush of a directory does nothing, as if the program had none
 *
 * disk_watch() names the word in memory that says how much was told as durable: an entry is made, in
 * its place among the others, whenever it has moved.
 *
 * An entry of the record is a struct entry, then two paths, then the bytes of a write. A write
 * through a descriptor opened with O_DSYNC is a write and then a flush of its range. A flush that
 * fails is recorded as such: the kernel may have marked the pages clean, so that no later flush
 * writes them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum op { OPEN = 1, CLOSE, WRITE, TRUNCATE, FLUSH, FLUSH_RANGE, FLUSH_FAILED, RENAME, UNLINK, MKDIR, RMDIR, TOLD, UNSUPPORTED };
enum flag { CREATED = 1, DIRECTORY = 2, TRUNCATED = 4 };
enum class { WRITES, FLUSHES, NAMES, CLASSES };
enum watch { WATCHED = 1, SYNCHRONOUS = 2, IS_DIRECTORY = 4 };

struct entry {
    uint32_t op, pid, fd, flags;
    uint64_t offset, length; /* a range; length 0 of a flush that failed: the whole file */
    uint32_t path_bytes, path2_bytes;
};
_Static_assert(sizeof(struct entry) == 40, "read by power_cut.py");

#define MAX_FDS 4096
static unsigned char watched[MAX_FDS];
static char root[PATH_MAX];
static size_t root_bytes;
static int record_fd = -1, omit_directory, fault_ever;
static long kill_at = -1, changes, fault_at = -1, calls[CLASSES];
static enum class fault_class;
static int fault_errno, fault_short;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void die(const char *text) {
    dprintf(2, "disk.c: %s: %s\n", text, strerror(errno));
    _exit(70);
}

void disk_start(void);
/* To be called in a process that was forked, with its own environment. */
__attribute__((constructor)) void disk_start(void) {
    const char *folder = getenv("DISK_ROOT"), *record = getenv("DISK_RECORD"), *text;
    if (!folder || !record)
        return;
    snprintf(root, sizeof root, "%s", folder);
    root_bytes = strlen(root);
    record_fd = (int)syscall(SYS_openat, AT_FDCWD, record, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (record_fd < 0)
        die("cannot open the record");
    if ((text = getenv("DISK_KILL")))
        kill_at = atol(text);
    if ((text = getenv("DISK_OMIT")))
        omit_directory = !strcmp(text, "directory");
    if ((text = getenv("DISK_FAULT"))) {
        char class[16], kind[16];
        if (sscanf(text, "%15[a-z]:%ld:%15[a-z-]", class, &fault_at, kind) != 3)
            die("DISK_FAULT is not CLASS:N:KIND");
        fault_class = !strcmp(class, "write") ? WRITES : !strcmp(class, "flush") ? FLUSHES : NAMES;
        fault_short = !strcmp(kind, "short");
        fault_errno = strncmp(kind, "enospc", 6) ? EIO : ENOSPC;
        fault_ever = strstr(kind, "-ever") != NULL;
    }
}

static int of_interest(const char *path) {
    size_t bytes = strlen(path);
    return record_fd >= 0 && !strncmp(path, root, root_bytes) && (path[root_bytes] == '/' || !path[root_bytes])
        && !(bytes > 5 && !strcmp(path + bytes - 5, "-lock"));
}

static int watch_of(int fd) {
    return record_fd >= 0 && fd >= 0 && fd < MAX_FDS ? watched[fd] : 0;
}

static void put_entry(enum op op, int fd, unsigned flags, uint64_t offset, uint64_t length, const char *path,
                const char *path2, const struct iovec *data, int count) {
    struct entry e = {op, (uint32_t)getpid(), (uint32_t)fd, flags, offset, length,
                      path ? (uint32_t)strlen(path) : 0, path2 ? (uint32_t)strlen(path2) : 0};
    struct iovec parts[3 + 64];
    uint64_t left = op == WRITE ? length : 0, bytes = sizeof e + e.path_bytes + e.path2_bytes + left;
    int n = 0;
    parts[n++] = (struct iovec){&e, sizeof e};
    parts[n++] = (struct iovec){(void *)path, e.path_bytes};
    parts[n++] = (struct iovec){(void *)path2, e.path2_bytes};
    for (int i = 0; i < count && left; i++) {
        if (n == 3 + 64)
            die("a write of too many parts");
        size_t take = data[i].iov_len < left ? data[i].iov_len : left;
        parts[n++] = (struct iovec){data[i].iov_base, take};
        left -= take;
    }
    if (syscall(SYS_writev, record_fd, parts, n) != (long)bytes)
        die("cannot write the record");
}

/* A position of a ring that the program moves when it tells something as durable; looked at before each entry. */
static const uint64_t *told;
static uint64_t told_before;

static void put_told(void) {
    uint64_t now = told ? __atomic_load_n(told, __ATOMIC_ACQUIRE) : 0;
    if (now != told_before)
        put_entry(TOLD, -1, 0, now, 0, NULL, NULL, NULL, 0);
    told_before = now;
}

static void put(enum op op, int fd, unsigned flags, uint64_t offset, uint64_t length, const char *path,
                const char *path2, const struct iovec *data, int count) {
    put_told();
    put_entry(op, fd, flags, offset, length, path, path2, data, count);
}

/* Counts a call of a class; what is to become of it: 0, or the error that it gets. A short write is -1. */
static int fate(enum class class) {
    if (kill_at >= 0 && changes == kill_at) {
        put_told();
        _exit(137);
    }
    changes++;
    long index = calls[class]++;
    if (fault_at < 0)
        return 0;
    if (class == fault_class && index == fault_at)
        return fault_short ? -1 : fault_errno;
    if (fault_ever && calls[fault_class] > fault_at && !(class == FLUSHES && fault_errno == ENOSPC))
        return fault_errno;
    return 0;
}

static int failed(int error) {
    errno = error;
    return -1;
}

/* ---- what was told as durable */

void disk_watch(const uint64_t *position);
void disk_watch(const uint64_t *position) {
    told = position;
}

void disk_end(void);
__attribute__((destructor)) void disk_end(void) {
    if (record_fd >= 0)
        put_told();
}

/* ---- open and close */

static int open_watched(const char *path, int flags, mode_t mode) {
    struct stat there;
    int created = 0;
    pthread_mutex_lock(&lock);
    if (flags & O_CREAT && stat(path, &there) != 0) {
        int error = fate(NAMES);
        if (error > 0) {
            pthread_mutex_unlock(&lock);
            return failed(error);
        }
        created = 1;
    }
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0) {
        int directory = !fstat(fd, &there) && S_ISDIR(there.st_mode);
        if (fd >= MAX_FDS)
            die("a descriptor too large");
        watched[fd] = WATCHED | ((flags & O_DSYNC) ? SYNCHRONOUS : 0) | (directory ? IS_DIRECTORY : 0);
        put(OPEN, fd, (created ? CREATED : 0) | (directory ? DIRECTORY : 0) | ((flags & O_TRUNC) ? TRUNCATED : 0),
            0, 0, path, NULL, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN_LIKE(name)                                                                                                 \
    int name(const char *path, int flags, ...) {                                                                       \
        mode_t mode = 0;                                                                                               \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                                                         \
            va_list list;                                                                                              \
            va_start(list, flags);                                                                                     \
            mode = va_arg(list, mode_t);                                                                               \
            va_end(list);                                                                                              \
        }                                                                                                              \
        return of_interest(path) ? open_watched(path, flags, mode)                                                     \
                                 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);                              \
    }
OPEN_LIKE(open)
OPEN_LIKE(open64)

int close(int fd) {
    if (watch_of(fd)) {
        watched[fd] = 0;
        put(CLOSE, fd, 0, 0, 0, NULL, NULL, NULL, 0);
    }
    return (int)syscall(SYS_close, fd);
}

/* ---- writes */

static ssize_t write_watched(int fd, const struct iovec *data, int count, off_t at, int moves) {
    size_t wanted = 0;
    for (int i = 0; i < count; i++)
        wanted += data[i].iov_len;
    pthread_mutex_lock(&lock);
    ssize_t done;
    int error = fate(WRITES);
    if (error > 0) {
        done = failed(error);
        goto out;
    }
    off_t offset = moves ? (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR) : at;
    if (error < 0) { /* of several parts, half of the first */
        struct iovec half = {data[0].iov_base, data[0].iov_len / 2};
        done = syscall(SYS_pwrite64, fd, half.iov_base, half.iov_len, offset);
        if (moves && done > 0)
            syscall(SYS_lseek, fd, offset + done, SEEK_SET);
    } else if (moves)
        done = syscall(SYS_writev, fd, data, count);
    else
        done = syscall(SYS_pwritev, fd, data, count, offset, 0L);
    if (done <= 0)
        goto out;
    put(WRITE, fd, 0, (uint64_t)offset, (uint64_t)done, NULL, NULL, data, count);
    if (watched[fd] & SYNCHRONOUS) {
        error = fate(FLUSHES);
        put(error > 0 ? FLUSH_FAILED : FLUSH_RANGE, fd, 0, (uint64_t)offset, (uint64_t)done, NULL, NULL, NULL, 0);
        if (error > 0)
            done = failed(error);
    }
out:
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *data, size_t bytes) {
    struct iovec one = {(void *)data, bytes};
    return watch_of(fd) ? write_watched(fd, &one, 1, 0, 1) : syscall(SYS_write, fd, data, bytes);
}

ssize_t writev(int fd, const struct iovec *data, int count) {
    return watch_of(fd) ? write_watched(fd, data, count, 0, 1) : syscall(SYS_writev, fd, data, count);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) {
    struct iovec one = {(void *)data, bytes};
    return watch_of(fd) ? write_watched(fd, &one, 1, at, 0) : syscall(SYS_pwrite64, fd, data, bytes, at);
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t at) {
    return pwrite(fd, data, bytes, at);
}

ssize_t pwritev(int fd, const struct iovec *data, int count, off_t at) {
    return watch_of(fd) ? write_watched(fd, data, count, at, 0) : syscall(SYS_pwritev, fd, data, count, at, 0L);
}

ssize_t pwritev64(int fd, const struct iovec *data, int count, off64_t at) {
    return pwritev(fd, data, count, at);
}

int ftruncate(int fd, off_t size) {
    if (!watch_of(fd))
        return (int)syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&lock);
    int error = fate(WRITES), done = error > 0 ? failed(error) : (int)syscall(SYS_ftruncate, fd, size);
    if (done == 0)
        put(TRUNCATE, fd, 0, (uint64_t)size, 0, NULL, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate64(int fd, off64_t size) {
    return ftruncate(fd, size);
}

/* ---- flushes */

static int flush_watched(int fd, long call) {
    if (omit_directory && watched[fd] & IS_DIRECTORY)
        return 0;
    pthread_mutex_lock(&lock);
    int error = fate(FLUSHES);
    int done = error > 0 ? failed(error) : (int)syscall(call, fd);
    put(done == 0 ? FLUSH : FLUSH_FAILED, fd, 0, 0, 0, NULL, NULL, NULL, 0);
    if (error > 0)
        errno = error;
    pthread_mutex_unlock(&lock);
    return done;
}

int fsync(int fd) {
    return watch_of(fd) ? flush_watched(fd, SYS_fsync) : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    return watch_of(fd) ? flush_watched(fd, SYS_fdatasync) : (int)syscall(SYS_fdatasync, fd);
}

/* sync_file_range() promises nothing: it flushes neither the disk's cache nor a file's size. So it is passed on, and is
 * no flush. Memory that is mapped for writing cannot be followed: whoever reads the record refuses it. */

static void check_map(int protection, int flags, int fd) {
    if (watch_of(fd) && (flags & MAP_SHARED) && (protection & PROT_WRITE))
        put(UNSUPPORTED, fd, 0, 0, 0, "a file is mapped for writing", NULL, NULL, 0);
}

void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset) {
    check_map(protection, flags, fd);
    return (void *)syscall(SYS_mmap, address, bytes, protection, flags, fd, offset);
}

void *mmap64(void *address, size_t bytes, int protection, int flags, int fd, off64_t offset) {
    return mmap(address, bytes, protection, flags, fd, offset);
}

int fallocate(int fd, int mode, off_t offset, off_t bytes) {
    if (watch_of(fd))
        put(UNSUPPORTED, fd, 0, 0, 0, "fallocate", NULL, NULL, 0);
    return (int)syscall(SYS_fallocate, fd, mode, offset, bytes);
}

int link(const char *from, const char *to) {
    if (of_interest(to))
        put(UNSUPPORTED, -1, 0, 0, 0, "link", NULL, NULL, 0);
    return (int)syscall(SYS_link, from, to);
}

/* ---- names */

static int name_change(enum op op, const char *path, const char *path2, long call, mode_t mode) {
    pthread_mutex_lock(&lock);
    int error = fate(NAMES), done;
    if (error > 0)
        done = failed(error);
    else if (op == RENAME)
        done = (int)syscall(call, path, path2);
    else
        done = (int)syscall(call, path, mode);
    if (done == 0)
        put(op, -1, 0, 0, 0, path, path2, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int rename(const char *from, const char *to) {
    return of_interest(from) || of_interest(to) ? name_change(RENAME, from, to, SYS_rename, 0)
                                                : (int)syscall(SYS_rename, from, to);
}

int unlink(const char *path) {
    /* One that is not there changes nothing. */
    return of_interest(path) && !access(path, F_OK) ? name_change(UNLINK, path, NULL, SYS_unlink, 0)
                                                    : (int)syscall(SYS_unlink, path);
}

static int has_parent(const char *path) {
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", path);
    *strrchr(parent, '/') = 0;
    return !access(parent, F_OK);
}

int mkdir(const char *path, mode_t mode) {
    /* Neither does one that cannot be. */
    return of_interest(path) && access(path, F_OK) && has_parent(path) ? name_change(MKDIR, path, NULL, SYS_mkdir, mode)
                                                   : (int)syscall(SYS_mkdir, path, mode);
}

int rmdir(const char *path) {
    return of_interest(path) ? name_change(RMDIR, path, NULL, SYS_rmdir, 0) : (int)syscall(SYS_rmdir, path);
}

#define NOT_FOLLOWED(name, path)                                                                                       \
    if (of_interest(path))                                                                                             \
        put(UNSUPPORTED, -1, 0, 0, 0, name, NULL, NULL, 0)

int renameat(int from_fd, const char *from, int to_fd, const char *to) {
    if (from_fd == AT_FDCWD && to_fd == AT_FDCWD)
        return rename(from, to);
    NOT_FOLLOWED("renameat", to);
    return (int)syscall(SYS_renameat, from_fd, from, to_fd, to);
}

int unlinkat(int fd, const char *path, int flags) {
    NOT_FOLLOWED("unlinkat", path);
    return (int)syscall(SYS_unlinkat, fd, path, flags);
}

int truncate(const char *path, off_t size) {
    NOT_FOLLOWED("truncate", path);
    return (int)syscall(SYS_truncate, path, size);
}
