/* Installs the system calls of ofd_locks.c and fork.c in SQLite's unix VFS. */
#include "ofd_locks.h"

#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

/* Whether the kernel has locks of open file descriptions. */
static int has_ofd_locks(void) {
  int p[2];
  struct flock l;
  memset(&l, 0, sizeof(l));
  l.l_type = F_WRLCK;
  l.l_whence = SEEK_SET;
  if (pipe2(p, O_CLOEXEC)) return 0;
  int has = fcntl(p[0], F_OFD_GETLK, &l) == 0;
  close(p[0]);
  close(p[1]);
  return has;
}

static int replace_system_calls(void) {
  static const struct { const char *name; sqlite3_syscall_ptr call; } calls[] = {
    {"open", (sqlite3_syscall_ptr)vexact_ofd_open},
    {"close", (sqlite3_syscall_ptr)vexact_ofd_close},
    {"fcntl", (sqlite3_syscall_ptr)vexact_ofd_fcntl},
    {"stat", (sqlite3_syscall_ptr)vexact_ofd_stat},
    {"fstat", (sqlite3_syscall_ptr)vexact_ofd_fstat},
    {"mmap", (sqlite3_syscall_ptr)vexact_ofd_mmap},
    {"munmap", (sqlite3_syscall_ptr)vexact_ofd_munmap},
    {"mremap", (sqlite3_syscall_ptr)vexact_ofd_mremap},
  };
  sqlite3_vfs *vfs = sqlite3_vfs_find("unix");
  if (!vfs || vfs->iVersion < 3 || !vfs->xSetSystemCall) return 0;
  for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
    if (vfs->xSetSystemCall(vfs, calls[i].name, calls[i].call) != SQLITE_OK) {
      vfs->xSetSystemCall(vfs, NULL, NULL);
      return 0;
    }
  }
  return 1;
}

static int installed;

/* Runs when the program or the library is loaded, because a connection that was opened earlier would
 * hold POSIX locks, which the functions above would never release. Afterwards SQLite is shut down
 * again, so that its first user initializes it with the options and the environment of that time;
 * the table of system calls stays as it is. */
__attribute__((constructor)) static void install(void) {
  if (!has_ofd_locks()) return;
  installed = vexact_ofd_watch_forks() && replace_system_calls();
  sqlite3_shutdown();
}

/* Whether the system calls are replaced. Returns 1 or 0. */
int vexact_ofd_is_installed(void) { return installed; }
