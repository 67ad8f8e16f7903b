/* The log: json-file records byte for byte as Docker writes them (moby daemon/logger: copier.go, jsonfilelog),
 * its rotation, and what happens when the disk is full.
 *
 * A raw newline ends each record and is nowhere else in it: that is how whole records are told from torn ones.
 * One thing differs from Docker's: a long line is never cut inside a UTF-8 character, which would lose it. */
#include "supervise.h"
#include "kernel.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_FILES 1000

/* -- the file -------------------------------------------------------------------------------- */

static bool disk_is_full(int error)
{
    return error == ENOSPC || error == EDQUOT;
}

/* A supervisor that was killed in the middle of a write leaves a torn record behind: no reader shall meet it. */
static uint64_t cut_torn_end(int fd, uint64_t size)
{
    char block[512];
    uint64_t end = size;
    while (end > 0) {
        size_t length = end < sizeof block ? (size_t)end : sizeof block;
        if (pread(fd, block, length, (off_t)(end - length)) != (ssize_t)length)
            return size;
        const char *newline = memrchr(block, '\n', length);
        end -= newline ? length - (size_t)(newline + 1 - block) : length;
        if (newline)
            break;
    }
    return end == size || ftruncate(fd, (off_t)end) < 0 ? size : end;
}

static int open_file(struct log *log)
{
    /* O_APPEND: an administrator may truncate the file under us. */
    int fd = openat(log->directory, log->name, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (fd < 0)
        return -errno;
    struct stat seen;
    if (fstat(fd, &seen) < 0 || !S_ISREG(seen.st_mode)) {
        close(fd);
        return -EINVAL;
    }
    log->fd = fd;
    log->size = cut_torn_end(fd, (uint64_t)seen.st_size);
    return 0;
}

int log_open(struct log *log)
{
    if (strlen(log->name) > 200)
        return -ENAMETOOLONG;
    if (log->files > MAX_FILES)
        log->files = MAX_FILES;
    log->fd = -1;
    log->second = -1;
    int result = open_file(log);
    return disk_is_full(-result) ? 0 : result;
}

/* name.1 is the youngest of the old ones. The new file is made first: where it cannot be, the old one goes on. */
static void rotate(struct log *log)
{
    if (log->files < 2) {
        if (ftruncate(log->fd, 0) == 0)
            log->size = 0;
        return;
    }
    char from[256], to[256], fresh[256];
    snprintf(fresh, sizeof fresh, "%s.new", log->name);
    int fd = openat(log->directory, fresh, O_RDWR | O_APPEND | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (fd < 0)
        return;
    for (uint64_t number = log->files - 1; number > 0; number--) {
        snprintf(to, sizeof to, "%s.%u", log->name, (unsigned)number);
        snprintf(from, sizeof from, number > 1 ? "%s.%u" : "%s", log->name, (unsigned)number - 1);
        renameat(log->directory, from, log->directory, to);
    }
    if (renameat(log->directory, fresh, log->directory, log->name) < 0) {
        unlinkat(log->directory, fresh, 0);
        close(fd);
        return;
    }
    close(log->fd);
    log->fd = fd;
    log->size = 0;
}

/* -- writing, and losing ----------------------------------------------------------------------- */

/* Take back what is written of an unfinished record. Counted from the file's real end, see open_file. */
static void cut_torn_record(struct log *log)
{
    struct stat seen;
    if (log->torn == 0 || fstat(log->fd, &seen) < 0)
        return;
    uint64_t size = (uint64_t)seen.st_size > log->torn ? (uint64_t)seen.st_size - log->torn : 0;
    if (ftruncate(log->fd, (off_t)size) == 0)
        log->size = size;
    log->torn = 0;
}

static void count_lost(struct log *log, const char *from, const char *end)
{
    for (; (from = memchr(from, '\n', (size_t)(end - from))) != NULL; from++) {
        log->lost++;
        log->gap++;
    }
    log->failed = log->building; /* this one is counted when it is complete */
}

void log_flush(struct log *log)
{
    if (log->used == 0)
        return;
    size_t done = 0;
    for (ssize_t n; done < log->used && (n = write(log->fd, log->out + done, log->used - done)) > 0;)
        done += (size_t)n;
    /* A gap is not told until a record after it is there: otherwise a disk with room for nothing else fills with
     * tellings. So they share a fate, and the newline of the telling does not count. */
    size_t skip = done < log->mark_end ? done : log->mark_end, whole = 0;
    const char *newline = memrchr(log->out + skip, '\n', done - skip);
    if (newline) {
        whole = (size_t)(newline + 1 - log->out);
        log->marking = false;
        log->gap = log->torn = 0;
    }
    log->torn += done - whole;
    log->size += done;
    if (done < log->used) {
        cut_torn_record(log);
        count_lost(log, log->out + (whole > log->mark_end ? whole : log->mark_end), log->out + log->used);
        log->marking = false;
    }
    log->used = log->mark_end = 0;
}

static void put(struct log *log, const char *bytes, size_t length)
{
    while (length > 0 && !log->failed) {
        size_t room = sizeof log->out - log->used, n = length < room ? length : room;
        memcpy(log->out + log->used, bytes, n);
        log->used += n;
        bytes += n;
        length -= n;
        if (log->used == sizeof log->out)
            log_flush(log);
    }
}

static void put_text(struct log *log, const char *text)
{
    put(log, text, strlen(text));
}

/* -- records ----------------------------------------------------------------------------------- */

/* Length of a character by its first byte; 0: none begins so. */
static size_t rune_size(unsigned char c)
{
    return c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
}

/* Length of the character at `s` as Go's utf8.DecodeRune sees it; 0: these bytes are none. */
static size_t rune_length(const unsigned char *s, size_t left)
{
    size_t length = rune_size(s[0]);
    if (length < 2 || length > left)
        return length > left ? 0 : length;
    uint32_t code = s[0] & (0x7f >> length);
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (s[i] & 0x3f);
    }
    bool overlong = code < (length == 2 ? 0x80u : length == 3 ? 0x800u : 0x10000u);
    return overlong || code >> 11 == 0xd800 >> 11 || code > 0x10ffff ? 0 : length;
}

/* How the record says the character at `s`; 0: as it is. A tab has no short form there. */
static size_t escape(const unsigned char *s, size_t length, char out[7])
{
    if (length == 0)
        return memcpy(out, "\\ufffd", 6), 6;
    if (length == 3 && s[0] == 0xe2 && s[1] == 0x80 && (s[2] == 0xa8 || s[2] == 0xa9))
        return memcpy(out, s[2] == 0xa8 ? "\\u2028" : "\\u2029", 6), 6;
    unsigned char c = s[0];
    if (c >= 0x20 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&')
        return 0;
    out[0] = '\\';
    out[1] = (char)(c == '\n' ? 'n' : c == '\r' ? 'r' : c);
    if (c == '"' || c == '\\' || c == '\n' || c == '\r')
        return 2;
    const char *hex = "0123456789abcdef";
    memcpy(out + 1, "u00", 3);
    out[4] = hex[c >> 4];
    out[5] = hex[c & 15];
    return 6;
}

static void put_escaped(struct log *log, const char *text, size_t length)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t from = 0;
    char code[7];
    for (size_t i = 0; i < length;) {
        size_t rune = rune_length(s + i, length - i), size = escape(s + i, rune, code), step = rune ? rune : 1;
        if (size > 0) {
            put(log, text + from, i - from);
            put(log, code, size);
            from = i + step;
        }
        i += step;
    }
    put(log, text + from, length - from);
}

/* Days since 1970 as year, month and day. libc's gmtime would read the time zone files of whoever we are. */
static void civil(int64_t days, int out[3])
{
    /* Count from 1 March of year 0, so that the leap day is the last of its year. */
    int64_t shifted = days + 719468, era = shifted / 146097, day = shifted % 146097;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    int64_t rest = day - (365 * year + year / 4 - year / 100), month = (5 * rest + 2) / 153;
    out[0] = (int)(year + era * 400 + (month >= 10));
    out[1] = (int)(month < 10 ? month + 3 : month - 9);
    out[2] = (int)(rest - (153 * month + 2) / 5 + 1);
}

/* time.RFC3339Nano: the fraction ends at its last digit that is not 0, and is left out when it is 0. */
static void put_time(struct log *log, int64_t ns)
{
    int64_t second = ns / 1000000000;
    if (second != log->second) {
        int date[3], day = (int)(second % 86400);
        char text[80];
        civil(second / 86400, date);
        snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d", date[0], date[1], date[2], day / 3600, day / 60 % 60,
                 day % 60);
        memcpy(log->date, text, 19);
        log->second = second;
    }
    put(log, log->date, 19);
    char fraction[16];
    int length = snprintf(fraction, sizeof fraction, ".%09d", (int)(ns % 1000000000));
    while (length > 0 && (fraction[length - 1] == '0' || fraction[length - 1] == '.'))
        length--;
    put(log, fraction, (size_t)length);
    put_text(log, "Z");
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void put_record(struct log *log, const char *stream, int64_t ns, const char *text, size_t length, const char *end)
{
    put_text(log, "{\"log\":\"");
    put_escaped(log, text, length);
    put_text(log, end);
    put_text(log, "\",\"stream\":\"");
    put_text(log, stream);
    put_text(log, "\",\"time\":\"");
    put_time(log, ns);
    put_text(log, "\"}\n");
}

static void tell_gap(struct log *log)
{
    char text[512];
    int length = snprintf(text, sizeof text, "%.480s%llu", log->lost_text, (unsigned long long)log->gap);
    put_record(log, log->lost_stream, now_ns(), text, (size_t)length, "\\n");
    log->marking = true;
    log->mark_end = log->used;
}

static void add_record(struct log *log, const char *stream, int64_t ns, const char *text, size_t length, const char *end)
{
    /* Docker looks at the size before each record: a file may be one record longer than the limit. */
    if (log->limit > 0 && log->fd >= 0 && log->size + log->used >= log->limit) {
        log_flush(log);
        if (log->size >= log->limit)
            rotate(log);
    }
    if (log->fd < 0 && open_file(log) < 0) {
        log->lost++;
        log->gap++;
        return;
    }
    if (log->gap > 0 && log->used == 0 && !log->marking)
        tell_gap(log);
    log->building = true;
    put_record(log, stream, ns, text, length, end);
    log->building = false;
    if (log->failed) {
        log->lost++;
        log->gap++;
        log->failed = false;
    }
}

/* -- lines -------------------------------------------------------------------------------------- */

/* Bytes at the end of a full buffer that may be the beginning of a character. */
static size_t cut_character(const char *text, size_t length)
{
    for (size_t back = 1; back <= 3 && back < length; back++) {
        unsigned char c = (unsigned char)text[length - back];
        if ((c & 0xc0) == 0x80)
            continue;
        return rune_size(c) > back ? back : 0;
    }
    return 0;
}

static void end_line(struct log *log, struct log_stream *stream, const char *text, size_t length)
{
    add_record(log, stream->name, stream->since_ns ? stream->since_ns : now_ns(), text, length, "\\n");
    stream->since_ns = 0;
    stream->held = 0;
}

static void cut_line(struct log *log, struct log_stream *stream, const char *text, size_t length)
{
    size_t kept = cut_character(text, length);
    if (stream->since_ns == 0)
        stream->since_ns = now_ns();
    add_record(log, stream->name, stream->since_ns, text, length - kept, "");
    memmove(stream->line, text + length - kept, kept);
    stream->held = kept;
}

void log_take(struct log *log, struct log_stream *stream, const char *data, size_t length)
{
    while (length > 0) {
        size_t room = LOG_LINE - stream->held, n = length < room ? length : room;
        const char *newline = memchr(data, '\n', n), *text = data;
        n = newline ? (size_t)(newline - data) : n;
        bool hold = newline == NULL && n < room;
        size_t whole = stream->held + n;
        if (hold || stream->held > 0) { /* otherwise the line is whole where it is */
            memcpy(stream->line + stream->held, data, n);
            text = stream->line;
        }
        if (hold)
            stream->held = whole;
        else if (newline)
            end_line(log, stream, text, whole);
        else
            cut_line(log, stream, text, whole);
        n += newline != NULL;
        data += n;
        length -= n;
    }
}

void log_finish(struct log *log, struct log_stream *stream)
{
    if (stream->held > 0)
        add_record(log, stream->name, stream->since_ns ? stream->since_ns : now_ns(), stream->line, stream->held, "");
    stream->held = 0;
    stream->since_ns = 0;
}

void log_close(struct log *log)
{
    log_flush(log);
    if (log->fd >= 0)
        close(log->fd);
    log->fd = -1;
}
