/* System calls that libc has no wrapper for, and what several op files share. */
#pragma once
#include "launcher.h"

#include <errno.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif

static inline int sys_result(long result)
{
    return result < 0 ? -errno : (int)result;
}

static inline int sys_openat2(int at, const char *path, struct open_how *how)
{
    long fd;
    /* EAGAIN: a rename somewhere on the system raced with a `..` in the path (openat2(2)). */
    for (int i = 0; i < 64; i++) {
        fd = syscall(SYS_openat2, at, path, how, sizeof *how);
        if (fd >= 0 || errno != EAGAIN)
            break;
    }
    return sys_result(fd);
}

static inline void sleep_ms(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

static inline void kill_process(pid_t pid)
{
    kill(pid, SIGKILL);
}

/* ops_file.c */
int open_beneath(int root, const char *path, int flags, mode_t mode);
int open_parent(struct side *side, int at_slot, const char *path, char *name, size_t room);
int put_file(int parent, const char *name, const char *data, size_t length, mode_t mode);

/* record.c: the exit record */
int record_keep(const char *name, const char *text, size_t length);
int record_write(const struct side *side, int parent, const char *name);
