/* Run folders: what a training leaves behind (DESIGN, "A run folder holds"). A run owns the names below and never
 * touches another file of the folder. While it is open the folder is locked (flock), so that two processes cannot
 * write into one run; nothing of the lock stays behind. */
#ifndef TQ_RUNS_RUN_H
#define TQ_RUNS_RUN_H

#include "base/io.h"

#define TQ_RUN_RECIPE "recipe.yaml"
#define TQ_RUN_METRICS "metrics.jsonl"
#define TQ_RUN_CARD "README.md"
#define TQ_RUN_CHECKPOINT "checkpoint" /* a folder */
#define TQ_RUN_STATE "checkpoint/state.safetensors"
#define TQ_RUN_ADAPTER_CONFIG "adapter_config.json"
#define TQ_RUN_ADAPTER_MODEL "adapter_model.safetensors"
#define TQ_RUN_HEAD "head.json"
#define TQ_RUN_MODEL "model.safetensors" /* in place of the two above: methods that PEFT lacks */

typedef enum tq_run_mode {
    TQ_RUN_NEW,      /* the folder must be absent or empty */
    TQ_RUN_RESUME,   /* must be a run folder */
    TQ_RUN_OVERWRITE /* may be a run folder, whose files are then removed */
} tq_run_mode;

typedef struct tq_run {
    tq_mem *mem;
    char *dir;
    int lock; /* the open folder */
} tq_run;

/* Whether `dir` may be opened in this mode. Changes nothing: call it before long work. */
toque_status tq_run_check(tq_mem *mem, const char *dir, tq_run_mode mode, toque_error *err) TQ_MUST;
/* Checks again, makes the folder, locks it (EBUSY when another process has it), and for OVERWRITE removes the old
 * run's files. */
toque_status tq_run_open(tq_run *run, tq_mem *mem, const char *dir, tq_run_mode mode, toque_error *err) TQ_MUST;
void tq_run_close(tq_run *run); /* accepts a zeroed struct */
/* The path of a name in the folder, owned by the caller; NULL without memory. */
char *tq_run_path(const tq_run *run, const char *name);
/* Writes a small text file of the run atomically. */
toque_status tq_run_write(const tq_run *run, const char *name, const tq_buf *text, toque_error *err) TQ_MUST;

#endif
