/* The client role: this process's stdin, stdout, stderr and terminal, carried to a supervisor and back.
 *
 * Signals are passed on by their handlers, over a socket of their own, wherever the loop may be held up. Flags of
 * the descriptors 0 to 2 are never touched: they belong to whoever else has this terminal or pipe open. */
#include "supervise.h"
#include "kernel.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>

#define GOES_ON INT_MIN
#define MAX_KEYS 32
#define PIECE 4096 /* poll promises that a pipe takes so much without blocking */

/* What signal handlers need. */
static struct {
    int control; /* -1: no client is running */
    bool proxy;
    bool terminal; /* stdin is one, and the container has one */
    bool raw;      /* ... and we have set it so */
    struct termios saved, mode;
} self = {.control = -1};

static struct {
    int sock;
    unsigned flags;
    bool reading, at_end; /* stdin; its end is still to be told */
    struct attach_keys keys;
    size_t matched; /* detach keys seen, and kept back, so far */
    int out_fd;
    size_t out_at, out_end, in_end;
    char out[1 + ATTACH_CHUNK], in[1 + ATTACH_CHUNK];
} us;

/* -- terminal and signals ------------------------------------------------------------------------ */

/* Changing the terminal from the background would stop us (SIGTTOU) and disturb who is in front. */
static bool in_background(void)
{
    pid_t front = tcgetpgrp(0);
    return front > 0 && front != getpgrp();
}

static void make_raw(void)
{
    if (self.terminal && !self.raw && !in_background())
        self.raw = tcsetattr(0, TCSANOW, &self.mode) == 0;
}

static void restore_terminal(void)
{
    if (self.raw && !in_background())
        tcsetattr(0, TCSANOW, &self.saved);
    self.raw = false;
}

static void tell(const char *message, size_t length)
{
    send(self.control, message, length, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void tell_size(void)
{
    struct winsize size;
    if (ioctl(1, TIOCGWINSZ, &size) < 0 && ioctl(0, TIOCGWINSZ, &size) < 0)
        return;
    uint16_t cells[2] = {size.ws_row, size.ws_col};
    char message[5] = {ATTACH_RESIZE};
    memcpy(message + 1, cells, sizeof cells);
    tell(message, sizeof message);
}

static void on_signal(int number)
{
    int error = errno;
    char message[2] = {ATTACH_SIGNAL, (char)number};
    switch (number) {
    case SIGWINCH:
        tell_size();
        break;
    case SIGTSTP:
        restore_terminal();
        raise(SIGSTOP);
        break;
    case SIGCONT: /* the shell, or whoever stopped us, may have set the terminal otherwise meanwhile */
        self.raw = false;
        make_raw();
        tell_size();
        break;
    default:
        if (self.proxy) {
            tell(message, sizeof message);
            break;
        }
        restore_terminal();
        signal(number, SIG_DFL);
        raise(number); /* comes when this handler returns */
    }
    errno = error;
}

/* Faults stay what they are; job control of a client without a raw terminal is the shell's. */
static bool is_ours(int number)
{
    switch (number) {
    case SIGKILL: case SIGSTOP: case SIGCHLD: case SIGPIPE: case SIGURG: case SIGTTIN: case SIGTTOU:
    case SIGSEGV: case SIGBUS: case SIGFPE: case SIGILL: case SIGTRAP: case SIGSYS:
        return false;
    case SIGTSTP: case SIGCONT:
        return self.terminal;
    case SIGWINCH:
        return us.flags & ATTACH_RAW;
    }
    return self.proxy || self.terminal;
}

static void take_signals(void)
{
    struct sigaction ours = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, before;
    sigemptyset(&ours.sa_mask);
    for (int number = 1; number < NSIG; number++) {
        if (!is_ours(number) || sigaction(number, NULL, &before) < 0)
            continue;
        if (before.sa_handler != SIG_IGN || number == SIGWINCH || number == SIGCONT) /* nohup stays nohup */
            sigaction(number, &ours, NULL);
    }
}

/* -- input ------------------------------------------------------------------------------------------ */

/* One byte more: true when it completes the detach keys. What cannot be their beginning any more is let go. */
static bool pass_key(char key)
{
    const char *keys = us.keys.bytes;
    while (us.matched > 0 && key != keys[us.matched]) {
        size_t shorter = us.matched - 1; /* the longest beginning of the keys that the kept ones end in */
        while (memcmp(keys, keys + us.matched - shorter, shorter) != 0)
            shorter--;
        memcpy(us.in + us.in_end, keys, us.matched - shorter);
        us.in_end += us.matched - shorter;
        us.matched = shorter;
    }
    if (us.keys.length > 0 && key == keys[us.matched])
        return ++us.matched == us.keys.length;
    us.in[us.in_end++] = key;
    return false;
}

/* Send what waits, then the end of input. */
static void send_input(void)
{
    while (us.in_end > 0 || us.at_end) {
        if (us.in_end == 0) {
            us.in[0] = ATTACH_EOF;
            us.in_end = 1;
            us.at_end = false;
        }
        if (send(us.sock, us.in, us.in_end, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            if (errno == EAGAIN)
                return;
            us.reading = us.at_end = false; /* nobody is there; how it ended may still be to be read */
        }
        us.in_end = 0;
    }
}

static int read_input(void)
{
    static char typed[ATTACH_CHUNK - MAX_KEYS];
    make_raw(); /* brought to the front without having been stopped */
    ssize_t n = read(0, typed, sizeof typed);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return GOES_ON;
    us.in[0] = ATTACH_INPUT;
    us.in_end = 1;
    bool detached = false;
    for (ssize_t i = 0; i < n && !detached; i++)
        detached = pass_key(typed[i]);
    if (n <= 0) {
        memcpy(us.in + 1, us.keys.bytes, us.matched);
        us.in_end += us.matched;
        us.reading = false;
        us.at_end = !(us.flags & ATTACH_KEEP_OPEN);
    }
    if (us.in_end == 1)
        us.in_end = 0;
    send_input();
    return detached ? -ECANCELED : GOES_ON;
}

/* -- output ------------------------------------------------------------------------------------------ */

static int write_output(void)
{
    size_t left = us.out_end - us.out_at;
    ssize_t n = write(us.out_fd, us.out + us.out_at, left < PIECE ? left : PIECE);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? GOES_ON : -errno;
    us.out_at += (size_t)n;
    return GOES_ON;
}

static int hear_supervisor(void)
{
    int32_t end[2];
    ssize_t n = recv(us.sock, us.out, sizeof us.out, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNRESET))
        return GOES_ON; /* the reset is told once, before messages that are still there */
    if (n <= 0)
        return n < 0 ? -errno : -ECONNRESET;
    switch (us.out[0]) {
    case ATTACH_HELLO:
        return n >= 2 && us.out[1] == ATTACH_VERSION ? GOES_ON : -EPROTONOSUPPORT;
    case ATTACH_OUT:
    case ATTACH_ERR:
        us.out_fd = us.out[0] == ATTACH_OUT ? 1 : 2;
        us.out_at = 1;
        us.out_end = (size_t)n;
        return GOES_ON;
    case ATTACH_END:
        if (n < (ssize_t)sizeof end + 1)
            return -EPROTO;
        memcpy(end, us.out + 1, sizeof end);
        return end[1] ? 128 + end[1] : end[0];
    }
    return -EPROTO;
}

/* Wait once and do what there is to do. Gives the result of attach_client, or GOES_ON. */
static int carry_once(void)
{
    bool writing = us.out_at < us.out_end;
    struct pollfd list[] = {
        wanted(0, us.reading && us.in_end == 0 ? POLLIN : 0),
        wanted(us.sock, (writing ? 0 : POLLIN) | (us.in_end ? POLLOUT : 0)),
        wanted(us.out_fd, writing ? POLLOUT : 0),
    };
    if (poll(list, 3, -1) < 0)
        return errno == EINTR ? GOES_ON : -errno;
    int result = GOES_ON;
    if (list[2].revents)
        result = write_output();
    if (list[1].revents & (POLLOUT | POLLERR | POLLHUP))
        send_input();
    if (result == GOES_ON && list[1].revents & (POLLIN | POLLERR | POLLHUP) && !writing)
        result = hear_supervisor();
    if (result == GOES_ON && list[0].revents)
        result = read_input();
    return result;
}

/* -- the role ------------------------------------------------------------------------------------------ */

int attach_join(int sock, unsigned streams)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    char text[2] = {ATTACH_JOIN, (char)streams}, control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec data = {text, sizeof text};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &pair[1], sizeof(int));
    int error = sendmsg(sock, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
    close(pair[1]);
    if (error < 0)
        close(pair[0]);
    return error < 0 ? error : pair[0];
}

int attach_client(int sock, int control, unsigned streams, unsigned flags, struct attach_keys detach)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    if (detach.length > MAX_KEYS)
        return -EINVAL;
    us.sock = sock;
    us.flags = flags;
    us.keys = detach;
    us.reading = streams & ATTACH_STDIN;
    self.control = control;
    self.proxy = flags & ATTACH_PROXY && !(flags & ATTACH_RAW);
    self.terminal = flags & ATTACH_RAW && us.reading && tcgetattr(0, &self.saved) == 0;
    self.mode = self.saved;
    cfmakeraw(&self.mode);
    sigaction(SIGPIPE, &ignore, &before); /* or `| head` would leave the terminal raw */
    take_signals();
    make_raw();
    if (flags & ATTACH_RAW)
        tell_size();
    int result = GOES_ON;
    while (result == GOES_ON)
        result = carry_once();
    restore_terminal();
    self.proxy = self.terminal = false;
    self.control = -1;
    sigaction(SIGPIPE, &before, NULL);
    close(control);
    close(sock);
    return result;
}
