/* What happens to SQLite's descriptors, locks and mappings in a forked child.
 *
 * A child shares the open files that it inherits with its parent, with their offsets and their
 * open-file-description locks. It must give them up, or the locks of a parent that is killed would
 * live on in the child. This takes nothing from the parent, whose descriptors keep the locks.
 * The child also inherits SQLite's table of open inodes, which says that the parent's locks are
 * held. SQLite knows a file by st_dev and st_ino: the child sees another st_dev from now on, finds
 * none of these inodes, and starts afresh.
 */
#include "ofd_locks.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <sqlite3.h>

/* A mapping that SQLite has of a file. */
struct map {
  char *addr;
  size_t len;
  struct map *next;
};

static struct map *maps;
static unsigned generation;       /* Number of forks between the first process and this one. */

static int disguise(int rc, struct stat *st) {
  if (rc == 0 && generation) st->st_dev ^= (dev_t)(generation * 0x9E3779B1u);
  return rc;
}

int vexact_ofd_stat(const char *path, struct stat *st) { return disguise(stat(path, st), st); }
int vexact_ofd_fstat(int fd, struct stat *st) { return disguise(fstat(fd, st), st); }

void *vexact_ofd_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off) {
  struct map *m = malloc(sizeof(*m));
  if (!m) { errno = ENOMEM; return MAP_FAILED; }
  pthread_mutex_lock(&vexact_ofd_mutex);
  void *p = mmap(addr, len, prot, flags, fd, off);
  if (p != MAP_FAILED) {
    m->addr = p;
    m->len = len;
    m->next = maps;
    maps = m;
    m = NULL;
  }
  pthread_mutex_unlock(&vexact_ofd_mutex);
  free(m);
  return p;
}

/* The mapping that contains the address p. */
static struct map **map_at(void *p) {
  struct map **m = &maps;
  while (*m && ((char *)p < (*m)->addr || (char *)p >= (*m)->addr + (*m)->len)) m = &(*m)->next;
  return m;
}

/* SQLite unmaps a whole mapping or the tail of one. */
int vexact_ofd_munmap(void *p, size_t len) {
  struct map *gone = NULL;
  pthread_mutex_lock(&vexact_ofd_mutex);
  struct map **m = map_at(p);
  int rc = munmap(p, len);
  if (rc == 0 && *m && (*m)->addr != p) {
    (*m)->len = (char *)p - (*m)->addr;
  } else if (rc == 0 && *m) {
    gone = *m;
    *m = gone->next;
  }
  pthread_mutex_unlock(&vexact_ofd_mutex);
  free(gone);
  return rc;
}

void *vexact_ofd_mremap(void *old, size_t old_len, size_t len, int flags, ...) {
  pthread_mutex_lock(&vexact_ofd_mutex);
  struct map **m = map_at(old);
  void *p = mremap(old, old_len, len, flags);
  if (p != MAP_FAILED && *m) {
    (*m)->addr = p;
    (*m)->len = len;
  }
  pthread_mutex_unlock(&vexact_ofd_mutex);
  return p;
}

/* SQLite's static mutexes, except those for applications. If another thread held one of them at a
 * fork(), nobody would ever release it in the child, and the child's first call of SQLite would
 * hang. So fork() takes them, all or none: their order is SQLite's, so it does not wait for one
 * while it holds another. It gives up after a second. */
static const int mutex_ids[] = {
  SQLITE_MUTEX_STATIC_MAIN, SQLITE_MUTEX_STATIC_MEM, SQLITE_MUTEX_STATIC_OPEN,
  SQLITE_MUTEX_STATIC_PRNG, SQLITE_MUTEX_STATIC_LRU, SQLITE_MUTEX_STATIC_PMEM,
  SQLITE_MUTEX_STATIC_VFS1, SQLITE_MUTEX_STATIC_VFS2, SQLITE_MUTEX_STATIC_VFS3,
};
#define N_MUTEXES ((int)(sizeof(mutex_ids) / sizeof(mutex_ids[0])))
static int have_mutexes;

static void leave_mutexes(int n) {
  while (n-- > 0) sqlite3_mutex_leave(sqlite3_mutex_alloc(mutex_ids[n]));
}

static int try_mutexes(void) {
  for (int n = 0; n < N_MUTEXES; n++) {
    if (sqlite3_mutex_try(sqlite3_mutex_alloc(mutex_ids[n]))) { leave_mutexes(n); return 0; }
  }
  return 1;
}

static void before_fork(void) {
  int has = try_mutexes();
  for (int tries = 0; !has && tries < 10000; tries++) {
    usleep(100);
    has = try_mutexes();
  }
  pthread_mutex_lock(&vexact_ofd_mutex);
  have_mutexes = has;
}

static void in_parent(void) {
  int has = have_mutexes;
  pthread_mutex_unlock(&vexact_ofd_mutex);
  if (has) leave_mutexes(N_MUTEXES);
}

/* A mapping keeps its file open: it is replaced by memory of the child's own. */
static void in_child(void) {
  int err = errno;
  vexact_ofd_abandon_descriptors();
  for (struct map *m = maps; m; m = m->next) {
    mmap(m->addr, m->len, PROT_READ | PROT_WRITE,
         MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  maps = NULL;                    /* Leaked: free() is not allowed here. */
  generation++;
  in_parent();
  errno = err;
}

int vexact_ofd_watch_forks(void) { return pthread_atfork(before_fork, in_parent, in_child) == 0; }
