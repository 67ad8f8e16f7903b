/* Private to the supervisor: the log that supervise.c feeds and log.c writes. */
#pragma once
#include "launcher.h"

#include <poll.h>

/* A descriptor without wanted events is left out: poll reports a hang-up whether asked for or not. */
static inline struct pollfd wanted(int fd, int events)
{
    return (struct pollfd){.fd = events ? fd : -1, .events = (short)events};
}

#define LOG_LINE 16384 /* Docker's copier has this buffer: longer lines become several records */

/* One stream of the container on its way into records. */
struct log_stream {
    const char *name; /* as records say it */
    size_t held;      /* bytes of `line`: the beginning of a line that has not ended yet */
    int64_t since_ns; /* when the first record of a long line was made, which its other records repeat; 0: no such line */
    char line[LOG_LINE];
};

struct log {
    int directory, fd; /* fd -1: not open, tried again at the next record */
    const char *name;
    uint64_t limit, files; /* bytes a file (0: no limit), files in all */
    const char *lost_text, *lost_stream;
    uint64_t lost, gap; /* records that a full disk cost: in all, and since the log last said so */
    uint64_t size;      /* of the file, without `out` */
    uint64_t torn;      /* bytes of an unfinished record at the file's end */
    bool building;      /* a record is being put into `out` */
    bool failed;        /* ... and its beginning could not be written */
    bool marking;       /* a gap is told in `out` or at the file's end, but no record after it is written yet */
    size_t mark_end;    /* where that telling ends in `out` */
    int64_t second;     /* what `date` shows */
    char date[20];
    size_t used;
    char out[16384];
};

/* Make ready and open the file. Only a full disk is no error here: records are counted as lost until it has room. */
int log_open(struct log *log);

/* Take output of one stream. Whole lines and whole buffers become records in `out`. */
void log_take(struct log *log, struct log_stream *stream, const char *data, size_t length);

/* The stream is over: what it holds is its last record. */
void log_finish(struct log *log, struct log_stream *stream);

/* Write what has gathered, with one write(2) unless the disk is full. */
void log_flush(struct log *log);

void log_close(struct log *log);
