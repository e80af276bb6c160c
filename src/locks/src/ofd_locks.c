/* Open-file-description locks for the bundled SQLite.
 *
 * SQLite's unix VFS locks with fcntl(F_SETLK). Such POSIX locks belong to the process: a second
 * SQLite library in the same process, such as the one of Python's sqlite3 module, does not see
 * them, and any close() of any descriptor of the file drops all locks that the process has on it.
 * The functions here replace system calls of the unix VFS:
 *
 *   fcntl   takes F_OFD_* locks. These conflict with POSIX locks of the same process, and the
 *           close() of another library does not drop them. SQLite counts its locks per inode, and
 *           locks and unlocks through any descriptor of the inode. So all locks of an inode are
 *           taken on one descriptor, `lock_fd`.
 *   close   does not close a descriptor of a database or a -shm file, which would drop the locks
 *           of the other library, but parks it.
 *   open    returns a parked descriptor of the inode if there is one. Journals, WALs and temporary
 *           files take no locks, so their descriptors are opened and closed as usual.
 *   stat, fstat, mmap, munmap, mremap
 *           serve forked children: fork.c.
 *
 * A parked descriptor is closed once its file is deleted. If more than MAX_IDLE are parked, or the
 * process is out of descriptors, parked descriptors are closed under an exclusive lock on the whole
 * file, which proves that the other library holds no lock that the close() could drop.
 */
#include "ofd_locks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_IDLE 64     /* Parked descriptors from which on an open() tries to close some. */
#define MIN_FD    3     /* SQLITE_MINIMUM_FILE_DESCRIPTOR of os_unix.c. */

/* A file that SQLite may lock: a database or a -shm file. */
struct inode {
  dev_t dev;
  ino_t ino;
  int first;            /* Its descriptors, chained by slot.next; -1 ends the chain. */
  int lock_fd;          /* The descriptor that holds our locks. */
  int in_use;           /* Number of its descriptors that SQLite has open. */
  unsigned held;        /* Bit i: lock_fd has a lock on ranges[i]. */
  struct inode *next;
};

/* The state of a descriptor. */
struct slot {
  enum { FREE = 0,      /* Not ours. */
         PLAIN,         /* Open in SQLite, of a file without locks (journal, WAL, temporary). */
         IN_USE,        /* Open in SQLite, in the chain of an inode. */
         IDLE           /* Closed by SQLite and parked, in the chain of an inode. */
  } state;
  int flags;            /* Flags of its open(). */
  int next;             /* Next descriptor of the inode, or -1. */
  struct inode *inode;
};

pthread_mutex_t vexact_ofd_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct slot *slots;        /* Indexed by descriptor. */
static int n_slots;
static int n_idle;                /* Number of slots that are IDLE. */
static struct inode *inodes;

/* All byte ranges that SQLite locks: PENDING, RESERVED and SHARED of a database, the eight locks
 * and the dead-man switch of a -shm file. */
static const struct { off_t start, len; } ranges[] = {
  {0x40000000, 1}, {0x40000001, 1}, {0x40000002, 510},
  {120, 1}, {121, 1}, {122, 1}, {123, 1}, {124, 1},
  {125, 1}, {126, 1}, {127, 1}, {128, 1},
};
#define N_RANGES (sizeof(ranges) / sizeof(ranges[0]))

static unsigned ranges_within(off_t start, off_t len) {
  unsigned mask = 0;
  for (unsigned i = 0; i < N_RANGES; i++) {
    if (ranges[i].start >= start
     && (len == 0 || ranges[i].start + ranges[i].len <= start + len)) mask |= 1u << i;
  }
  return mask;
}

/* Sets or clears one lock of the open file description, without waiting. Length 0: to the end. */
static int set_lock(int fd, short type, off_t start, off_t len) {
  struct flock l;
  memset(&l, 0, sizeof(l));
  l.l_type = type;
  l.l_whence = SEEK_SET;
  l.l_start = start;
  l.l_len = len;
  return fcntl(fd, F_OFD_SETLK, &l);
}

static int writable(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }

static struct inode *find_inode(const struct stat *st) {
  struct inode *in = inodes;
  while (in && (in->ino != st->st_ino || in->dev != st->st_dev)) in = in->next;
  return in;
}

/* Whether fd still is a descriptor of the inode: a program that becomes a daemon may have closed
 * every descriptor it did not know. */
static int is_still(int fd, const struct inode *in, struct stat *st) {
  return fstat(fd, st) == 0 && st->st_ino == in->ino && st->st_dev == in->dev;
}

/* Resets the slot of fd. Does not close fd. */
static void forget(int fd) {
  struct slot *s = &slots[fd];
  struct inode *in = s->inode;
  if (in) {
    int *p = &in->first;
    while (*p >= 0 && *p != fd) p = &slots[*p].next;
    if (*p == fd) *p = s->next;
    if (s->state == IDLE) n_idle--; else in->in_use--;
    if (in->lock_fd == fd) { in->lock_fd = in->first; in->held = 0; }
  }
  memset(s, 0, sizeof(*s));
}

/* Returns the slot of fd, or NULL if fd was never ours. */
static struct slot *known_slot(int fd) {
  return fd >= 0 && fd < n_slots ? &slots[fd] : NULL;
}

/* Returns the slot of fd, which is made if there is none; NULL if there is no memory. */
static struct slot *slot_of(int fd) {
  if (fd >= n_slots) {
    int n = fd < 32 ? 64 : fd * 2;
    struct slot *a = realloc(slots, n * sizeof(*a));
    if (!a) return NULL;
    memset(a + n_slots, 0, (n - n_slots) * sizeof(*a));
    slots = a;
    n_slots = n;
  }
  return &slots[fd];
}

/* Enters fd as a descriptor of a file that may be locked. Returns 0, or -1 without memory. */
static int enter_file(int fd, int flags, const struct stat *st) {
  struct inode *in = find_inode(st);
  struct slot *s = slot_of(fd);
  if (!s) return -1;
  if (s->state != FREE) forget(fd);       /* PLAIN, or closed by somebody else. */
  if (!in) {
    in = calloc(1, sizeof(*in));
    if (!in) return -1;
    in->dev = st->st_dev;
    in->ino = st->st_ino;
    in->first = -1;
    in->next = inodes;
    inodes = in;
  }
  if (in->in_use++ == 0) in->lock_fd = fd;
  s->state = IN_USE;
  s->flags = flags;
  s->inode = in;
  s->next = in->first;
  in->first = fd;
  return 0;
}

/* Whether the descriptors of an inode, all of them idle, may be closed. They may if the file is
 * deleted; with `all`, also if an exclusive lock on the whole file is granted: then the other
 * library holds none, and gets none until the last of these descriptors is closed. */
static int may_close(struct inode *in, int all) {
  struct stat st;
  int fd, next;
  for (fd = in->first; fd >= 0; fd = next) {
    next = slots[fd].next;
    if (!is_still(fd, in, &st)) forget(fd);
  }
  if (in->first < 0) return 1;
  if (fstat(in->first, &st) == 0 && st.st_nlink == 0) return 1;
  for (fd = in->first; all && fd >= 0; fd = slots[fd].next) {
    if (!writable(slots[fd].flags)) continue;
    in->lock_fd = fd;
    return set_lock(fd, F_WRLCK, 0, 0) == 0;
  }
  return 0;
}

/* Closes parked descriptors where may_close() allows it. Returns their number. */
static int trim(int all) {
  int closed = 0;
  struct inode **p = &inodes;
  while (*p) {
    struct inode *in = *p;
    if (in->in_use > 0 || !may_close(in, all)) { p = &in->next; continue; }
    *p = in->next;
    while (in->first >= 0) {                  /* lock_fd is closed last. */
      int fd = in->first != in->lock_fd || slots[in->first].next < 0
             ? in->first : slots[in->first].next;
      forget(fd);
      close(fd);
      closed++;
    }
    free(in);
  }
  return closed;
}

/* Returns a parked descriptor of the file st that was opened with equal flags, or -1. The file's
 * permissions are checked again, as open() would. */
static int take_idle(const char *path, int flags, const struct stat *st) {
  const int same = O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_DIRECT;
  struct inode *in = find_inode(st);
  struct stat now;
  for (int fd = in ? in->first : -1; fd >= 0; fd = slots[fd].next) {
    struct slot *s = &slots[fd];
    if (s->state != IDLE || fd < MIN_FD || ((s->flags ^ flags) & same)
     || !is_still(fd, in, &now)) continue;
    if (faccessat(AT_FDCWD, path, writable(flags) ? R_OK | W_OK : R_OK, AT_EACCESS)) return -1;
    s->state = IN_USE;
    n_idle--;
    if (in->in_use++ == 0) in->lock_fd = fd;  /* No locks are held: any descriptor will do. */
    return fd;
  }
  return -1;
}

/* Opens /dev/null as those of the descriptors 0 to 2 that are closed. SQLite closes a database that
 * it gets with such a number and opens it again, and we could not close it. */
static void fill_standard_fds(void) {
  for (int fd = 0; fd < MIN_FD; fd++) {
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) < 0) return;
  }
}

/* Whether the name says that the file is never locked. */
static int is_journal(const char *path) {
  size_t n = strlen(path);
  return (n > 4 && !strcmp(path + n - 4, "-wal")) || (n > 8 && !strcmp(path + n - 8, "-journal"));
}

/* Notes what open() returned. Returns fd, or -1 without memory: fd then stays open, as its close()
 * could drop locks. */
static int enter(int fd, int flags, int plain) {
  struct stat st;
  struct slot *s = known_slot(fd);
  if (s && s->state != FREE) forget(fd);      /* Closed by somebody else, and a new file now. */
  /* The path may be another file since it was looked up: what counts is what was opened. */
  if (fstat(fd, &st) || !S_ISREG(st.st_mode)) return fd;
  if (!plain || find_inode(&st)) {
    if (enter_file(fd, flags, &st)) { errno = ENOMEM; return -1; }
  } else if ((s = slot_of(fd))) {
    s->state = PLAIN;
  }
  return fd;
}

int vexact_ofd_open(const char *path, int flags, int mode) {
  struct stat st;
  int fd = -1;
  /* O_EXCL: a new file, temporary or a super-journal, that nobody locks. */
  int plain = (flags & O_EXCL) || is_journal(path);
  int is_file = !(flags & O_EXCL)
             && (flags & O_NOFOLLOW ? lstat : stat)(path, &st) == 0;
  if (is_file && !S_ISREG(st.st_mode)) { is_file = 0; plain = 1; }

  pthread_mutex_lock(&vexact_ofd_mutex);
  if (is_file && !(flags & O_TRUNC)) fd = take_idle(path, flags, &st);
  if (fd < 0) {
    if (!plain) {
      trim(n_idle > MAX_IDLE);
      fill_standard_fds();
    }
    fd = open(path, flags, mode);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE) && trim(1) > 0) {
      fd = open(path, flags, mode);
    }
    if (fd >= 0) fd = enter(fd, flags, plain);
  }
  int err = errno;
  pthread_mutex_unlock(&vexact_ofd_mutex);
  errno = err;
  return fd;
}

int vexact_ofd_close(int fd) {
  int rc = 0;
  pthread_mutex_lock(&vexact_ofd_mutex);
  struct slot *s = known_slot(fd);
  if (!s || s->state == FREE || s->state == PLAIN) {
    if (s) s->state = FREE;
    rc = close(fd);
  } else if (s->state == IDLE) {
    errno = EBADF;
    rc = -1;
  } else {
    struct inode *in = s->inode;
    s->state = IDLE;
    n_idle++;
    if (--in->in_use == 0) {
      /* SQLite leaves it to close() to drop some locks, such as the dead-man switch. */
      if (in->held) set_lock(in->lock_fd, F_UNLCK, 0, 0);
      in->held = 0;
      trim(0);
    }
  }
  int err = errno;
  pthread_mutex_unlock(&vexact_ofd_mutex);
  errno = err;
  return rc;
}

/* Makes fd the lock_fd, because the present one is open for reading only and so cannot take a write
 * lock. The locks that are held, which are read locks, are taken on fd before they are given up on
 * the present one, so that they are held throughout. */
static int move_locks(struct inode *in, int fd) {
  for (unsigned i = 0; i < N_RANGES; i++) {
    if ((in->held >> i & 1) && set_lock(fd, F_RDLCK, ranges[i].start, ranges[i].len)) {
      int err = errno;
      set_lock(fd, F_UNLCK, 0, 0);
      errno = err;
      return -1;
    }
  }
  set_lock(in->lock_fd, F_UNLCK, 0, 0);
  in->lock_fd = fd;
  return 0;
}

/* F_GETLK and F_SETLK. SQLite as it is built here never calls F_SETLKW, which would not wait but
 * fail with EAGAIN, SQLite's "busy". */
static int lock(int fd, int cmd, struct flock *l) {
  struct stat st;
  struct slot *s = known_slot(fd);
  if (!s || (s->state != IN_USE && s->state != IDLE)) {
    /* A database that is named like a journal. */
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) return fcntl(fd, cmd, l);
    if (enter_file(fd, fcntl(fd, F_GETFL), &st)) { errno = ENOLCK; return -1; }
    s = &slots[fd];
  }
  struct inode *in = s->inode;
  l->l_pid = 0;
  if (cmd == F_GETLK) return fcntl(in->lock_fd, F_OFD_GETLK, l);
  if (l->l_type == F_WRLCK) {
    if (!writable(s->flags)) { errno = EBADF; return -1; }    /* The kernel's answer. */
    if (!writable(slots[in->lock_fd].flags) && move_locks(in, fd)) return -1;
  }
  if (fcntl(in->lock_fd, F_OFD_SETLK, l)) return -1;
  unsigned mask = ranges_within(l->l_start, l->l_len);
  if (l->l_type == F_UNLCK) in->held &= ~mask; else in->held |= mask;
  return 0;
}

int vexact_ofd_fcntl(int fd, int cmd, ...) {
  va_list ap;
  va_start(ap, cmd);
  void *arg = va_arg(ap, void *);
  va_end(ap);
  if (cmd != F_GETLK && cmd != F_SETLK && cmd != F_SETLKW) return fcntl(fd, cmd, arg);
  pthread_mutex_lock(&vexact_ofd_mutex);
  int rc = lock(fd, cmd, arg);
  int err = errno;
  pthread_mutex_unlock(&vexact_ofd_mutex);
  errno = err;
  return rc;
}

/* Whether SQLite has the file of this path open. Returns 1 or 0. */
int vexact_ofd_has_open(const char *path) {
  struct stat st;
  if (stat(path, &st)) return 0;
  pthread_mutex_lock(&vexact_ofd_mutex);
  struct inode *in = find_inode(&st);
  int has = in && in->in_use > 0;
  pthread_mutex_unlock(&vexact_ofd_mutex);
  return has;
}

/* Begins and ends the opening of a file by other code than SQLite, whose descriptor a forked child is to
 * give up as it gives up SQLite's: fork() waits meanwhile. fd: the descriptor, or -1 if there is none.
 * vexact_ofd_close() closes it. */
void vexact_ofd_begin_open(void) { pthread_mutex_lock(&vexact_ofd_mutex); }

void vexact_ofd_end_open(int fd) {
  struct slot *s = fd < 0 ? NULL : slot_of(fd);
  if (s) {
    if (s->state != FREE) forget(fd);         /* Closed by somebody else, and a new file now. */
    s->state = PLAIN;
  }
  pthread_mutex_unlock(&vexact_ofd_mutex);
}

/* Parked descriptors are closed. The others are still known by number to connections that the child
 * inherits but cannot use: each number is kept, for a descriptor (O_PATH) on which all I/O fails, so
 * that these connections never touch another file that gets the number. */
void vexact_ofd_abandon_descriptors(void) {
  struct stat st;
  for (int fd = 0; fd < n_slots; fd++) {
    if (slots[fd].state == FREE || slots[fd].state == PLAIN) continue;
    if (!is_still(fd, slots[fd].inode, &st)) slots[fd].state = FREE;
    else if (slots[fd].state == IDLE) close(fd);
  }
  int dead = open("/", O_PATH | O_CLOEXEC);
  for (int fd = 0; fd < n_slots; fd++) {
    if (slots[fd].state != IN_USE && slots[fd].state != PLAIN) continue;
    if (dead < 0 || dup3(dead, fd, O_CLOEXEC) < 0) close(fd);
  }
  if (dead >= 0) close(dead);
  if (slots) memset(slots, 0, n_slots * sizeof(*slots));
  inodes = NULL;                  /* Leaked: free() is not allowed in the child. */
  n_idle = 0;
}
