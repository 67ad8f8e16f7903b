/* Slots and templates: what one process knows while it executes a plan. */
#include "launcher.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int slot_get(struct side *side, int slot)
{
    if (slot < 0 || slot >= PLAN_MAX_SLOTS || side->slots[slot] < 0)
        return -EBADF;
    return side->slots[slot];
}

int slot_put(struct side *side, int slot, int fd)
{
    if (fd < 0)
        return fd;
    if (slot < 0 || slot >= PLAN_MAX_SLOTS || side->slots[slot] >= 0) {
        close(fd);
        return -EEXIST;
    }
    side->slots[slot] = fd;
    return 0;
}

int slot_close(struct side *side, int slot)
{
    int fd = slot_get(side, slot);
    if (fd < 0)
        return fd;
    side->slots[slot] = -1;
    return close(fd) < 0 ? -errno : 0;
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* The index of eth<number> in the network namespace that this process is in. */
static int64_t link_index(int number)
{
    struct ifreq request = {0};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    snprintf(request.ifr_name, sizeof request.ifr_name, "eth%d", number);
    int64_t index = ioctl(fd, SIOCGIFINDEX, &request) < 0 ? -errno : request.ifr_ifindex;
    close(fd);
    return index;
}

/* The bytes that stand for one hole; a binary hole gives its four native bytes. */
static int render_hole(struct side *side, const struct plan_hole_entry *hole, char *out, size_t room, bool *binary)
{
    int64_t value;
    switch (hole->kind) {
    case HOLE_PID:
    case HOLE_PID_U32:
        value = side->child;
        break;
    case HOLE_NOW:
        value = now_ns();
        break;
    case HOLE_SLOT:
    case HOLE_SLOT_U32:
        value = slot_get(side, hole->slot);
        break;
    case HOLE_LINK_U32:
        value = link_index(hole->slot);
        break;
    default:
        return -EPROTO;
    }
    if (value < 0)
        return (int)value;
    *binary = hole->kind == HOLE_PID_U32 || hole->kind == HOLE_SLOT_U32 || hole->kind == HOLE_LINK_U32;
    if (*binary) {
        uint32_t raw = (uint32_t)value;
        memcpy(out, &raw, sizeof raw);
        return sizeof raw;
    }
    return snprintf(out, room, "%lld", (long long)value);
}

ssize_t fill_holes(struct side *side, const struct plan_record *record, int index, char *out, size_t room)
{
    const char *data = plan_text(&side->plan, record, index);
    size_t length = record->text[index].length, holes = record->text[index + 1].length / sizeof(struct plan_hole_entry);
    const char *table = plan_text(&side->plan, record, index + 1);
    size_t from = 0, used = 0;
    for (size_t i = 0; i <= holes; i++) {
        struct plan_hole_entry hole = {.offset = (uint32_t)length};
        if (i < holes)
            memcpy(&hole, table + i * sizeof hole, sizeof hole);
        if (hole.offset < from || hole.offset > length || hole.offset - from > room - used)
            return -EPROTO;
        memcpy(out + used, data + from, hole.offset - from);
        used += hole.offset - from;
        from = hole.offset;
        if (i == holes)
            return (ssize_t)used;
        char text[24];
        bool binary = false;
        int size = render_hole(side, &hole, text, sizeof text, &binary);
        if (size < 0)
            return size;
        if ((size_t)size > room - used || (binary && length - from < 4))
            return -EPROTO;
        memcpy(out + used, text, (size_t)size);
        used += (size_t)size;
        from += binary ? 4 : 0;
    }
    return -EPROTO;
}
