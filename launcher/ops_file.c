/* Ops on descriptors and files. */
#include "launcher.h"
#include "kernel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { WANT_READ = 1, WANT_WRITE = 2, WANT_CREATE = 4, WANT_PATH = 8, WANT_DIRECTORY = 16, WANT_NOFOLLOW = 32, WANT_MAGIC = 64 };

int open_beneath(int root, const char *path, int flags, mode_t mode)
{
    while (*path == '/')
        path++;
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .mode = mode,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    return sys_openat2(root, *path ? path : ".", &how);
}

/* Where `at` is absent the path is the host's, as the caller wrote it. */
static int open_at(struct side *side, int at_slot, const char *path, int flags, mode_t mode)
{
    if (at_slot < 0) {
        int fd = open(path, flags | O_CLOEXEC | O_NOCTTY, mode);
        return fd < 0 ? -errno : fd;
    }
    int at = slot_get(side, at_slot);
    return at < 0 ? at : open_beneath(at, path, flags, mode);
}

static bool is_dots(const char *name)
{
    return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

int open_parent(struct side *side, int at_slot, const char *path, char *name, size_t room)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    size_t start = length;
    while (start > 0 && path[start - 1] != '/')
        start--;
    char parent[4096];
    if (start >= sizeof parent || length - start >= room || length == start)
        return -ENAMETOOLONG;
    memcpy(name, path + start, length - start);
    name[length - start] = '\0';
    if (is_dots(name))
        return -EINVAL;
    memcpy(parent, path, start);
    parent[start] = '\0';
    return open_at(side, at_slot, start ? parent : at_slot < 0 ? "." : "", O_PATH | O_DIRECTORY, 0);
}

static int op_inherit(struct side *side, const struct plan_record *r)
{
    if (r->number[0] >= (uint64_t)side->inherited_count)
        return -EBADF;
    return slot_put(side, r->slot[0], side->inherited[r->number[0]]);
}

static int op_open_path(struct side *side, const struct plan_record *r)
{
    uint64_t want = r->number[0];
    int flags = want & WANT_PATH ? O_PATH : (want & WANT_READ) && (want & WANT_WRITE) ? O_RDWR : want & WANT_WRITE ? O_WRONLY : O_RDONLY;
    flags |= (want & WANT_CREATE ? O_CREAT : 0) | (want & WANT_DIRECTORY ? O_DIRECTORY : 0);
    flags |= want & WANT_NOFOLLOW ? O_NOFOLLOW : 0;
    const char *path = plan_text(&side->plan, r, 0);
    if (want & WANT_MAGIC) { /* /proc/PID/ns/x: `at` is a procfs directory that the kernel gave us */
        int at = slot_get(side, r->slot[1]);
        int fd = at < 0 ? at : sys_result(openat(at, path, flags | O_CLOEXEC));
        return slot_put(side, r->slot[0], fd);
    }
    return slot_put(side, r->slot[0], open_at(side, r->slot[1], path, flags, (mode_t)r->number[1]));
}

static int op_close(struct side *side, const struct plan_record *r)
{
    return slot_close(side, r->slot[0]);
}

static int op_lock(struct side *side, const struct plan_record *r)
{
    int fd = slot_get(side, r->slot[0]);
    if (fd < 0)
        return fd;
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_SETLK, &whole) < 0 ? -errno : 0;
}

static int op_listen(struct side *side, const struct plan_record *r)
{
    int at = slot_get(side, r->slot[1]);
    if (at < 0)
        return at;
    /* sun_path has 108 bytes and a state root may be deep: name it through the directory's descriptor. */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", at, plan_text(&side->plan, r, 0));
    if (length < 0 || (size_t)length >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    mode_t old = umask(0177);
    int result = bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 16) < 0 ? -errno : 0;
    umask(old);
    if (result < 0) {
        close(fd);
        return result;
    }
    return slot_put(side, r->slot[0], fd);
}

static int op_pipe(struct side *side, const struct plan_record *r)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    if (r->number[0] && fchown(ends[0], (uid_t)r->number[0], (gid_t)-1) < 0) {
        int error = -errno;
        close(ends[0]), close(ends[1]);
        return error;
    }
    int first = slot_put(side, r->slot[0], ends[0]);
    int second = slot_put(side, r->slot[1], ends[1]);
    return first < 0 ? first : second;
}

static int op_mkdir(struct side *side, const struct plan_record *r)
{
    char name[256];
    int parent = open_parent(side, r->slot[0], plan_text(&side->plan, r, 0), name, sizeof name);
    if (parent < 0)
        return parent;
    int result = mkdirat(parent, name, (mode_t)r->number[0]) < 0 ? -errno : 0;
    close(parent);
    return result;
}

static int write_all(int fd, const char *data, size_t length)
{
    ssize_t written = write(fd, data, length);
    if (written < 0)
        return -errno;
    return (size_t)written == length ? 0 : -EIO; /* these files take one write or none */
}

static int op_write(struct side *side, const struct plan_record *r)
{
    char data[65536];
    ssize_t length = fill_holes(side, r, 1, data, sizeof data);
    if (length < 0)
        return (int)length;
    bool if_empty = r->number[0] != 0;
    int fd = open_at(side, r->slot[0], plan_text(&side->plan, r, 0), if_empty ? O_RDWR : O_WRONLY, 0);
    if (fd < 0)
        return fd;
    char first = '\n';
    int result = if_empty && read(fd, &first, 1) < 0 ? -errno : 0;
    if (result == 0 && first == '\n')
        result = write_all(fd, data, (size_t)length);
    close(fd);
    return result;
}

int put_file(int parent, const char *name, const char *data, size_t length, mode_t mode)
{
    char staged[300];
    if (snprintf(staged, sizeof staged, "%s.new", name) >= (int)sizeof staged)
        return -ENAMETOOLONG;
    unlinkat(parent, staged, 0); /* of somebody who did not finish: it may have another mode */
    int fd = openat(parent, staged, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return -errno;
    int result = write_all(fd, data, length);
    close(fd);
    if (result == 0 && renameat(parent, staged, parent, name) < 0)
        result = -errno;
    if (result < 0)
        unlinkat(parent, staged, 0);
    return result;
}

static int op_put(struct side *side, const struct plan_record *r)
{
    char data[65536], name[256];
    ssize_t length = fill_holes(side, r, 1, data, sizeof data);
    if (length < 0)
        return (int)length;
    int parent = open_parent(side, r->slot[0], plan_text(&side->plan, r, 0), name, sizeof name);
    if (parent < 0)
        return parent;
    /* O_PATH directories serve openat and renameat. */
    int result = put_file(parent, name, data, (size_t)length, (mode_t)r->number[0]);
    close(parent);
    return result;
}

/* Follows no link and crosses no mount, not even a bind mount of the same file system: what is mounted there is
 * somebody else's (EXDEV). */
static int open_to_remove(int at, const char *name)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS,
    };
    return sys_openat2(at, name, &how);
}

struct removal {
    int top;          /* the directory that all is beneath */
    unsigned deferred; /* directories that were moved up to it, since they lay too deep */
};

/* Empty the directory `fd`, which it closes. A container may have made directories a hundred thousand deep: those
 * below `depth` levels are moved to the top, so neither stack nor open descriptors grow with them. */
static int empty_directory(int fd, struct removal *removal, int depth)
{
    DIR *directory = fdopendir(fd);
    if (directory == NULL) {
        close(fd);
        return -ENOMEM;
    }
    int result = 0;
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        const char *name = entry->d_name;
        if (is_dots(name) || unlinkat(dirfd(directory), name, 0) == 0)
            continue;
        if (errno != EISDIR && errno != EPERM) {
            result = -errno;
            continue;
        }
        if (depth == 0) {
            char aside[32];
            snprintf(aside, sizeof aside, ".onggi-deep-%u", removal->deferred++);
            if (renameat(dirfd(directory), name, removal->top, aside) < 0)
                result = -errno;
            continue;
        }
        int child = open_to_remove(dirfd(directory), name);
        if (child == -ENOTDIR)
            continue; /* a file of cgroupfs: it goes with its directory; elsewhere the rmdir will tell */
        int below = child < 0 ? child : empty_directory(child, removal, depth - 1);
        if (below < 0 || unlinkat(dirfd(directory), name, AT_REMOVEDIR) < 0)
            result = below < 0 ? below : -errno;
    }
    closedir(directory);
    return result;
}

static int remove_tree(int parent, const char *name)
{
    /* An empty directory, and a cgroup, whose files go with it, are done in one call. A cgroup is busy for a
     * moment after its last process was reaped. */
    for (int attempt = 0; attempt < 50; attempt++) {
        if (unlinkat(parent, name, AT_REMOVEDIR) == 0)
            return 0;
        if (errno != EBUSY)
            break;
        sleep_ms(1);
    }
    struct removal removal = {.top = open_to_remove(parent, name)};
    if (removal.top < 0)
        return removal.top;
    int result;
    unsigned seen;
    do {
        seen = removal.deferred;
        int fd = open_to_remove(removal.top, ".");
        result = fd < 0 ? fd : empty_directory(fd, &removal, 64);
    } while (result == 0 && removal.deferred > seen);
    close(removal.top);
    if (result == 0 && unlinkat(parent, name, AT_REMOVEDIR) < 0)
        result = -errno;
    return result;
}

static int op_remove(struct side *side, const struct plan_record *r)
{
    char name[256];
    int parent = open_parent(side, r->slot[0], plan_text(&side->plan, r, 0), name, sizeof name);
    if (parent < 0)
        return parent;
    int result;
    if (r->number[1])
        result = remove_tree(parent, name);
    else
        result = unlinkat(parent, name, r->number[0] ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
    close(parent);
    return result;
}

/* SIGKILL what the file `name` of the directory `fd` (which it closes) names, and of the directories beneath. Gives how
 * many it named. A cgroup's own directories are few levels deep; below that, one cannot be made by a container. */
static int kill_named(int fd, const char *name, int depth)
{
    DIR *directory = fdopendir(fd);
    if (directory == NULL) {
        close(fd);
        return -ENOMEM;
    }
    int seen = 0;
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        bool member_file = strcmp(entry->d_name, name) == 0;
        if (is_dots(entry->d_name) || (!member_file && entry->d_type != DT_DIR) || (!member_file && depth == 0))
            continue;
        int next = openat(dirfd(directory), entry->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0)
            continue; /* gone meanwhile */
        if (!member_file) {
            int below = kill_named(next, name, depth - 1);
            seen += below > 0 ? below : 0;
            continue;
        }
        FILE *members = fdopen(next, "r");
        if (members == NULL) {
            close(next);
            continue;
        }
        long pid;
        for (; fscanf(members, "%ld", &pid) == 1; seen++)
            if (pid > 1)
                kill_process((pid_t)pid);
        fclose(members);
    }
    closedir(directory);
    return seen;
}

static int op_kill(struct side *side, const struct plan_record *r)
{
    char name[256];
    /* A member may fork while we read: go round until nobody is named. Bounded, as a stuck task cannot be killed. */
    for (int round = 0; round < 500; round++) {
        int parent = open_parent(side, r->slot[0], plan_text(&side->plan, r, 0), name, sizeof name);
        if (parent < 0)
            return parent;
        if (round == 0 && faccessat(parent, name, R_OK, 0) < 0) {
            int error = -errno;
            close(parent);
            return error;
        }
        int fd = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(parent);
        int seen = fd < 0 ? -errno : kill_named(fd, name, 16);
        if (seen <= 0)
            return seen;
        sleep_ms(round < 20 ? 1 : 10);
    }
    return -EBUSY;
}

static int op_keep(struct side *side, const struct plan_record *r)
{
    int fd = open_at(side, r->slot[0], plan_text(&side->plan, r, 0), O_RDONLY, 0);
    if (fd < 0)
        return fd;
    char text[4096];
    ssize_t length = read(fd, text, sizeof text);
    int result = length < 0 ? -errno : record_keep(plan_text(&side->plan, r, 1), text, (size_t)length);
    close(fd);
    return result;
}

static int op_record(struct side *side, const struct plan_record *r)
{
    char name[256];
    int parent = open_parent(side, r->slot[0], plan_text(&side->plan, r, 0), name, sizeof name);
    if (parent < 0)
        return parent;
    int result = record_write(side, parent, name);
    close(parent);
    clients_tell_end(side); /* even when the disk is full: whoever waits must learn it */
    return result;
}

op_function *const file_ops[OP_COUNT] = {
    [OP_INHERIT] = op_inherit, [OP_OPEN_PATH] = op_open_path, [OP_CLOSE] = op_close, [OP_LOCK] = op_lock,
    [OP_LISTEN] = op_listen,   [OP_PIPE] = op_pipe,           [OP_MKDIR] = op_mkdir, [OP_WRITE] = op_write,
    [OP_PUT] = op_put,         [OP_REMOVE] = op_remove,       [OP_KILL] = op_kill,   [OP_KEEP] = op_keep,
    [OP_RECORD] = op_record,
};
