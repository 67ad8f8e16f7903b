/* Drives the supervisor half of the launcher by itself, as `tests/supervisor.py` asks:
 *
 *     harness supervise RESULT_FD [OPTION...] -- ARGV...   supervise() around a child, without a plan executor
 *         log DIRECTORY NAME SIZE FILES LOST | listener FD | client FD | stdin | once | terminal | reaper
 *     harness log DIRECTORY NAME SIZE FILES LOST           frames on stdin (stream, uint32 length, bytes) to the log,
 *                                                          each answered by a byte; at the end the number of lost ones
 *     harness attach FD STREAMS FLAGS KEYS                 the client role over a connected socket
 *     harness init ARGV...                                 become_init(), then ARGV
 */
#include "../../launcher/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CHILD = SUP_SLOTS, THEIRS = 16 };

static struct side side = {.channel = -1, .status = -1};
static struct plan_record record = {.kind = OP_SUPERVISE};
static char arena[4096];
static uint32_t arena_used = 1;

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(125);
}

static int check(int result, const char *what)
{
    if (result < 0)
        die(what);
    return result;
}

static struct plan_span span(const void *bytes, size_t length)
{
    struct plan_span place = {arena_used, (uint32_t)length};
    memcpy(arena + arena_used, bytes, length);
    arena_used += (uint32_t)length + 1;
    return place;
}

static void make_pipe(int ours, int end)
{
    int ends[2];
    check(pipe2(ends, O_CLOEXEC), "pipe2");
    side.slots[ours] = ends[end];
    side.slots[THEIRS + ours] = ends[!end];
}

static void make_terminal(void)
{
    int unlock = 0, master = check(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), "ptmx");
    check(ioctl(master, TIOCSPTLCK, &unlock), "TIOCSPTLCK");
    side.slots[SUP_TERMINAL] = master;
    side.slots[THEIRS] = check(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC), "TIOCGPTPEER");
}

static void be_payload(char **argv)
{
    bool terminal = side.slots[SUP_TERMINAL] >= 0;
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL); /* as the launcher's child does: the caller may ignore some */
    setsid();
    for (int i = 0; i < 3; i++) {
        int from = side.slots[terminal ? THEIRS : THEIRS + i];
        check(dup2(from >= 0 ? from : open("/dev/null", O_RDWR), i), "dup2");
    }
    if (terminal)
        check(ioctl(0, TIOCSCTTY, 0), "TIOCSCTTY");
    execvp(argv[0], argv);
    die(argv[0]);
}

static void start_payload(char **argv)
{
    side.child = check(fork(), "fork");
    if (side.child == 0)
        be_payload(argv);
    side.slots[CHILD] = check((int)syscall(SYS_pidfd_open, side.child, 0), "pidfd_open");
    record.slot[0] = CHILD;
    for (int i = THEIRS; i < THEIRS + 3; i++)
        slot_close(&side, i);
}

static char **read_options(char **argument)
{
    bool terminal = false, with_stdin = false;
    for (; *argument && strcmp(*argument, "--") != 0; argument++) {
        if (strcmp(*argument, "log") == 0) {
            side.slots[SUP_LOG] = check(open(argument[1], O_PATH | O_DIRECTORY | O_CLOEXEC), argument[1]);
            record.text[1] = span(argument[2], strlen(argument[2]));
            record.number[0] = strtoull(argument[3], NULL, 10);
            record.number[1] = strtoull(argument[4], NULL, 10);
            record.text[2] = span(argument[5], strlen(argument[5]));
            argument += 5;
        } else if (strcmp(*argument, "listener") == 0) {
            side.slots[SUP_LISTENER] = atoi(*++argument);
        } else if (strcmp(*argument, "client") == 0) {
            side.slots[SUP_CLIENT] = atoi(*++argument);
        } else if (strcmp(*argument, "once") == 0) {
            record.number[2] = 1;
        } else if (strcmp(*argument, "terminal") == 0) {
            terminal = true;
        } else if (strcmp(*argument, "stdin") == 0) {
            with_stdin = true;
        } else if (strcmp(*argument, "reaper") == 0) {
            check(prctl(PR_SET_CHILD_SUBREAPER, 1), "prctl");
        } else {
            die(*argument);
        }
    }
    if (terminal) {
        make_terminal();
    } else {
        if (with_stdin)
            make_pipe(SUP_STDIN, 1);
        make_pipe(SUP_STDOUT, 0);
        make_pipe(SUP_STDERR, 0);
    }
    return argument + 1;
}

static int run_supervise(char **argument)
{
    int result_fd = atoi(*argument++);
    memset(side.slots, 0xff, sizeof side.slots);
    char **argv = read_options(argument);
    for (int i = 3; i < 256; i++)
        fcntl(i, F_SETFD, FD_CLOEXEC);
    struct {
        uint16_t which;
        int16_t slot;
    } table[SUP_SLOTS];
    for (int i = 0; i < SUP_SLOTS; i++) {
        table[i].which = (uint16_t)i;
        table[i].slot = side.slots[i] < 0 ? -1 : (int16_t)i;
    }
    record.text[0] = span(table, sizeof table);
    side.plan = (struct plan){.arena = arena, .arena_size = sizeof arena, .records = &record, .count = 1};
    start_payload(argv);
    dprintf(result_fd, "started %d\n", side.child);
    int result = supervise(&side, &record);
    dprintf(result_fd, "end %d %d %d %llu\n", result, side.end.code, side.end.signal, (unsigned long long)side.end.lost);
    clients_tell_end(&side);
    dprintf(result_fd, "told\n");
    clients_linger();
    dprintf(result_fd, "left\n");
    return 0;
}

static int run_log(char **argument)
{
    static struct log log;
    static struct log_stream streams[2];
    static char data[1 << 20];
    struct __attribute__((packed)) {
        char stream;
        uint32_t length;
    } frame;
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is a full disk that tests can have without root */
    streams[0].name = "stdout";
    streams[1].name = "stderr";
    log.directory = check(open(argument[0], O_PATH | O_DIRECTORY | O_CLOEXEC), argument[0]);
    log.name = argument[1];
    log.limit = strtoull(argument[2], NULL, 10);
    log.files = strtoull(argument[3], NULL, 10);
    log.lost_text = argument[4];
    log.lost_stream = "stderr";
    errno = -log_open(&log);
    check(-errno, "log_open");
    while (fread(&frame, sizeof frame, 1, stdin) == 1) {
        if (frame.length > sizeof data || fread(data, 1, frame.length, stdin) != frame.length)
            die("frame");
        log_take(&log, &streams[frame.stream == 'x'], data, frame.length);
        log_flush(&log);
        check((int)write(1, ".", 1), "answer");
    }
    log_finish(&log, &streams[0]);
    log_finish(&log, &streams[1]);
    log_close(&log);
    printf("%llu\n", (unsigned long long)log.lost);
    return 0;
}

static int run_attach(char **argument)
{
    int sock = atoi(argument[0]);
    unsigned streams = (unsigned)atoi(argument[1]), flags = (unsigned)atoi(argument[2]);
    int control = attach_join(sock, streams);
    if (control < 0)
        return 125;
    int result = attach_client(sock, control, streams, flags, (struct attach_keys){argument[3], strlen(argument[3])});
    return result < 0 ? 200 - result : result; /* a negative errno, as a code that no test's payload gives */
}

static int run_init(char **argv)
{
    int result = become_init(&side);
    if (result < 0) {
        errno = -result;
        die("become_init");
    }
    execvp(argv[0], argv);
    die(argv[0]);
}

int main(int argc, char **argv)
{
    if (argc >= 3 && strcmp(argv[1], "supervise") == 0)
        return run_supervise(argv + 2);
    if (argc >= 7 && strcmp(argv[1], "log") == 0)
        return run_log(argv + 2);
    if (argc >= 6 && strcmp(argv[1], "attach") == 0)
        return run_attach(argv + 2);
    if (argc >= 3 && strcmp(argv[1], "init") == 0)
        return run_init(argv + 2);
    return 125;
}
