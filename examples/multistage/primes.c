/* Count the primes below a limit: a compiled program that needs nothing but itself. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    long limit = argc > 1 ? strtol(argv[1], NULL, 10) : 1000000;
    if (limit < 3 || limit > 100000000) {
        fprintf(stderr, "usage: primes [LIMIT], between 3 and 100000000\n");
        return 2;
    }
    char *composite = calloc((size_t)limit, 1);
    if (!composite) {
        perror("primes");
        return 1;
    }
    long count = 0;
    for (long n = 2; n < limit; n++) {
        if (composite[n])
            continue;
        count++;
        for (long multiple = n * n; multiple < limit; multiple += n)
            composite[multiple] = 1;
    }
    printf("%ld primes below %ld\n", count, limit);
    free(composite);
    return 0;
}
