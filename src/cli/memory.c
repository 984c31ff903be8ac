/* How much memory this process may still take: the kernel's own estimate and the limits of the memory cgroups
 * above the process, whichever is least. Page cache that a cgroup could drop counts as available. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { PATH = 1024 };
static const uint64_t UNKNOWN = UINT64_MAX;

/* The number behind `name` in a file of "name number" lines; name NULL: the file's first number. */
static uint64_t read_number(const char *path, const char *name) {
    FILE *f = fopen(path, "re");
    if (!f) return UNKNOWN;
    char line[256];
    uint64_t x = UNKNOWN;
    size_t n = name ? strlen(name) : 0;
    while (x == UNKNOWN && fgets(line, sizeof line, f)) {
        if (name && (strncmp(line, name, n) != 0 || !strchr(": \t", line[n]))) continue;
        const char *digits = line + n + strspn(line + n, ": \t");
        if (*digits >= '0' && *digits <= '9') x = strtoull(digits, NULL, 10); /* "max" stays unknown */
        if (!name) break;
    }
    fclose(f);
    return x;
}

typedef struct files {
    const char *mount, *limit, *usage, *inactive; /* inactive: a name in memory.stat */
} files;
static const files versions[] = {
    {"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"},
    {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}};

static uint64_t left_in(const char *root, const files *v, const char *group) {
    char path[PATH];
    uint64_t number[3];
    const char *const file[3] = {v->limit, v->usage, "memory.stat"};
    for (int i = 0; i < 3; i++) {
        int n = snprintf(path, sizeof path, "%s%s%s/%s", root, v->mount, group, file[i]);
        if (n < 0 || n >= PATH) return UNKNOWN;
        number[i] = read_number(path, i == 2 ? v->inactive : NULL);
    }
    if (number[0] == UNKNOWN || number[1] == UNKNOWN) return UNKNOWN;
    uint64_t used = number[2] != UNKNOWN && number[2] < number[1] ? number[1] - number[2] : number[1];
    return number[0] > used ? number[0] - used : 0;
}

/* The least over a group and all its parents. */
static uint64_t left_above(const char *root, const files *v, char *group) {
    uint64_t least = UNKNOWN;
    for (;;) {
        char *slash = strrchr(group, '/');
        if (slash && !slash[1]) *slash = 0; /* "/" is the root itself */
        uint64_t x = left_in(root, v, group);
        if (x < least) least = x;
        slash = strrchr(group, '/');
        if (!slash) return least;
        *slash = 0;
    }
}

static uint64_t cgroup_left(const char *root) {
    char path[PATH], line[PATH];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    if (!f) return UNKNOWN;
    uint64_t least = UNKNOWN;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        *group++ = 0;
        bool v2 = strcmp(line, "0:") == 0 || strcmp(controllers, ":") == 0;
        if (!v2 && !strstr(controllers, "memory")) continue;
        uint64_t x = left_above(root, &versions[v2 ? 0 : 1], group);
        if (x < least) least = x;
    }
    fclose(f);
    return least;
}

uint64_t tq_memory_available(const char *root) {
    char path[PATH];
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    uint64_t kib = read_number(path, "MemAvailable"), group = cgroup_left(root);
    uint64_t all = kib == UNKNOWN || kib > UNKNOWN / 1024 ? UNKNOWN : kib * 1024;
    uint64_t least = all < group ? all : group;
    return least == UNKNOWN ? 0 : least ? least : 1;
}
