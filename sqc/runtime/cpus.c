/* How many processors this process may use: its affinity, and the quota of its control groups. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sqc_threads.h"

enum { PATH_BYTES = 4096, MAX_CPUS = 8192 };

static int affinity(void) {
    cpu_set_t *set = CPU_ALLOC(MAX_CPUS);
    int count = 1;
    if (set && sched_getaffinity(0, CPU_ALLOC_SIZE(MAX_CPUS), set) == 0)
        count = CPU_COUNT_S(CPU_ALLOC_SIZE(MAX_CPUS), set);
    CPU_FREE(set);
    return count;
}

/* Reads "quota period" (or "max period", which leaves quota unread) or a single number. */
static int read_numbers(const char *directory, const char *file, double numbers[2]) {
    char path[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/%s", directory, file) >= (int)sizeof path) return 0;
    FILE *stream = fopen(path, "re");
    if (!stream) return 0;
    int count = fscanf(stream, "%lf %lf", &numbers[0], &numbers[1]);
    fclose(stream);
    return count;
}

/* Processors that one group allows, or 0 for no limit; version 2 keeps both numbers in one file, version 1 in two. */
static double group_limit(const char *directory) {
    double numbers[2], quota, period;
    if (read_numbers(directory, "cpu.max", numbers) == 2) {
        quota = numbers[0], period = numbers[1];
    } else {
        if (read_numbers(directory, "cpu.cfs_quota_us", numbers) < 1) return 0;
        quota = numbers[0];
        if (read_numbers(directory, "cpu.cfs_period_us", numbers) < 1) return 0;
        period = numbers[0];
    }
    return quota > 0 && period > 0 ? quota / period : 0;
}

/* The smallest limit of the group and all groups above it. In a container the path may not exist below the mount; the
 * walk then ends at the mount itself, which is the container's own group. */
static double hierarchy_limit(const char *mount, const char *group) {
    char path[PATH_BYTES];
    double limit = 0;
    if (snprintf(path, sizeof path, "%s%s", mount, group) >= (int)sizeof path) return 0;
    for (;;) {
        double here = group_limit(path);
        if (here > 0 && (limit == 0 || here < limit)) limit = here;
        char *slash = strrchr(path, '/');
        if (!slash || (size_t)(slash - path) < strlen(mount)) return limit;
        *slash = 0;
    }
}

/* Whether a comma-separated list of controllers holds "cpu". */
static bool has_cpu(char *controllers) {
    char *rest = NULL;
    for (char *name = strtok_r(controllers, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
        if (strcmp(name, "cpu") == 0) return true;
    return false;
}

static double quota(void) {
    FILE *stream = fopen("/proc/self/cgroup", "re");
    char line[PATH_BYTES];
    double limit = 0;
    while (stream && fgets(line, sizeof line, stream)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        *group++ = 0;
        double here = 0;
        if (!controllers[1]) here = hierarchy_limit("/sys/fs/cgroup", group);
        else if (has_cpu(controllers + 1)) here = hierarchy_limit("/sys/fs/cgroup/cpu", group);
        if (here > 0 && (limit == 0 || here < limit)) limit = here;
    }
    if (stream) fclose(stream);
    return limit;
}

int sqc_available_cpus(void) {
    int count = affinity();
    double limit = quota();
    if (limit > 0 && limit < count) count = (int)limit == limit ? (int)limit : (int)limit + 1;
    if (count > SQC_MAX_THREADS) count = SQC_MAX_THREADS;
    return count < 1 ? 1 : count;
}
