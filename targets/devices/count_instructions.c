/* A plugin of QEMU's user mode that counts instructions.
 *
 * The program that runs marks what is to be counted with a system call that does not exist. At each
 * mark a line with the number of instructions that all its threads have run so far is appended to
 * a file. Arguments: mark=NUMBER, out=FILE.
 *
 * Whole translated blocks are counted: one that a signal leaves early counts as if it had ended.
 * The declarations are those of the plugin interface that all its versions so far (1 to 5) share,
 * which is why blocks call back: that they add up by themselves was spelled differently from
 * version to version. API_VERSION comes from the command line of the compiler.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VISIBLE __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS = 0 };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                           void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
                                          void (*cb)(unsigned int, void *),
                                          enum qemu_plugin_cb_flags flags, void *data);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id,
                                          void (*cb)(qemu_plugin_id_t, unsigned int, int64_t,
                                                     uint64_t, uint64_t, uint64_t, uint64_t,
                                                     uint64_t, uint64_t, uint64_t, uint64_t));

VISIBLE int qemu_plugin_version = API_VERSION;

static uint64_t executed; /* by all threads */
static int64_t mark = -1;
static const char *out;

static void block_runs(unsigned int vcpu, void *instructions)
{
    (void)vcpu;
    __atomic_fetch_add(&executed, (uint64_t)(uintptr_t)instructions, __ATOMIC_RELAXED);
}

static void block_is_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, block_runs, QEMU_PLUGIN_CB_NO_REGS,
                                         (void *)(uintptr_t)qemu_plugin_tb_n_insns(tb));
}

static void system_call(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1,
                        uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6,
                        uint64_t a7, uint64_t a8)
{
    FILE *file;

    (void)id, (void)vcpu, (void)a1, (void)a2, (void)a3, (void)a4;
    (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != mark)
        return;
    file = fopen(out, "a");
    if (file != NULL) {
        fprintf(file, "%" PRIu64 "\n", __atomic_load_n(&executed, __ATOMIC_RELAXED));
        fclose(file);
    }
}

VISIBLE int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "mark=", 5) == 0)
            mark = strtoll(argv[i] + 5, NULL, 10);
        else if (strncmp(argv[i], "out=", 4) == 0)
            out = strdup(argv[i] + 4);
    }
    if (mark < 0 || out == NULL) {
        fprintf(stderr, "count_instructions: needs mark=NUMBER,out=FILE\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, block_is_translated);
    qemu_plugin_register_vcpu_syscall_cb(id, system_call);
    return 0;
}
