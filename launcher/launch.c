/* The launch role: map the plan, run its sections in two processes, report, tear down.
 *
 *     launcher: before ── CLONE ── beside … SUPERVISE ── after
 *     child:                └───── child … EXEC
 *
 * The pair's socket carries `Tell`, `Send` and one failure report. Both ends are close-on-exec: end of file
 * before a report means that the child has become the payload. Where the child joins a user namespace it clones
 * once more in there (`Reclone`), as this launcher's child, and the launcher goes on with that one (`Adopt`). */
#include "launcher.h"
#include "kernel.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* What goes over the pair and over the status socket. */
struct report {
    uint32_t kind, op;
    int32_t error, pid;
};
enum { REPORT_FAILED = 1, REPORT_STARTED = 2, REPORT_TOLD = 3 };

static struct side side;
static struct report child_failure; /* kind is 0 until the child has reported */

static void report_to(int fd, uint32_t kind, int error)
{
    struct report report = {.kind = kind, .op = UINT32_MAX, .error = -error, .pid = side.child};
    if (side.op < side.plan.count)
        report.op = side.plan.records[side.op].op;
    if (fd >= 0)
        send(fd, &report, sizeof report, MSG_NOSIGNAL);
}

/* One message of the other side: 0 at a `Tell`, -ECANCELED when it failed or is gone. */
static int hear(char *name, size_t room)
{
    struct {
        struct report report;
        char name[64];
    } message = {0};
    ssize_t length = recv(side.channel, &message, sizeof message - 1, 0);
    if (length < (ssize_t)sizeof message.report)
        return length < 0 ? -errno : -ECANCELED;
    if (message.report.kind == REPORT_FAILED) {
        child_failure = message.report;
        return -ECANCELED;
    }
    snprintf(name, room, "%s", message.name);
    return 0;
}

static int op_tell(struct side *self, const struct plan_record *r)
{
    struct {
        struct report report;
        char name[64];
    } message = {.report = {.kind = REPORT_TOLD}};
    if (r->text[0].length >= sizeof message.name)
        return -EINVAL;
    memcpy(message.name, plan_text(&self->plan, r, 0), r->text[0].length);
    return send(self->channel, &message, sizeof message, MSG_NOSIGNAL) < 0 ? -ECANCELED : 0;
}

static int op_await(struct side *self, const struct plan_record *r)
{
    char name[64];
    int result = hear(name, sizeof name);
    return result < 0 ? result : strcmp(name, plan_text(&self->plan, r, 0)) == 0 ? 0 : -EPROTO;
}

static int send_descriptor(struct side *self, int fd)
{
    struct report report = {.kind = REPORT_TOLD};
    struct iovec data = {&report, sizeof report};
    char control[CMSG_SPACE(sizeof fd)] = {0};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    return sendmsg(self->channel, &message, MSG_NOSIGNAL) < 0 ? -ECANCELED : 0;
}

/* Gives the descriptor that the other side sends next. */
static int receive_descriptor(struct side *self)
{
    struct report report = {0};
    struct iovec data = {&report, sizeof report};
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t length = recvmsg(self->channel, &message, MSG_CMSG_CLOEXEC);
    if (length < 0)
        return -errno;
    if (report.kind == REPORT_FAILED)
        child_failure = report;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (report.kind != REPORT_TOLD || header == NULL || header->cmsg_type != SCM_RIGHTS)
        return -ECANCELED;
    int fd;
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

static int op_send(struct side *self, const struct plan_record *r)
{
    int fd = slot_get(self, r->slot[0]);
    return fd < 0 ? fd : send_descriptor(self, fd);
}

static int op_receive(struct side *self, const struct plan_record *r)
{
    return slot_put(self, r->slot[0], receive_descriptor(self));
}

/* Signals as a fresh program expects them, whatever the caller ignored or blocked. The raw calls: libc's leave out
 * signals of its own. All zero is SIG_DFL without flags on every architecture, and the empty mask. */
static void default_signals(void)
{
    static const uint64_t usual[8];
    for (int number = 1; number <= 64; number++)
        syscall(SYS_rt_sigaction, number, usual, NULL, sizeof *usual);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, usual, NULL, sizeof *usual);
}

/* Put the child's directory of /proc into a slot. */
static int put_proc(struct side *self, int slot, pid_t child)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d", child);
    int proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return slot_put(self, slot, proc < 0 ? -errno : proc);
}

static int op_clone(struct side *self, const struct plan_record *r)
{
    int pair[2], pidfd = -1;
    struct clone_args args = {
        .flags = r->number[0] | CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
    };
    if (r->slot[2] >= 0) {
        int cgroup = slot_get(self, r->slot[2]);
        if (cgroup < 0)
            return cgroup;
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)cgroup;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    pid_t child = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (child < 0) {
        int error = -errno;
        close(pair[0]), close(pair[1]);
        return error;
    }
    self->is_child = child == 0;
    self->channel = pair[self->is_child];
    close(pair[!self->is_child]);
    if (self->is_child) {
        if (self->status >= 0)
            close(self->status);
        self->status = -1;
        default_signals();
        return 0;
    }
    self->child = child;
    int result = slot_put(self, r->slot[0], pidfd);
    return result < 0 ? result : put_proc(self, r->slot[1], child);
}

/* The old process leaves without a word: what it held, the new one has. */
static int op_enter(struct side *self, const struct plan_record *r)
{
    int cgroup = slot_get(self, r->slot[0]);
    if (cgroup < 0)
        return cgroup;
    struct clone_args args = {.flags = CLONE_PARENT | CLONE_INTO_CGROUP, .cgroup = (uint64_t)cgroup};
    pid_t child = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (child > 0)
        _exit(0);
    return child < 0 ? -errno : 0;
}

/* The new process tells of itself, so that whichever of the two is killed, the launcher's wait has an end. */
static int op_reclone(struct side *self, const struct plan_record *r)
{
    struct clone_args args = {.flags = r->number[0] | CLONE_PARENT};
    pid_t child = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (child < 0)
        return -errno;
    if (child > 0)
        _exit(0);
    int pidfd = sys_result(syscall(SYS_pidfd_open, getpid(), 0));
    if (pidfd < 0)
        return pidfd;
    int result = send_descriptor(self, pidfd);
    close(pidfd);
    return result;
}

/* What a process has as its pid in our own pid namespace: pidfds say so in /proc (proc_pid_fdinfo(5)). */
static pid_t pid_of(int pidfd)
{
    char path[32], text[512], *line;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[length > 0 ? length : 0] = '\0';
    line = strstr(text, "Pid:");
    return line ? (pid_t)strtol(line + 4, NULL, 10) : -1;
}

static int op_adopt(struct side *self, const struct plan_record *r)
{
    int pidfd = receive_descriptor(self);
    if (pidfd < 0)
        return pidfd;
    pid_t first = self->child, child = pid_of(pidfd);
    int result = slot_put(self, r->slot[0], pidfd);
    if (result < 0 || child <= 0)
        return result < 0 ? result : -ESRCH;
    self->child = child;
    while (waitpid(first, NULL, 0) < 0 && errno == EINTR)
        ;
    return put_proc(self, r->slot[1], child);
}

/* The kernel's flags of a process: include/linux/sched.h, proc_pid_stat(5). */
enum { PF_EXITING = 0x04, PF_FORKNOEXEC = 0x40 };

static unsigned flags_of(pid_t pid)
{
    char path[40], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    unsigned flags = 0;
    const char *after_name = length > 0 ? strrchr(text, ')') : NULL;
    return after_name && sscanf(after_name + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) == 1 ? flags : 0;
}

/* Whether the child was killed before it became another program. One that is an init now has not become another
 * program either; that one ends by itself. */
static bool died_early(struct side *self, int pidfd)
{
    siginfo_t info = {0};
    if ((flags_of(self->child) & (PF_EXITING | PF_FORKNOEXEC)) != (PF_EXITING | PF_FORKNOEXEC))
        return false;
    return waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOWAIT) == 0 && info.si_code != CLD_EXITED;
}

/* The child has become the payload when its end of the pair closes without a report. */
static int op_supervise(struct side *self, const struct plan_record *r)
{
    char name[64];
    int result = hear(name, sizeof name);
    if (result == 0)
        return -EPROTO;
    if (result != -ECANCELED || child_failure.kind != 0 || died_early(self, slot_get(self, r->slot[0])))
        return result;
    close(self->channel);
    self->channel = -1;
    report_to(self->status, REPORT_STARTED, 0);
    if (self->status >= 0)
        close(self->status);
    self->status = -1;
    return supervise(self, r);
}

static op_function *handler(uint16_t kind)
{
    switch (kind) {
    case OP_CLONE:
        return op_clone;
    case OP_ENTER:
        return op_enter;
    case OP_RECLONE:
        return op_reclone;
    case OP_ADOPT:
        return op_adopt;
    case OP_TELL:
        return op_tell;
    case OP_AWAIT:
        return op_await;
    case OP_SEND:
        return op_send;
    case OP_RECEIVE:
        return op_receive;
    case OP_SUPERVISE:
        return op_supervise;
    }
    return file_ops[kind] ? file_ops[kind] : mount_ops[kind] ? mount_ops[kind] : process_ops[kind] ? process_ops[kind] : kernel_ops[kind];
}

static bool tolerated(const struct plan_record *record, int result)
{
    for (int i = 0; i < 4; i++)
        if (record->tolerate[i] != 0 && record->tolerate[i] == -result)
            return true;
    return false;
}

#ifdef ONGGI_CRASH_TEST
/* "parent:17" kills the launcher after record 17, "child:17" the child. */
static void crash_here(uint32_t index)
{
    const char *where = getenv("ONGGI_CRASH_AT");
    char here[32];
    snprintf(here, sizeof here, "%s:%u", side.is_child ? "child" : "parent", index);
    if (where == NULL || strcmp(where, here) != 0)
        return;
    kill(getpid(), SIGKILL);
    /* The first process of a pid namespace does not take that from itself, but it does from the processor. */
    prctl(PR_SET_DUMPABLE, 0);
    __builtin_trap();
}
#else
#define crash_here(index) ((void)(index))
#endif

static int run_record(uint32_t index)
{
    const struct plan_record *record = &side.plan.records[index];
    op_function *function = handler(record->kind);
    side.op = index;
    int result = function == NULL ? -ENOSYS : function(&side, record);
    crash_here(index);
    return result;
}

/* Run records until one fails, or with `whole` all of them, since each clears its own thing. */
static int run_records(uint32_t from, uint32_t to, bool whole)
{
    for (uint32_t i = from; i < to; i++) {
        const struct plan_record *record = &side.plan.records[i];
        bool was_child = side.is_child;
        int result = run_record(i);
        if (result < 0 && !whole && !tolerated(record, result))
            return result;
        if (side.is_child != was_child)
            break; /* CLONE is the last record of its section, whatever the plan says */
        if (result < 0) /* done as far as it can be: what the op has further records for is not there */
            while (i + 1 < to && side.plan.records[i + 1].op == record->op)
                i++;
    }
    return 0;
}

static int run_section(int section, bool whole)
{
    uint32_t from = 0;
    for (int i = 0; i < section; i++)
        from += side.plan.header->records[i];
    return run_records(from, from + side.plan.header->records[section], whole);
}

/* Until the plan's lock is taken, all that the last section would clear away may be somebody else's. */
static bool holds_lock(void)
{
    for (uint32_t i = side.op; i < side.plan.header->records[0]; i++)
        if (side.plan.records[i].kind == OP_LOCK)
            return false;
    return true;
}

/* What the child said first is the cause, even when this side has not come to hear it yet (it may have met only a
 * process that is no more). Without a word from it, it is this side's own step. */
static void tell_failure(int error)
{
    char name[64];
    while (side.channel >= 0 && child_failure.kind == 0) {
        struct pollfd wait = {.fd = side.channel, .events = POLLIN};
        if (poll(&wait, 1, 0) <= 0 || hear(name, sizeof name) < 0)
            break;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    side.end.at_ns = now.tv_sec * 1000000000LL + now.tv_nsec;
    side.end.code = 125;
    side.end.error = child_failure.kind ? child_failure.error : -error;
    side.end.error_op = child_failure.kind ? child_failure.op : side.plan.records[side.op].op;
    if (child_failure.kind != 0)
        send(side.status, &child_failure, sizeof child_failure, MSG_NOSIGNAL);
    else
        report_to(side.status, REPORT_FAILED, error);
}

static void reap_failed_child(void)
{
    if (side.child <= 0 || side.end.known)
        return;
    kill(side.child, SIGKILL); /* not reaped yet, so the pid is still its own */
    while (waitpid(side.child, NULL, 0) < 0 && errno == EINTR)
        ;
}

static _Noreturn void be_child(void)
{
    int result = run_section(1, false);
    report_to(side.channel, REPORT_FAILED, result < 0 ? result : -ENOEXEC);
    _exit(127);
}

static int map_plan(int fd)
{
    struct stat seen;
    int seals = fcntl(fd, F_GET_SEALS), wanted = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
    if (seals < 0 || (seals & wanted) != wanted || fstat(fd, &seen) < 0 || seen.st_size <= 0)
        return -EPROTO;
    void *bytes = mmap(NULL, (size_t)seen.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return -errno;
    close(fd);
    int result = plan_decode(bytes, (size_t)seen.st_size, &side.plan);
    if (result == 0 && memcmp(side.plan.header->build_id, ONGGI_BUILD_ID, sizeof side.plan.header->build_id) != 0)
        return -EPROTONOSUPPORT;
    return result;
}

static void quiet_stdio(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3 && null >= 0; i++)
        if (null != i)
            dup2(null, i);
    if (null > 2)
        close(null);
}

/* Keep one descriptor, out of the way of stdio, and close all else: a supervisor that held the end of somebody's
 * pipe would keep its reader waiting for as long as the container lives. */
static int keep_only(int fd)
{
    int kept = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (kept < 0)
        return -errno;
    if (kept > 3)
        syscall(SYS_close_range, 3, kept - 1, 0);
    syscall(SYS_close_range, kept + 1, ~0U, 0);
    return kept;
}

/* The order: a uint32 with the number of descriptors, which come with it and with as many further packets as they
 * need; the first is the plan. Gives that number, 0 when nothing comes, -EMFILE when we may not have so many. */
static int receive_order(int status, int *fds, int room)
{
    uint32_t wanted = 1;
    int count = 0;
    while (count < (int)wanted) {
        struct iovec data = {&wanted, sizeof wanted};
        char control[CMSG_SPACE(LAUNCH_PACKET_FDS * sizeof(int))] = {0};
        struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t length = recvmsg(status, &message, MSG_CMSG_CLOEXEC);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (length == sizeof wanted && header == NULL && message.msg_flags & MSG_CTRUNC)
            return -EMFILE;
        if (length != sizeof wanted || header == NULL || header->cmsg_type != SCM_RIGHTS)
            return 0;
        int here = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        if (message.msg_flags & MSG_CTRUNC)
            return -EMFILE;
        if (wanted > (uint32_t)room || here > (int)wanted - count)
            return 0;
        memcpy(fds + count, CMSG_DATA(header), (size_t)here * sizeof(int));
        count += here;
    }
    return count;
}

int launch(int status)
{
    static int fds[PLAN_MAX_SLOTS + 1];
    status = keep_only(status);
    quiet_stdio();
    signal(SIGINT, SIG_IGN); /* a terminal's are for whoever is planning; its end is ours, too */
    signal(SIGQUIT, SIG_IGN);
    int count = receive_order(status, fds, PLAN_MAX_SLOTS + 1);
    if (count <= 0) { /* whoever started us has no plan after all */
        if (count < 0)
            report_to(status, REPORT_FAILED, count);
        return count < 0;
    }
    side = (struct side){.channel = -1, .status = status, .inherited = fds + 1, .inherited_count = count - 1, .op = UINT32_MAX};
    memset(side.slots, 0xff, sizeof side.slots);
    default_signals(); /* a caller that ignores SIGCHLD would have our child reaped before we see how it ended */
    signal(SIGPIPE, SIG_IGN);
    umask(0); /* modes in plans are exact */
    int result = map_plan(fds[0]);
    if (result < 0) {
        report_to(side.status, REPORT_FAILED, result);
        return 1;
    }
    result = run_section(0, false);
    if (side.is_child)
        result < 0 ? (report_to(side.channel, REPORT_FAILED, result), _exit(127)) : be_child();
    if (result == 0)
        result = run_section(2, false);
    bool ours = result == 0 || holds_lock();
    if (result < 0) {
        tell_failure(result);
        if (side.channel >= 0)
            shutdown(side.channel, SHUT_RDWR); /* an `Await` over there ends */
        reap_failed_child();
    }
    if (ours)
        run_section(3, true);
    if (side.status >= 0)
        close(side.status);
    clients_linger();
    return 0;
}
