//! Values that belong to one process. A child of `fork` has one thread, so a wait for another
//! thread never ends there, and the locks of files that it inherits are its parent's.

use std::ops::Deref;
use std::process;

use parking_lot::Mutex;

/// A value that is dropped only by the process that created it: dropping it in a child would
/// release resources that the parent still uses. The Python classes reject its use in a child.
pub struct OfProcess<T> {
    process: u32,
    /// `None` only while it is dropped.
    value: Option<T>,
}

impl<T> From<T> for OfProcess<T> {
    fn from(value: T) -> Self {
        Self { process: process::id(), value: Some(value) }
    }
}

impl<T> Deref for OfProcess<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().unwrap_or_else(|| unreachable!("it is there until it is dropped"))
    }
}

impl<T> Drop for OfProcess<T> {
    fn drop(&mut self) {
        if self.process != process::id() {
            std::mem::forget(self.value.take());
        }
    }
}

/// A value that the first process that asks for it creates, and keeps to its end.
pub struct OfFirstProcess<T: 'static>(Mutex<Option<(u32, &'static T)>>);

impl<T> OfFirstProcess<T> {
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Returns the value, or `None` in a child of the process that created it. Must be called with
    /// the GIL held: `fork` holds it too, so that no other thread holds the lock in a child.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get_or_try_init<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<Option<&'static T>, E> {
        let mut value = self.0.lock();
        if let Some((process, made)) = *value {
            return Ok((process == process::id()).then_some(made));
        }
        let made: &'static T = Box::leak(Box::new(make()?));
        *value = Some((process::id(), made));
        Ok(Some(made))
    }

    /// Returns true if this process created the value. Must be called with the GIL held.
    pub fn is_here(&self) -> bool {
        self.0.lock().is_some_and(|(process, _)| process == process::id())
    }
}
