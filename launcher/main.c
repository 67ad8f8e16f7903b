/* One static program, several roles.
 *
 *     onggi-launcher launch PLAN STATUS [FD ...]   execute a plan; comes back at once, the supervisor stays
 *     onggi-launcher attach SOCKET ...             carry stdio (attach.c)
 *     anything else                                the command line (stub.c)
 */
#include "launcher.h"
#include "kernel.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

/* The supervisor belongs to nobody: whoever asked for it reaps only a process that is already gone. */
static int launch_role(char **argv)
{
    argv[1] = "supervise";
#ifdef ONGGI_CRASH_TEST
    char **environment = environ;
#else
    char *nothing[] = {NULL}, **environment = nothing;
#endif
    pid_t pid = fork();
    if (pid != 0)
        return pid < 0;
    return exec_protected(argv, environment) < 0 ? 127 : 0;
}

static int supervise_role(int argc, char **argv)
{
    int inherited[PLAN_MAX_SLOTS], count = argc - 2;
    if (count > PLAN_MAX_SLOTS)
        return 1;
    for (int i = 0; i < count; i++) {
        inherited[i] = atoi(argv[i + 2]);
        fcntl(inherited[i], F_SETFD, FD_CLOEXEC);
    }
    int plan_fd = atoi(argv[0]), status_fd = atoi(argv[1]);
    fcntl(status_fd, F_SETFD, FD_CLOEXEC);
    return launch(plan_fd, status_fd, inherited, count);
}

int main(int argc, char **argv)
{
    bool ours = argc >= 3 && strcmp(argv[0], "onggi-launcher") == 0;
    if (ours && argc >= 4 && strcmp(argv[1], "launch") == 0)
        return launch_role(argv);
    if (ours && argc >= 4 && strcmp(argv[1], "supervise") == 0)
        return supervise_role(argc - 2, argv + 2);
    if (ours && strcmp(argv[1], "attach") == 0)
        return attach_role(argc - 2, argv + 2);
    return stub(argc, argv);
}
