/* The launcher: executes one plan, then stays as the supervisor of what it started.
 *
 * Contract of every function here, unless it says otherwise: 0 or more is success,
 * a negative value is -errno; nothing prints; nothing allocates after the plan is
 * mapped, except the supervisor's fixed buffers. All descriptors are O_CLOEXEC.
 */
#pragma once
#define _GNU_SOURCE
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "plan.h"

/* -- decode.c: the wire form, bound-checked once, trusted afterwards ------------------------- */

struct plan {
    const struct plan_header *header;
    const struct plan_record *records;
    const char *arena;
    uint32_t arena_size;
    uint32_t count;
};

/* Check every offset, kind, slot and terminator. -EPROTO: not a plan; -EPROTONOSUPPORT: another version. */
int plan_decode(const void *bytes, size_t size, struct plan *out);

/* A span as a C string: plan_decode has seen its NUL. Absent or empty, it is "". */
const char *plan_text(const struct plan *plan, const struct plan_record *record, int index);

/* Point at each of the NUL-terminated strings of a span, and at NULL after the last. False: there are too many. */
bool plan_strings(const struct plan *plan, const struct plan_record *record, int index, char **out, size_t room);

/* -- side.c: what one process knows while it executes its sections --------------------------- */

struct child_end {
    bool known;      /* the child is gone and reaped */
    int code;        /* exit code, or 0 when killed */
    int signal;      /* signal that killed it, or 0 */
    int64_t at_ns;   /* CLOCK_REALTIME */
    uint64_t lost;   /* log records lost to a full disk */
    int error;       /* the start failed: errno, and the op (as people number them) that did */
    uint32_t error_op;
};

struct side {
    struct plan plan;
    int slots[PLAN_MAX_SLOTS]; /* -1: not written, or closed */
    const int *inherited;      /* descriptors the caller gave, in order */
    int inherited_count;
    int channel;               /* this side's end of the pair parent-child, or -1 */
    int status;                /* to whoever started us, or -1 */
    pid_t child;               /* parent side, after CLONE */
    bool is_child;
    uint32_t op;               /* record being executed */
    struct child_end end;
};

int slot_get(struct side *side, int slot);          /* the descriptor, or -EBADF */
int slot_put(struct side *side, int slot, int fd);  /* closes fd and gives -EEXIST when it is taken */
int slot_close(struct side *side, int slot);

/* Write the data of span `index` with the holes of span `index + 1` filled in. Gives its length. */
ssize_t fill_holes(struct side *side, const struct plan_record *record, int index, char *out, size_t room);

/* -- supervise.c, log.c: OP_SUPERVISE and what happens to the clients afterwards -------------- */

/* Span 0 of SUPERVISE is a table of (uint16 index, int16 slot): */
enum supervise_slot { SUP_STDIN, SUP_STDOUT, SUP_STDERR, SUP_TERMINAL, SUP_LISTENER, SUP_CLIENT, SUP_LOG, SUP_SLOTS };

/* Execute OP_SUPERVISE: returns when the child is reaped (side->end is filled) and its output is taken. */
int supervise(struct side *side, const struct plan_record *record);

/* Tell attached clients how the child ended (called by OP_RECORD after the record is renamed). */
void clients_tell_end(struct side *side);

/* Last thing before the launcher leaves: give slow readers what is still theirs, then close. */
void clients_linger(void);

/* Attach protocol, SOCK_SEQPACKET, one message per packet, first byte is the kind.
 * A connection takes part in stdio only after ATTACH_JOIN; others may signal and wait. End of file without
 * ATTACH_END: the supervisor is gone or was never there, and the exit record tells the rest. */
enum attach_message {
    ATTACH_HELLO = 'h',  /* supervisor: uint8 protocol version */
    ATTACH_JOIN = 'a',   /* client: uint8 bits of attach_stream; may bring one more socket (SCM_RIGHTS) for
                            signals and sizes, which then do not queue behind input that nobody reads */
    ATTACH_INPUT = 'i',  /* client: at most ATTACH_CHUNK bytes */
    ATTACH_EOF = 'e',    /* client: end of input; closes the pipe, says nothing to a terminal */
    ATTACH_SIGNAL = 's', /* client: uint8 signal number, to the child */
    ATTACH_RESIZE = 'r', /* client: uint16 rows, uint16 columns */
    ATTACH_OUT = 'o',    /* supervisor: bytes of stdout or the terminal */
    ATTACH_ERR = 'x',    /* supervisor: bytes of stderr */
    ATTACH_END = 'q',    /* supervisor: int32 exit code, int32 signal */
};
enum attach_stream { ATTACH_STDIN = 1, ATTACH_STDOUT = 2, ATTACH_STDERR = 4 };
#define ATTACH_VERSION 1
#define ATTACH_CHUNK 32768

/* -- attach.c: the client role ---------------------------------------------------------------- */

enum attach_flag {
    ATTACH_RAW = 1,       /* the container has a terminal: ours goes raw and tells its size */
    ATTACH_PROXY = 2,     /* signals to this process go to the container (docker's --sig-proxy); not with a terminal */
    ATTACH_KEEP_OPEN = 4, /* our end of input is not the container's (attach without stdin_once) */
};

struct attach_keys {
    const char *bytes; /* what detaches; length 0: nothing does */
    size_t length;     /* at most 32 */
};

/* Join in. A client that joins before its socket reaches the supervisor misses no output.
 * Gives a descriptor for signals and sizes, to be given to attach_client. */
int attach_join(int sock, unsigned streams);

/* Carry this process's stdio over `sock` until the end, closing both sockets. Gives the exit code for the shell
 * (128 + signal), or -ECANCELED after the detach keys, -EPIPE when our stdout is gone, -ECONNRESET without
 * ATTACH_END, or another -errno. Uses signal handlers that stay, harmless, afterwards. */
int attach_client(int sock, int control, unsigned streams, unsigned flags, struct attach_keys detach);

/* -- init.c: OP_INIT ------------------------------------------------------------------------- */

/* Fork; the child returns 0 and goes on with the plan, the parent stays as a reaping init and never returns. */
int become_init(struct side *side);

/* -- ops_*.c: one function per kind ------------------------------------------------------------ */

typedef int op_function(struct side *side, const struct plan_record *record);
extern op_function *const file_ops[OP_COUNT], *const mount_ops[OP_COUNT], *const process_ops[OP_COUNT], *const kernel_ops[OP_COUNT];

/* How many descriptors come with one packet of an order to the launcher; the kernel takes no more than 253. */
#define LAUNCH_PACKET_FDS 200

/* -- roles --------------------------------------------------------------------------------------- */

int launch(int status);                             /* launch.c */
int exec_protected(char **argv, char **environment); /* protect.c; returns only -errno */
int attach_role(int argc, char **argv);             /* stub.c */
int stub(int argc, char **argv);                    /* stub.c */
