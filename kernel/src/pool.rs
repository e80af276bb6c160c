//! The threads of this process. A child of `fork` inherits rayon's pool without its threads, and
//! would wait for them for ever.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// The process that uses rayon's global pool: the first that asks. 0: none has.
static FIRST: AtomicU32 = AtomicU32::new(0);

/// The pool of a process that was forked from it.
static FORKED: Mutex<Option<(u32, &'static ThreadPool)>> = Mutex::new(None);

/// Runs work whose parallel parts use the threads of the current rayon pool; in a child of `fork`,
/// those of a pool of its own.
pub fn in_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    match of_forked() {
        None => work(),
        Some(pool) => pool.install(work),
    }
}

/// As [`rayon::in_place_scope`] on the pool of [`in_pool`].
pub(crate) fn in_place_scope<'scope, T>(work: impl FnOnce(&rayon::Scope<'scope>) -> T) -> T {
    match of_forked() {
        None => rayon::in_place_scope(work),
        Some(pool) => pool.in_place_scope(work),
    }
}

/// The threads of the pool of [`in_pool`].
pub(crate) fn threads() -> usize {
    of_forked().map_or_else(rayon::current_num_threads, ThreadPool::current_num_threads)
}

/// The pool of a forked process; `None` in the first, within a pool, and where no threads can be
/// had.
fn of_forked() -> Option<&'static ThreadPool> {
    let own = process::id();
    let first =
        FIRST.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|first| first, |_| own);
    if first == own || rayon::current_thread_index().is_some() {
        return None;
    }
    let mut forked = FORKED.lock().unwrap_or_else(PoisonError::into_inner);
    match *forked {
        Some((process, pool)) if process == own => Some(pool),
        _ => {
            let pool: &'static ThreadPool = Box::leak(Box::new(ThreadPoolBuilder::new().build().ok()?));
            *forked = Some((own, pool));
            Some(pool)
        }
    }
}
