/* A small init, as tini and docker-init are: it stays in front of the payload, passes signals on and reaps. */
#include "launcher.h"
#include "kernel.h"

#include <linux/close_range.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* Reap all that is dead. When the payload is among them this process ends as it did. */
static void reap(pid_t payload)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == payload)
            _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static _Noreturn void stay(pid_t payload, const sigset_t *all)
{
    /* The end of the pair closes here, so that only the payload's exec is waited for; stdio stays. */
    syscall(SYS_close_range, 3, ~0U, 0);
    if (getpid() != 1)
        prctl(PR_SET_CHILD_SUBREAPER, 1); /* in a pid namespace that is not its own (tini -s) */
    for (;;) {
        int number = sigwaitinfo(all, NULL);
        if (number == SIGCHLD)
            reap(payload);
        else if (number > 0 && number != SIGTTIN && number != SIGTTOU)
            kill(payload, number);
    }
}

/* Close all but stdio and our end of the pair. The payload may run before this process does again, and what it found
 * open in /proc/1/fd would lead to the host (CVE-2024-21626); a socket cannot be opened that way. */
static void keep_channel(int channel)
{
    unsigned kept = channel >= 3 ? (unsigned)channel : 2;
    if ((kept <= 3 || syscall(SYS_close_range, 3, kept - 1, 0) == 0) && syscall(SYS_close_range, kept + 1, ~0U, 0) == 0)
        return;
    for (int fd = 3; fd < 65536; fd++) /* the container's seccomp filter is loaded and does not know close_range */
        if (fd != channel)
            close(fd);
}

int become_init(struct side *side)
{
    keep_channel(side->channel);
    /* Blocked and waited for: what has no handler would not even reach the first process of a pid namespace. */
    sigset_t all, before;
    memset(&all, 0xff, sizeof all);
    struct sigaction usual = {.sa_handler = SIG_DFL};
    if (sigaction(SIGCHLD, &usual, NULL) < 0 || sigprocmask(SIG_SETMASK, &all, &before) < 0)
        return -errno;
    pid_t payload = fork();
    if (payload < 0)
        return -errno;
    if (payload > 0)
        stay(payload, &all);
    /* A group of its own, in the foreground where stdin is a terminal (SIGTTOU is blocked): its keys signal this one. */
    int result = setpgid(0, 0) < 0 ? -errno : 0;
    if (result == 0 && isatty(0) && tcsetpgrp(0, getpgrp()) < 0)
        result = -errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    return result;
}
