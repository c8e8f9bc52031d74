//! Runs the tasks of a simulation on one thread. The schedule decides which of the ready tasks runs next.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use slab::Slab;

/// The owner of a task. Killing a node drops its tasks.
pub(crate) type Owner = usize;

type Future = Pin<Box<dyn std::future::Future<Output = ()>>>;

struct Task {
    /// `None` while it is being polled.
    future: Option<Future>,
    owner: Owner,
    waker: Waker,
}

/// The ready tasks, as one bit each. The order in which they became ready is irrelevant.
#[derive(Default)]
struct Ready {
    bits: Mutex<Vec<u64>>,
    idle: Mutex<Option<Waker>>,
}

impl Ready {
    fn set(&self, task: usize) {
        let mut bits = self.bits.lock();
        if bits.len() <= task / 64 {
            bits.resize(task / 64 + 1, 0);
        }
        bits[task / 64] |= 1 << (task % 64);
        drop(bits);
        if let Some(waker) = self.idle.lock().take() {
            waker.wake();
        }
    }

    fn count(&self) -> usize {
        self.bits.lock().iter().map(|word| word.count_ones() as usize).sum()
    }

    fn take(&self, mut place: usize) -> Option<usize> {
        for (at, word) in self.bits.lock().iter_mut().enumerate() {
            let count = word.count_ones() as usize;
            if place < count {
                let mut left = *word;
                (0..place).for_each(|_| left &= left - 1);
                let bit = left.trailing_zeros() as usize;
                *word &= !(1 << bit);
                return Some(at * 64 + bit);
            }
            place -= count;
        }
        None
    }
}

struct TaskWaker {
    task: usize,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.set(self.task);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.set(self.task);
    }
}

#[derive(Default)]
struct Executor {
    tasks: Slab<Task>,
    ready: Arc<Ready>,
}

thread_local! {
    static EXECUTOR: RefCell<Option<Executor>> = const { RefCell::new(None) };
    static OWNER: Cell<Owner> = const { Cell::new(0) };
}

pub(crate) fn begin() {
    EXECUTOR.set(Some(Executor::default()));
    OWNER.set(0);
}

/// Drops all tasks, and those that they start while they are dropped.
pub(crate) fn end() {
    while let Some(tasks) = EXECUTOR.with_borrow_mut(|executor| {
        let tasks = std::mem::take(&mut executor.as_mut()?.tasks);
        (!tasks.is_empty()).then_some(tasks)
    }) {
        drop(tasks);
    }
    EXECUTOR.set(None);
}

/// Returns whether there is a simulation on this thread.
pub(crate) fn is_running() -> bool {
    EXECUTOR.with_borrow(Option::is_some)
}

/// Takes a task over if there is a simulation on this thread. Returns it otherwise.
pub(crate) fn adopt<F: std::future::Future<Output = ()> + 'static>(future: F) -> Option<F> {
    EXECUTOR.with_borrow_mut(|executor| {
        let Some(Executor { tasks, ready }) = executor else { return Some(future) };
        let entry = tasks.vacant_entry();
        let task = entry.key();
        let waker = Waker::from(Arc::new(TaskWaker { task, ready: ready.clone() }));
        entry.insert(Task { future: Some(Box::pin(future)), owner: OWNER.get(), waker });
        ready.set(task);
        None
    })
}

pub(crate) fn as_owner<T>(owner: Owner, work: impl FnOnce() -> T) -> T {
    let before = OWNER.replace(owner);
    let outcome = work();
    OWNER.set(before);
    outcome
}

pub(crate) fn ready() -> usize {
    EXECUTOR.with_borrow(|executor| executor.as_ref().map_or(0, |executor| executor.ready.count()))
}

pub(crate) fn wake_when_ready(waker: &Waker) {
    EXECUTOR.with_borrow(|executor| {
        if let Some(executor) = executor {
            *executor.ready.idle.lock() = Some(waker.clone());
        }
    });
}

pub(crate) fn poll(place: usize) {
    let taken = EXECUTOR.with_borrow_mut(|executor| {
        let executor = executor.as_mut()?;
        let id = executor.ready.take(place)?;
        // A waker may outlive its task.
        let task = executor.tasks.get_mut(id)?;
        Some((id, task.future.take()?, task.waker.clone(), task.owner))
    });
    let Some((id, mut future, waker, owner)) = taken else { return };
    let polled = as_owner(owner, || future.as_mut().poll(&mut Context::from_waker(&waker)));
    if polled == Poll::Ready(()) {
        let _task = EXECUTOR.with_borrow_mut(|executor| executor.as_mut()?.tasks.try_remove(id));
        return;
    }
    EXECUTOR.with_borrow_mut(|executor| {
        if let Some(task) = executor.as_mut().and_then(|executor| executor.tasks.get_mut(id)) {
            task.future = Some(future);
        }
    });
}

pub(crate) fn kill(owner: Owner) {
    let killed: Vec<Task> = EXECUTOR.with_borrow_mut(|executor| {
        let Some(Executor { tasks, .. }) = executor else { return Vec::new() };
        let owned: Vec<usize> =
            tasks.iter().filter(|(_, task)| task.owner == owner).map(|(id, _)| id).collect();
        owned.into_iter().map(|id| tasks.remove(id)).collect()
    });
    drop(killed);
}
