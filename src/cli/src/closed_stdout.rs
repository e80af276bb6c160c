//! Detects a stdout that was closed when the program began. Rust opens `/dev/null` in its place
//! before `main`, so that an answer would be lost and reported as written. The check is in a
//! function that the loader calls before that.

#[cfg(target_os = "linux")]
mod before_main {
    use std::sync::atomic::{AtomicBool, Ordering};

    static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

    // SAFETY: the loader calls the functions of this section before Rust's runtime begins; this one
    // only asks for a file's metadata.
    #[allow(unsafe_code)]
    #[used]
    #[unsafe(link_section = ".init_array")]
    static LOOK: extern "C" fn() = look;

    extern "C" fn look() {
        let is_closed = std::fs::symlink_metadata("/proc/self/fd/1")
            .is_err_and(|_| std::fs::symlink_metadata("/proc/self/fd").is_ok());
        WAS_CLOSED.store(is_closed, Ordering::Relaxed);
    }

    pub fn was_closed() -> bool {
        WAS_CLOSED.load(Ordering::Relaxed)
    }
}

/// Returns true if stdout was closed. Returns false if this cannot be determined.
pub fn was_closed() -> bool {
    #[cfg(target_os = "linux")]
    return before_main::was_closed();
    #[cfg(not(target_os = "linux"))]
    return false;
}
