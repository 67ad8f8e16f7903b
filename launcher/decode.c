/* The wire form of a plan. Every later stage trusts what is checked here, and only that. */
#include "launcher.h"

#include <errno.h>
#include <string.h>

static bool span_fits(const struct plan *plan, struct plan_span span)
{
    /* The byte after each span is its NUL, so one more than the length must lie in the arena. */
    return span.offset < plan->arena_size && span.length < plan->arena_size - span.offset &&
           plan->arena[span.offset + span.length] == '\0';
}

static bool record_fits(const struct plan *plan, const struct plan_record *record)
{
    if (record->kind == 0 || record->kind >= OP_COUNT)
        return false;
    for (int i = 0; i < 4; i++) {
        if (record->slot[i] < -1 || record->slot[i] >= plan->header->slots)
            return false;
        bool absent = record->text[i].offset == 0 && record->text[i].length == 0;
        if (!absent && !span_fits(plan, record->text[i]))
            return false;
    }
    return true;
}

int plan_decode(const void *bytes, size_t size, struct plan *out)
{
    const struct plan_header *header = bytes;
    if (size < sizeof *header || size > PLAN_MAX_BYTES || memcmp(header->magic, PLAN_MAGIC, sizeof header->magic) != 0)
        return -EPROTO;
    if (header->version != PLAN_VERSION)
        return -EPROTONOSUPPORT;
    if (header->total != size || header->slots > PLAN_MAX_SLOTS)
        return -EPROTO;
    uint64_t count = 0;
    for (int i = 0; i < 4; i++)
        count += header->records[i];
    if (count > PLAN_MAX_RECORDS || sizeof *header + count * sizeof(struct plan_record) >= size)
        return -EPROTO; /* an arena has at least one byte */

    out->header = header;
    out->records = (const void *)((const char *)bytes + sizeof *header);
    out->count = (uint32_t)count;
    out->arena = (const char *)(out->records + count);
    out->arena_size = (uint32_t)(size - sizeof *header - count * sizeof(struct plan_record));
    for (uint32_t i = 0; i < out->count; i++)
        if (!record_fits(out, &out->records[i]))
            return -EPROTO;
    return 0;
}

const char *plan_text(const struct plan *plan, const struct plan_record *record, int index)
{
    /* An absent span is all zero and was not looked at: it means "", not what begins the arena. */
    return record->text[index].length ? plan->arena + record->text[index].offset : "";
}

bool plan_strings(const struct plan *plan, const struct plan_record *record, int index, char **out, size_t room)
{
    const char *text = plan_text(plan, record, index), *end = text + record->text[index].length;
    size_t count = 0;
    for (; text < end && count + 1 < room; text += strlen(text) + 1)
        out[count++] = (char *)text;
    out[count] = NULL;
    return text >= end;
}
