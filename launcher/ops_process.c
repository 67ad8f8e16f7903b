/* Ops on the process itself: namespaces, ids, privileges, the terminal and the exec. */
#include "launcher.h"
#include "kernel.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <termios.h>

static int op_setns(struct side *side, const struct plan_record *r)
{
    int fd = slot_get(side, r->slot[0]);
    if (fd < 0)
        return fd;
    return setns(fd, (int)r->number[0]) < 0 ? -errno : 0;
}

static int op_unshare(struct side *side, const struct plan_record *r)
{
    (void)side;
    return unshare((int)r->number[0]) < 0 ? -errno : 0;
}

static int op_hostname(struct side *side, const struct plan_record *r)
{
    return sethostname(plan_text(&side->plan, r, 0), r->text[0].length) < 0 ? -errno : 0;
}

static int op_domainname(struct side *side, const struct plan_record *r)
{
    return setdomainname(plan_text(&side->plan, r, 0), r->text[0].length) < 0 ? -errno : 0;
}

static int op_rlimit(struct side *side, const struct plan_record *r)
{
    (void)side;
    struct rlimit limit = {.rlim_cur = r->number[1], .rlim_max = r->number[2]};
    return setrlimit((int)r->number[0], &limit) < 0 ? -errno : 0;
}

static int op_deathsig(struct side *side, const struct plan_record *r)
{
    if (prctl(PR_SET_PDEATHSIG, r->number[0]) < 0)
        return -errno;
    /* The launcher may be gone since before the prctl; in a new pid namespace getppid() is 0 either way, but its
     * end of the pair is closed then. */
    char byte;
    ssize_t seen = recv(side->channel, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return seen == 0 ? -ECANCELED : 0;
}

static int op_undumpable(struct side *side, const struct plan_record *r)
{
    (void)side, (void)r;
    return prctl(PR_SET_DUMPABLE, 0) < 0 ? -errno : 0;
}

static int op_bounding(struct side *side, const struct plan_record *r)
{
    (void)side;
    for (int capability = 0; capability < 64; capability++) {
        if (prctl(PR_CAPBSET_READ, capability) < 0)
            break; /* EINVAL: beyond the last one this kernel knows */
        if (!(r->number[0] >> capability & 1) && prctl(PR_CAPBSET_DROP, capability) < 0)
            return -errno;
    }
    return 0;
}

static int op_ids(struct side *side, const struct plan_record *r)
{
    size_t count = r->text[0].length / sizeof(gid_t);
    gid_t groups[1024];
    if (count > sizeof groups / sizeof *groups)
        return -EINVAL;
    memcpy(groups, plan_text(&side->plan, r, 0), count * sizeof *groups);
    uid_t uid = (uid_t)r->number[0];
    gid_t gid = (gid_t)r->number[1];
    /* -1 is no id: it would mean "as before", which is root. */
    if (uid == (uid_t)-1 || gid == (gid_t)-1 || uid != r->number[0] || gid != r->number[1])
        return -EINVAL;
    if (prctl(PR_SET_KEEPCAPS, 1) < 0)
        return -errno;
    if (r->number[2] && setgroups(count, groups) < 0)
        return -errno;
    if (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return -errno;
    return prctl(PR_SET_KEEPCAPS, 0) < 0 ? -errno : 0;
}

static int op_capabilities(struct side *side, const struct plan_record *r)
{
    (void)side;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    for (int i = 0; i < 2; i++)
        data[i] = (struct __user_cap_data_struct){
            .effective = (uint32_t)(r->number[0] >> 32 * i),
            .permitted = (uint32_t)(r->number[1] >> 32 * i),
            .inheritable = (uint32_t)(r->number[2] >> 32 * i),
        };
    if (syscall(SYS_capset, &header, data) < 0)
        return -errno;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return -errno;
    for (int capability = 0; capability < 64; capability++)
        if (r->number[3] >> capability & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) < 0)
            return -errno;
    return 0;
}

static int op_no_new_privs(struct side *side, const struct plan_record *r)
{
    (void)side, (void)r;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

static int op_seccomp(struct side *side, const struct plan_record *r)
{
    size_t count = r->text[0].length / sizeof(struct sock_filter);
    static struct sock_filter filter[BPF_MAXINSNS]; /* the arena is not aligned for it */
    if (count == 0 || count > BPF_MAXINSNS)
        return -EINVAL;
    memcpy(filter, plan_text(&side->plan, r, 0), count * sizeof *filter);
    struct sock_fprog program = {.len = (unsigned short)count, .filter = filter};
    return sys_result(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, (unsigned)r->number[0], &program));
}

static int op_chdir(struct side *side, const struct plan_record *r)
{
    if (chdir(plan_text(&side->plan, r, 0)) < 0)
        return -errno;
    /* The raw call, as libc's would go looking for a name: outside the root the kernel says "(unreachable)". */
    char path[4096];
    long length = syscall(SYS_getcwd, path, sizeof path);
    if (length < 0)
        return -errno;
    return path[0] == '/' ? 0 : -EXDEV;
}

static int op_umask(struct side *side, const struct plan_record *r)
{
    (void)side;
    umask((mode_t)r->number[0]);
    return 0;
}

static int op_terminal(struct side *side, const struct plan_record *r)
{
    int devpts = slot_get(side, r->slot[2]);
    if (devpts < 0)
        return devpts;
    int master = openat(devpts, "ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW);
    int put = slot_put(side, r->slot[0], master < 0 ? -errno : master);
    if (put < 0)
        return put;
    /* Where a container was joined, its /dev/pts may be anything: the supervisor shall talk to nothing but a pty. */
    struct statfs seen;
    if (fstatfs(master, &seen) < 0 || seen.f_type != DEVPTS_SUPER_MAGIC)
        return -ENOTTY;
    int unlock = 0;
    if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
        return -errno;
    /* TIOCGPTPEER: no path of the container is looked up for the other end. */
    int peer = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    put = slot_put(side, r->slot[1], peer < 0 ? -errno : peer);
    if (put < 0)
        return put;
    struct winsize size = {.ws_row = (unsigned short)r->number[0], .ws_col = (unsigned short)r->number[1]};
    if ((size.ws_row || size.ws_col) && ioctl(master, TIOCSWINSZ, &size) < 0)
        return -errno;
    return r->number[2] && fchown(peer, (uid_t)r->number[2], (gid_t)-1) < 0 ? -errno : 0;
}

static int op_stdio(struct side *side, const struct plan_record *r)
{
    for (int i = 0; i < 3; i++) {
        int fd = slot_get(side, r->slot[i]);
        if (fd < 0)
            return fd;
        if (dup2(fd, i) < 0)
            return -errno;
    }
    return r->number[0] && ioctl(0, TIOCSCTTY, 0) < 0 ? -errno : 0;
}

static int op_session(struct side *side, const struct plan_record *r)
{
    (void)side, (void)r;
    return setsid() < 0 ? -errno : 0;
}

static int op_seal(struct side *side, const struct plan_record *r)
{
    (void)side, (void)r;
    return sys_result(syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC));
}

static int op_init(struct side *side, const struct plan_record *r)
{
    (void)r;
    return become_init(side);
}

static int op_exec(struct side *side, const struct plan_record *r)
{
    /* Static: after seccomp nothing that might map memory is certain to work. */
    static char *candidates[256], *arguments[65536], *environment[65536];
    const struct plan *plan = &side->plan;
    if (!plan_strings(plan, r, 0, candidates, 256) || !plan_strings(plan, r, 1, arguments, 65536) ||
        !plan_strings(plan, r, 2, environment, 65536))
        return -E2BIG;
    int result = -ENOENT;
    for (char **path = candidates; *path != NULL; path++) {
        execve(*path, arguments, environment);
        if (errno == EACCES)
            result = -EACCES; /* as execvp: say so unless a later candidate works */
        else if (errno != ENOENT && errno != ENOTDIR)
            return -errno;
    }
    return result;
}

op_function *const process_ops[OP_COUNT] = {
    [OP_SETNS] = op_setns,
    [OP_UNSHARE] = op_unshare,
    [OP_HOSTNAME] = op_hostname,
    [OP_DOMAINNAME] = op_domainname,
    [OP_RLIMIT] = op_rlimit,
    [OP_DEATHSIG] = op_deathsig,
    [OP_UNDUMPABLE] = op_undumpable,
    [OP_BOUNDING] = op_bounding,
    [OP_IDS] = op_ids,
    [OP_CAPABILITIES] = op_capabilities,
    [OP_NO_NEW_PRIVS] = op_no_new_privs,
    [OP_SECCOMP] = op_seccomp,
    [OP_CHDIR] = op_chdir,
    [OP_UMASK] = op_umask,
    [OP_TERMINAL] = op_terminal,
    [OP_STDIO] = op_stdio,
    [OP_SESSION] = op_session,
    [OP_SEAL] = op_seal,
    [OP_INIT] = op_init,
    [OP_EXEC] = op_exec,
};
