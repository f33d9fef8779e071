/* fsync and fdatasync that fail with EIO while the file named by FAILING_FSYNC exists: a disk that goes bad. Built and preloaded by
   test_fsync.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int failing(void) {
    const char *flag = getenv("FAILING_FSYNC");
    return flag && access(flag, F_OK) == 0;
}

static int sync_with(const char *name, int descriptor) {
    if (failing()) {
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(descriptor);
}

int fsync(int descriptor) { return sync_with("fsync", descriptor); }

int fdatasync(int descriptor) { return sync_with("fdatasync", descriptor); }
