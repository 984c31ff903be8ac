/* How much memory is available: the least of the machine and of the cgroups above the process, from made-up trees. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/io.h"
#include "cli/cli.h"

static char root[64];

static int make_root(void **state) {
    (void)state;
    strcpy(root, "/tmp/toque-memory-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static void put(const char *path, const char *text) {
    tq_mem mem = {0};
    char *full = tq_path_join(&mem, root, path), *folder = tq_strdup(&mem, full);
    *strrchr(folder, '/') = 0;
    assert_int_equal(tq_make_dirs(&mem, folder, NULL), TOQUE_OK);
    assert_int_equal(tq_write_file(&mem, full, text, strlen(text), NULL), TOQUE_OK);
    tq_free(&mem, folder);
    tq_free(&mem, full);
}

static void an_unknown_machine_is_unknown(void **state) {
    (void)state;
    assert_int_equal(tq_memory_available(root), 0);
    put("proc/meminfo", "MemTotal: many kB\n");
    assert_int_equal(tq_memory_available(root), 0);
}

static void without_cgroups_the_kernel_knows(void **state) {
    (void)state;
    put("proc/meminfo", "MemTotal:  16000 kB\nMemFree: 1 kB\nMemAvailable:    8000 kB\n");
    assert_int_equal(tq_memory_available(root), 8000 * 1024);
}

static void the_tightest_parent_counts(void **state) {
    (void)state;
    put("proc/meminfo", "MemAvailable:    8000 kB\n");
    put("proc/self/cgroup", "0::/a/b\n");
    put("sys/fs/cgroup/a/b/memory.max", "max\n");
    put("sys/fs/cgroup/a/b/memory.current", "1000\n");
    put("sys/fs/cgroup/a/memory.max", "3000000\n");
    put("sys/fs/cgroup/a/memory.current", "1000000\n");
    assert_int_equal(tq_memory_available(root), 2000000);
    put("sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 400000\n"); /* can be dropped */
    assert_int_equal(tq_memory_available(root), 2400000);
    put("sys/fs/cgroup/a/b/memory.max", "1500\n");
    assert_int_equal(tq_memory_available(root), 500);
    put("sys/fs/cgroup/a/b/memory.current", "1600\n");
    assert_int_equal(tq_memory_available(root), 1); /* nothing left is not "unknown" */
}

/* In a container the group's own folder is the mount itself. */
static void a_container_is_limited_at_the_mount(void **state) {
    (void)state;
    put("proc/meminfo", "MemAvailable:    8000 kB\n");
    put("proc/self/cgroup", "0::/\n");
    put("sys/fs/cgroup/memory.max", "70000\n");
    put("sys/fs/cgroup/memory.current", "20000\n");
    assert_int_equal(tq_memory_available(root), 50000);
}

static void version_1_is_understood(void **state) {
    (void)state;
    put("proc/meminfo", "MemAvailable:    8000 kB\n");
    put("proc/self/cgroup", "5:cpu:/x\n4:memory:/box\n1:name=systemd:/y\n");
    put("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "900000\n");
    put("sys/fs/cgroup/memory/box/memory.usage_in_bytes", "100000\n");
    put("sys/fs/cgroup/memory/box/memory.stat", "total_inactive_file 50000\n");
    assert_int_equal(tq_memory_available(root), 850000);
}

static void this_machine_has_memory(void **state) {
    (void)state;
    assert_true(tq_memory_available("") > 1000000);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)
    const struct CMUnitTest tests[] = {
        T(an_unknown_machine_is_unknown),       T(without_cgroups_the_kernel_knows), T(the_tightest_parent_counts),
        T(a_container_is_limited_at_the_mount), T(version_1_is_understood),          T(this_machine_has_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
