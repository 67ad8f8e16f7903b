/* libFuzzer harness: whatever plan_decode accepts, every later stage may read without looking.
 *
 * Reads each span as text, as several strings and as a template with holes, as the ops do. Built and run by
 * test_decode.py with the address and undefined behaviour sanitizers. */
#include "../../launcher/launcher.h"

#include <stdlib.h>
#include <string.h>

static volatile size_t seen; /* what is read must not be optimised away */

static void read_record(struct side *side, const struct plan_record *record)
{
    static char out[65536];
    static char *strings[256];
    for (int i = 0; i < 4; i++) {
        const char *text = plan_text(&side->plan, record, i);
        seen += strlen(text) + (unsigned char)text[record->text[i].length];
        if (plan_strings(&side->plan, record, i, strings, 256))
            for (char **string = strings; *string; string++)
                seen += strlen(*string);
        if (slot_get(side, record->slot[i]) >= 0)
            seen++;
    }
    for (int i = 0; i < 3; i++) {
        ssize_t length = fill_holes(side, record, i, out, i == 2 ? 16 : sizeof out);
        for (ssize_t at = 0; at < length; at++)
            seen += (unsigned char)out[at];
    }
}

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Most mutants keep a header that says their size, or they would not get past it. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed)
{
    size = LLVMFuzzerMutate(data, size, room);
    struct plan_header header = {.magic = PLAN_MAGIC, .version = PLAN_VERSION};
    uint32_t total = (uint32_t)size;
    if (size >= sizeof header && seed % 8 != 0) {
        memcpy(data, &header, offsetof(struct plan_header, total));
        memcpy(data + offsetof(struct plan_header, total), &total, sizeof total);
    }
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy of exactly this size, aligned as malloc does, which is as the records need it: one byte too far is found. */
    static struct side side;
    void *bytes = malloc(size ? size : 1);
    memcpy(bytes, data, size);
    side = (struct side){.channel = -1, .status = -1, .child = 4242};
    for (int i = 0; i < PLAN_MAX_SLOTS; i++)
        side.slots[i] = i % 3 ? i : -1;
    if (plan_decode(bytes, size, &side.plan) == 0)
        for (uint32_t i = 0; i < side.plan.count; i++)
            read_record(&side, &side.plan.records[i]);
    free(bytes);
    return 0;
}
