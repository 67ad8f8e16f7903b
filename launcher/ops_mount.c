/* Ops on mounts: everything by descriptor, restricted before it is shown. */
#include "launcher.h"
#include "kernel.h"

#include <fcntl.h>
#include <linux/securebits.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static int sys_open_tree(int at, const char *path, unsigned flags)
{
    return sys_result(syscall(SYS_open_tree, at, path, flags | OPEN_TREE_CLOEXEC));
}

static int sys_move_mount(int from, int to_at, const char *to, unsigned flags)
{
    return sys_result(syscall(SYS_move_mount, from, "", to_at, to, flags | MOVE_MOUNT_F_EMPTY_PATH));
}

static int sys_mount_setattr(int fd, const char *path, unsigned flags, struct mount_attr *attr)
{
    return sys_result(syscall(SYS_mount_setattr, fd, path, flags, attr, sizeof *attr));
}

static int sys_fsconfig(int fd, unsigned command, const char *key, const void *value, int aux)
{
    return sys_result(syscall(SYS_fsconfig, fd, command, key, value, aux));
}

static int op_fs_open(struct side *side, const struct plan_record *r)
{
    int fd = sys_result(syscall(SYS_fsopen, plan_text(&side->plan, r, 0), FSOPEN_CLOEXEC));
    return slot_put(side, r->slot[0], fd);
}

static int configure(struct side *side, const struct plan_record *r, unsigned command, const char *value, int aux)
{
    int context = slot_get(side, r->slot[0]);
    if (context < 0)
        return context;
    return sys_fsconfig(context, command, plan_text(&side->plan, r, 0), value, aux);
}

static int op_fs_string(struct side *side, const struct plan_record *r)
{
    char value[4096];
    ssize_t length = fill_holes(side, r, 1, value, sizeof value - 1);
    if (length < 0)
        return (int)length;
    value[length] = '\0';
    return configure(side, r, FSCONFIG_SET_STRING, value, 0);
}

static int op_fs_flag(struct side *side, const struct plan_record *r)
{
    return configure(side, r, FSCONFIG_SET_FLAG, NULL, 0);
}

static int op_fs_fd(struct side *side, const struct plan_record *r)
{
    int fd = slot_get(side, r->slot[1]);
    return fd < 0 ? fd : configure(side, r, FSCONFIG_SET_FD, NULL, fd);
}

/* An overlay for a user namespace is created as that namespace's root, so that its work directory can be made:
 * with plain fsuid 0 it mounts read-only and says nothing. The capabilities stay (NO_SETUID_FIXUP). */
static int create_as(int context, uid_t uid, gid_t gid)
{
    int bits = prctl(PR_GET_SECUREBITS);
    if (bits < 0 || prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP) < 0)
        return -errno;
    setfsgid(gid);
    setfsuid(uid);
    int result = sys_fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
    setfsuid(geteuid());
    setfsgid(getegid());
    prctl(PR_SET_SECUREBITS, bits);
    return result;
}

static int op_fs_mount(struct side *side, const struct plan_record *r)
{
    int context = slot_get(side, r->slot[1]);
    if (context < 0)
        return context;
    uid_t uid = (uid_t)r->number[0];
    gid_t gid = (gid_t)r->number[1];
    int result = uid || gid ? create_as(context, uid, gid) : sys_fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
    if (result == 0)
        result = slot_put(side, r->slot[0], sys_result(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0)));
    slot_close(side, r->slot[1]);
    return result;
}

static int op_tree(struct side *side, const struct plan_record *r)
{
    const char *path = plan_text(&side->plan, r, 0);
    unsigned flags = OPEN_TREE_CLONE | (r->number[0] ? AT_RECURSIVE : 0);
    if (r->slot[1] < 0)
        return slot_put(side, r->slot[0],
                        sys_open_tree(AT_FDCWD, path, flags | (r->number[1] ? 0 : AT_SYMLINK_NOFOLLOW)));
    int at = slot_get(side, r->slot[1]);
    if (at < 0)
        return at;
    if (*path == '\0')
        return slot_put(side, r->slot[0], sys_open_tree(at, "", flags | AT_EMPTY_PATH));
    int fd = open_beneath(at, path, O_PATH | (r->number[1] ? 0 : O_NOFOLLOW), 0);
    if (fd < 0)
        return fd;
    int result = slot_put(side, r->slot[0], sys_open_tree(fd, "", flags | AT_EMPTY_PATH));
    close(fd);
    return result;
}

static int op_attributes(struct side *side, const struct plan_record *r)
{
    int fd = slot_get(side, r->slot[0]);
    if (fd < 0)
        return fd;
    struct mount_attr attr = {.attr_set = r->number[0], .attr_clr = r->number[1], .propagation = r->number[2]};
    if (r->slot[1] >= 0) {
        int userns = slot_get(side, r->slot[1]);
        if (userns < 0)
            return userns;
        attr.attr_set |= MOUNT_ATTR_IDMAP;
        attr.userns_fd = (uint64_t)userns;
    }
    return sys_mount_setattr(fd, "", AT_EMPTY_PATH | (r->number[3] ? AT_RECURSIVE : 0), &attr);
}

static int op_attach(struct side *side, const struct plan_record *r)
{
    int mount = slot_get(side, r->slot[0]), root = slot_get(side, r->slot[1]);
    if (mount < 0 || root < 0)
        return -EBADF;
    int target = open_beneath(root, plan_text(&side->plan, r, 0), O_PATH, 0);
    if (target < 0)
        return target;
    int result = sys_move_mount(mount, target, "", MOVE_MOUNT_T_EMPTY_PATH);
    close(target);
    return result;
}

static int op_attach_root(struct side *side, const struct plan_record *r)
{
    int mount = slot_get(side, r->slot[0]);
    return mount < 0 ? mount : sys_move_mount(mount, AT_FDCWD, "/", 0);
}

/* Make the last name of `path` beneath `root`, and every directory before it that is missing. A dangling link is
 * followed inside the root, as the kernel would if its target were there. */
static int make_target(int root, const char *path, bool directory, mode_t mode, int depth)
{
    if (depth == 0)
        return -ELOOP;
    int found = open_beneath(root, path, O_PATH, 0);
    if (found >= 0)
        close(found);
    if (found != -ENOENT)
        return found < 0 ? found : 0;

    char prefix[4096];
    if (strlen(path) >= sizeof prefix)
        return -ENAMETOOLONG;
    int parent = open_beneath(root, "", O_PATH | O_DIRECTORY, 0);
    int result = parent < 0 ? parent : 0;
    for (const char *at = path + strspn(path, "/"); result == 0 && *at != '\0';) {
        size_t length = strcspn(at, "/");
        const char *rest = at + length + strspn(at + length, "/");
        char name[256];
        if (length >= sizeof name) {
            result = -ENAMETOOLONG;
            break;
        }
        memcpy(name, at, length);
        name[length] = '\0';
        memcpy(prefix, path, (size_t)(at + length - path));
        prefix[at + length - path] = '\0';
        int next = open_beneath(root, prefix, O_PATH, 0);
        if (next == -ENOENT) {
            bool leaf_file = *rest == '\0' && !directory;
            if (leaf_file)
                result = mknodat(parent, name, S_IFREG | (mode & 0777), 0) < 0 ? -errno : 0;
            else
                result = mkdirat(parent, name, *rest == '\0' ? mode : 0755) < 0 ? -errno : 0;
            if (result == -EEXIST) {
                char link[4096], next_path[4096];
                ssize_t size = readlinkat(parent, name, link, sizeof link - 1);
                if (size < 0) {
                    result = -errno;
                    break;
                }
                link[size] = '\0';
                int before = link[0] == '/' ? 0 : (int)(at - path);
                size_t need = (size_t)before + (size_t)size + 1 + strlen(rest) + 1;
                if (need > sizeof next_path) {
                    result = -ENAMETOOLONG;
                    break;
                }
                memcpy(next_path, path, (size_t)before);
                memcpy(next_path + before, link, (size_t)size);
                next_path[before + size] = '/';
                strcpy(next_path + before + size + 1, rest);
                if (*rest == '\0')
                    next_path[before + size] = '\0';
                result = make_target(root, next_path, directory, mode, depth - 1);
                break;
            }
            next = result < 0 ? result : open_beneath(root, prefix, O_PATH, 0);
        }
        if (next < 0) {
            result = next;
            break;
        }
        close(parent);
        parent = next;
        at = rest;
    }
    if (parent >= 0)
        close(parent);
    return result;
}

static int op_target(struct side *side, const struct plan_record *r)
{
    int root = slot_get(side, r->slot[0]);
    if (root < 0)
        return root;
    bool directory = r->number[0];
    if (r->slot[1] >= 0) {
        struct stat seen;
        int like = slot_get(side, r->slot[1]);
        if (like < 0 || fstat(like, &seen) < 0)
            return like < 0 ? like : -errno;
        directory = S_ISDIR(seen.st_mode);
    }
    return make_target(root, plan_text(&side->plan, r, 0), directory, (mode_t)r->number[1], 16);
}

static int op_node(struct side *side, const struct plan_record *r)
{
    char name[256];
    int parent = open_parent(side, r->slot[0], plan_text(&side->plan, r, 0), name, sizeof name);
    if (parent < 0)
        return parent;
    int result = mknodat(parent, name, (mode_t)r->number[0], (dev_t)r->number[1]) < 0 ? -errno : 0;
    uid_t uid = (uid_t)r->number[2];
    gid_t gid = (gid_t)r->number[3];
    if (result == 0 && (uid || gid) && fchownat(parent, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
        result = -errno;
    close(parent);
    return result;
}

static int op_symlink(struct side *side, const struct plan_record *r)
{
    char name[256];
    int parent = open_parent(side, r->slot[0], plan_text(&side->plan, r, 0), name, sizeof name);
    if (parent < 0)
        return parent;
    int result = symlinkat(plan_text(&side->plan, r, 1), parent, name) < 0 ? -errno : 0;
    close(parent);
    return result;
}

/* Show a mount once as itself, afterwards as clones: kernels before 6.15 cannot clone one that is attached nowhere. */
static int show(struct side *side, int slot, int target)
{
    static bool shown[PLAN_MAX_SLOTS];
    int mount = slot_get(side, slot);
    if (mount < 0)
        return mount;
    if (!shown[slot]) {
        int result = sys_move_mount(mount, target, "", MOVE_MOUNT_T_EMPTY_PATH);
        shown[slot] = result == 0;
        return result;
    }
    int clone = sys_open_tree(mount, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
    if (clone < 0)
        return clone;
    int result = sys_move_mount(clone, target, "", MOVE_MOUNT_T_EMPTY_PATH);
    close(clone);
    return result;
}

static int op_mask(struct side *side, const struct plan_record *r)
{
    int root = slot_get(side, r->slot[0]);
    if (root < 0)
        return root;
    int target = open_beneath(root, plan_text(&side->plan, r, 0), O_PATH, 0);
    if (target < 0)
        return target;
    /* Look first: a mount of the wrong kind fails only after a synchronize_rcu_expedited. */
    struct stat seen;
    int result = fstat(target, &seen) < 0 ? -errno : show(side, S_ISDIR(seen.st_mode) ? r->slot[2] : r->slot[1], target);
    close(target);
    return result;
}

static int op_readonly(struct side *side, const struct plan_record *r)
{
    int root = slot_get(side, r->slot[0]);
    if (root < 0)
        return root;
    int target = open_beneath(root, plan_text(&side->plan, r, 0), O_PATH, 0);
    if (target < 0)
        return target;
    int clone = sys_open_tree(target, "", OPEN_TREE_CLONE | AT_RECURSIVE | AT_EMPTY_PATH);
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    int result = clone < 0 ? clone : sys_mount_setattr(clone, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr);
    if (result == 0)
        result = sys_move_mount(clone, target, "", MOVE_MOUNT_T_EMPTY_PATH);
    if (clone >= 0)
        close(clone);
    close(target);
    return result;
}

static int op_propagate(struct side *side, const struct plan_record *r)
{
    (void)side;
    struct mount_attr attr = {.propagation = r->number[0]};
    return sys_mount_setattr(AT_FDCWD, "/", r->number[1] ? AT_RECURSIVE : 0, &attr);
}

static int op_pivot(struct side *side, const struct plan_record *r)
{
    int root = slot_get(side, r->slot[0]);
    if (root < 0)
        return root;
    /* pivot_root(".", ".") stacks the old root on the new one, where it is let go at once (pivot_root(2)). */
    if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return -errno;
    return 0;
}

op_function *const mount_ops[OP_COUNT] = {
    [OP_FS_OPEN] = op_fs_open,
    [OP_FS_STRING] = op_fs_string,
    [OP_FS_FLAG] = op_fs_flag,
    [OP_FS_FD] = op_fs_fd,
    [OP_FS_MOUNT] = op_fs_mount,
    [OP_TREE] = op_tree,
    [OP_ATTRIBUTES] = op_attributes,
    [OP_ATTACH] = op_attach,
    [OP_ATTACH_ROOT] = op_attach_root,
    [OP_TARGET] = op_target,
    [OP_NODE] = op_node,
    [OP_SYMLINK] = op_symlink,
    [OP_MASK] = op_mask,
    [OP_READONLY] = op_readonly,
    [OP_PROPAGATE] = op_propagate,
    [OP_PIVOT] = op_pivot,
};
