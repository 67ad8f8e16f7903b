/* /hello: the one file of the image `hello` that is embedded in Onggi. It needs no libc: two system calls are all. */

static const char text[] =
    "\n"
    "Hello from Onggi!  안녕하세요, 옹기입니다. 컨테이너가 잘 구워졌습니다.\n"
    "\n"
    "This machine can run containers. What just happened:\n"
    " 1. Onggi looked up the image \"hello\". It is embedded in Onggi, so nothing was\n"
    "    downloaded.\n"
    " 2. The planner made a plan from what you asked and from what this machine can do:\n"
    "    a list of small steps, and nothing else. To read it before anything happens:\n"
    "      $ onggi run --explain hello\n"
    " 3. The launcher carried the plan out. It gave this program, /hello, namespaces, a\n"
    "    root file system, few capabilities and a system call filter of its own.\n"
    " 4. This program wrote what you are reading, and leaves. The launcher keeps its exit\n"
    "    code and clears the rest away.\n"
    "\n"
    "Next, a shell in a container, still without any registry:\n"
    "      $ onggi image bootstrap busybox\n"
    "      $ onggi run --rm -it busybox sh\n"
    "\n";

#if defined __x86_64__
enum { SYS_WRITE = 1, SYS_EXIT = 60 };

static long system_call(long number, long a, const char *b, unsigned long c)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}
#elif defined __aarch64__
enum { SYS_WRITE = 64, SYS_EXIT = 93 };

static long system_call(long number, long a, const char *b, unsigned long c)
{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a;
    register const char *x1 __asm__("x1") = b;
    register unsigned long x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}
#else
#error "Onggi runs on x86-64 and aarch64"
#endif

__attribute__((noreturn)) void _start(void)
{
    unsigned long done = 0;
    while (done < sizeof text - 1) {
        long wrote = system_call(SYS_WRITE, 1, text + done, sizeof text - 1 - done);
        if (wrote <= 0)
            break;
        done += (unsigned long)wrote;
    }
    for (;;)
        system_call(SYS_EXIT, done == sizeof text - 1 ? 0 : 1, 0, 0);
}
