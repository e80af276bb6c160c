/* Shared by the files of this folder; ofd_locks.c has the overview. */
#ifndef VEXACT_OFD_LOCKS_H
#define VEXACT_OFD_LOCKS_H

#ifndef _GNU_SOURCE
# define _GNU_SOURCE
#endif
#ifndef _FILE_OFFSET_BITS
# define _FILE_OFFSET_BITS 64      /* As in sqlite3.c: the same struct flock and struct stat. */
#endif
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/types.h>

#ifndef F_OFD_GETLK
# define F_OFD_GETLK 36
# define F_OFD_SETLK 37
#endif

/* Guards all state. It is held over calls of the kernel, none of which waits, and
 * over a fork(). */
extern pthread_mutex_t vexact_ofd_mutex;

/* The system calls for SQLite's unix VFS. */
int vexact_ofd_open(const char *path, int flags, int mode);
int vexact_ofd_close(int fd);
int vexact_ofd_fcntl(int fd, int cmd, ...);
int vexact_ofd_stat(const char *path, struct stat *st);
int vexact_ofd_fstat(int fd, struct stat *st);
void *vexact_ofd_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off);
int vexact_ofd_munmap(void *addr, size_t len);
void *vexact_ofd_mremap(void *old, size_t old_len, size_t len, int flags, ...);

/* In a forked child, with the mutex held: gives up every inherited descriptor. */
void vexact_ofd_abandon_descriptors(void);

/* Registers the handlers of fork(). Returns 1, or 0 if there is no memory. */
int vexact_ofd_watch_forks(void);

#endif
