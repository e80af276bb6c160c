//! Stacks that are large enough for a recursion.

use std::fmt;
use std::ops::Deref;

use datafusion::logical_expr::LogicalPlan;

use super::plan::{PlanSize, plan_size};

/// The stack of a thread that runs queries. It is large enough to evaluate the deepest condition
/// that [`super::check`] accepts.
pub const THREAD_STACK: usize = 128 << 20;
/// Maximum stack of any recursion that the depth limits permit. Only the pages that are used take
/// memory.
const MAX_STACK: usize = 256 << 20;
/// Stack of the shallowest statement.
const BASE: usize = 768 << 10;
/// Stack of one step of the largest recursion, for two bytes of text.
const STEP: usize = 4 << 10;
/// Stack of one step of planning and optimizing an operator.
const OPERATOR: usize = 16 << 10;

/// Runs a recursion that needs `stack` bytes: on this thread's stack, or on another one if that has
/// less left.
pub fn on_stack<R>(stack: usize, recursion: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(stack, stack.saturating_add(BASE), recursion)
}

/// The stack that a text of SQL needs: a tree is at most half as deep as the text is long.
pub fn stack_of_text(text: &str) -> usize {
    (text.len() / 2).saturating_mul(STEP).saturating_add(BASE).min(MAX_STACK)
}

/// The stack that a plan needs.
pub fn stack_of_plan(size: PlanSize) -> usize {
    let operators = size.depth.saturating_mul(OPERATOR);
    size.expression.saturating_mul(STEP).saturating_add(operators).saturating_add(BASE).min(MAX_STACK)
}

/// A value with a plan in it, which is dropped on a stack that is large enough.
pub struct Deep<T> {
    stack: usize,
    /// `None` only while it is dropped.
    value: Option<T>,
}

impl<T> Deep<T> {
    /// A value whose recursions need `stack` bytes.
    pub fn new(stack: usize, value: T) -> Self {
        Self { stack, value: Some(value) }
    }

    /// A value that holds this plan.
    pub fn of_plan(plan: &LogicalPlan, value: T) -> Self {
        Self::new(stack_of_plan(plan_size(plan)), value)
    }

    /// The stack that it needs.
    pub fn stack(&self) -> usize {
        self.stack
    }
}

impl From<LogicalPlan> for Deep<LogicalPlan> {
    fn from(plan: LogicalPlan) -> Self {
        Self::new(stack_of_plan(plan_size(&plan)), plan)
    }
}

impl<T: Clone> Clone for Deep<T> {
    fn clone(&self) -> Self {
        let value = self.value.as_ref();
        Self { stack: self.stack, value: on_stack(self.stack, || value.cloned()) }
    }
}

impl<T: fmt::Debug> fmt::Debug for Deep<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        on_stack(self.stack, || (**self).fmt(f))
    }
}

impl<T> Deref for Deep<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().unwrap_or_else(|| unreachable!("it is there until it is dropped"))
    }
}

impl<T> Drop for Deep<T> {
    fn drop(&mut self) {
        let value = self.value.take();
        on_stack(self.stack, || drop(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(numbers: &[u64]) -> u64 {
        match std::hint::black_box(numbers) {
            [first, rest @ ..] => first + sum(rest),
            [] => 0,
        }
    }

    #[test]
    fn a_small_thread_recurses_deeply() {
        let numbers = vec![1; 300_000];
        let work = move || on_stack(MAX_STACK, || sum(&numbers));
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(work).unwrap();
        assert_eq!(thread.join().unwrap(), 300_000);
    }
}
