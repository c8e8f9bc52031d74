/* Gives a Redis a disk that fails: what is written to the append-only file stays in the process until it is synced, so that
   a kill loses the rest as a power failure does; or it is refused as on a full disk; or each sync takes longer. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* In a file that the test writes while this process runs. */
struct disk {
    int64_t hold;    /* whether writes are held back until a sync */
    int64_t full;    /* whether writes are refused */
    int64_t sync_ms; /* how much longer a sync takes */
};

static volatile struct disk *disk;

static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_close)(int);

enum { FILES = 4096 };

static struct file {
    volatile int is_log;
    char *held;
    size_t length;
} files[FILES];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
    real_write = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    real_close = (int (*)(int))dlsym(RTLD_NEXT, "close");
    const char *path = getenv("TEST_DISK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof *disk, PROT_READ, MAP_SHARED, file, 0);
    real_close(file);
    if (page != MAP_FAILED) disk = page;
}

/* Whether this is the append-only file. That is asked each time for all others: the C library closes its own files in ways that
   are not seen here, and their numbers are used again. */
static int is_log(int fd) {
    if (!disk || fd < 0 || fd >= FILES) return 0;
    if (!files[fd].is_log) {
        char link[32] = "/proc/self/fd/", name[4096];
        char digits[12];
        int n = 0, rest = fd;
        do digits[n++] = '0' + rest % 10; while (rest /= 10);
        size_t at = strlen(link);
        while (n) link[at++] = digits[--n];
        link[at] = 0;
        ssize_t length = readlink(link, name, sizeof name - 1);
        name[length > 0 ? length : 0] = 0;
        files[fd].is_log = strstr(name, ".incr.aof") != NULL;
    }
    return files[fd].is_log;
}

/* With the lock held. */
static void flush(int fd) {
    struct file *file = &files[fd];
    for (size_t done = 0; done < file->length;) {
        ssize_t n = real_write(fd, file->held + done, file->length - done);
        if (n <= 0) break;
        done += n;
    }
    free(file->held);
    file->held = NULL;
    file->length = 0;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    if (!real_write) begin();
    if (!is_log(fd)) return real_write(fd, bytes, length);
    if (disk->full) {
        errno = ENOSPC;
        return -1;
    }
    pthread_mutex_lock(&lock);
    struct file *file = &files[fd];
    char *held = disk->hold ? realloc(file->held, file->length + length) : NULL;
    ssize_t written = length;
    if (held) {
        memcpy(held + file->length, bytes, length);
        file->held = held;
        file->length += length;
    } else {
        flush(fd);
        written = real_write(fd, bytes, length);
    }
    pthread_mutex_unlock(&lock);
    return written;
}

static int sync_file(int fd, int (*real)(int)) {
    if (!is_log(fd)) return real(fd);
    int64_t ms = disk->sync_ms;
    if (ms > 0) {
        struct timespec wait = {ms / 1000, ms % 1000 * 1000000};
        nanosleep(&wait, NULL);
    }
    pthread_mutex_lock(&lock);
    flush(fd);
    pthread_mutex_unlock(&lock);
    return real(fd);
}

int fsync(int fd) {
    if (!real_fsync) begin();
    return sync_file(fd, real_fsync);
}

int fdatasync(int fd) {
    if (!real_fdatasync) begin();
    return sync_file(fd, real_fdatasync);
}

int close(int fd) {
    if (!real_close) begin();
    if (fd >= 0 && fd < FILES) {
        pthread_mutex_lock(&lock);
        if (files[fd].length) flush(fd);
        files[fd].is_log = 0;
        pthread_mutex_unlock(&lock);
    }
    return real_close(fd);
}
