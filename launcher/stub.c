/* The command line as people start it: ask a warm onggid, or become Python.
 *
 * It knows no verbs. It hands its command to onggid (if one runs for this state root)
 * and does what comes back: print, execute a plan in this process's own context, carry
 * stdio, exit; or become Python, as it does when no onggid answers.
 *
 * Request, one packet: struct request, the arguments, the environment (NUL-terminated
 * strings); SCM_RIGHTS: the working directory. Answers, one packet each:
 *     'O' bytes   to stdout            'E' bytes   to stderr
 *     'L' struct launch_order          SCM_RIGHTS: plan, what it inherits, and with `attach` our end of its socket
 *     'A' struct launch_order          SCM_RIGHTS: a connection to what runs already, to carry stdio over
 *     'Q' uint8   exit with this code  'X'         go on by yourself
 * To 'L' it answers 'R' and the launcher's report. */
#include "kernel.h"
#include "launcher.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

extern char **environ;

#define STUB_VERSION 1
#define MAX_PACKET 200000
#define MAX_FDS LAUNCH_PACKET_FDS
#define LIMITS 16
#define LOST 125

struct request {
    uint32_t version, argc, envc, umask;
    char build_id[16];
    uint8_t terminal[4]; /* stdin, stdout, stderr */
    uint16_t rows, columns;
    uint64_t hard_limits[LIMITS];
};

struct launch_order {
    uint8_t kind, attach, streams, flags;
    uint8_t key_length, reserved[3];
    char keys[32];
};

/* -- becoming Python ----------------------------------------------------------------------------- */

static _Noreturn void become_python(char **arguments, int count, const char *code)
{
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof "python3");
    char *slash = length > 0 ? memrchr(path, '/', (size_t)length) : NULL;
    if (slash != NULL)
        strcpy(slash + 1, "python3");
    char **argv = calloc((size_t)count + 5, sizeof *argv);
    if (slash == NULL || argv == NULL)
        _exit(LOST);
    argv[0] = path, argv[1] = "-I", argv[2] = "-c", argv[3] = (char *)code;
    memcpy(argv + 4, arguments, (size_t)count * sizeof *argv);
    execv(path, argv);
    dprintf(2, "onggi: cannot start %s: %s\n", path, strerror(errno));
    _exit(LOST);
}

/* -- reaching onggid -------------------------------------------------------------------------------- */

/* The directory of the socket: beneath --root where it is the first argument, else the default of this user. */
static bool run_directory(int argc, char **argv, char *out, size_t room)
{
    const char *root = NULL, *runtime = getenv("XDG_RUNTIME_DIR");
    if (argc > 2 && strcmp(argv[1], "--root") == 0)
        root = argv[2];
    else if (argc > 1 && strncmp(argv[1], "--root=", 7) == 0)
        root = argv[1] + 7;
    int length;
    if (root != NULL)
        length = snprintf(out, room, "%s/run", root);
    else if (geteuid() == 0)
        length = snprintf(out, room, "/run/onggi");
    else if (runtime != NULL)
        length = snprintf(out, room, "%s/onggi", runtime);
    else
        return false;
    return length > 0 && (size_t)length < room;
}

static int connect_onggid(int argc, char **argv)
{
    char directory[PATH_MAX];
    if (!run_directory(argc, argv, directory, sizeof directory))
        return -ENOENT;
    int at = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int sock = at < 0 ? -1 : socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    /* sun_path has 108 bytes and a state root may be deep. */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/onggid", at);
    int result = sock < 0 || connect(sock, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : sock;
    if (result < 0 && sock >= 0)
        close(sock);
    if (at >= 0)
        close(at);
    return result;
}

static bool append(char *packet, size_t *used, const char *text)
{
    size_t length = strlen(text) + 1;
    if (length > MAX_PACKET - *used)
        return false;
    memcpy(packet + *used, text, length);
    *used += length;
    return true;
}

/* False when the request does not fit one packet, or onggid is gone: then this process does it itself. */
static bool ask(int sock, int argc, char **argv)
{
    static char packet[MAX_PACKET];
    struct request request = {.version = STUB_VERSION, .argc = (uint32_t)argc};
    memcpy(request.build_id, ONGGI_BUILD_ID, sizeof request.build_id);
    request.umask = umask(0);
    umask((mode_t)request.umask);
    struct winsize size = {0};
    for (int i = 0; i < 3; i++) {
        request.terminal[i] = (uint8_t)isatty(i);
        if (request.terminal[i] && size.ws_row == 0)
            ioctl(i, TIOCGWINSZ, &size);
    }
    request.rows = size.ws_row, request.columns = size.ws_col;
    for (int i = 0; i < LIMITS; i++) {
        struct rlimit limit;
        request.hard_limits[i] = getrlimit(i, &limit) == 0 ? limit.rlim_max : 0;
    }
    size_t used = sizeof request;
    for (int i = 0; i < argc; i++)
        if (!append(packet, &used, argv[i]))
            return false;
    for (char **entry = environ; *entry != NULL; entry++, request.envc++)
        if (!append(packet, &used, *entry))
            return false;
    memcpy(packet, &request, sizeof request);

    int cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (cwd < 0)
        return false;
    char control[CMSG_SPACE(sizeof cwd)] = {0};
    struct iovec data = {packet, used};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof cwd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &cwd, sizeof cwd);
    bool sent = sendmsg(sock, &message, MSG_NOSIGNAL) == (ssize_t)used;
    close(cwd);
    return sent;
}

/* -- doing what comes back ----------------------------------------------------------------------------- */

static void print(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t written = write(fd, bytes, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            _exit(errno == EPIPE ? 128 + SIGPIPE : 1);
        bytes += written, length -= (size_t)written;
    }
}

/* Gives the exit code of what was attached. */
static int finish_attach(int code)
{
    if (code >= 0)
        return code;
    if (code == -ECANCELED)
        return 0; /* detached */
    if (code == -EPIPE) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    return 128 + SIGKILL; /* the supervisor is gone, and with it the container */
}

static pid_t spawn_launcher(int status)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    char number[12], *argv[] = {"onggi-launcher", "supervise", number, NULL};
    fcntl(status, F_SETFD, 0);
    snprintf(number, sizeof number, "%d", status);
    char *nothing[] = {NULL};
    exec_protected(argv, nothing);
    _exit(127);
}

/* Whether it arrived is told by the report, or by its absence. */
static void send_order(int launcher, const int *fds, int count)
{
    uint32_t number = (uint32_t)count;
    char control[CMSG_SPACE(MAX_FDS * sizeof *fds)] = {0};
    struct iovec data = {&number, sizeof number};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE((size_t)count * sizeof *fds)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN((size_t)count * sizeof *fds), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), fds, (size_t)count * sizeof *fds);
    (void)!sendmsg(launcher, &message, MSG_NOSIGNAL);
}

/* Execute a plan here, so that limits, nice, affinity, seccomp and cgroup are the caller's. Leaves the process when
 * it has carried the stdio; comes back when onggid has the last word. */
static void launch_here(int sock, const struct launch_order *order, int *fds, int count)
{
    int client = order->attach ? fds[--count] : -1, control = -1, pair[2];
    if (order->attach)
        control = attach_join(client, order->streams);
    if (count < 1 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        _exit(LOST);
    pid_t pid = spawn_launcher(pair[1]);
    close(pair[1]);
    send_order(pair[0], fds, count);
    for (int i = 0; i < count; i++)
        close(fds[i]);
    struct {
        char kind;
        uint32_t report[4];
    } __attribute__((packed)) answer = {.kind = 'R'};
    ssize_t length = pid < 0 ? 0 : recv(pair[0], answer.report, sizeof answer.report, 0);
    bool started = length == sizeof answer.report && answer.report[0] == 2;
    char end;
    if (!started)
        (void)!recv(pair[0], &end, 1, 0); /* end of file: it has cleared away */
    send(sock, &answer, length > 0 ? sizeof answer : 1, MSG_NOSIGNAL);
    close(pair[0]);
    if (!started || !order->attach)
        return;
    struct attach_keys keys = {.bytes = order->keys, .length = order->key_length};
    _exit(finish_attach(attach_client(client, control, order->streams, order->flags, keys)));
}

static _Noreturn void attach_here(const struct launch_order *order, int client)
{
    struct attach_keys keys = {.bytes = order->keys, .length = order->key_length};
    int control = attach_join(client, order->streams);
    _exit(finish_attach(attach_client(client, control, order->streams, order->flags, keys)));
}

static int receive_descriptors(struct msghdr *message, int *fds)
{
    int count = 0;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(message); h != NULL; h = CMSG_NXTHDR(message, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        count = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof *fds);
        memcpy(fds, CMSG_DATA(h), (size_t)count * sizeof *fds);
    }
    return count;
}

/* Gives -1 for "go on by yourself", else the exit code. */
static int serve(int sock)
{
    static char packet[65536];
    static char control[CMSG_SPACE(MAX_FDS * sizeof(int))];
    for (;;) {
        struct iovec data = {packet, sizeof packet};
        struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t length = recvmsg(sock, &message, MSG_CMSG_CLOEXEC);
        if (length < 0 && errno == EINTR)
            continue;
        if (length <= 0)
            return -2;
        int fds[MAX_FDS], count = receive_descriptors(&message, fds);
        switch (packet[0]) {
        case 'O':
        case 'E':
            print(packet[0] == 'O' ? 1 : 2, packet + 1, (size_t)length - 1);
            break;
        case 'L':
            if (length < (ssize_t)sizeof(struct launch_order) || count < 1)
                return -2;
            launch_here(sock, (struct launch_order *)packet, fds, count);
            break;
        case 'A':
            if (length < (ssize_t)sizeof(struct launch_order) || count != 1)
                return -2;
            attach_here((struct launch_order *)packet, fds[0]);
        case 'Q':
            return length > 1 ? (uint8_t)packet[1] : LOST;
        case 'X':
            return -1;
        default:
            return -2;
        }
    }
}

int stub(int argc, char **argv)
{
    const char *own = getenv("ONGGI_NO_DAEMON");
    int sock = own != NULL && *own != '\0' ? -1 : connect_onggid(argc, argv);
    if (sock >= 0 && ask(sock, argc, argv)) {
        int code = serve(sock);
        if (code >= 0)
            return code;
        if (code == -2)
            become_python(argv + 1, argc - 1, "from onggi.cli.lost import main; main()");
    }
    if (sock >= 0)
        close(sock);
    become_python(argv + 1, argc - 1, "import gc; gc.disable(); from onggi.cli.main import main; main()");
}

/* attach SOCKET CONTROL STREAMS FLAGS [KEYS]: the same carrying, for a Python that has joined already. */
int attach_role(int argc, char **argv)
{
    if (argc < 4)
        return LOST;
    struct attach_keys keys = {.bytes = argc > 4 ? argv[4] : "", .length = argc > 4 ? strlen(argv[4]) : 0};
    return finish_attach(
        attach_client(atoi(argv[0]), atoi(argv[1]), (unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]), keys));
}
