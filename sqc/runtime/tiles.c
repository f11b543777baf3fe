/* Linux lets a process use the large registers of AMX only after it has asked. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>

#include "sqc_model.h"

enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

int sqc_may_use_tiles(void) { return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0; }
