/* Ops on kernel tables: netlink and eBPF, both as prepared bytes, and ports. */
#include "launcher.h"
#include "kernel.h"

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

/* Read acknowledgements until `count` have come or one is an error. */
static int read_acknowledgements(int fd, uint64_t count)
{
    static char buffer[16384];
    while (count > 0) {
        ssize_t length = recv(fd, buffer, sizeof buffer, 0);
        if (length < 0)
            return -errno;
        size_t left = (size_t)length;
        for (struct nlmsghdr *m = (void *)buffer; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
            if (m->nlmsg_type != NLMSG_ERROR)
                continue;
            int error = ((struct nlmsgerr *)NLMSG_DATA(m))->error;
            if (error != 0)
                return error;
            if (--count == 0)
                return 0;
        }
    }
    return 0;
}

static int op_netlink(struct side *side, const struct plan_record *r)
{
    static char data[1 << 18]; /* a thousand published ports */
    ssize_t length = fill_holes(side, r, 0, data, sizeof data);
    if (length < 0)
        return (int)length;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, (int)r->number[0]);
    if (fd < 0)
        return -errno;
    struct timeval patience = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ssize_t sent = send(fd, data, (size_t)length, 0);
    int result = sent < 0 ? -errno : sent != length ? -EIO : read_acknowledgements(fd, r->number[1]);
    if (result == 0 && r->slot[0] >= 0)
        return slot_put(side, r->slot[0], fd);
    close(fd);
    return result;
}

/* Bound, so that others meet EADDRINUSE. SO_REUSEADDR is for us only, past connections in TIME_WAIT; the listen is what
 * would fail if somebody had it too, and the shutdown takes it back, so that what comes here is refused. */
static int hold_stream(int fd, const struct sockaddr *address, socklen_t size)
{
    int yes = 1, no = 0;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 || bind(fd, address, size) < 0 || listen(fd, 0) < 0)
        return -errno;
    if (shutdown(fd, SHUT_RDWR) < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &no, sizeof no) < 0)
        return -errno;
    return 0;
}

/* Nobody reads what arrives here, so nothing is kept. */
static int hold_datagram(int fd, const struct sockaddr *address, socklen_t size)
{
    struct sock_filter drop = {.code = BPF_RET | BPF_K};
    struct sock_fprog program = {1, &drop};
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0 || bind(fd, address, size) < 0)
        return -errno;
    return 0;
}

static int op_bind(struct side *side, const struct plan_record *r)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)r->number[1])};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)r->number[1])};
    const char *text = plan_text(&side->plan, r, 0);
    bool is_six = strchr(text, ':') != NULL, datagram = r->number[0] != 0;
    if (inet_pton(is_six ? AF_INET6 : AF_INET, text, is_six ? (void *)&six.sin6_addr : (void *)&four.sin_addr) != 1)
        return -EINVAL;
    int fd = socket(is_six ? AF_INET6 : AF_INET, (datagram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0), only = 1;
    if (fd < 0)
        return -errno;
    const struct sockaddr *address = is_six ? (void *)&six : (void *)&four;
    socklen_t size = is_six ? sizeof six : sizeof four;
    int result = is_six && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only) < 0 ? -errno : 0;
    if (result == 0)
        result = datagram ? hold_datagram(fd, address, size) : hold_stream(fd, address, size);
    if (result < 0) {
        close(fd);
        return result;
    }
    return slot_put(side, r->slot[0], fd);
}

static int op_devices(struct side *side, const struct plan_record *r)
{
    static struct bpf_insn program[4096];
    int cgroup = slot_get(side, r->slot[0]);
    if (cgroup < 0)
        return cgroup;
    size_t count = r->text[0].length / sizeof *program;
    if (count == 0 || count > 4096)
        return -EINVAL;
    memcpy(program, plan_text(&side->plan, r, 0), count * sizeof *program);
    union bpf_attr load;
    memset(&load, 0, sizeof load);
    load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    load.insns = (uint64_t)(uintptr_t)program;
    load.insn_cnt = (uint32_t)count;
    load.license = (uint64_t)(uintptr_t)"Apache-2.0";
    int fd = sys_result(syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load));
    if (fd < 0)
        return fd;
    union bpf_attr attach;
    memset(&attach, 0, sizeof attach);
    attach.target_fd = (uint32_t)cgroup;
    attach.attach_bpf_fd = (uint32_t)fd;
    attach.attach_type = BPF_CGROUP_DEVICE;
    attach.attach_flags = BPF_F_ALLOW_MULTI;
    int result = sys_result(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach));
    close(fd);
    return result;
}

op_function *const kernel_ops[OP_COUNT] = {
    [OP_NETLINK] = op_netlink,
    [OP_BIND] = op_bind,
    [OP_DEVICES] = op_devices,
};
