/* The supervisor: carries stdio between one child, its log and attached clients until the child is gone.
 *
 * Output is read only when every joined client has taken what came before, so that a slow one holds the container
 * back as a full pipe would, and each needs no buffer of its own. Once the child is gone nothing waits for a client:
 * what the pipes still hold is read, logged, and kept in `backlog` for the slow ones, who get it at the very end. */
#include "supervise.h"
#include "kernel.h"

#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

enum {
    CLIENTS = 128,
    PIPE_SIZE = 65536,  /* what a pipe holds unless its user enlarges it */
    REST_MS = 500,      /* until we look again at what would only spin now */
    QUIET_MS = 100,     /* after the child's end: others may hold its pipes, and say nothing for so long */
    DRAIN_MS = 2000,    /* ... or talk for so long, which is Docker's bound */
    LINGER_MS = 10000,  /* a client that takes nothing for so long has given up */
    WANTS_END = 8,      /* beside the bits of attach_stream */
};

struct client {
    int fd;
    uint8_t wants; /* attach_stream, WANTS_END */
    bool held;     /* gives input that has no place yet */
    uint32_t at;   /* in the backlog */
};

/* Outlives supervise(): the clients stay until the launcher leaves. */
static struct {
    struct side *side;
    int slot[SUP_SLOTS], child;
    bool logging, stdin_once, stdin_over;
    int64_t rest_until; /* the listener or the terminal is left alone until then */
    int count;
    struct client clients[CLIENTS];
    uint32_t input_at, input_end, used;
    struct log_stream out, err;
    struct log log;
    char input[1 + ATTACH_CHUNK];                    /* one message */
    char backlog[2 * (PIPE_SIZE + ATTACH_CHUNK) + 4096]; /* messages, each behind its length in four bytes */
} sup;

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static int stream(enum supervise_slot which)
{
    return slot_get(sup.side, sup.slot[which]);
}

static void stream_close(enum supervise_slot which)
{
    slot_close(sup.side, sup.slot[which]);
}

static bool has_terminal(void)
{
    return sup.slot[SUP_TERMINAL] >= 0;
}

/* -- to clients -------------------------------------------------------------------------------- */

static uint8_t audience(char kind)
{
    return kind == ATTACH_OUT ? ATTACH_STDOUT : kind == ATTACH_ERR ? ATTACH_STDERR : WANTS_END;
}

/* Send what a client has not had yet, as far as its socket has room. True: it has everything. */
static bool pump(struct client *client)
{
    while (client->at < sup.used) {
        uint32_t length;
        const char *message = sup.backlog + client->at + sizeof length;
        memcpy(&length, sup.backlog + client->at, sizeof length);
        if (client->wants & audience(message[0]) && send(client->fd, message, length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            if (errno == EAGAIN)
                return false;
            client->wants &= ATTACH_STDIN; /* it hears no more; what it gave before is still read */
            shutdown(client->fd, SHUT_WR);
        }
        client->at += (uint32_t)sizeof length + length;
    }
    return true;
}

/* Pump everyone; when all have everything the backlog starts anew. */
static void pump_all(void)
{
    bool behind = false;
    for (int i = 0; i < sup.count; i++)
        behind |= !pump(&sup.clients[i]);
    if (behind)
        return;
    for (int i = 0; i < sup.count; i++)
        sup.clients[i].at = 0;
    sup.used = 0;
}

/* `length` bytes, the first of them the kind, stand at the end of the backlog. */
static void publish(uint32_t length)
{
    memcpy(sup.backlog + sup.used, &length, sizeof length);
    sup.used += (uint32_t)sizeof length + length;
    pump_all();
}

static char *backlog_end(void)
{
    return sup.backlog + sup.used + sizeof(uint32_t);
}

static size_t backlog_room(void)
{
    return sizeof sup.backlog - sup.used - sizeof(uint32_t);
}

/* -- the child's input --------------------------------------------------------------------------- */

/* Move waiting input on. Where nobody reads any more it is dropped, as a pipe without a reader does. */
static void feed(void)
{
    int fd = stream(has_terminal() ? SUP_TERMINAL : SUP_STDIN);
    while (sup.input_at < sup.input_end) {
        size_t left = sup.input_end - sup.input_at;
        ssize_t n = fd < 0 ? (ssize_t)left : write(fd, sup.input + sup.input_at, left);
        if (n == 0 || (n < 0 && errno == EAGAIN))
            return;
        if (n < 0) {
            stream_close(SUP_STDIN);
            n = (ssize_t)left;
        }
        sup.input_at += (uint32_t)n;
    }
    if (sup.stdin_over)
        stream_close(SUP_STDIN);
    for (int i = 0; i < sup.count; i++)
        sup.clients[i].held = false;
}

static void end_input(void)
{
    sup.stdin_over = true;
    feed();
}

/* -- from clients ---------------------------------------------------------------------------------- */

static int add_client(int fd, uint8_t wants)
{
    const char hello[] = {ATTACH_HELLO, ATTACH_VERSION};
    if (sup.count == CLIENTS) {
        close(fd);
        return -EMFILE;
    }
    sup.clients[sup.count++] = (struct client){.fd = fd, .wants = wants, .at = sup.used};
    if (wants & WANTS_END)
        send(fd, hello, sizeof hello, MSG_DONTWAIT | MSG_NOSIGNAL);
    return 0;
}

/* Unread messages at close would show there as ECONNRESET before what we sent. */
static void hang_up(int fd)
{
    char byte;
    shutdown(fd, SHUT_RD);
    while (recv(fd, &byte, 1, MSG_DONTWAIT) > 0)
        ;
    close(fd);
}

static void drop_client(struct client *client)
{
    bool gave_input = client->wants & ATTACH_STDIN;
    hang_up(client->fd);
    *client = sup.clients[--sup.count];
    if (gave_input && sup.stdin_once)
        end_input();
}

static bool peer_may(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

static void take_clients(void)
{
    int listener = stream(SUP_LISTENER);
    while (listener >= 0 && sup.count < CLIENTS) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0 && !peer_may(fd))
            close(fd);
        else if (fd >= 0)
            add_client(fd, WANTS_END);
        else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
            sup.rest_until = now_ms() + REST_MS;
        if (fd < 0 && errno != ECONNABORTED)
            return;
    }
}

/* Receive one message. That a peer left without reading ours is told once, by ECONNRESET, before what it sent. */
static ssize_t receive(int fd, struct msghdr *message, void *data, size_t room, int flags)
{
    struct iovec place = {data, room};
    ssize_t n;
    message->msg_iov = &place;
    message->msg_iovlen = 1;
    do
        n = recvmsg(fd, message, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == ECONNRESET);
    return n;
}

static int take_join(struct client *client)
{
    char text[2] = {0}, control[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};
    if (receive(client->fd, &message, text, sizeof text, 0) < 0)
        return -errno;
    client->wants = (uint8_t)((text[1] & (ATTACH_STDIN | ATTACH_STDOUT | ATTACH_STDERR)) | WANTS_END);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int))) {
        int fd;
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
        add_client(fd, 0);
    }
    return 1;
}

static int take_input(struct client *client)
{
    if (sup.input_at < sup.input_end) {
        client->held = true;
        return 0;
    }
    ssize_t n = receive(client->fd, &(struct msghdr){0}, sup.input, sizeof sup.input, MSG_TRUNC);
    if (n < 1 || n > (ssize_t)sizeof sup.input)
        return -EPROTO;
    sup.input_at = 1;
    sup.input_end = client->wants & ATTACH_STDIN ? (uint32_t)n : 1;
    feed();
    return 1;
}

static void resize(const char *size)
{
    uint16_t cells[2];
    memcpy(cells, size, sizeof cells);
    struct winsize window = {.ws_row = cells[0], .ws_col = cells[1]};
    int terminal = stream(SUP_TERMINAL);
    if (terminal >= 0)
        ioctl(terminal, TIOCSWINSZ, &window);
}

/* One message: 1; none to be had now: 0; negative: the client is gone or speaks another language. */
static int hear_client(struct client *client)
{
    char message[8] = {0};
    ssize_t n = receive(client->fd, &(struct msghdr){0}, message, sizeof message, MSG_PEEK);
    if (n <= 0)
        return n == 0 ? -EPIPE : errno == EAGAIN ? 0 : -errno;
    if (message[0] == ATTACH_INPUT)
        return take_input(client);
    if (message[0] == ATTACH_JOIN)
        return take_join(client);
    receive(client->fd, &(struct msghdr){0}, message, sizeof message, 0);
    if (message[0] == ATTACH_EOF && client->wants & ATTACH_STDIN)
        end_input();
    else if (message[0] == ATTACH_SIGNAL && n >= 2)
        syscall(SYS_pidfd_send_signal, slot_get(sup.side, sup.child), (unsigned char)message[1], NULL, 0);
    else if (message[0] == ATTACH_RESIZE && n >= 5)
        resize(message + 1);
    return 1;
}

/* -- the child's output --------------------------------------------------------------------------- */

/* With the child gone and pipes larger than the usual, or others who still write: whoever is so far behind is cut
 * off, and sees it, as an end without ATTACH_END. */
static void cut_off_slow(void)
{
    for (int i = sup.count - 1; i >= 0; i--)
        if (sup.clients[i].at < sup.used)
            drop_client(&sup.clients[i]);
    pump_all();
}

/* Read once and pass it on. False: there was nothing. */
static bool carry(enum supervise_slot from)
{
    int fd = stream(from);
    if (fd < 0)
        return false;
    if (backlog_room() < 1 + ATTACH_CHUNK)
        cut_off_slow();
    char *message = backlog_end();
    ssize_t n = read(fd, message + 1, ATTACH_CHUNK);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0) {
        /* EIO: nobody has the terminal open now. While the child lives it, or /dev/console, may be opened again. */
        if (n < 0 && errno == EIO && has_terminal() && !sup.side->end.known)
            sup.rest_until = now_ms() + REST_MS;
        else
            stream_close(from);
        return false;
    }
    bool is_error = from == SUP_STDERR;
    if (sup.logging) {
        log_take(&sup.log, is_error ? &sup.err : &sup.out, message + 1, (size_t)n);
        log_flush(&sup.log);
    }
    message[0] = is_error ? ATTACH_ERR : ATTACH_OUT;
    publish((uint32_t)n + 1);
    return true;
}

/* -- the child's end -------------------------------------------------------------------------------- */

static void take_end(void)
{
    siginfo_t info = {0};
    struct child_end *end = &sup.side->end;
    int result = waitid((idtype_t)P_PIDFD, (id_t)slot_get(sup.side, sup.child), &info, WEXITED | WNOHANG);
    if (result == 0 && info.si_pid == 0)
        return;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    /* On an error somebody else has reaped it: that it is gone is all that can be said, and 255 says it. */
    end->code = result < 0 ? 255 : info.si_code == CLD_EXITED ? info.si_status : 0;
    end->signal = result == 0 && info.si_code != CLD_EXITED ? info.si_status : 0;
    end->at_ns = now.tv_sec * 1000000000LL + now.tv_nsec;
    end->known = true;
    sup.input_at = sup.input_end = 0;
    end_input();
}

/* Orphans come to us when we are the first process of a machine, or our caller made itself a subreaper. */
static void reap_others(void)
{
    siginfo_t info;
    for (;;) {
        info.si_pid = 0;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
            return;
        if (info.si_pid == sup.side->child)
            return; /* by its pidfd */
        waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG);
    }
}

/* -- the loop ----------------------------------------------------------------------------------------- */

enum { AT_CHILD, AT_LISTENER, AT_STDOUT, AT_STDERR, AT_TERMINAL, AT_INPUT, AT_CLIENTS };

static void list_wanted(struct pollfd *list, bool resting)
{
    bool ended = sup.side->end.known;
    int output = ended || sup.used == 0 ? POLLIN : 0;
    list[AT_CHILD] = wanted(slot_get(sup.side, sup.child), ended ? 0 : POLLIN);
    list[AT_LISTENER] = wanted(stream(SUP_LISTENER), resting || sup.count == CLIENTS ? 0 : POLLIN);
    list[AT_STDOUT] = wanted(stream(SUP_STDOUT), output);
    list[AT_STDERR] = wanted(stream(SUP_STDERR), output);
    list[AT_TERMINAL] = wanted(stream(SUP_TERMINAL), resting ? 0 : output);
    int input = sup.input_at < sup.input_end ? POLLOUT : 0;
    list[AT_INPUT] = wanted(stream(has_terminal() ? SUP_TERMINAL : SUP_STDIN), has_terminal() && resting ? 0 : input);
    for (int i = 0; i < sup.count; i++) {
        const struct client *client = &sup.clients[i];
        list[AT_CLIENTS + i] = wanted(client->fd, (client->held ? 0 : POLLIN) | (client->at < sup.used ? POLLOUT : 0));
    }
}

/* Wait once, at most `timeout` ms (-1: for ever), and do what there is to do. True: the child said something. */
static bool serve(int timeout)
{
    struct pollfd list[AT_CLIENTS + CLIENTS];
    bool resting = sup.rest_until > now_ms(), said = false;
    int count = sup.count;
    list_wanted(list, resting);
    if (resting && (timeout < 0 || timeout > REST_MS))
        timeout = REST_MS;
    struct timespec wait = {timeout / 1000, timeout % 1000 * 1000000L};
    sigset_t mask;
    memset(&mask, 0xff, sizeof mask);
    sigdelset(&mask, SIGCHLD);
    int ready = ppoll(list, (nfds_t)(AT_CLIENTS + count), timeout < 0 ? NULL : &wait, &mask);
    if (ready < 0)
        reap_others();
    if (ready <= 0)
        return false;
    /* From the last one down, since a dropped one's place goes to the last. */
    for (int i = count - 1; i >= 0; i--) {
        short events = list[AT_CLIENTS + i].revents;
        if (events & (POLLIN | POLLHUP | POLLERR) && !sup.clients[i].held && hear_client(&sup.clients[i]) < 0)
            drop_client(&sup.clients[i]);
    }
    pump_all();
    if (list[AT_INPUT].revents)
        feed();
    for (int i = AT_STDOUT; i <= AT_TERMINAL; i++)
        if (list[i].revents && (sup.used == 0 || sup.side->end.known))
            said |= carry(i == AT_STDOUT ? SUP_STDOUT : i == AT_STDERR ? SUP_STDERR : SUP_TERMINAL);
    if (list[AT_LISTENER].revents)
        take_clients();
    if (list[AT_CHILD].revents)
        take_end();
    return said;
}

/* The end of the child is the end of its output, unless others share it: they are given a moment. */
static void drain(void)
{
    int64_t now = now_ms(), last = now + DRAIN_MS, quiet = now + QUIET_MS;
    sup.rest_until = 0;
    while (stream(SUP_STDOUT) >= 0 || stream(SUP_STDERR) >= 0 || stream(SUP_TERMINAL) >= 0) {
        int64_t until = quiet < last ? quiet : last;
        if (now >= until)
            break;
        bool said = serve((int)(until - now));
        now = now_ms();
        if (said)
            quiet = now + QUIET_MS;
    }
    for (enum supervise_slot i = SUP_STDIN; i <= SUP_TERMINAL; i++)
        stream_close(i);
}

/* -- begin and end --------------------------------------------------------------------------------------- */

static void on_child(int number)
{
    (void)number; /* it only has to end ppoll */
}

/* A supervisor ends with its container and by nothing else. The raw call: libc's leaves out signals of its own. */
static int deafen(void)
{
    struct sigaction action = {.sa_handler = on_child};
    uint64_t all = ~0ULL;
    if (sigaction(SIGCHLD, &action, NULL) < 0)
        return -errno;
    return sys_result(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all));
}

static void read_slots(const struct plan_record *record)
{
    const char *table = plan_text(&sup.side->plan, record, 0);
    memset(sup.slot, 0xff, sizeof sup.slot);
    for (size_t at = 0; at + 4 <= record->text[0].length; at += 4) {
        uint16_t which;
        int16_t slot;
        memcpy(&which, table + at, sizeof which);
        memcpy(&slot, table + at + 2, sizeof slot);
        if (which < SUP_SLOTS)
            sup.slot[which] = slot;
    }
}

static int begin_log(const struct plan_record *record)
{
    sup.out.name = "stdout";
    sup.err.name = "stderr";
    sup.logging = sup.slot[SUP_LOG] >= 0;
    if (!sup.logging)
        return 0;
    sup.log.directory = stream(SUP_LOG);
    sup.log.name = plan_text(&sup.side->plan, record, 1);
    sup.log.limit = record->number[0];
    sup.log.files = record->number[1];
    sup.log.lost_text = plan_text(&sup.side->plan, record, 2);
    sup.log.lost_stream = has_terminal() ? "stdout" : "stderr";
    return log_open(&sup.log);
}

static int begin(struct side *side, const struct plan_record *record)
{
    sup.side = side;
    sup.child = record->slot[0];
    sup.stdin_once = record->number[2];
    read_slots(record);
    if (slot_get(side, sup.child) < 0)
        return -EBADF;
    int result = begin_log(record);
    if (result < 0)
        return result;
    /* Our ends of the pipes and the terminal's master are open files that nobody else has. */
    for (enum supervise_slot i = SUP_STDIN; i <= SUP_LISTENER; i++) {
        int flags = stream(i) < 0 ? 0 : fcntl(stream(i), F_GETFL);
        if (flags < 0 || (stream(i) >= 0 && fcntl(stream(i), F_SETFL, flags | O_NONBLOCK) < 0))
            return -errno;
    }
    return deafen();
}

/* The client that came with the plan. What it has said already is heard before the first output is read. */
static void begin_client(void)
{
    int fd = stream(SUP_CLIENT);
    if (fd < 0)
        return;
    sup.side->slots[sup.slot[SUP_CLIENT]] = -1;
    add_client(fd, WANTS_END);
    int heard;
    while ((heard = hear_client(&sup.clients[0])) > 0)
        ;
    if (heard < 0)
        drop_client(&sup.clients[0]);
}

int supervise(struct side *side, const struct plan_record *record)
{
    int result = begin(side, record);
    if (result < 0)
        return result;
    begin_client();
    reap_others(); /* who died before SIGCHLD had a handler told nobody */
    while (!side->end.known)
        serve(-1);
    drain();
    if (sup.logging) {
        log_finish(&sup.log, &sup.out);
        log_finish(&sup.log, &sup.err);
        log_close(&sup.log);
        side->end.lost = sup.log.lost;
    }
    return 0;
}

void clients_tell_end(struct side *side)
{
    int32_t end[2] = {side->end.code, side->end.signal};
    if (sup.side == NULL)
        return;
    take_clients();
    if (backlog_room() < 1 + sizeof end)
        cut_off_slow();
    char *message = backlog_end();
    message[0] = ATTACH_END;
    memcpy(message + 1, end, sizeof end);
    publish(1 + sizeof end);
}

void clients_linger(void)
{
    struct pollfd list[CLIENTS];
    for (;;) {
        for (int i = sup.count - 1; i >= 0; i--)
            if (pump(&sup.clients[i])) {
                hang_up(sup.clients[i].fd);
                sup.clients[i] = sup.clients[--sup.count];
            }
        for (int i = 0; i < sup.count; i++)
            list[i] = wanted(sup.clients[i].fd, POLLOUT);
        if (sup.count == 0 || poll(list, (nfds_t)sup.count, LINGER_MS) <= 0)
            return;
    }
}
