/* One static program, several roles.
 *
 *     onggi-launcher launch STATUS       wait for a plan, execute it; comes back at once, the supervisor stays
 *     onggi-launcher attach SOCKET ...   carry stdio (attach.c)
 *     anything else                      the command line (stub.c)
 */
#include "launcher.h"
#include "kernel.h"

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

int main(int argc, char **argv)
{
    bool ours = argc >= 3 && strcmp(argv[0], "onggi-launcher") == 0;
    if (ours && argc == 3 && strcmp(argv[1], "launch") == 0)
        return launch_role(argv);
    if (ours && argc == 3 && strcmp(argv[1], "supervise") == 0)
        return launch(atoi(argv[2]));
    if (ours && strcmp(argv[1], "attach") == 0)
        return attach_role(argc - 2, argv + 2);
    return stub(argc, argv);
}
