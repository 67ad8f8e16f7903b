/* The exit record: how a child ended, and what `Keep` saw, as lines of text.
 *
 *     exit <code>
 *     signal <number>
 *     time <nanoseconds since the epoch>
 *     lost <log records>
 *     failed <op> <errno>     only where the start failed; `exit` is 125 then, as docker's
 *     keep <name> <bytes>
 *     <that many bytes, then a newline>
 */
#include "launcher.h"
#include "kernel.h"

#include <stdio.h>
#include <string.h>

static char kept[24576];
static size_t kept_length;

int record_keep(const char *name, const char *text, size_t length)
{
    int head = snprintf(kept + kept_length, sizeof kept - kept_length, "keep %s %zu\n", name, length);
    if (head < 0 || (size_t)head + length + 2 > sizeof kept - kept_length)
        return -ENOSPC;
    memcpy(kept + kept_length + head, text, length);
    kept_length += (size_t)head + length;
    kept[kept_length++] = '\n';
    return 0;
}

int record_write(const struct side *side, int parent, const char *name)
{
    char text[sizeof kept + 256];
    const struct child_end *end = &side->end;
    int head = snprintf(text, sizeof text, "exit %d\nsignal %d\ntime %lld\nlost %llu\n", end->code, end->signal,
                        (long long)end->at_ns, (unsigned long long)end->lost);
    if (end->error != 0)
        head += snprintf(text + head, sizeof text - (size_t)head, "failed %u %d\n", end->error_op, end->error);
    memcpy(text + head, kept, kept_length);
    return put_file(parent, name, text, (size_t)head + kept_length, 0600);
}
